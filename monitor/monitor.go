package monitor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/internal/freshness"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// Config says what is watched, and how closely.
type Config struct {
	Dataset string `option:"dataset" help:"name of the dataset"`
	// FreshZone is the zone with the freshness record.
	FreshZone record.Name `option:"fresh-zone" help:"zone with the freshness record"`
	// Interval is how often each host is asked. The cost is one query a host.
	Interval time.Duration `option:"interval" help:"how often each host is asked"`
	// Timeout is how long a host has to answer before it counts as silent.
	Timeout time.Duration `option:"timeout" help:"how long a host has to answer"`
	// StaleAfter is the age from which an answer is stale: ten lost heartbeats at
	// their default of one a second, which a restart of any one process does not cost.
	StaleAfter time.Duration `option:"stale-after" help:"age from which an answer is stale"`
	// MissingFor is how long a host that is gone from the store is still shown, as
	// missing. A host that is taken away for good stays that long; zero forgets at once.
	MissingFor time.Duration `option:"missing-for" help:"how long a host that is gone is shown as missing"`
	// Workers is how many hosts are asked at the same time.
	Workers int `option:"workers" help:"hosts asked at the same time"`
}

// DefaultConfig asks once a second.
func DefaultConfig() Config {
	return Config{
		Dataset: "internal", FreshZone: "\x08zonecast\x08internal\x00",
		Interval: time.Second, Timeout: time.Second, StaleAfter: 10 * time.Second, MissingFor: time.Hour, Workers: 32,
	}
}

// Validate tells what is wrong, by the option's name.
func (c Config) Validate() error {
	for _, d := range []struct {
		key string
		v   time.Duration
	}{{"interval", c.Interval}, {"timeout", c.Timeout}, {"stale-after", c.StaleAfter}} {
		if d.v <= 0 {
			return fmt.Errorf("%s: %s, expected more than 0", d.key, d.v)
		}
	}
	if c.MissingFor < 0 {
		return fmt.Errorf("missing-for: %s, expected 0 or more", c.MissingFor)
	}
	if c.Workers < 1 || c.Workers > 4096 {
		return fmt.Errorf("workers: %d, expected 1 to 4096", c.Workers)
	}
	return nil
}

// Deps is what the monitor works with.
type Deps struct {
	Store   store.Store
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Now     func() time.Time // nil means time.Now
}

// Monitor watches the hosts of one dataset.
type Monitor struct {
	cfg     Config
	deps    Deps
	fresh   record.Name // owner of the freshness record
	metrics *metrics

	mu      sync.Mutex // guards below
	head    tree.Head
	hosts   map[string]*host
	digests digests
}

// host is what is known of one host.
type host struct {
	tree.Host
	state State
	age   time.Duration // of the last answer; valid when state is Fresh or Stale
	why   string        // what is wrong
	gone  time.Time     // when it went from the store; zero while it is there
	joins time.Time     // since when it carries the dataset and has not answered it; zero: it has, or carries it alone
}

// joining is how long a host that takes the dataset up beside others may do without answering it.
const joining = time.Minute

// joining tells whether a host that does not answer is not to be blamed for it yet.
func (m *Monitor) joining(h *host) bool {
	return !h.joins.IsZero() && m.deps.Now().Sub(h.joins) < joining
}

// maxMissing bounds the missing hosts that are remembered; beyond, the one that is gone
// longest is forgotten.
const maxMissing = 10_000

// State is how a host is.
type State string

// States of a host. A host starts Unknown and moves with every probe.
const (
	Unknown   State = "unknown"   // not asked yet
	Fresh     State = "fresh"     // answers, younger than StaleAfter
	Stale     State = "stale"     // answers, older
	Silent    State = "silent"    // no answer, or one without a freshness record
	Disagrees State = "disagrees" // same version as others, other data
	Missing   State = "missing"   // its agent is gone from the store; it is still asked
)

// States is all of them.
func States() []State { return []State{Unknown, Fresh, Stale, Silent, Disagrees, Missing} }

// New makes a Monitor.
func New(cfg Config, deps Deps) (*Monitor, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	owner, err := freshness.Name(cfg.FreshZone, cfg.Dataset)
	if err != nil {
		return nil, err
	}
	m := &Monitor{cfg: cfg, deps: deps, fresh: owner, hosts: map[string]*host{}, digests: digests{}}
	m.metrics, err = newMetrics(m)
	return m, err
}

// Run watches until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.follow(ctx, tree.Hosts) })
	g.Go(func() error { return m.follow(ctx, tree.DatasetPrefix(m.cfg.Dataset)) })
	g.Go(func() error { return m.probeAll(ctx) })
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (m *Monitor) follow(ctx context.Context, prefix string) error {
	for b := range m.deps.Store.Watch(ctx, prefix, 0) {
		m.mu.Lock()
		m.take(prefix, b)
		m.mu.Unlock()
	}
	return ctx.Err()
}

