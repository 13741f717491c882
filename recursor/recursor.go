package recursor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zonecast/zonecast/internal/atomicfile"
	"github.com/zonecast/zonecast/internal/daemon"
	"github.com/zonecast/zonecast/internal/serving"
	"github.com/zonecast/zonecast/internal/trust"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/service"
	"github.com/zonecast/zonecast/snapshot/journal"
)

const (
	// firstWait is how long a first start, which remembers no zones, waits for the
	// journal before Unbound answers without any: what it asked the Internet meanwhile
	// would be no secret any more.
	firstWait = 3 * time.Second
	// settle is after a flush, when the same is flushed once more: an answer from before
	// the change may have been on its way to the cache.
	settle = 500 * time.Millisecond
	// look is how often the status file is looked at while something waits for it.
	look = 5 * time.Millisecond
	// retry is between tries to reach Unbound, and to follow the journal.
	retry = 200 * time.Millisecond
	// liveZones is how many zones are told to a running Unbound one by one; more are
	// taken by a reload, during which it answers nothing for some milliseconds.
	liveZones = 50
	// silence is how long Unbound may be out of reach before that is a warning.
	silence = 3 * time.Second
	// lateAfter is when waiting for the authority becomes a warning.
	lateAfter = 10 * time.Second
)

// Recursor drives one Unbound.
type Recursor struct {
	cfg      Config
	log      *slog.Logger
	ring     *trust.Ring
	programs programs // of the goroutine of Run
	control  control
	metrics  *metrics

	wake chan struct{} // there is something to do; holds one

	mu      sync.Mutex // guards below
	index   *index     // nil: no state of the journal yet
	pending []*plan    // by version: what the authority does not answer yet, or could not be flushed
	state   Status
	daemon  *daemon.Daemon // nil: somebody else runs it, or not yet
	waits   time.Time      // since when the first of pending waits

	// Of the goroutine that works.
	conf   []byte // in force: what Unbound runs on, or is started with
	zones  []zone // in conf
	later  []again
	top    onTop
	absent bool      // the authority said nothing at the last look
	silent time.Time // since when Unbound cannot be spoken to; zero: it can
}

// again is what is flushed once more.
type again struct {
	at       time.Time
	commands []string
}

// Status is how it stands.
type Status struct {
	Version uint64    `json:"version"` // up to which the cache has nothing old; 0: none yet
	Zones   int       `json:"zones"`
	Unbound string    `json:"unbound"` // its version
	Refused []string  `json:"refused,omitempty"`
	Problem string    `json:"problem,omitempty"` // of the configuration
	Control string    `json:"control,omitempty"` // why it cannot be spoken to
	Journal string    `json:"journal,omitempty"`
	Flushed time.Time `json:"flushed"`
}

// New reads the keys.
func New(cfg Config, deps Deps) (*Recursor, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure recursor: %w", err)
	}
	var err error
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, fmt.Errorf("recursor: %w", err)
	}
	r := &Recursor{cfg: cfg, log: deps.Log, wake: make(chan struct{}, 1), absent: true}
	if r.ring, err = trust.Open(trust.Config{Keys: cfg.Keys, Revoked: cfg.Revoked, Memory: trust.MemoryFile(cfg.Journal), Reader: true, Log: deps.Log}); err != nil {
		return nil, err
	}
	r.control = socketControl{cfg.socket()}
	if file, ok := strings.CutPrefix(cfg.Control, "@"); ok {
		path, err := daemon.Find("unbound-control")
		if err != nil {
			return nil, &hinted{fmt.Errorf("unbound-control is not there: %w", err), installHint}
		}
		r.control = programControl{path, file}
	}
	if r.metrics, err = newMetrics(r, deps.Metrics); err != nil {
		return nil, err
	}
	return r, nil
}

