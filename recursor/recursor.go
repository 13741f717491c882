package recursor

import (
	"bytes"
	"cmp"
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
	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/service"
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
	programs programs // of the goroutine of Run
	control  control
	metrics  *metrics

	wake chan struct{} // there is something to do; holds one

	mu         sync.Mutex        // guards below
	carried    []*carried        // in order; replaced, not changed
	left       []*carried        // carried no more, and in the cache still
	remembered map[string][]zone // of the life before, by dataset
	state      Status
	daemon     *daemon.Daemon // nil: somebody else runs it, or not yet

	// Of the goroutine that works.
	conf   []byte // in force: what Unbound runs on, or is started with
	zones  []zone // in conf
	kept   []byte // the file of remembered zones
	later  []again
	silent time.Time // since when Unbound cannot be spoken to; zero: it can
}

// again is what is flushed once more.
type again struct {
	at       time.Time
	commands []string
}

// Status is how it stands.
type Status struct {
	Carried []CarriedStatus `json:"carried"` // the datasets of the host, in order
	Unbound string          `json:"unbound"` // its version
	Refused []string        `json:"refused,omitempty"`
	Problem string          `json:"problem,omitempty"` // of the configuration
	Control string          `json:"control,omitempty"` // why it cannot be spoken to
	List    string          `json:"list,omitempty"`    // why it is not known which datasets the host carries
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
	r := &Recursor{cfg: cfg, log: deps.Log, wake: make(chan struct{}, 1)}
	if _, err = r.open(cfg.Dataset); err != nil { // keys that cannot be read are said at once
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
	s := r.state
	for _, c := range r.carried {
		s.Carried = append(s.Carried, c.said)
	}
	return s
}

// Troubles are what a person should mend.
func (r *Recursor) Troubles() (all []string) {
	s := r.Status()
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
	add(s.List, "")
	now, _ := r.carries()
	for _, c := range now {
		r.mu.Lock()
		journal, waits := c.said.Journal, c.waits
		r.mu.Unlock()
		of := ""
		if len(now) > 1 {
			of = " of " + c.dataset
		}
		add(journal, "")
		if !waits.IsZero() && time.Since(waits) > lateAfter {
			add(fmt.Sprintf("the authority has not said for %s that it answers the newest version%s: is it running, and is --recursor-status-dir its directory?", time.Since(waits).Round(time.Second), of), "")
		}
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
	defer func() {
		now, _ := r.carries()
		for _, c := range now {
			c.end()
		}
	}()
	defer wg.Wait()
	defer cancel()
	if err := r.prepare(); err != nil {
		return fmt.Errorf("recursor: %w", err)
	}
	if err := r.begin(ctx); err != nil {
		return err
	}
	wg.Go(func() {
		datasets.FollowCarried(ctx, r.cfg.Journal, r.cfg.Dataset, func(want []string) error { return r.carry(ctx, want) }, func(err error) {
			r.trouble(func(s *Status) *string { return &s.List }, err)
		})
	})
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
// journals, or those of the life before.
func (r *Recursor) begin(ctx context.Context) error {
	old, err := os.ReadFile(r.cfg.path("unbound.conf"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("recursor: %w", err)
	}
	zones, were, remembered := r.recall()
	want, err := datasets.ReadCarried(r.cfg.Journal, r.cfg.Dataset)
	if err != nil {
		if want = were; len(want) == 0 {
			want = []string{r.cfg.Dataset}
		}
		r.log.Error("what the host carries cannot be read; going on with what it did", "datasets", want, "error", err)
	}
	r.mu.Lock()
	r.remembered = zones
	for _, d := range were { // dropped meanwhile, while an Unbound may have gone on with its cache
		if !slices.Contains(want, d) {
			r.left = append(r.left, &carried{Recursor: r, dataset: d, asks: zones[d]})
		}
	}
	r.mu.Unlock()
	if err := r.carry(ctx, want); err != nil {
		return fmt.Errorf("recursor: %w", err)
	}
	if !remembered {
		r.firstZones(ctx)
	}
	r.mu.Lock()
	r.conf, r.zones = old, r.asked()
	r.mu.Unlock()
	if err := r.configure(ctx, true); err != nil {
		if old == nil {
			return fmt.Errorf("recursor: %w", err)
		}
		r.log.Error("new configuration is refused; Unbound goes on with the one before", "error", err)
	}
	return nil
}

// firstZones waits for the zones of the journals, not for long, and takes them for remembered
// ones.
func (r *Recursor) firstZones(ctx context.Context) {
	for end := time.Now().Add(firstWait); ; {
		var missing []string
		r.mu.Lock()
		for _, c := range r.carried {
			if c.index == nil {
				missing = append(missing, c.dir)
			} else {
				r.remembered[c.dataset] = c.index.zones()
			}
		}
		r.mu.Unlock()
		if len(missing) == 0 || ctx.Err() != nil {
			return
		}
		if time.Now().After(end) {
			for _, dir := range missing {
				r.log.Warn("journal has no dataset yet; Unbound starts without its zones", "dir", dir)
			}
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(look):
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
	if r.leave(ctx) != nil {
		return retry
	}
	now, _ := r.carries()
	some := false
	for _, c := range now {
		did, err := c.step(ctx)
		if err != nil {
			return retry
		}
		some = some || did
	}
	pause := r.again(ctx)
	if some {
		return 0
	}
	return pause
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
	waits := slices.ContainsFunc(r.carried, func(c *carried) bool { return len(c.pending) > 0 })
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
	Dataset string      `json:"dataset,omitempty"` // empty: that of the options
	Apex    record.Name `json:"apex"`
	Signed  bool        `json:"signed,omitempty"`
}

// recall gives the zones of the life before by dataset, and these in their order; zones is
// never nil.
func (r *Recursor) recall() (zones map[string][]zone, were []string, ok bool) {
	zones = map[string][]zone{}
	b, err := os.ReadFile(r.cfg.path(remembered))
	if err != nil {
		return zones, nil, false
	}
	var all []rememberedZone
	if err := json.Unmarshal(b, &all); err != nil {
		r.log.Warn("zones of an earlier life cannot be read; the journal has them", "file", r.cfg.path(remembered), "error", err)
		return zones, nil, false
	}
	for _, z := range all {
		d := cmp.Or(z.Dataset, r.cfg.Dataset)
		if zones[d] == nil {
			were = append(were, d)
		}
		zones[d] = append(zones[d], zone{z.Apex, z.Signed})
	}
	return zones, were, true
}

// remember is the file that recall reads, when these zones are in force, and counts them.
func (r *Recursor) remember(zones []zone) ([]byte, error) {
	in := map[zone]bool{}
	for _, z := range zones {
		in[z] = true
	}
	list := []rememberedZone{}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.carried {
		asks := c.asks
		if asks == nil {
			asks = r.remembered[c.dataset]
		}
		c.said.Zones = 0
		for _, z := range asks {
			if in[z] {
				delete(in, z) // another dataset's zone of the name is not asked for
				c.said.Zones++
				list = append(list, rememberedZone{c.dataset, z.apex, z.signed})
			}
		}
	}
	return json.Marshal(list)
}

// configure puts a configuration with the zones of all datasets in force: checked first, then in
// place, then told to Unbound if it runs. Zones that the checker refuses are left out.
func (r *Recursor) configure(ctx context.Context, start bool) error {
	r.mu.Lock()
	zones := r.asked()
	r.mu.Unlock()
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
	r.state.Refused = texts
	r.mu.Unlock()
	for _, text := range texts {
		r.log.Error("zone left out of Unbound's configuration", "why", text)
	}
	text, err := r.remember(zones)
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	before, old := r.conf, r.zones
	same := bytes.Equal(conf, before)
	if !same {
		err = atomicfile.Write(r.cfg.path("unbound.conf"), 0o644, conf)
	}
	if err == nil && !bytes.Equal(text, r.kept) {
		if err = atomicfile.Write(r.cfg.path(remembered), 0o644, text); err == nil {
			r.kept = text
		}
	}
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	if same {
		r.zones = zones
		return nil
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
