package recursor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/serving"
	"github.com/zonecast/zonecast/internal/trust"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot/journal"
)

// A host may carry several datasets (package datasets). Each is followed by itself, and flushed
// when the authority says that it answers it; the zones of all are in the one unbound.conf.

// carried is a dataset that the host carries.
type carried struct {
	*Recursor
	dataset, dir, statusDir string // dir is of the journal
	ring                    *trust.Ring
	end                     func() // ends what follows it, and waits for that

	// Guarded by Recursor.mu.
	index   *index    // nil: no state of the journal yet
	pending []*plan   // by version: what the authority does not answer yet, or could not be flushed
	waits   time.Time // since when the first of pending waits
	asks    []zone    // that Unbound asks the authority for; nil: none of this life yet
	said    CarriedStatus

	// Of the goroutine that works.
	top    onTop
	absent bool // the authority said nothing at the last look
}

// CarriedStatus is how it stands with a dataset.
type CarriedStatus struct {
	Dataset string    `json:"dataset"`
	Version uint64    `json:"version"` // up to which the cache has nothing old; 0: none yet
	Zones   int       `json:"zones"`   // as Unbound was told
	Journal string    `json:"journal,omitempty"`
	Flushed time.Time `json:"flushed"`
}

// open reads the keys for a dataset.
func (r *Recursor) open(dataset string) (*carried, error) {
	c := &carried{
		Recursor: r, dataset: dataset, absent: true, end: func() {}, said: CarriedStatus{Dataset: dataset},
		dir: datasets.Journal(r.cfg.Journal, r.cfg.Dataset, dataset), statusDir: datasets.Beside(r.cfg.StatusDir, r.cfg.Dataset, dataset),
	}
	var err error
	c.ring, err = trust.Open(trust.Config{Keys: r.cfg.Keys, Revoked: r.cfg.Revoked, Memory: trust.MemoryFile(c.dir), Reader: true, Log: r.log})
	return c, err
}

// carry goes over to these datasets. Those that are dropped wait for their names to be flushed.
func (r *Recursor) carry(ctx context.Context, want []string) error {
	r.mu.Lock()
	before := r.carried
	r.mu.Unlock()
	var now, fresh []*carried
	for _, d := range want {
		i := slices.IndexFunc(before, func(c *carried) bool { return c.dataset == d })
		if i >= 0 {
			now = append(now, before[i])
			continue
		}
		c, err := r.open(d)
		if err != nil {
			return fmt.Errorf("take up dataset %s: %w", d, err)
		}
		now, fresh = append(now, c), append(fresh, c)
	}
	var gone []*carried
	for _, c := range before {
		if !slices.Contains(now, c) {
			c.end()
			gone = append(gone, c)
		}
	}
	for _, c := range fresh {
		cctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		c.end = func() { cancel(); wg.Wait() }
		wg.Go(func() { c.ring.Run(cctx, nil, nil) })
		wg.Go(func() { journal.FollowAgain(cctx, c.dir, c.ring.Keys, retry, c.event, c.journalTrouble) })
		r.metrics.begin(c.dataset)
	}
	r.mu.Lock()
	r.carried, r.left = now, append(r.left, gone...)
	for _, c := range gone {
		delete(r.remembered, c.dataset)
	}
	r.mu.Unlock()
	if len(gone) > 0 || len(before) > 0 {
		r.log.Info("host carries other datasets", "datasets", want)
	}
	r.poke()
	return nil
}

// carries are the datasets that the host carries, in order, and those whose names are in the
// cache still though it does not any more.
func (r *Recursor) carries() (now, left []*carried) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.carried, r.left
}

// asked are the zones that the authority is asked for: of two datasets with the same one that of
// the first, which answers. The caller holds mu.
func (r *Recursor) asked() []zone {
	all := []zone{}
	seen := map[record.Name]bool{}
	for _, c := range r.carried {
		zones := c.asks
		if zones == nil {
			zones = r.remembered[c.dataset]
		}
		for _, z := range zones {
			if !seen[z.apex] {
				seen[z.apex] = true
				all = append(all, z)
			}
		}
	}
	return all
}

// leave takes out of the cache, and of the configuration, what came of datasets that are
// carried no more.
func (r *Recursor) leave(ctx context.Context) error {
	for {
		_, left := r.carries()
		if len(left) == 0 {
			return nil
		}
		c := left[0]
		p := newPlan(0, 0)
		zones := c.asks
		if c.index != nil { // whose goroutine has ended
			zones = append(c.index.zones(), zones...)
		}
		for _, z := range zones {
			p.subtree(z.apex)
		}
		if err := r.configure(ctx, false); errors.Is(err, errUnreachable) {
			return err
		} else if err != nil {
			r.log.Error("configuration without the zones of a dataset is refused; Unbound goes on with the one before", "dataset", c.dataset, "error", err)
		}
		commands := p.commands(func(record.Name) (record.Name, bool) { return "", false })
		if err := r.tell(ctx, commands); err != nil {
			return err
		}
		r.later = append(r.later, again{time.Now().Add(settle), commands})
		r.mu.Lock()
		r.left = r.left[1:]
		back := slices.ContainsFunc(r.carried, func(o *carried) bool { return o.dataset == c.dataset })
		r.mu.Unlock()
		if !back {
			r.metrics.end(c.dataset)
		}
		r.log.Info("dataset carried no more; its names are not in the cache", "dataset", c.dataset)
	}
}

