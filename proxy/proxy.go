package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zonecast/zonecast/internal/configtree"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot/journal"
	"github.com/zonecast/zonecast/store"
)

// Our own choices.
const (
	// firstPause to lastPause are the pauses before values are fetched again that could not
	// be; they double.
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
	// overtaken is how often a value whose parts are gone is asked for again: a newer
	// landing, which is why they are gone, arrives meanwhile.
	overtaken = 4
	// askTime bounds one question whether there is anything newer.
	askTime = 5 * time.Second
	// noteEvery is how often a newer confirmation is written to the disk: after a crash an
	// age is at most this much too great.
	noteEvery = time.Minute
	// fetches is how many values are fetched at the same time.
	fetches = 4
)

// Proxy follows configurations and serves them.
type Proxy struct {
	cfg     Config
	log     *slog.Logger
	store   store.Store
	metrics *metrics
	shelf   *shelf
	anew    string // why the cache was empty though a file was there

	// What follows belongs to the goroutine of Run.
	cache   *cache
	fold    *configtree.Fold
	heard   bool            // the watch has said all there is
	dirty   map[string]bool // paths that may be otherwise than they are served
	fetched map[string][]byte
	missing map[string]int // how often parts of a value were gone, by its SHA-256
	pause   time.Duration
	again   time.Time // when to try again; zero: there is no need

	mu      sync.Mutex     // guards below
	settled bool           // what is served is what the store had in this life of the process
	applied store.Revision // of the head that is served
	asked   answer         // that could not be used yet; zero: none
	cacheIs string         // why the cache does not have what is served; empty when it has
	away    string         // why the store could not be asked; empty when it could
	stored  mark           // what the cache has
}

// answer is what the store said about the head.
type answer struct {
	at  time.Time // when it was asked
	rev store.Revision
}

// New opens the cache. What is in it is served at once.
func New(cfg Config, deps Deps) (*Proxy, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.FS == nil {
		deps.FS = journal.System()
	}
	c, found, err := openCache(deps.FS, cfg.Dir, cfg.Prefixes)
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		cfg: cfg, log: deps.Log, store: deps.Store, cache: c, anew: found.anew, stored: found.mark,
		shelf: newShelf(c.scope, found), fold: configtree.NewFold(c.scope.has),
		dirty: map[string]bool{}, fetched: map[string][]byte{}, missing: map[string]int{},
	}
	if p.metrics, err = newMetrics(deps.Metrics, p); err != nil {
		return nil, errors.Join(err, c.close())
	}
	if found.anew != "" {
		p.metrics.anew.Inc()
		p.log.Error("cache is damaged, starting anew", "dir", cfg.Dir, "error", found.anew)
	} else {
		p.log.Info("cache opened", "dir", cfg.Dir, "version", found.mark.Head.Version, "configurations", len(found.items), "age", age(p.shelf.asOf))
	}
	return p, nil
}

// Run follows the store until ctx ends. It is called once, and gives the cache up.
func (p *Proxy) Run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer func() {
		cancel()
		wg.Wait()
		p.shelf.stop()
		p.note()
		err = errors.Join(err, p.cache.close())
	}()
	began := time.Now()
	batches := p.store.Watch(ctx, tree.Config, 0)
	wg.Go(func() { p.ask(ctx) })
	note := time.NewTicker(noteEvery)
	defer note.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if p.again.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(p.again))
		}
		select {
		case <-ctx.Done():
			return nil
		case b, ok := <-batches:
			if !ok {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("watch %s: %w", tree.Config, store.ErrClosed)
			}
			first := !p.heard
			p.take(b)
			if first {
				p.began(began)
			}
			p.settle(ctx)
		case <-timer.C:
			if !p.again.IsZero() {
				p.settle(ctx)
			}
		case <-note.C:
			p.note()
		}
	}
}

// take folds a batch.
func (p *Proxy) take(b store.Batch) {
	for _, path := range p.fold.Apply(b) {
		p.dirty[path] = true
	}
	if b.Reset {
		p.heard = true
		p.shelf.mu.Lock()
		for path := range p.shelf.items {
			p.dirty[path] = true
		}
		p.shelf.mu.Unlock()
	}
	if err := p.fold.Unread(); err != nil {
		p.metrics.refused.Inc()
		p.log.Warn("configurations cannot be read, the last good ones stay", "error", err)
	}
	p.again, p.pause = time.Time{}, 0
}