func (m *Monitor) take(prefix string, b store.Batch) {
	gone := slices.Clone(b.Deletes)
	if b.Reset && prefix == tree.Hosts {
		there := make(map[string]bool, len(b.Puts))
		for _, n := range b.Puts {
			there[n.Path] = true
		}
		for name := range m.hosts {
			if path := tree.HostPath(name); !there[path] {
				gone = append(gone, path)
			}
		}
	}
	for _, n := range b.Puts {
		switch {
		case n.Path == tree.HeadPath(m.cfg.Dataset):
			var h tree.Head
			if err := tree.Decode(n, &h); err != nil {
				m.deps.Log.Warn("head not read", "error", err)
				continue
			}
			m.head = h
			m.digests.note(h.Version, h.Digest)
		case prefix == tree.Hosts:
			m.takeHost(n)
		}
	}
	for _, path := range gone {
		name, ok := strings.CutPrefix(path, tree.Hosts)
		if ok {
			m.lose(name)
		}
	}
	if len(gone) > 0 {
		m.forget()
	}
}

// lose notes that a host is gone from the store.
func (m *Monitor) lose(name string) {
	h := m.hosts[name]
	if h == nil || h.state == Missing {
		return
	}
	h.gone = m.deps.Now()
	m.move(name, h, Missing, fmt.Sprintf("its agent is gone from the store since %s", h.gone.UTC().Format(time.RFC3339)))
}

// forget forgets hosts that have been missing for long, or when there are many, first
// those that have been longest.
func (m *Monitor) forget() {
	now := m.deps.Now()
	var missing []string
	for name, h := range m.hosts {
		switch {
		case h.state != Missing:
		case now.Sub(h.gone) >= m.cfg.MissingFor:
			m.deps.Log.Info("host forgotten", "host", name)
			delete(m.hosts, name)
		default:
			missing = append(missing, name)
		}
	}
	if len(missing) <= maxMissing {
		return
	}
	slices.SortFunc(missing, func(a, b string) int { return m.hosts[a].gone.Compare(m.hosts[b].gone) })
	for _, name := range missing[:len(missing)-maxMissing] {
		delete(m.hosts, name)
	}
}

func (m *Monitor) takeHost(n store.Node) {
	name := strings.TrimPrefix(n.Path, tree.Hosts)
	var t tree.Host
	if err := tree.Decode(n, &t); err != nil {
		m.deps.Log.Warn("host not read", "error", err)
		return
	}
	h := m.hosts[name]
	d, ours := t.Datasets[m.cfg.Dataset]
	if !t.Carry(m.cfg.Dataset) || !ours && len(t.Carries) == 0 && len(t.Datasets) > 0 {
		delete(m.hosts, name) // it serves another dataset
		return
	}
	if h == nil {
		h = &host{state: Unknown}
		if len(t.Carries) > 1 {
			h.joins = m.deps.Now()
		}
		m.hosts[name] = h
		m.deps.Log.Info("host came", "host", name, "dns", t.DNS)
	}
	h.Host = t
	if h.state == Missing {
		h.gone = time.Time{}
		m.move(name, h, Unknown, "")
	}
	if d.Version == 0 {
		return
	}
	h.joins = time.Time{}
	if want, ok := m.digests.check(d.Version, d.Digest); !ok {
		m.metrics.disagreements.Inc()
		m.move(name, h, Disagrees, fmt.Sprintf("version %d has digest %s here and %s elsewhere", d.Version, d.Digest, want))
		return
	}
	if h.state == Disagrees {
		m.move(name, h, Unknown, "")
	}
}

// move changes a host's state and tells when it is another one.
func (m *Monitor) move(name string, h *host, s State, why string) {
	if h.state != s && h.state != Unknown || s != Unknown && s != Fresh && h.state != s {
		level := slog.LevelWarn
		if s == Fresh || s == Unknown {
			level = slog.LevelInfo
		}
		m.deps.Log.Log(context.Background(), level, "host state", "host", name, "was", string(h.state), "is", string(s), "why", why)
	}
	h.state, h.why = s, why
}

// probeAll asks every host each Interval.
func (m *Monitor) probeAll(ctx context.Context) error {
	tick := time.NewTicker(m.cfg.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		m.mu.Lock()
		m.forget()
		targets := make(map[string]string, len(m.hosts))
		for name, h := range m.hosts {
			targets[name] = h.DNS
		}
		m.mu.Unlock()
		var g errgroup.Group
		g.SetLimit(m.cfg.Workers)
		for name, dns := range targets {
			g.Go(func() error {
				m.probe(ctx, name, dns)
				return nil
			})
		}
		g.Wait() // never an error: what a probe found is the host's state
	}
}

