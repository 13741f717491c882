package agent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"syscall"
	"time"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/refused"
	"github.com/zonecast/zonecast/internal/trust"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
)

// Agent keeps one dataset on one host.
type Agent struct {
	cfg      Config
	deps     Deps
	ring     *trust.Ring
	evidence *refused.Keeper
	metrics  *metrics

	unmended string // why a damaged journal was not mended, last; the follower's goroutine's

	changed chan struct{} // status changed in a way to report; holds one
	direct  *glass        // nil: nobody hands anything over directly
	carried carried       // what the host has beside this dataset; of the first one

	mu     sync.Mutex // guards below
	status Status
	came   time.Time       // the newest version
	writer *journal.Writer // while the journal is open
	word   word            // by which the journal has what it has
}

// Status is what the agent has; what the authority answers is in the store.
type Status struct {
	Host    string          `json:"host"`
	Dataset string          `json:"dataset"`
	Version uint64          `json:"version"` // in the journal, durably; 0 when there is none
	Digest  snapshot.Digest `json:"digest"`
	Time    int64           `json:"time_ms"` // Delta.Time of that version
	// Refused is the last thing refused since something was taken, and why.
	Refused string `json:"refused,omitempty"`
	// Trouble is why what arrived cannot be kept, now.
	Trouble string `json:"trouble,omitempty"`
	// Quarantined is where a damaged journal was moved to, last, in this life.
	Quarantined string `json:"quarantined,omitempty"`
}

// openPause is between two tries to open the journal on a disk that is full or away.
const openPause = time.Second

// New reads the keys.
func New(cfg Config, deps Deps) (*Agent, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	a := &Agent{cfg: cfg, deps: deps, changed: make(chan struct{}, 1)}
	var err error
	look := time.Duration(0) // trust's default
	if _, ok := deps.FS.(journal.Watcher); ok {
		look = watchedEvery
	}
	a.ring, err = trust.Open(trust.Config{Keys: cfg.Keys, Revoked: cfg.Revoked, Memory: trust.MemoryFile(cfg.Journal), Poll: look, FS: deps.FS, Log: deps.Log})
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if cfg.Direct != "" {
		if a.direct, err = newGlass(a); err != nil {
			return nil, fmt.Errorf("agent: %w", err)
		}
	}
	if a.deps.FS == nil {
		a.deps.FS = journal.System()
	}
	a.evidence = refused.New(a.deps.FS, refused.Dir(cfg.Journal), deps.Log)
	if a.deps.Fetcher == nil {
		a.deps.Fetcher = follow.HTTP{Log: deps.Log}
	}
	if a.metrics, err = newMetrics(deps.Metrics, cfg.Dataset, a.age, a.validFor); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	a.status = Status{Host: cfg.Host, Dataset: cfg.Dataset}
	a.carried.agents, a.carried.left = []*Agent{a}, map[string]time.Time{}
	return a, nil
}

// Status is how it stands.
func (a *Agent) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

// age is seconds since the version in the journal was made; infinite when there is
// none, so that a host without data is not taken for a fresh one.
func (a *Agent) age() float64 {
	s := a.Status()
	if s.Time == 0 {
		return math.Inf(1)
	}
	return time.Since(time.UnixMilli(s.Time)).Seconds()
}

// Run keeps the journal and reports until ctx ends. It returns early only when the
// journal is in use by another process, or the store is closed.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var reporting sync.WaitGroup
	defer reporting.Wait()
	defer cancel()
	reporting.Go(func() { a.report(ctx) })
	if a.direct != nil {
		reporting.Go(func() { a.direct.run(ctx) })
	}
	return a.carry(ctx)
}

// follow keeps the journal until ctx ends.
func (a *Agent) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var reporting sync.WaitGroup
	defer reporting.Wait()
	defer cancel()
	reporting.Go(func() { a.tryOffers(ctx) })
	reporting.Go(func() { a.ring.Run(ctx, a.deps.Store, a.refusedRevocation) })
	reporting.Go(func() { a.sayBeliefs(ctx) })
	reporting.Go(func() { a.evidence.Run(ctx) })
	if a.direct != nil && a.direct.ln == nil { // that of the first one runs by itself
		reporting.Go(func() { a.direct.handIn(ctx) })
	}
	for {
		err := a.keep(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, journal.ErrCorrupt):
			if err := a.quarantine(err); err == nil {
				continue // a new journal
			}
		case errors.Is(err, errOpen) && !errors.Is(err, journal.ErrLocked):
			a.trouble(err)
			a.deps.Log.Error("journal cannot be opened, trying again; the authority serves what it has", "dir", a.cfg.Journal, "error", err)
		default:
			return fmt.Errorf("agent: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(openPause):
		}
	}
}