// Status is how it stands.
func (r *Recursor) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// Troubles are what a person should mend.
func (r *Recursor) Troubles() (all []string) {
	r.mu.Lock()
	s, waits := r.state, r.waits
	r.mu.Unlock()
	add := func(text, hint string) {
		if text != "" {
			all = append(all, text+hint)
		}
	}
	add(s.Problem, "")
	for _, text := range s.Refused {
		add(text, "")
	}
	add(s.Control, "; changes wait until it can be reached")
	add(s.Journal, "")
	if !waits.IsZero() && time.Since(waits) > lateAfter {
		add(fmt.Sprintf("the authority has not said for %s that it answers the newest version: is it running, and is --recursor-status-dir its directory?", time.Since(waits).Round(time.Second)), "")
	}
	if d := r.process(); d.Pid == 0 && d.Ended != "" {
		add("Unbound does not run: "+d.Ended, "")
	}
	return all
}

// process is how it stands with the child; the zero value where there is none.
func (r *Recursor) process() (s daemon.State) {
	r.mu.Lock()
	d := r.daemon
	r.mu.Unlock()
	if d != nil {
		s, _ = d.State()
	}
	return s
}

// Run drives Unbound until ctx ends. An error is one of the start: a configuration that
// is refused while there is none that was not.
func (r *Recursor) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	if err := r.prepare(); err != nil {
		return fmt.Errorf("recursor: %w", err)
	}
	wg.Go(func() { r.ring.Run(ctx, nil, nil) })
	wg.Go(func() { r.follow(ctx) })
	if err := r.begin(ctx); err != nil {
		return err
	}
	if r.cfg.Start {
		d := daemon.New(daemon.Config{
			Path: r.programs.unbound, Args: []string{"-d", "-c", r.cfg.path("unbound.conf")}, Dir: r.cfg.Dir,
			PidFile: r.cfg.path("unbound.pid"), Leave: r.cfg.Leave, Line: lineLevel, Log: r.log,
		})
		r.mu.Lock()
		r.daemon = d
		r.mu.Unlock()
		wg.Go(func() { _ = d.Run(ctx) }) // which ends without an error
	}
	service.Ready(ctx)
	r.work(ctx)
	return nil
}

// prepare finds Unbound and makes the directory.
func (r *Recursor) prepare() (err error) {
	if r.programs, err = findPrograms(r.cfg.Unbound); err != nil {
		return err
	}
	r.mu.Lock()
	r.state.Unbound = r.programs.version
	r.mu.Unlock()
	if err := os.MkdirAll(r.cfg.Dir, 0o755); err != nil {
		return err
	}
	if err := errors.Join(r.cfg.own(r.cfg.Dir), atomicfile.Sweep(r.cfg.Dir)); err != nil {
		return err
	}
	return r.cfg.placeAnchor()
}

