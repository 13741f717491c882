package authority

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/trust"
	"github.com/zonecast/zonecast/record"
)

// A host may carry several datasets: the one of its options, and others that lie beside its
// journal. Each has a Server of its own, without sockets; the first one answers from all of
// them. A query is answered by the one that has the closest zone, of two with the same zone by
// the first in the host's list.

const (
	// carriedLook is how often it is looked which datasets the host carries.
	carriedLook = 250 * time.Millisecond
	// overlapLook is how often it is looked whether two have the same zone.
	overlapLook = 10 * time.Second
)

// beside is a dataset that is carried beside the first.
type beside struct {
	*Server
	end  context.CancelFunc
	done sync.WaitGroup
}

// carry follows what the host carries until ctx ends.
func (s *Server) carry(ctx context.Context) {
	others := map[string]*beside{}
	stop := func(dataset string) {
		b := others[dataset]
		delete(others, dataset)
		b.end()
		b.done.Wait()
		if err := b.unsay(); err != nil {
			s.log.Warn("status file not removed; the fleet will believe this host answers", "dataset", dataset, "error", err)
		}
		b.images.close()
		s.log.Info("dataset carried no more", "dataset", dataset)
	}
	defer func() {
		s.carried.Store(nil)
		for _, d := range slices.Collect(maps.Keys(others)) {
			stop(d)
		}
	}()
	t := time.NewTicker(carriedLook)
	defer t.Stop()
	now, problem, shared := []string{s.config.Dataset}, "", "" // now: nil is some of it
	var looked time.Time
	report := func(err error) {
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != "" && text != problem {
			s.problems.Add(1)
			s.log.Error("which datasets this host carries cannot be followed; those that are known stay", "error", err)
		}
		problem = text
	}
	for {
		want, err := datasets.ReadCarried(s.config.Journal, s.config.Dataset)
		if err == nil && !slices.Equal(want, now) {
			now = nil // until all of it is done
			for _, d := range want {
				if d == s.config.Dataset || others[d] != nil {
					continue
				}
				var b *beside
				if b, err = s.take(ctx, d); err != nil {
					break // what is answered stays; tried again
				}
				others[d] = b
			}
			if err == nil {
				s.route(want, others)
				now, looked = want, time.Time{}
				for d := range others {
					if !slices.Contains(want, d) {
						stop(d)
					}
				}
			}
		}
		report(err)
		if all := s.carried.Load(); all != nil && time.Since(looked) > overlapLook {
			looked = time.Now()
			if text := overlap(*all); text != shared {
				if shared = text; text != "" {
					s.problems.Add(1)
					s.log.Error("two datasets have the same zone; the first in this host's list answers", "zones", text)
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// take begins to follow a dataset.
func (s *Server) take(ctx context.Context, dataset string) (*beside, error) {
	c := s.config
	c.Dataset = dataset
	c.Journal = datasets.Journal(s.config.Journal, s.config.Dataset, dataset)
	c.StatusDir = datasets.Beside(s.config.StatusDir, s.config.Dataset, dataset)
	c.ImageDir = datasets.Beside(s.config.ImageDir, s.config.Dataset, dataset)
	if c.StatusDir != "" {
		if err := os.MkdirAll(c.StatusDir, 0o755); err != nil {
			return nil, fmt.Errorf("take up dataset %s: %w", dataset, err)
		}
	}
	b := &beside{Server: &Server{config: c, log: s.log, front: s}}
	b.current.Store(&state{})
	b.images.dir = c.ImageDir
	f := &follower{server: b.Server}
	b.source = f
	var err error
	if b.ring, err = trust.Open(trust.Config{Keys: c.Keys, Revoked: c.Revoked, Memory: trust.MemoryFile(c.Journal), Reader: true, Log: s.log}); err != nil {
		return nil, fmt.Errorf("take up dataset %s: %w", dataset, err)
	}
	if err := b.images.open(); err != nil {
		return nil, fmt.Errorf("take up dataset %s: %w", dataset, err)
	}
	if err := b.unsay(); err != nil {
		s.log.Warn("status file of an earlier life not removed; the fleet will believe this host answers", "error", err)
	}
	ctx, b.end = context.WithCancel(ctx)
	b.follow(ctx, f, &b.done)
	s.log.Info("dataset is carried", "dataset", dataset)
	return b, nil
}

// follow runs what keeps the answers of a journal.
func (s *Server) follow(ctx context.Context, f *follower, wg *sync.WaitGroup) {
	wg.Go(func() { f.run(ctx) })
	wg.Go(func() { f.keep(ctx) })
	wg.Go(func() { s.ring.Run(ctx, nil, nil) })
	wg.Go(func() { f.followDirect(ctx) })
	wg.Go(func() { f.followTrial(ctx) })
}

// route goes over to answering from these datasets, in their order.
func (s *Server) route(want []string, others map[string]*beside) {
	if len(want) == 1 && want[0] == s.config.Dataset {
		s.carried.Store(nil)
		return
	}
	var all []*Server
	for _, d := range want {
		if d == s.config.Dataset {
			all = append(all, s)
		} else {
			all = append(all, others[d].Server)
		}
	}
	s.carried.Store(&all)
}

// overlap has the zones that are in two datasets, in words; "" when none is.
func overlap(all []*Server) string {
	of := map[record.Name]string{}
	var found []string
	for _, s := range all {
		f, ok := s.source.(*follower)
		if !ok {
			continue
		}
		f.mu.Lock()
		var zones map[record.Name]uint64
		if f.ledger != nil {
			zones = f.ledger.Zones()
		}
		f.mu.Unlock()
		for zone := range zones {
			if first, ok := of[zone]; ok {
				found = append(found, fmt.Sprintf("%s in %s and %s", zone, first, s.config.Dataset))
			} else {
				of[zone] = s.config.Dataset
			}
		}
	}
	slices.Sort(found)
	const shown = 10
	if n := len(found); n > shown {
		found = append(found[:shown], fmt.Sprintf("%d more", n-shown))
	}
	return strings.Join(found, ", ")
}

// own tells whether a name is certainly of the dataset that a view is of: it has records there
// itself, or is delegated. What comes of a wildcard, or is not there, may be another dataset's.
func (k *worker) own(v *data.View, name []byte) bool {
	k.look.Read(v.Hasher(), name)
	r := v.Find(&k.look, false)
	is := r.Cut != nil || r.Node != nil && !r.Wildcard && r.Node.Len() > 0
	runtime.KeepAlive(v) // whose image would be unmapped otherwise
	return is
}

// viewOf is the version of the dataset that has the closest zone of a query's name; of DS, the
// zone above the name when one is here. nil: that is not known, as one has no data yet that may
// have a closer one.
func (k *worker) viewOf(all []*Server, query []byte) *data.View {
	const header = 12
	var first, best *data.View
	depth, missing := -1, false
	for above := true; ; above = false {
		for i, s := range all {
			v := s.current.Load().view
			if i == 0 {
				first = v
			}
			if v == nil {
				missing = true
				continue
			}
			if len(query) <= header {
				continue
			}
			n := k.look.Read(v.Hasher(), query[header:])
			if n == 0 || len(query) < header+n+2 {
				continue
			}
			if above && record.Type(binary.BigEndian.Uint16(query[header+n:])) != record.TypeDS {
				above = false
			}
			if d := v.Depth(&k.look, above); d > depth {
				depth, best = d, v
			}
		}
		if best != nil || !above {
			break
		}
	}
	switch {
	case missing && (best == nil || !k.own(best, query[header:])):
		return nil
	case best != nil:
		return best
	}
	return first
}
