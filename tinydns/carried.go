package tinydns

import (
	"context"
	"fmt"
	"iter"
	"os"
	"slices"
	"sync"

	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/serving"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trust"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
)

// A host may carry several datasets (package datasets). Each is followed by itself; data.cdb has
// them all, each name as the dataset has it that has the closest zone.

// carried is a dataset that the host carries.
type carried struct {
	*Server
	dataset, dir, statusDir string // dir is of the journal
	ring                    *trust.Ring
	end                     func() // ends what follows it, and waits for that

	// Guarded by Server.mu.
	data    *snapshot.Dataset // nil: no state of the journal yet
	trouble string            // why the journal is not followed
	version uint64            // in data.cdb; 0: none yet

	// Of the goroutine that works.
	built   tree.HostDataset // in data.cdb; Version 0 is none
	content uint64           // Dataset.Content of that
	said    uint64           // version in the file "serving"; 0 is no file
}

// open reads the keys for a dataset.
func (s *Server) open(dataset string) (*carried, error) {
	c := &carried{
		Server: s, dataset: dataset, end: func() {},
		dir: datasets.Journal(s.cfg.Journal, s.cfg.Dataset, dataset), statusDir: datasets.Beside(s.cfg.StatusDir, s.cfg.Dataset, dataset),
	}
	var err error
	c.ring, err = trust.Open(trust.Config{Keys: s.cfg.Keys, Revoked: s.cfg.Revoked, Memory: trust.MemoryFile(c.dir), Reader: true, Log: s.log})
	return c, err
}

// carry goes over to these datasets. What was dropped is answered until data.cdb is made without.
func (s *Server) carry(ctx context.Context, want []string) error {
	s.mu.Lock()
	before := s.carried
	s.mu.Unlock()
	var now, fresh []*carried
	for _, d := range want {
		if i := slices.IndexFunc(before, func(c *carried) bool { return c.dataset == d }); i >= 0 {
			now = append(now, before[i])
			continue
		}
		c, err := s.open(d)
		if err == nil {
			err = os.MkdirAll(c.statusDir, 0o755)
		}
		if err != nil {
			return fmt.Errorf("take up dataset %s: %w", d, err)
		}
		if err := serving.Remove(c.statusDir); err != nil {
			s.log.Warn("status file of an earlier life not removed; the fleet will believe this host answers", "error", err)
		}
		now, fresh = append(now, c), append(fresh, c)
	}
	for _, c := range before {
		if !slices.Contains(now, c) {
			c.end()
		}
	}
	for _, c := range fresh {
		cctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		c.end = func() { cancel(); wg.Wait() }
		wg.Go(func() { c.ring.Run(cctx, nil, nil) })
		wg.Go(func() { journal.FollowAgain(cctx, c.dir, c.ring.Keys, retry, c.event, c.note) })
	}
	s.mu.Lock()
	s.carried = now
	s.mu.Unlock()
	if len(before) > 0 {
		s.log.Info("host carries other datasets", "datasets", want)
	}
	s.poke()
	return nil
}

// carries are the datasets that the host carries, in order.
func (s *Server) carries() []*carried {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.carried
}

func (c *carried) note(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	c.mu.Lock()
	news := text != c.trouble
	c.trouble = text
	c.mu.Unlock()
	if news && err != nil {
		c.log.Warn("journal not followed; what was served stays", "dataset", c.dataset, "error", err)
	}
}

func (c *carried) event(e journal.Event) error {
	c.mu.Lock()
	var err error
	switch {
	case e.Reset != nil && e.Reset.Name() != c.dataset:
		err = fmt.Errorf("journal %s has the dataset %q, expected %q: check --tinydns-journal and --tinydns-dataset", c.dir, e.Reset.Name(), c.dataset)
	case e.Reset != nil:
		c.data = e.Reset
	case e.Delta != nil:
		err = c.data.Apply(e.Delta)
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	c.note(e.Problem)
	c.poke()
	return nil
}

// has tells whether there is a version of the dataset. The caller holds mu.
func (c *carried) has() bool { return c.data != nil && c.data.Version() > 0 }

// missing are datasets of which there is no version, for which data.cdb waits: without them it would
// say that their names are not there. The caller holds mu.
func (s *Server) missing() (out []string) {
	for _, c := range s.carried {
		if !c.has() {
			out = append(out, c.dataset)
		}
	}
	return out
}

// union is what datasets answer together: each RRset that its dataset answers, in their order;
// others are told to beside.
func union(all []*snapshot.Dataset, beside func(r *record.RRset, by string)) iter.Seq[record.RRset] {
	return func(yield func(record.RRset) bool) {
		for i, d := range all {
			for r := range d.All() {
				if len(all) > 1 {
					if by := answering(all, r.Key); by >= 0 && by != i {
						beside(&r, all[by].Name())
						continue
					}
				}
				if r.Type == record.TypeSOA && len(r.Data) == 1 { // as it is answered, with the serial of now
					r.Data = []record.Rdata{snapshot.SOAWithSerial(r.Data[0], d.Serial(r.Owner))}
				}
				if !yield(r) {
					return
				}
			}
		}
	}
}

// answering is which of the datasets answers for an RRset: the one with the closest zone, of DS the
// zone above when one is here, of two with the same zone the first; -1: none has a zone.
func answering(all []*snapshot.Dataset, k record.Key) int {
	closest := func(n record.Name) int {
		best, length := -1, 0
		for i, d := range all {
			if apex, ok := d.ZoneOf(n); ok && len(apex) > length {
				best, length = i, len(apex) // octets: all are above n
			}
		}
		return best
	}
	if k.Type == record.TypeDS && k.Owner != record.Root {
		if i := closest(k.Owner.Parent()); i >= 0 {
			return i
		}
	}
	return closest(k.Owner)
}
