package mapper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/lead"
	"github.com/zonecast/zonecast/internal/steering"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/zonefile"
	"github.com/zonecast/zonecast/mapper/places"
	"github.com/zonecast/zonecast/mapper/plan"
	"github.com/zonecast/zonecast/mapper/table"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rtt"
	"github.com/zonecast/zonecast/store"
)

// Deps is what the stage works with.
type Deps struct {
	Store   store.Store
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Name    string // of this process
	// Client fetches from beacons; nil: one of its own.
	Client *http.Client
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Mapper keeps one map. Any number of processes may run one on the same store: one is
// elected.
type Mapper struct {
	cfg     Config
	deps    Deps
	uses    []geo.Use
	source  record.Source
	metrics *metrics

	mu      sync.Mutex // guards below
	trouble string     // why the map stays as it is; "": it is as the inputs say
	last    *computed  // nil: nothing was computed in this term, or another process leads
}

// New checks the configuration and registers metrics; it reads no file.
func New(cfg Config, deps Deps) (*Mapper, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("mapper: %w", err)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Client == nil {
		deps.Client = &http.Client{Timeout: fetchTimeout}
	}
	m := &Mapper{cfg: cfg, deps: deps, source: record.Source(record.KindMap + "/" + cfg.Map)}
	m.uses, _ = cfg.uses() // Validate has said so
	var err error
	if m.metrics, err = newMetrics(deps.Metrics, cfg.Map); err != nil {
		return nil, fmt.Errorf("mapper: %w", err)
	}
	return m, nil
}

// Run maps while this process leads, until ctx ends.
func (m *Mapper) Run(ctx context.Context) error {
	lead.Run(ctx, lead.Election{
		Store: m.deps.Store, Path: tree.ElectMapper + "/" + m.cfg.Map, Value: []byte(m.deps.Name), TTL: m.cfg.SessionTTL, Log: m.deps.Log,
	}, m.lead)
	return ctx.Err()
}

// Trouble tells why the map stays as it is; "" when it is as the inputs say, or when
// another process leads.
func (m *Mapper) Trouble() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.trouble
}

func (m *Mapper) setTrouble(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trouble = text
}

// term is one term of leadership.
type term struct {
	*Mapper
	fence store.Cond
	// claimed are the claims of the map, force the map itself, by kind; read when nil.
	claimed []record.Claim
	force   [2]*table.Map
	read    bool
	said    tree.Source
	seen    string // fingerprint of the inputs that the claims are of
	// heard is what each of Config.RTT had when it could be read last.
	heard map[string][]*rtt.Table
	// landsOf are those of the databases that landsKey is of; nil: they were not read.
	landsOf  *places.Lands
	landsKey string
}

// lead is a term.
func (m *Mapper) lead(ctx context.Context, fence store.Cond) error {
	t := &term{Mapper: m, fence: fence, heard: map[string][]*rtt.Table{}}
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.trouble, m.last = "", nil // what the next leader computes is not known here
	}()
	tick := time.NewTicker(m.cfg.Every)
	defer tick.Stop()
	pops := m.deps.Store.Watch(ctx, tree.PoPs, 0)
	for {
		if err := t.cycle(ctx); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			t.metrics.failures.Inc()
			if t.Trouble() != err.Error() {
				m.deps.Log.Warn("map stays as it is", "source", m.source, "error", err)
			}
			t.setTrouble(err.Error())
			t.report(ctx, err)
			if errors.Is(err, store.ErrConflict) { // somebody else writes: begin from what is there
				t.read = false
				if err := lead.Check(ctx, m.deps.Store, fence); errors.Is(err, store.ErrConflict) {
					return err
				}
			}
		} else {
			t.setTrouble("")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case _, ok := <-pops: // a drain is answered for at once by hosts; loads follow now
			if !ok {
				return ctx.Err()
			}
		}
	}
}

// cycle brings the map in line with the inputs. An error leaves it as it is.
func (t *term) cycle(ctx context.Context) error {
	t.metrics.cycles.Inc()
	if !t.read {
		if err := t.load(ctx); err != nil {
			return err
		}
	}
	in, err := t.inputs(ctx)
	if err != nil {
		return err
	}
	if in.fingerprint == t.seen {
		return nil
	}
	began := time.Now()
	c, err := t.compute(ctx, in)
	if err != nil {
		return err
	}
	t.metrics.seconds.Observe(time.Since(began).Seconds())
	if err := t.claim(ctx, c); err != nil {
		return err
	}
	t.seen = in.fingerprint
	if c.Churn.Deferred > 0 { // what was put off comes next
		t.seen = ""
	}
	t.mu.Lock()
	t.last = c
	t.mu.Unlock()
	t.metrics.tell(c)
	return nil
}