// settle brings what is served in line with the fold: all of it, or, when that cannot be
// had yet, nothing.
func (p *Proxy) settle(ctx context.Context) {
	p.again = time.Time{}
	head, rev := p.fold.Head()
	if err := p.fold.Blocked(); err != nil {
		p.shelf.refuse(err.Error())
		return
	}
	// Only this goroutine changes the shelf: it may be read without its lock.
	if had := p.shelf.head.Version; head.Version < had {
		why := fmt.Sprintf("the store has landing %d, older than %d which is served here: it was lost or put back; what is here stays until a newer one lands", head.Version, had)
		p.shelf.refuse(why)
		p.log.Warn("store is older than the cache", "error", why)
		return
	}
	problems := map[string]string{}
	for path, err := range p.fold.Unreadable() {
		problems[path] = err.Error()
	}
	changes := p.plan(head, problems)
	if err := p.fetch(ctx, changes, problems); err != nil {
		p.pause = min(max(2*p.pause, firstPause), lastPause)
		p.again = time.Now().Add(p.pause)
		if ctx.Err() == nil {
			p.log.Warn("values cannot be fetched, trying again", "error", err, "pause", p.pause)
		}
		return
	}
	clear(p.fetched)
	clear(p.dirty)
	for path := range problems {
		p.dirty[path] = true // tried again with the next batch
	}
	p.save(changes, head)
	if len(changes) > 0 && head.Time > 0 {
		p.metrics.lag.Observe(max(0, time.Since(time.UnixMilli(head.Time)).Seconds()))
	}
	p.shelf.land(changes, head, p.heard)
	p.shelf.hinder(problems)
	for path, why := range problems {
		p.metrics.refused.Inc()
		p.log.Warn("configuration cannot be taken, the last good one stays", "path", path, "error", why)
	}
	if len(changes) > 0 {
		p.log.Debug("configurations landed", "version", head.Version, "changed", len(changes))
	}
	p.mu.Lock()
	p.settled, p.applied = true, rev
	asked := p.asked
	p.mu.Unlock()
	p.confirm(asked)
}

// plan gives what of the dirty paths differs from what is served and fits, with the values
// that are here already; nil: the path is gone. It goes by the order of paths, so that what
// does not fit is the same after a restart.
func (p *Proxy) plan(head tree.ConfigHead, problems map[string]string) map[string]*item {
	changes := map[string]*item{}
	size, count := p.shelf.size, len(p.shelf.items)
	for path := range p.dirty { // what goes makes room
		if old := p.shelf.items[path]; old != nil && p.fold.Get(path) == nil {
			changes[path] = nil
			size, count = size-int64(len(old.value)), count-1
		}
	}
	for _, path := range slices.Sorted(maps.Keys(p.dirty)) {
		e, old := p.fold.Get(path), p.shelf.items[path]
		if e == nil {
			continue
		}
		it := &item{entry: e.ConfigEntry, version: e.Version, value: e.Value}
		grow, more := int64(e.Size), 1
		if old != nil {
			same := old.entry.SHA256 == e.SHA256
			if same && old.entry.Version == e.Version && old.entry.Type == e.Type {
				if old.problem != "" && problems[path] == "" {
					it.version, it.value = old.version, old.value
					changes[path] = it
				}
				continue
			}
			if same {
				it.value = old.value
			}
			grow, more = grow-int64(len(old.value)), 0
			if it.version <= old.version {
				// A store that was put back and went on has another history: readers count
				// from the landing in which they get to see it.
				it.version = head.Version
			}
			if it.version <= old.version {
				problems[path] = fmt.Sprintf("landing %d has two values", it.version)
				continue
			}
		}
		switch {
		case count+more > p.cfg.MaxConfigs:
			problems[path] = fmt.Sprintf("does not fit: --proxy-max-configs is %d", p.cfg.MaxConfigs)
		case size+grow > p.cfg.MaxSize && grow > 0:
			problems[path] = fmt.Sprintf("does not fit: --proxy-max-size is %d octets", p.cfg.MaxSize)
		default:
			size, count = size+grow, count+more
			changes[path] = it
		}
	}
	return changes
}