func (m *Monitor) probe(ctx context.Context, name, dns string) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	began := m.deps.Now()
	stamp, err := m.ask(ctx, dns)
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return // stopping: no news about the host
	}
	m.metrics.probe.Observe(m.deps.Now().Sub(began).Seconds())
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.hosts[name]
	switch {
	case h == nil || h.state == Disagrees:
	case h.state == Missing:
		h.why = fmt.Sprintf("its agent is gone from the store since %s; ", h.gone.UTC().Format(time.RFC3339))
		if err != nil {
			h.why += err.Error()
		} else {
			h.why += fmt.Sprintf("it still answers what was so %s ago", m.deps.Now().Sub(stamp.Time).Round(time.Millisecond))
		}
	case err != nil && m.joining(h):
		m.move(name, h, Unknown, fmt.Sprintf("it takes the dataset up since %s: %v", h.joins.UTC().Format(time.RFC3339), err))
	case err != nil:
		m.metrics.failed.Inc()
		m.move(name, h, Silent, err.Error())
	default:
		age := m.deps.Now().Sub(stamp.Time)
		h.age = max(age, 0)
		m.metrics.age.Observe(h.age.Seconds())
		if -age >= m.cfg.StaleAfter {
			m.move(name, h, Stale, fmt.Sprintf("its freshness record is of %s in the future: the clocks here and at the mutator disagree, and no age can be told", (-age).Round(time.Millisecond)))
			return
		}
		if h.age >= m.cfg.StaleAfter {
			m.move(name, h, Stale, fmt.Sprintf("answers what was so %s ago", h.age.Round(time.Millisecond)))
			return
		}
		m.move(name, h, Fresh, "")
	}
}

func (m *Monitor) ask(ctx context.Context, dns string) (freshness.Stamp, error) {
	addr, err := netip.ParseAddrPort(dns)
	if err != nil {
		return freshness.Stamp{}, fmt.Errorf("its DNS address is %q, expected address:port", dns)
	}
	r, err := dnswire.Query(ctx, addr, m.fresh, record.TypeTXT, false)
	if err != nil {
		return freshness.Stamp{}, err
	}
	return freshness.Of(r, m.fresh)
}

// Report is what the monitor knows, for people and programs.
type Report struct {
	Dataset string        `json:"dataset"`
	Version uint64        `json:"version"`
	Digest  string        `json:"digest"`
	States  map[State]int `json:"states"`
	Hosts   []HostReport  `json:"hosts"`
}

// HostReport is one host.
type HostReport struct {
	Name    string `json:"name"`
	DNS     string `json:"dns"`
	State   State  `json:"state"`
	Version uint64 `json:"version"` // that it says it answers
	Digest  string `json:"digest"`
	AgeMs   int64  `json:"age_ms"` // of its freshness record; -1 when it gave none
	Why     string `json:"why,omitempty"`
	Refused string `json:"refused,omitempty"`
	// Alarms is what a person should look at though it serves.
	Alarms []string `json:"alarms,omitempty"`
}

// Report gives what is known now, hosts by name.
func (m *Monitor) Report() Report {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := Report{Dataset: m.cfg.Dataset, Version: m.head.Version, Digest: m.head.Digest, States: map[State]int{}, Hosts: []HostReport{}}
	for _, name := range slices.Sorted(maps.Keys(m.hosts)) {
		h := m.hosts[name]
		d := h.Datasets[m.cfg.Dataset]
		hr := HostReport{Name: name, DNS: h.DNS, State: h.state, Version: d.Version, Digest: d.Digest, AgeMs: -1, Why: h.why, Refused: h.Refused, Alarms: h.Alarms}
		if h.state == Fresh || h.state == Stale {
			hr.AgeMs = h.age.Milliseconds()
		}
		r.Hosts = append(r.Hosts, hr)
		r.States[h.state]++
	}
	return r
}

// digests remembers the digest of recent versions, as whoever said it first said it;
// the presenter, who makes them, is usually first.
type digests map[uint64]string

// remembered is how many versions back digests are compared: ten minutes of
// heartbeats.
const remembered = 600

func (d digests) note(version uint64, digest string) {
	d[version] = digest
	if len(d) <= 2*remembered {
		return
	}
	versions := slices.SortedFunc(maps.Keys(d), func(a, b uint64) int { return cmp.Compare(b, a) })
	for _, v := range versions[remembered:] {
		delete(d, v)
	}
}

func (d digests) check(version uint64, digest string) (want string, ok bool) {
	want, known := d[version]
	if !known {
		d.note(version, digest)
		return digest, true
	}
	return want, want == digest
}
