package presenter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// Pauses before something that did not work is tried again; they double from the
// first to the last.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 5 * time.Second
)

// Presenter makes the versions of one dataset while it leads, and keeps its claims
// reconciled while it does not, so that it can take over at once.
//
// Everything below mu belongs to the goroutine of Run, status excepted.
type Presenter struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics

	rebound chan struct{} // has room for one: bounds are to be taken

	mu     sync.Mutex // guards status and bounds
	status Status
	bounds *bounds // to be taken; nil: none

	state   *reconcile.State
	fold    *claimtree.Fold
	primed  bool           // the first Reset of the watch is folded
	seen    store.Revision // up to which the claims are folded
	first   time.Time      // when the first change arrived that is not in a version; zero: none
	last    time.Time      // when the last one did
	term    *term          // nil: somebody else leads
	pos     *position      // nil: what is published must be read before the next version
	attempt *attempt       // a version of which it is not known whether it happened
	held    bool           // only new claims can lead to a version
	reread  bool           // the claims are to be read again: who led before has seen more
	again   time.Time      // not before: something did not work
	pause   time.Duration  // the last pause
	asked   time.Time      // when it was read what hosts answer
	ends    ends           // of overrides
	// unsigned is what no publisher has signed yet.
	unsigned unsigned
	// inForce are the bounds of guards as they are told, told those that the store has, as far
	// as this term knows; nil: it does not.
	inForce, told []byte

	// changed has the sources whose change is in force and in no version yet.
	changed  map[record.Source]caused
	turn     int            // a version is prepared in one, and takes what changed up to it
	past     []tree.History // versions that can be gone back to, the oldest first
	archived []archived     // older ones; nil: not read yet
	pin      pinned
	gate     gate
	unheard  int // kinds of words of people that are still to be heard for the first time
	// heard is up to which revision each kind of words was heard, by prefix.
	heard map[string]store.Revision
}

// Status is the presenter's state for people.
type Status struct {
	Leading   bool
	Version   uint64 // last version made or read; 0 when none is known
	Digest    string
	Records   int // RRsets of the reconciled dataset
	Claims    int
	Conflicts map[reconcile.Kind]int
	// Held says why what is reconciled is not published; empty when it is.
	Held string
	// Pinned says at which version's content the dataset is held, and by whom.
	Pinned string
	// Waiting has the changes that are held or frozen, and what to do.
	Waiting []string
	// Behind says that hosts answer a newer version than the store has, and what to do.
	Behind string
	// Problem is what did not work last, and is tried again; empty when all is well.
	Problem string
	// Unreadable names the last claims that could not be read, and since when; the
	// last good ones are in force instead.
	Unreadable string
}