// errOpen is wrapped when the journal could not be opened.
var errOpen = errors.New("open journal")

// keep opens the journal and follows the dataset into it.
func (a *Agent) keep(ctx context.Context) (err error) {
	w, have, err := journal.OpenWriter(a.cfg.Journal, journal.Options{
		Dataset: a.cfg.Dataset, Keys: a.ring.Keys, FoldSize: a.cfg.FoldSize, Log: a.deps.Log, FS: a.deps.FS,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errOpen, err)
	}
	defer func() {
		a.mu.Lock()
		a.writer = nil
		a.mu.Unlock()
		err = errors.Join(err, w.Close())
	}()
	floor, signers := a.floor(have.Version())
	a.mu.Lock()
	a.writer = w
	a.mu.Unlock()
	a.kept(have, w.Manifest())
	changed, end := a.ring.Subscribe()
	defer end()
	a.deps.Log.Info("journal opened", "dataset", a.cfg.Dataset, "version", have.Version(), "digest", have.Digest().String()[:12], "rrsets", have.Len())
	f, err := follow.New(follow.Config{
		Dataset: a.cfg.Dataset, Store: a.deps.Store, Keys: a.ring.Keys, KeysChanged: changed, Revoked: func(ctx context.Context) error { return a.ring.Read(ctx, a.deps.Store) }, Fetcher: a.deps.Fetcher,
		Dir: a.cfg.Journal + ".fetch", Manifest: w.Manifest(), Floor: floor, FloorSignedBy: signers, Log: a.deps.Log, Progress: a.deps.Progress,
	}, have, a)
	if err != nil {
		return err
	}
	return f.Run(ctx)
}

// floor is the version below which nothing is taken though the journal is older, or
// gone: what the authority answers; and by whose word it does.
func (a *Agent) floor(have uint64) (version uint64, signers []string) {
	serving, err := a.readServing()
	if err != nil || serving.Version <= have {
		return 0, nil
	}
	a.deps.Log.Warn("the authority answers a newer version than the journal has: nothing below it is taken", "dataset", a.cfg.Dataset, "answers", serving.Version, "journal", have)
	return serving.Version, serving.SignedBy
}

// quarantine moves a damaged journal aside, so that the next one is fetched anew.
func (a *Agent) quarantine(cause error) error {
	to, err := journal.QuarantineIn(a.deps.FS, a.cfg.Journal)
	a.metrics.quarantined.Inc()
	a.metrics.refused.WithLabelValues(kindJournal).Inc()
	a.evidence.Keep(refused.Entry{Time: time.Now().UnixMilli(), Dataset: a.cfg.Dataset, Kind: kindJournal, Way: "disk", Why: fmt.Sprintf("moved to %s: %v", to, cause)})
	if err != nil {
		a.trouble(errors.Join(cause, err))
		a.deps.Log.Error("damaged journal cannot be moved aside, trying again; the authority serves what it has", "dir", a.cfg.Journal, "why", cause, "error", err)
		return err
	}
	a.mu.Lock()
	a.status.Quarantined = to
	a.status.Version, a.status.Digest, a.status.Time = 0, snapshot.Digest{}, 0
	a.mu.Unlock()
	a.deps.Log.Error("journal is damaged: moved aside, fetching anew; the authority serves what it has", "dir", a.cfg.Journal, "moved", to, "error", cause)
	return nil
}

// Reset is follow.Sink.Reset.
func (a *Agent) Reset(_ context.Context, r follow.Reset) error {
	began := time.Now()
	var err error
	if r.Path != "" {
		a.metrics.fetchSeconds.Observe(r.Took.Seconds())
		a.metrics.octets.WithLabelValues("snapshot").Add(float64(r.Size))
		err = a.journal().Reset(r.Path, r.Manifest)
	} else {
		err = a.journal().ResetDataset(r.Dataset, r.Manifest)
	}
	return a.done(began, r.Dataset, r.Manifest, err)
}