// fetch gets the values of changes that are not here. Those that cannot be had at all are
// taken out of changes; an error means that it must be tried again.
func (p *Proxy) fetch(ctx context.Context, changes map[string]*item, problems map[string]string) error {
	need := map[string]*configtree.Entry{} // by SHA-256
	used := map[string]bool{}
	for path, it := range changes {
		if it == nil || it.value != nil {
			continue
		}
		used[it.entry.SHA256] = true
		if p.fetched[it.entry.SHA256] == nil {
			need[it.entry.SHA256] = p.fold.Get(path)
		}
	}
	maps.DeleteFunc(p.missing, func(sum string, _ int) bool { return need[sum] == nil })
	maps.DeleteFunc(p.fetched, func(sum string, _ []byte) bool { return !used[sum] })
	bad := map[string]string{} // by SHA-256
	var mu sync.Mutex          // guards bad, p.fetched and p.missing
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(fetches)
	for sum, e := range need {
		g.Go(func() error {
			v, err := e.Fetch(gctx, p.store)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				p.fetched[sum] = v
			case errors.Is(err, store.ErrNotFound) && p.missing[sum] < overtaken:
				p.missing[sum]++
				return err
			case errors.Is(err, store.ErrNotFound) || errors.Is(err, configtree.ErrBad):
				bad[sum] = err.Error()
			default:
				return err
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for path, it := range changes {
		if it == nil || it.value != nil {
			continue
		}
		if it.value = p.fetched[it.entry.SHA256]; it.value == nil {
			problems[path] = bad[it.entry.SHA256]
			delete(changes, path)
		}
	}
	return nil
}

// save writes a landing to the disk before anybody sees it. When the disk does not take it,
// it is served all the same: a machine whose disk is full must not stand still, and who
// waits for a version is never given an older one.
func (p *Proxy) save(changes map[string]*item, head tree.ConfigHead) {
	m := p.mark()
	if len(changes) == 0 && m.Head == head && p.cache.file != nil {
		return
	}
	m.Head = head
	all := maps.Clone(p.shelf.items)
	for path, it := range changes {
		if it == nil {
			delete(all, path)
		} else {
			all[path] = it
		}
	}
	p.wrote(m, p.cache.save(changes, all, m))
}

// note writes a newer confirmation to the disk, and what it has not.
func (p *Proxy) note() {
	m := p.mark()
	p.mu.Lock()
	same := m == p.stored && p.cacheIs == ""
	p.mu.Unlock()
	if !same && p.heard {
		p.wrote(m, p.cache.confirm(p.shelf.items, m))
	}
}

func (p *Proxy) mark() mark {
	m := mark{Head: p.shelf.head}
	p.shelf.mu.Lock()
	defer p.shelf.mu.Unlock()
	if !p.shelf.asOf.IsZero() {
		m.Confirmed = p.shelf.asOf.UnixMilli()
	}
	return m
}

// wrote notes what became of a write.
func (p *Proxy) wrote(m mark, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.metrics.cacheErrors.Inc()
		p.cacheIs = fmt.Sprintf("cache not written: %v; after a restart without the store older values would be served", err)
		p.log.Error("cache not written", "dir", p.cfg.Dir, "error", err)
		return
	}
	p.cacheIs, p.stored = "", m
}

// ask asks the store every so often whether there is anything newer.
func (p *Proxy) ask(ctx context.Context) {
	tick := time.NewTicker(p.cfg.Confirm)
	defer tick.Stop()
	for {
		at := time.Now()
		qctx, cancel := context.WithTimeout(ctx, askTime)
		n, err := p.store.Get(qctx, tree.ConfigHeadPath)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, store.ErrNotFound) {
			n, err = store.Node{}, nil
		}
		p.answered(err)
		if err == nil {
			p.confirm(answer{at, n.Modified})
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// answered notes whether the store answers.
func (p *Proxy) answered(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil && p.away != "":
		p.away = ""
		p.log.Info("store answers again")
	case err != nil && p.away == "":
		p.away = err.Error()
		p.log.Warn("store does not answer, going on from the cache", "error", err)
	}
}

// began notes that the watch's first batch has all there was when it began, or later.
func (p *Proxy) began(at time.Time) {
	_, rev := p.fold.Head()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked.at.IsZero() {
		p.asked = answer{at, rev}
	}
}

// confirm uses an answer of the store: as of when it was asked, what is served is the
// newest, if it is as new as the answer. One that speaks of a landing which is on its way
// is kept until that is served.
func (p *Proxy) confirm(a answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a.at.IsZero() {
		return
	}
	if !p.settled || a.rev > p.applied {
		p.asked = a
		return
	}
	p.asked = answer{}
	p.shelf.mu.Lock()
	hindered := p.shelf.trouble != ""
	p.shelf.mu.Unlock()
	if a.rev == p.applied && !hindered {
		p.shelf.confirm(a.at)
	}
}