// String is the status in one line.
func (s Status) String() string {
	role := "waiting to lead"
	if s.Leading {
		role = "leading"
	}
	text := fmt.Sprintf("%s, version %d, %d RRsets of %d claims", role, s.Version, s.Records, s.Claims)
	conflicts, warnings := 0, s.Conflicts[reconcile.Warning]
	for k, n := range s.Conflicts {
		if k != reconcile.Warning {
			conflicts += n
		}
	}
	text += ", " + plural(conflicts, "conflict") + ", " + plural(warnings, "warning")
	for _, more := range append([]string{s.Held, s.Pinned, s.Behind, s.Problem, s.Unreadable}, s.Waiting...) {
		if more != "" {
			text += "; " + more
		}
	}
	return text
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// New checks the configuration and registers metrics. It starts nothing.
func New(cfg Config, deps Deps) (*Presenter, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := deps.Policy.Check(); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if err := deps.Division.Check(cfg.Dataset); err != nil {
		return nil, err
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	inForce, err := cfg.encodeBounds(cfg.Guard)
	if err != nil {
		return nil, err
	}
	rings, err := cfg.encodeTrial()
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(deps.Metrics, cfg.Dataset)
	if err != nil {
		return nil, err
	}
	p := &Presenter{
		cfg: cfg, deps: deps, log: deps.Log, metrics: m, inForce: inForce,
		rebound: make(chan struct{}, 1), state: reconcile.New(deps.Policy), fold: claimtree.NewFold(), changed: map[record.Source]caused{}, pin: newPinned(), gate: newGate(), heard: map[string]store.Revision{},
	}
	p.gate.rings.policy = rings
	return p, nil
}

// Status may be called at any time.
func (p *Presenter) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

func (p *Presenter) note(change func(*Status)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.status)
}

// Run works until ctx ends, and then gives up leadership. It is called once.
func (p *Presenter) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	terms := make(chan *term)
	wg.Go(func() { p.campaign(ctx, terms) })

	var batches <-chan store.Batch
	unwatch := func() {}
	defer func() { unwatch() }()
	watch := func() {
		unwatch()
		var wctx context.Context
		wctx, unwatch = context.WithCancel(ctx)
		batches = p.deps.Store.Watch(wctx, tree.Claims, 0)
	}
	watch()
	// What people said, each with what takes a batch of it.
	words := make(chan func(), 1)
	for _, prefix := range []string{tree.Overrides, tree.Pins, tree.Holds, tree.Freezes, tree.Expects, tree.Trials} {
		p.unheard++
		wg.Go(func() {
			first := true
			for b := range p.deps.Store.Watch(ctx, prefix, 0) {
				heard := first
				first = false
				select {
				case words <- func() {
					p.hear(prefix, b)
					if heard {
						p.unheard--
					}
				}:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	mend := time.NewTicker(mendEvery)
	defer mend.Stop()
	for {
		due, waits := p.due()
		if end, ok := p.nextEnd(); ok && (!waits || end.Before(due)) {
			due, waits = end, true
		}
		if waits {
			timer.Reset(max(0, time.Until(due)))
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return nil
		case b, ok := <-batches:
			if !ok {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("watch %s: %w", tree.Claims, store.ErrClosed)
			}
			p.take(b)
		case take := <-words:
			take()
		case <-p.rebound:
			p.takeBounds()
		case t := <-terms:
			p.lead(t)
		case <-p.term.lost():
			p.depose("the session ended")
		case <-mend.C:
			p.mend(ctx)
		case <-timer.C:
			if end, ok := p.nextEnd(); ok && !time.Now().Before(end) {
				p.end(ctx)
			}
			if due, waits := p.due(); waits && !time.Now().Before(due) {
				p.present(ctx)
			}
			if p.reread {
				p.reread = false
				watch()
			}
		}
	}
}

// hear takes what people said. A watch may lag behind what was read.
func (p *Presenter) hear(prefix string, b store.Batch) {
	if b.Revision <= p.heard[prefix] && p.heard[prefix] > 0 {
		return
	}
	p.heard[prefix] = b.Revision
	switch prefix {
	case tree.Overrides:
		p.takeOverrides(b)
	case tree.Pins:
		p.takePins(b)
	case tree.Holds:
		p.takeHolds(b)
	case tree.Freezes:
		p.takeFreezes(b)
	case tree.Expects:
		p.takeExpects(b)
	case tree.Trials:
		p.takeTrials(b)
	}
}

// listen reads what people said up to now: who leads must not know less of it than who led
// before.
func (p *Presenter) listen(ctx context.Context) error {
	for _, prefix := range []string{tree.Pins, tree.Holds, tree.Freezes, tree.Trials} {
		nodes, rev, err := p.deps.Store.List(ctx, prefix)
		if err != nil {
			return fmt.Errorf("read what people said: %w", err)
		}
		p.hear(prefix, store.Batch{Revision: rev, Reset: true, Puts: nodes})
	}
	return nil
}

// due is when there is something to do, unless there is nothing.
func (p *Presenter) due() (time.Time, bool) {
	if !p.primed || p.unheard > 0 {
		return time.Time{}, false
	}
	var due time.Time
	switch {
	case !p.first.IsZero():
		due = p.last.Add(p.cfg.Settle)
		if latest := p.first.Add(p.cfg.Gather); latest.Before(due) {
			due = latest
		}
	case p.term != nil && (p.pos == nil && !p.held || p.attempt != nil):
		due = p.again
	default:
		return time.Time{}, false
	}
	if p.term != nil && due.Before(p.again) {
		due = p.again
	}
	return due, true
}

// take folds a batch of claims.
func (p *Presenter) take(b store.Batch) {
	now := time.Now()
	changes, err := p.fold.Apply(b)
	for _, ch := range changes {
		ch = p.deps.Division.Part(p.cfg.Dataset, ch)
		p.claimed(ch)
		p.pin.take(ch)
	}
	if err != nil {
		p.metrics.unreadable.Inc()
		p.log.Warn("claims cannot be read, the last good ones stay in force", "error", err)
	}
	unread := p.fold.Unread()
	p.note(func(s *Status) {
		switch {
		case unread == nil:
			s.Unreadable = ""
		case err != nil || s.Unreadable == "":
			s.Unreadable = fmt.Sprintf("claims that cannot be read, since %s: %v", now.UTC().Format(time.RFC3339), unread)
		}
	})
	p.seen = b.Revision
	if !p.primed || len(b.Puts)+len(b.Deletes) > 0 {
		if p.first.IsZero() {
			p.first = now
		}
		p.last = now
	}
	p.primed = true
}

// lead begins a term.
func (p *Presenter) lead(t *term) {
	p.depose("another term began")
	p.term, p.attempt, p.held, p.archived, p.told, p.unsigned = t, nil, false, nil, nil, unsigned{}
	p.forgetPosition()
	p.again, p.pause = time.Time{}, 0
	p.metrics.leading.Set(1)
	p.note(func(s *Status) { s.Leading, s.Problem = true, "" })
	p.log.Info("presenter leads", "dataset", p.cfg.Dataset)
}

// depose ends the term: what was not committed is left to who leads next.
func (p *Presenter) depose(why string) {
	if p.term == nil {
		return
	}
	p.term.give()
	p.term, p.pos, p.attempt = nil, nil, nil
	p.closeGate()
	p.metrics.leading.Set(0)
	p.metrics.held.Set(0)
	p.metrics.waiting.Set(0)
	p.note(func(s *Status) { s.Leading, s.Held, s.Waiting = false, "", nil })
	p.log.Info("presenter no longer leads", "dataset", p.cfg.Dataset, "why", why)
}

// present reconciles what was gathered and, when leading, publishes it.
// What belongs to a term ends with it: a snapshot that is being fetched to begin
// with is of no more use, and there may be another term to win.
func (p *Presenter) present(ctx context.Context) {
	tctx, end := p.term.context(ctx)
	defer end()
	var gathered time.Duration
	if !p.first.IsZero() {
		gathered = time.Since(p.first)
		p.metrics.gather.Observe(gathered.Seconds())
	}
	if p.term != nil && p.attempt != nil {
		if err := p.resolve(tctx); err != nil {
			p.failed(ctx, err)
			return
		}
		if p.pin.turned {
			p.forgetPosition()
		}
	}
	began := time.Now()
	arrived := p.first
	if p.term != nil && !p.gate.open {
		if err := p.openGate(tctx); err != nil {
			p.failed(ctx, err)
			return
		}
	}
	if p.term != nil {
		if err := p.recallTrial(tctx); err != nil {
			p.failed(ctx, err)
			return
		}
	}
	change := p.state.Reconcile()
	if p.term != nil {
		p.gate.judge.Admit("", change, p.deps.Now()) // of overrides and freshness
		change = compose([]reconcile.Change{change, p.admit()})
	}
	if p.pin.state != nil {
		change = p.pin.state.Reconcile()
	}
	p.first, p.last = time.Time{}, time.Time{}
	p.metrics.reconcile.Observe(time.Since(began).Seconds())
	p.tell()
	if p.term == nil {
		return
	}
	err := p.publish(tctx, change, arrived)
	if err == nil && p.pos != nil {
		err = p.offer(tctx)
	}
	if err != nil {
		p.failed(ctx, err)
		return
	}
	p.again, p.pause = time.Time{}, 0
	p.note(func(s *Status) { s.Problem = "" })
}

// tell brings metrics and status up to date with the reconciled state.
func (p *Presenter) tell() {
	counts := p.state.ConflictCounts()
	for k, n := range counts {
		p.metrics.conflicts.WithLabelValues(string(k)).Set(float64(n))
	}
	p.metrics.records.Set(float64(p.state.Len()))
	p.metrics.claims.Set(float64(p.state.Claims()))
	p.note(func(s *Status) { s.Records, s.Claims, s.Conflicts = p.state.Len(), p.state.Claims(), counts })
}

// failed decides what an error means for the term.
func (p *Presenter) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	p.metrics.failures.Inc()
	p.pause = min(max(2*p.pause, firstPause), lastPause)
	p.again = time.Now().Add(p.pause)
	p.note(func(s *Status) { s.Problem = err.Error() })
	p.log.Warn("version not made, trying again", "error", err, "pause", p.pause)
	if p.attempt == nil {
		p.forgetPosition() // the change is no longer what leads from pos to the state
	}
	p.held = false // what was held before may not be now: that is still to be found out
	if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrSessionLost) {
		p.depose(err.Error())
	}
}
