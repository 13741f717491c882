package swarm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/anacrolix/torrent"
	"golang.org/x/time/rate"

	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/tree"
)

// carrier is what the datasets of a host share: the port with its connections, the library's
// client, limits and the room on the disk.
type carrier struct {
	gate    *gate
	client  *torrent.Client
	debts   *debts
	down    *rate.Limiter  // of what comes from peers and URLs together
	self    netip.AddrPort // as others reach it
	changed chan struct{}  // what Nodes gives may be other now; holds one

	room sync.Mutex // has whoever makes room on the disk; Swarm.coming

	among sync.Mutex // guards below
	all   []*Swarm   // the first one, and those beside it
}

// every are all datasets, the first one first.
func (c *carrier) every() []*Swarm {
	c.among.Lock()
	defer c.among.Unlock()
	return slices.Clone(c.all)
}

// tell says that Nodes gives something else.
func (c *carrier) tell() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// Of is this host's part in the swarm of a dataset that it carries, for as long as it does: until
// Leave. old is Deps.Old of one beside the first.
func (s *Swarm) Of(dataset string, old func() []string) (*Swarm, error) {
	if dataset == s.deps.Dataset {
		s.mu.Lock()
		s.away = false
		s.mu.Unlock()
		s.tell()
		return s, nil
	}
	fail := func(err error) (*Swarm, error) { return nil, fmt.Errorf("swarm of %s: %w", dataset, err) }
	if s.deps.Publisher || slices.ContainsFunc(s.every(), func(o *Swarm) bool { return o.deps.Dataset == dataset }) {
		return fail(errors.New("it is there already, or this is a publisher's"))
	}
	o := &Swarm{carrier: s.carrier, cfg: s.cfg, deps: s.deps, pace: s.pace, pieceLength: s.pieceLength, fetching: make(chan struct{}, 1)}
	o.deps.Dataset, o.deps.Old = dataset, old
	o.cfg.Dir = datasets.Beside(s.cfg.Dir, s.deps.Dataset, dataset)
	o.node = tree.SwarmPeer{Name: s.deps.Name, Address: s.self.String(), Site: s.cfg.Site}
	if err := os.MkdirAll(o.cfg.Dir, 0o755); err != nil {
		return fail(err)
	}
	var err error
	if o.metrics, err = newMetrics(s.deps.Metrics, dataset, s.metrics); err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var loading sync.WaitGroup
	loading.Go(func() { o.load(ctx) })
	o.end = func() { cancel(); loading.Wait() }
	s.gate.more(perIP)
	s.among.Lock()
	s.all = append(s.all, o)
	s.among.Unlock()
	s.tell()
	return o, nil
}

// Leave ends this host's part in the swarm of a dataset, which nobody fetches any more, and removes
// what was kept of it.
func (s *Swarm) Leave() {
	s.mu.Lock()
	s.away = true
	s.mu.Unlock()
	if s.end == nil { // the first one, by which the others have their port
		s.relieve()
		s.tell()
		return
	}
	s.end()
	s.Withdraw(nil)
	s.among.Lock()
	s.all = slices.DeleteFunc(s.all, func(o *Swarm) bool { return o == s })
	s.among.Unlock()
	s.gate.more(-perIP)
	for _, c := range s.metrics.of() {
		s.deps.Metrics.Unregister(c)
	}
	if err := os.RemoveAll(s.cfg.Dir); err != nil {
		s.deps.Log.Warn("snapshots kept for others are not removed", "dir", s.cfg.Dir, "error", err)
	}
	s.tell()
}

// endBeside ends what runs for those beside the first.
func (c *carrier) endBeside() {
	for _, o := range c.every() {
		if o.end != nil {
			o.end()
		}
	}
}

// clear removes what an earlier run kept of datasets that are carried no more.
func (s *Swarm) clear() error {
	dir := filepath.Dir(datasets.Beside(s.cfg.Dir, s.deps.Dataset, "any"))
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if !slices.Contains(s.deps.Also, e.Name()) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// settled lets go of the place that makeRoom gave.
func (s *Swarm) settled() {
	s.room.Lock()
	defer s.room.Unlock()
	s.coming = 0
}

// makeRoom removes the oldest of what is kept of this dataset until no more than keep of each
// kind are left and all datasets fit, with a file of size octets that is to come, if size is not
// 0; then, if that does not do, of the others all but what each has newest. It tells whether that
// fits, and then the file has its place until settled.
func (s *Swarm) makeRoom(size int64, delta bool) bool {
	s.room.Lock()
	defer s.room.Unlock()
	every := s.every()
	for {
		total := size
		for _, o := range every {
			if o != s {
				total += o.coming
			}
			total += o.keeps()
		}
		gone := s.oldest(func(of map[bool]int, one *shared) bool {
			if size > 0 && one.delta == delta {
				return total > s.cfg.MaxBytes || of[one.delta] >= s.cfg.Keep
			}
			return total > s.cfg.MaxBytes || of[one.delta] > s.cfg.Keep
		})
		for _, o := range every {
			if gone == nil && o != s && total > s.cfg.MaxBytes {
				gone = o.oldest(func(of map[bool]int, _ *shared) bool { return of[true]+of[false] > 1 })
			}
		}
		if gone == nil {
			s.update()
			if total > s.cfg.MaxBytes {
				return false
			}
			s.coming = size
			return true
		}
	}
}

// keeps is octets of the files of ours that others can fetch here.
func (s *Swarm) keeps() (total int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.shared {
		total += one.size
	}
	return total
}

// oldest removes, and gives, the oldest of those that may go, given how many there are: deltas
// (true), and snapshots.
func (s *Swarm) oldest(may func(of map[bool]int, one *shared) bool) *shared {
	s.mu.Lock()
	of := map[bool]int{}
	for _, one := range s.shared {
		of[one.delta]++
	}
	i := slices.IndexFunc(s.shared, func(one *shared) bool { return may(of, one) })
	if i < 0 {
		s.mu.Unlock()
		return nil
	}
	gone := s.shared[i]
	s.shared = slices.Delete(s.shared, i, i+1)
	s.mu.Unlock()
	s.drop(gone)
	s.update()
	return gone
}