// load reads what is claimed.
func (t *term) load(ctx context.Context) error {
	claims, err := claimtree.Load(ctx, t.deps.Store, t.source)
	if err != nil {
		return err
	}
	t.said = tree.Source{}
	n, err := t.deps.Store.Get(ctx, tree.SourcePath(t.source))
	if err == nil {
		err = tree.Decode(n, &t.said)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	rrsets := make([]record.RRset, 0, len(claims))
	for _, c := range claims {
		if _, err := geo.PartOf(c.Key); err == nil {
			rrsets = append(rrsets, c.RRset)
		}
	}
	maps, _, err := geo.ParseMaps(rrsets)
	if err != nil {
		// Whoever wrote that: it is not known where anybody is, and nothing moves for less than a
		// map that is known.
		t.deps.Log.Error("map that is claimed cannot be read, it is made anew", "source", t.source, "error", err)
		maps = nil
	}
	t.claimed, t.force, t.read, t.seen = claims, [2]*table.Map{}, true, ""
	for i := range maps {
		t.keep(&maps[i])
	}
	return nil
}

// resolvers ends the name of the map by resolvers, beside that by clients.
const resolvers = "-resolvers"

// keep notes a map as the one in force.
func (t *term) keep(m *geo.Map) {
	lines := make([]table.Line, len(m.Entries))
	names := map[record.Location][]string{}
	for i, e := range m.Entries {
		order, ok := names[e.Location]
		if !ok {
			for _, p := range m.Orders[e.Location] {
				order = append(order, string(p))
			}
			if order == nil && e.Location != "" {
				order = []string{string(e.Location)}
			}
			names[e.Location] = order
		}
		lines[i] = table.Line{Prefix: e.Prefix, Order: order}
	}
	switch m.Name {
	case t.cfg.Map:
		t.force[0] = table.NewMap(lines)
	case t.cfg.Map + resolvers:
		t.force[1] = table.NewMap(lines)
	}
}

// claim writes what was computed.
func (t *term) claim(ctx context.Context, c *computed) error {
	now := t.deps.Now().UTC().Truncate(time.Millisecond)
	who := record.Provenance{Author: "mapper", Reason: c.reason(), Time: now, Revision: c.revision}
	var claims []record.Claim
	entries := 0
	for i, m := range c.maps {
		cs, err := steering.Claims(m, t.cfg.zone(), t.source, who)
		if err != nil {
			return err
		}
		if i > 0 { // the zone is claimed once
			cs = cs[len(steering.Zone(t.cfg.zone(), t.source, who)):]
		}
		claims = append(claims, cs...)
		entries += len(m.Entries)
	}
	sortClaims(claims)
	claims = zonefile.Inherit(claims, t.claimed)
	said := tree.Source{Source: t.source, Where: c.where, Revision: c.revision, Records: entries, Time: now.UnixMilli()}
	if claimtree.Same(claims, t.claimed) && t.said.Error == "" {
		t.metrics.unchanged.Inc()
		return nil
	}
	txn := store.Txn{If: []store.Cond{t.fence}, Do: []store.Op{{Path: tree.SourcePath(t.source), Value: tree.Encode(&said)}}}
	rev, changed, err := claimtree.Replace(ctx, t.deps.Store, t.source, claims, txn)
	if err != nil {
		if errors.Is(err, store.ErrUnavailable) {
			t.read = false // what is live is not known
		}
		return err
	}
	t.claimed, t.said, t.force = claims, said, [2]*table.Map{}
	for _, m := range c.maps {
		t.keep(m)
	}
	if changed {
		t.deps.Log.Info("map claimed", "source", t.source, "revision", int64(rev), "records", entries, "why", who.Reason)
	}
	return nil
}

// report says in the state of the source why the map stays as it is.
func (t *term) report(ctx context.Context, trouble error) {
	if t.said.Error == trouble.Error() || errors.Is(trouble, store.ErrUnavailable) || errors.Is(trouble, store.ErrConflict) {
		return
	}
	now := t.deps.Now().UnixMilli()
	said := t.said
	if said.Error == "" {
		said.Since = now
	}
	said.Source, said.Error, said.Time = t.source, trouble.Error(), now
	if _, err := t.deps.Store.Commit(ctx, store.Txn{If: []store.Cond{t.fence}, Do: []store.Op{{Path: tree.SourcePath(t.source), Value: tree.Encode(&said)}}}); err != nil {
		t.deps.Log.Warn("state of the map is not written", "source", t.source, "error", err)
		return
	}
	t.said, t.seen = said, "" // the inputs of before are to take it back
}

// homeOf says where clients of an address are served now; nil: there is no map.
func (t *term) homeOf() func(netip.Prefix) []string {
	m := t.force[0]
	if m == nil {
		return nil
	}
	return func(p netip.Prefix) []string {
		l, _ := m.Lookup(p)
		return l.Order
	}
}

// previous says where rows are served now.
func (t *term) previous(in *inputs) plan.Previous {
	if t.force[0] == nil {
		return nil
	}
	first := len(in.Keys) // of resolvers: keys are in order
	if i := slices.IndexFunc(in.Keys, func(k rtt.Key) bool { return k.Kind == rtt.Resolver }); i >= 0 {
		first = i
	}
	rests := append(table.Rests(in.Prefixes[:first]), table.Rests(in.Prefixes[first:])...)
	return func(i int) []string {
		m := t.force[0]
		if t.force[1] != nil && in.resolver(i) {
			m = t.force[1]
		}
		l, _ := m.Lookup(rests[i])
		return l.Order
	}
}