// begin makes the configuration that Unbound is started with: with the zones of the
// journal, or those of the life before.
func (r *Recursor) begin(ctx context.Context) error {
	old, err := os.ReadFile(r.cfg.path("unbound.conf"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("recursor: %w", err)
	}
	zones, remembered := r.recall()
	if !remembered {
		zones = r.firstZones(ctx)
	}
	r.conf, r.zones = old, zones
	if err := r.configure(ctx, zones, true); err != nil {
		if old == nil {
			return fmt.Errorf("recursor: %w", err)
		}
		r.log.Error("new configuration is refused; Unbound goes on with the one before", "error", err)
	}
	return nil
}

// firstZones waits for the zones of the journal, not for long.
func (r *Recursor) firstZones(ctx context.Context) []zone {
	end := time.Now().Add(firstWait)
	for time.Now().Before(end) && ctx.Err() == nil {
		r.mu.Lock()
		x := r.index
		var zones []zone
		if x != nil {
			zones = x.zones()
		}
		r.mu.Unlock()
		if x != nil {
			return zones
		}
		select {
		case <-ctx.Done():
		case <-time.After(look):
		}
	}
	r.log.Warn("journal has no dataset yet; Unbound starts without its zones", "dir", r.cfg.Journal)
	return nil
}

// follow follows the journal and plans.
func (r *Recursor) follow(ctx context.Context) {
	for ctx.Err() == nil {
		err := journal.Follow(ctx, r.cfg.Journal, r.ring.Keys, r.event)
		if ctx.Err() != nil {
			return
		}
		r.trouble(func(s *Status) *string { return &s.Journal }, err)
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

// trouble notes a problem, and logs it when it is another one than before.
func (r *Recursor) trouble(of func(*Status) *string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	r.mu.Lock()
	at := of(&r.state)
	news := text != *at
	*at = text
	r.mu.Unlock()
	if news && err != nil {
		r.log.Warn("recursor cannot follow; Unbound goes on with what it has", "error", err)
	}
}

func (r *Recursor) event(e journal.Event) error {
	if e.Problem != nil {
		r.trouble(func(s *Status) *string { return &s.Journal }, e.Problem)
		return nil
	}
	var p *plan
	switch {
	case e.Reset != nil:
		if e.Reset.Name() != r.cfg.Dataset {
			return fmt.Errorf("journal %s has the dataset %q, expected %q: check --recursor-journal and --recursor-dataset", r.cfg.Journal, e.Reset.Name(), r.cfg.Dataset)
		}
		x := newIndex(e.Reset)
		r.mu.Lock()
		before := r.index
		r.index = x
		r.mu.Unlock()
		if x.Version() > 0 {
			p = x.whole(before)
		}
	case e.Delta != nil:
		r.mu.Lock()
		var err error
		p, err = r.index.apply(e.Delta)
		r.mu.Unlock()
		if err != nil {
			return err
		}
	}
	r.trouble(func(s *Status) *string { return &s.Journal }, nil)
	if p == nil {
		return nil
	}
	r.mu.Lock()
	if r.waits.IsZero() {
		r.waits = time.Now()
	}
	if e.Reset != nil {
		r.anew(p)
	} else {
		r.plan(p)
	}
	r.mu.Unlock()
	r.poke()
	return nil
}

// maxPending is how many versions wait for the authority each by itself; those after are
// flushed together. It is a quarter of an hour of freshness records.
const maxPending = 1000

// plan has p wait for the authority. The caller holds mu.
func (r *Recursor) plan(p *plan) {
	if n := len(r.pending); n >= maxPending {
		r.pending[n-1].add(p)
		r.pending[n-1].fold(r.index.ZoneOf)
		return
	}
	r.pending = append(r.pending, p)
}

// anew has p, which is for all of the dataset, wait in the place of all that waited: its
// version may be less than theirs. The caller holds mu.
func (r *Recursor) anew(p *plan) {
	for _, q := range r.pending {
		q.zones = nil
		p.join(q)
	}
	p.fold(r.index.ZoneOf)
	r.pending = []*plan{p}
}

// back has p, which could not be flushed, wait again before all others. The caller holds mu.
func (r *Recursor) back(p *plan) {
	if len(r.pending) > 0 && r.pending[0].version <= p.version { // the dataset was read anew meanwhile
		p.zones = nil
		r.pending[0].join(p)
	} else {
		r.pending = append([]*plan{p}, r.pending...)
	}
	r.pending[0].fold(r.index.ZoneOf)
}

func (r *Recursor) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// work does what is planned, once the authority answers it.
func (r *Recursor) work(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		pause := r.step(ctx)
		if !timer.Stop() {
			select {
			case <-timer.C:
			default:
			}
		}
		timer.Reset(pause)
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-timer.C:
		}
	}
}

// idle is how often the status file is looked at when nothing waits: whether the
// authority was away, and what it answers on top of the dataset.
const idle = 100 * time.Millisecond

// step does what can be done now, and says when to look again.
func (r *Recursor) step(ctx context.Context) time.Duration {
	answers, err := serving.Read(r.cfg.StatusDir)
	switch {
	case err == nil && r.absent:
		// While it was away Unbound found it dead, and would ask it less and less.
		if _, err := r.control.do(ctx, "flush_infra "+at(r.cfg.authority())); err == nil {
			r.absent = false
		}
	case err != nil:
		r.absent = true
	}
	p := r.take(answers.Version)
	if err == nil {
		if q := r.lookOnTop(answers); q != nil && p == nil {
			p = q
		} else if q != nil {
			p.join(q)
		}
	}
	if p == nil {
		return r.again(ctx)
	}
	if err := r.do(ctx, p); err != nil {
		r.mu.Lock()
		r.back(p)
		r.mu.Unlock()
		return retry
	}
	r.again(ctx)
	return 0
}

// take gives all that is planned up to a version, as one; nil is nothing.
func (r *Recursor) take(version uint64) *plan {
	r.mu.Lock()
	defer r.mu.Unlock()
	var p *plan
	for len(r.pending) > 0 && r.pending[0].version <= version {
		if p == nil {
			p = r.pending[0]
		} else {
			p.add(r.pending[0])
		}
		r.pending = r.pending[1:]
	}
	if len(r.pending) == 0 {
		r.waits = time.Time{}
	} else if p != nil {
		r.waits = time.Now()
	}
	return p
}

// do brings configuration and cache to where a plan leads.
func (r *Recursor) do(ctx context.Context, p *plan) error {
	if p.zones != nil {
		if err := r.configure(ctx, p.zones, false); err != nil {
			if errors.Is(err, errUnreachable) {
				return err
			}
			r.log.Error("configuration with the zones of the new version is refused; Unbound goes on with the one before", "version", p.version, "error", err)
		}
	}
	r.mu.Lock()
	commands := p.commands(r.index.ZoneOf)
	r.mu.Unlock()
	if err := r.tell(ctx, commands); err != nil {
		return err
	}
	now := time.Now()
	r.metrics.flushed(commands)
	if p.version > r.Status().Version {
		r.metrics.after.Observe(max(0, now.Sub(time.UnixMilli(p.time)).Seconds()))
	}
	r.later = append(r.later, again{now.Add(settle), commands})
	r.mu.Lock()
	r.state.Version, r.state.Flushed = max(r.state.Version, p.version), now
	r.mu.Unlock()
	return nil
}

// again flushes once more what is due, and says when the next is.
func (r *Recursor) again(ctx context.Context) time.Duration {
	now := time.Now()
	for len(r.later) > 0 && !r.later[0].at.After(now) {
		if err := r.tell(ctx, r.later[0].commands); err != nil {
			return retry
		}
		r.later = r.later[1:]
	}
	r.mu.Lock()
	waits := len(r.pending) > 0
	r.mu.Unlock()
	switch {
	case waits:
		return look
	case len(r.later) > 0:
		return min(idle, time.Until(r.later[0].at))
	}
	return idle
}

// tell gives commands. Those that Unbound refuses are counted and said; they would be
// refused again.
func (r *Recursor) tell(ctx context.Context, commands []string) error {
	for _, c := range commands {
		_, err := r.control.do(ctx, c)
		r.reached(err)
		var no *refusal
		switch {
		case errors.As(err, &no):
			r.metrics.refused.Inc()
			r.log.Warn("command refused by Unbound", "error", err)
		case err != nil:
			r.metrics.unreachable.Inc()
			return err
		}
	}
	return nil
}

// reached notes whether Unbound could be spoken to; that it could not for less than
// silence, as while it starts, is no trouble.
func (r *Recursor) reached(err error) {
	if !errors.Is(err, errUnreachable) {
		r.silent, err = time.Time{}, nil
	} else if r.silent.IsZero() {
		r.silent = time.Now()
	}
	if err == nil || time.Since(r.silent) > silence {
		r.trouble(func(s *Status) *string { return &s.Control }, err)
	}
}

// remembered is the file in which the zones of unbound.conf are kept, for a start
// without a journal.
const remembered = "zones.json"

type rememberedZone struct {
	Apex   record.Name `json:"apex"`
	Signed bool        `json:"signed,omitempty"`
}

func (r *Recursor) recall() ([]zone, bool) {
	b, err := os.ReadFile(r.cfg.path(remembered))
	if err != nil {
		return nil, false
	}
	var all []rememberedZone
	if err := json.Unmarshal(b, &all); err != nil {
		r.log.Warn("zones of an earlier life cannot be read; the journal has them", "file", r.cfg.path(remembered), "error", err)
		return nil, false
	}
	zones := make([]zone, len(all))
	for i, z := range all {
		zones[i] = zone{z.Apex, z.Signed}
	}
	return zones, true
}

// configure puts a configuration with these zones in force: checked first, then in
// place, then told to Unbound if it runs. Zones that the checker refuses are left out.
func (r *Recursor) configure(ctx context.Context, zones []zone, start bool) error {
	slices.SortFunc(zones, compareZones)
	conf, bad, err := r.programs.fit(ctx, r.cfg, zones)
	r.trouble(func(s *Status) *string { return &s.Problem }, err)
	if err != nil {
		r.metrics.unfit.Inc()
		return err
	}
	var texts []string
	for _, b := range bad {
		texts = append(texts, fmt.Sprintf("zone %s is left out, Unbound refuses it: %v", b.apex, b.why))
		zones = slices.DeleteFunc(slices.Clone(zones), func(z zone) bool { return z == b.zone })
	}
	r.mu.Lock()
	r.state.Refused, r.state.Zones = texts, len(zones)
	r.mu.Unlock()
	for _, text := range texts {
		r.log.Error("zone left out of Unbound's configuration", "why", text)
	}
	before, old := r.conf, r.zones
	if bytes.Equal(conf, before) {
		r.zones = zones
		return nil
	}
	list := make([]rememberedZone, len(zones))
	for i, z := range zones {
		list[i] = rememberedZone{z.apex, z.signed}
	}
	text, err := json.Marshal(list)
	if err == nil {
		err = atomicfile.Write(r.cfg.path("unbound.conf"), 0o644, conf)
	}
	if err == nil {
		err = atomicfile.Write(r.cfg.path(remembered), 0o644, text)
	}
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	if err := r.swap(ctx, old, zones, start); err != nil {
		return err
	}
	r.conf, r.zones = conf, zones
	r.log.Info("Unbound has a new configuration", "file", r.cfg.path("unbound.conf"), "changed", len(zones)-len(old))
	return nil
}

// swap has a running Unbound take what is in the file now. At a start there need not be
// one that runs.
func (r *Recursor) swap(ctx context.Context, old, zones []zone, start bool) error {
	commands, live := r.cfg.difference(old, zones)
	if !start && live && len(commands) <= liveZones {
		return r.tell(ctx, commands)
	}
	_, err := r.control.do(ctx, "reload_keep_cache")
	var no *refusal
	if errors.As(err, &no) {
		r.log.Warn("this Unbound cannot take a configuration and keep its cache, which begins anew", "error", err)
		_, err = r.control.do(ctx, "reload")
	}
	if start && errors.Is(err, errUnreachable) {
		return nil
	}
	return err
}

// difference gives the commands that lead from one set of zones to another; live is
// false when there are none for it.
func (c Config) difference(old, zones []zone) (commands []string, live bool) {
	live = true
	for _, z := range old {
		if slices.Contains(zones, z) {
			continue
		}
		commands = append(commands, "stub_remove "+insecure(z)+plain(z.apex))
		for range opened(z.apex) {
			live = false // what Unbound says of it by itself cannot be put back
		}
	}
	for _, z := range zones {
		if slices.Contains(old, z) {
			continue
		}
		for name := range opened(z.apex) {
			commands = append(commands, "local_zone "+plain(name)+" transparent")
		}
		commands = append(commands, "stub_add "+insecure(z)+plain(z.apex)+" "+at(c.authority()))
	}
	return commands, live
}

func insecure(z zone) string {
	if z.signed {
		return ""
	}
	return "+i "
}