// Apply is follow.Sink.Apply.
func (a *Agent) Apply(_ context.Context, g follow.Group) error {
	began := time.Now()
	err := a.journal().Append(g.Encoded, g.Manifest)
	if err == nil {
		for _, b := range g.Encoded {
			a.metrics.octets.WithLabelValues("delta").Add(float64(len(b)))
		}
		a.mend(g)
	}
	return a.done(began, g.Dataset, g.Manifest, err)
}

// mend writes a journal anew that was found damaged on the disk while it was open. An
// authority that started now could not read it, and the dataset is at hand. What does
// not work is tried again with the next group: this one is kept.
func (a *Agent) mend(g follow.Group) {
	damage := a.journal().Damage()
	if damage == nil {
		a.unmended = ""
		return
	}
	err := a.journal().ResetDataset(g.Dataset, g.Manifest)
	if err == nil {
		a.metrics.mended.Inc()
		a.deps.Log.Error("journal was damaged on the disk: written anew from memory; check the disk", "dir", a.cfg.Journal, "version", g.Dataset.Version(), "damage", damage)
		return
	}
	a.metrics.journalErrors.Inc()
	if text := err.Error(); text != a.unmended {
		a.unmended = text
		a.deps.Log.Error("journal is damaged on the disk and cannot be written anew, trying again: an authority that starts now has nothing", "dir", a.cfg.Journal, "damage", damage, "error", err)
	}
}

func (a *Agent) journal() *journal.Writer {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.writer
}

// done notes the outcome of a write. Damage ends the follower; anything else, a full
// disk above all, is tried again by it.
func (a *Agent) done(began time.Time, d *snapshot.Dataset, manifest []byte, err error) error {
	if err != nil {
		a.metrics.journalErrors.Inc()
		a.trouble(err)
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			a.evidence.Clear() // what is served needs the room more
			if a.deps.Relieve != nil {
				a.deps.Relieve()
			}
		}
		if errors.Is(err, journal.ErrCorrupt) {
			return fmt.Errorf("%w: %w", follow.ErrStop, err)
		}
		return err
	}
	now := time.Now()
	a.metrics.appendSeconds.Observe(now.Sub(began).Seconds())
	a.metrics.applySeconds.Observe(max(0, now.Sub(time.UnixMilli(d.Time())).Seconds()))
	a.kept(d, manifest)
	return nil
}

// kept notes what is now in the journal.
func (a *Agent) kept(d *snapshot.Dataset, manifest []byte) {
	word := wordOf(manifest)
	a.mu.Lock()
	a.word = word
	better := a.status.Refused != "" || a.status.Trouble != ""
	if d.Version() != a.status.Version {
		a.came = time.Now()
	}
	a.status.Version, a.status.Digest, a.status.Time = d.Version(), d.Digest(), d.Time()
	a.status.Refused, a.status.Trouble = "", ""
	a.mu.Unlock()
	a.metrics.version.Set(float64(d.Version()))
	if better {
		a.poke()
	}
}

// trouble notes why something cannot be kept.
func (a *Agent) trouble(err error) {
	a.mu.Lock()
	news := a.status.Trouble != err.Error()
	a.status.Trouble = err.Error()
	a.mu.Unlock()
	if news {
		a.poke()
	}
}

// Refused is follow.Sink.Refused.
func (a *Agent) Refused(r follow.Refusal) {
	a.metrics.refused.WithLabelValues(string(r.Kind)).Inc()
	a.deps.Log.Warn("refused, the host keeps what it has", "dataset", a.cfg.Dataset, "kind", r.Kind, "version", r.Version, "error", r.Err)
	if r.Kind != follow.KindUnreachable { // nothing was refused then
		a.evidence.Keep(refused.Entry{
			Time: r.Time.UnixMilli(), Dataset: a.cfg.Dataset, Kind: string(r.Kind), Way: wayOf(r.Kind), Version: r.Version, Why: r.Err.Error(), Evidence: r.Evidence,
		})
	}
	a.mu.Lock()
	a.status.Refused = r.String()
	a.mu.Unlock()
	a.poke()
}

// poke lets the reporter look.
func (a *Agent) poke() {
	select {
	case a.changed <- struct{}{}:
	default:
	}
}