func (c *carried) journalTrouble(err error) {
	c.trouble(func(*Status) *string { return &c.said.Journal }, err)
}

func (c *carried) event(e journal.Event) error {
	if e.Problem != nil {
		c.journalTrouble(e.Problem)
		return nil
	}
	var p *plan
	switch {
	case e.Reset != nil:
		if e.Reset.Name() != c.dataset {
			return fmt.Errorf("journal %s has the dataset %q, expected %q: check --recursor-journal and --recursor-dataset", c.dir, e.Reset.Name(), c.dataset)
		}
		x := newIndex(e.Reset)
		c.mu.Lock()
		before := c.index
		c.index = x
		c.mu.Unlock()
		if x.Version() > 0 {
			p = x.whole(before)
		}
	case e.Delta != nil:
		c.mu.Lock()
		var err error
		p, err = c.index.apply(e.Delta)
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
	c.journalTrouble(nil)
	if p == nil {
		return nil
	}
	c.mu.Lock()
	if c.waits.IsZero() {
		c.waits = time.Now()
	}
	if e.Reset != nil {
		c.anew(p)
	} else {
		c.plan(p)
	}
	c.mu.Unlock()
	c.poke()
	return nil
}

// maxPending is how many versions wait for the authority each by itself; those after are
// flushed together. It is a quarter of an hour of freshness records.
const maxPending = 1000

// plan has p wait for the authority. The caller holds mu.
func (c *carried) plan(p *plan) {
	if n := len(c.pending); n >= maxPending {
		c.pending[n-1].add(p)
		c.pending[n-1].fold(c.index.ZoneOf)
		return
	}
	c.pending = append(c.pending, p)
}

// anew has p, which is for all of the dataset, wait in the place of all that waited: its
// version may be less than theirs. The caller holds mu.
func (c *carried) anew(p *plan) {
	for _, q := range c.pending {
		q.zones = nil
		p.join(q)
	}
	p.fold(c.index.ZoneOf)
	c.pending = []*plan{p}
}

// back has p, which could not be flushed, wait again before all others. The caller holds mu.
func (c *carried) back(p *plan) {
	if len(c.pending) > 0 && c.pending[0].version <= p.version { // the dataset was read anew meanwhile
		p.zones = nil
		c.pending[0].join(p)
	} else {
		c.pending = append([]*plan{p}, c.pending...)
	}
	c.pending[0].fold(c.index.ZoneOf)
}

// step does for the dataset what can be done now, and tells whether there was anything.
func (c *carried) step(ctx context.Context) (did bool, err error) {
	answers, err := serving.Read(c.statusDir)
	switch {
	case err == nil && c.absent:
		// While it was away Unbound found it dead, and would ask it less and less.
		if _, err := c.control.do(ctx, "flush_infra "+at(c.cfg.authority())); err == nil {
			c.absent = false
		}
	case err != nil:
		c.absent = true
	}
	p := c.take(answers.Version)
	if err == nil {
		if q := c.lookOnTop(answers); q != nil && p == nil {
			p = q
		} else if q != nil {
			p.join(q)
		}
	}
	if p == nil {
		return false, nil
	}
	if err := c.do(ctx, p); err != nil {
		c.mu.Lock()
		c.back(p)
		c.mu.Unlock()
		return true, err
	}
	return true, nil
}

// take gives all that is planned up to a version, as one; nil is nothing.
func (c *carried) take(version uint64) *plan {
	c.mu.Lock()
	defer c.mu.Unlock()
	var p *plan
	for len(c.pending) > 0 && c.pending[0].version <= version {
		if p == nil {
			p = c.pending[0]
		} else {
			p.add(c.pending[0])
		}
		c.pending = c.pending[1:]
	}
	if len(c.pending) == 0 {
		c.waits = time.Time{}
	} else if p != nil {
		c.waits = time.Now()
	}
	return p
}

// do brings configuration and cache to where a plan leads.
func (c *carried) do(ctx context.Context, p *plan) error {
	if p.zones != nil {
		c.mu.Lock()
		c.asks = p.zones
		c.mu.Unlock()
		if err := c.configure(ctx, false); err != nil {
			if errors.Is(err, errUnreachable) {
				return err
			}
			c.log.Error("configuration with the zones of the new version is refused; Unbound goes on with the one before", "dataset", c.dataset, "version", p.version, "error", err)
		}
	}
	c.mu.Lock()
	commands := p.commands(c.index.ZoneOf)
	before := c.said.Version
	c.mu.Unlock()
	if err := c.tell(ctx, commands); err != nil {
		return err
	}
	now := time.Now()
	c.metrics.flushed(c.dataset, commands)
	if p.version > before {
		c.metrics.after.WithLabelValues(c.dataset).Observe(max(0, now.Sub(time.UnixMilli(p.time)).Seconds()))
	}
	c.later = append(c.later, again{now.Add(settle), commands})
	c.mu.Lock()
	c.said.Version, c.said.Flushed = max(c.said.Version, p.version), now
	c.mu.Unlock()
	return nil
}
