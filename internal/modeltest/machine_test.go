package modeltest

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// TestInControl draws what robots, files and people do and what befalls the presenters,
// and holds after every pause that what is published, in every version on the way, is
// what the model says, and so is what people are told. With -rapid.checks it goes on for
// longer than every test can: a thousand take some minutes.
func TestInControl(t *testing.T) {
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "rapid.checks" })
	if !asked {
		if err := flag.Set("rapid.checks", "40"); err != nil {
			t.Fatal(err)
		}
	}
	steps.Store(0)
	defer func() { t.Logf("%d steps, %d looks at %d versions", steps.Load(), looks.Load(), versions.Load()) }()
	var first sync.Once // what is shrunk may be something else: ids and the order of goroutines are not drawn
	rapid.Check(t, func(rt *rapid.T) {
		// A bubble is another goroutine, in which rapid's way to stop a case, a panic, must
		// not end.
		var stopped any
		bubbletest.Run(t, func(*testing.T) {
			defer func() { stopped = recover() }()
			run(rt)
		})
		if stopped != nil {
			if text := fmt.Sprint(stopped); !strings.Contains(text, "invalid data") {
				first.Do(func() { t.Logf("first failure: %s", text) })
			}
			panic(stopped)
		}
	})
}

// steps counts what was done in all cases, and looks and versions what was held against
// the model.
var steps, looks, versions atomic.Int64

// Sources that are drawn from. Names of zone/example.net, rule/web and update/key meet.
const (
	zoneSource  record.Source = "zone/example.net"
	otherSource record.Source = "zone/b.test"
	hostSource  record.Source = "rule/address"
	webSource   record.Source = "rule/web"
	keySource   record.Source = "update/key"
	bigSource   record.Source = "rule/big" // in more shards than one transaction takes
	bigShards                 = 110
	fresh       record.Source = "rule/fresh"
)

// slots are what overrides are drawn from.
var slots = []struct{ owner, typ string }{
	{"x0.example.net.", "A"}, {"x0.example.net.", "CNAME"}, {"x1.example.net.", "TXT"}, {"h0.example.net.", "A"}, {"f0.example.net.", "A"}, {"h0.b.test.", "A"},
}

func slot(owner, typ string) record.Source {
	return record.Source(record.KindOverride + "/" + owner + "-" + typ)
}

func name(text string) record.Name {
	n, err := record.ParseName(text)
	if err != nil {
		panic(err)
	}
	return n
}

func claim(s record.Source, owner string, typ record.Type, data ...record.Rdata) record.Claim {
	return record.Claim{RRset: record.NewRRset(name(owner), typ, 300, data...), Source: s}
}

func address(n int) record.Rdata { return record.Rdata([]byte{192, 0, 2, byte(n)}) }

func apex(s record.Source, zone string) []record.Claim {
	soa := record.Rdata(name("ns."+zone)) + record.Rdata(name("root."+zone)) + record.Rdata(make([]byte, 20))
	return []record.Claim{claim(s, zone, record.TypeSOA, soa), claim(s, zone, record.TypeNS, record.Rdata(name("ns.example.org.")))}
}

// override is one that a person set.
type override struct {
	id, owner, typ string
	until          int64
}

// machine is the real thing, the model, and what was done.
type machine struct {
	*model
	st        *memstore.Store
	accidents *accidents
	running   []*process
	person    *person
	down      bool
	deeds     int // since the last look
	stamp     int // of freshness

	shards    map[record.Source]map[string][]record.Claim // what is claimed now
	overrides map[record.Source]override                  // by slot
	ids       []string                                    // of holds that ever were
	order     []string                                    // of freezes, the oldest first
	last      map[record.Source]store.Revision            // of the newest commit since the last look
	acted     []deed
	ended     []string // overrides that ended by themselves
	made      []made
	// unsaid has the sources whose change came before the last look and may be said of the
	// next version, because nothing was to be seen of it.
	unsaid map[record.Source]bool
	// letThrough has the sources whose change a guard would have held.
	letThrough []record.Source
}

// deed is what a person did, as the audit must have it.
type deed struct{ action, subject, reason string }

func run(t *rapid.T) {
	b := bounds{on: rapid.IntRange(0, 3).Draw(t, "guards") > 0, few: 3, removed: 6, replaced: 12}
	m := &machine{
		model: newModel(b), st: memstore.New(), accidents: &accidents{delay: map[string]time.Duration{}},
		shards: map[record.Source]map[string][]record.Claim{}, overrides: map[record.Source]override{}, last: map[record.Source]store.Revision{}, unsaid: map[record.Source]bool{},
	}
	defer m.st.Close()
	for _, s := range []record.Source{zoneSource, otherSource, hostSource, webSource, keySource, bigSource} {
		m.source(s)
		m.shards[s] = map[string][]record.Claim{}
	}
	for _, s := range slots {
		m.source(slot(s.owner, s.typ))
	}
	m.person = startControl(t, m.st)
	defer func() { m.person.stop(t) }()
	m.running = append(m.running, startPresenter(t, m.st, m.accidents, b, true))
	defer func() {
		for _, p := range m.running {
			p.stop(t, false)
		}
	}()
	m.commit(t, tree.HostPath("host"), tree.Encode(tree.Host{Name: "host", Datasets: map[string]tree.HostDataset{"internal": {Version: 1 << 60}}}))
	m.zone(t, zoneSource, "example.net.", 3)
	m.freshen(t)
	m.look(t)
	t.Repeat(map[string]func(*rapid.T){
		"zone":      m.drawZone,
		"hosts":     m.drawHosts,
		"web":       m.drawWeb,
		"big":       m.drawBig,
		"freshen":   m.freshen,
		"freeze":    m.drawFreeze,
		"thaw":      m.drawThaw,
		"decide":    m.drawDecide,
		"override":  m.drawOverride,
		"clear":     m.drawClear,
		"rollback":  m.drawRollback,
		"unpin":     m.unpin,
		"two":       m.drawTwo,
		"start":     m.drawStart,
		"stop":      m.drawStop,
		"handover":  m.drawHandover,
		"accidents": m.drawAccidents,
		"away":      m.drawAway,
		"compact":   func(*rapid.T) { m.st.Compact() },
		"control": func(t *rapid.T) {
			m.person.stop(t)
			m.person = startControl(t, m.st)
			time.Sleep(time.Millisecond)
			clear(m.last) // of what came before it knows less
		},
		"look": m.look,
		"": func(t *rapid.T) {
			steps.Add(1)
			if m.deeds >= 5 {
				m.look(t)
				return
			}
			time.Sleep(time.Duration(rapid.SampledFrom([]int{0, 1, 3, 30, 300, 3000}).Draw(t, "pause")) * time.Millisecond)
		},
	})
	m.look(t)
	m.audited(t)
}

// up brings the store back and lets it be read.
func (m *machine) up() {
	if m.down {
		m.st.SetAvailable(true)
		m.down = false
		time.Sleep(time.Millisecond)
	}
}

func (m *machine) commit(t tb, path string, value []byte) store.Revision {
	t.Helper()
	rev, err := m.st.Commit(context.Background(), store.Txn{Do: []store.Op{{Path: path, Value: value}}})
	if err != nil {
		t.Fatalf("commit %s: %v", path, err)
	}
	return rev
}

// claimed takes into the model what a source claims now.
func (m *machine) claimed(s record.Source, rev store.Revision) {
	var all []record.Claim
	for _, claims := range m.shards[s] {
		all = append(all, claims...)
	}
	st := newState(all)
	if st.text != m.source(s).latest().text {
		m.last[s] = rev
	}
	m.source(s).claim(st)
	m.deeds++
}

// headed replaces all that a file claims.
func (m *machine) headed(t tb, s record.Source, claims []record.Claim) {
	t.Helper()
	m.up()
	rev, _, err := claimtree.Replace(context.Background(), m.st, s, claims)
	if err != nil {
		t.Fatalf("replace %s: %v", s, err)
	}
	m.shards[s] = map[string][]record.Claim{"all": claims}
	m.claimed(s, rev)
}

// sharded puts shards of a rule in one commit; no claims delete one.
func (m *machine) sharded(t tb, s record.Source, shards map[string][]record.Claim) {
	t.Helper()
	m.up()
	var txn store.Txn
	for shard, claims := range shards {
		txn.Do = append(txn.Do, claimtree.Ops(s, shard, claims))
		if m.shards[s][shard] = claims; len(claims) == 0 {
			delete(m.shards[s], shard)
		}
	}
	rev, err := m.st.Commit(context.Background(), txn)
	if err != nil {
		t.Fatalf("put shards of %s: %v", s, err)
	}
	m.claimed(s, rev)
}

func (m *machine) zone(t tb, s record.Source, zone string, hosts int) {
	claims := apex(s, zone)
	for i := range hosts {
		claims = append(claims, claim(s, fmt.Sprintf("f%d.%s", i, zone), record.TypeA, address(i)))
	}
	m.headed(t, s, claims)
}

func (m *machine) drawZone(t *rapid.T) {
	s, zone := zoneSource, "example.net."
	if rapid.Bool().Draw(t, "other") {
		s, zone = otherSource, "b.test."
	}
	if rapid.IntRange(0, 9).Draw(t, "gone") == 0 {
		m.headed(t, s, nil)
		return
	}
	claims := apex(s, zone)
	for i := range rapid.IntRange(0, 12).Draw(t, "hosts") {
		claims = append(claims, claim(s, fmt.Sprintf("f%d.%s", i, zone), record.TypeA, drawAddresses(t)...))
	}
	if rapid.IntRange(0, 3).Draw(t, "web") == 0 {
		claims = append(claims, drawWeb(t, s))
	}
	if rapid.IntRange(0, 9).Draw(t, "fresh") == 0 { // somebody's own, which is nobody's sign of freshness
		claims = append(claims, claim(s, "_fresh.other."+zone, record.TypeTXT, "\x01x"))
	}
	m.headed(t, s, claims)
}

func drawAddresses(t *rapid.T) (data []record.Rdata) {
	n := rapid.IntRange(1, 4).Draw(t, "address")
	data = append(data, address(n))
	if rapid.IntRange(0, 3).Draw(t, "service") == 0 {
		data = append(data, address(n%4+1))
	}
	return data
}

func drawWeb(t *rapid.T, s record.Source) record.Claim {
	owner := fmt.Sprintf("x%d.example.net.", rapid.IntRange(0, 1).Draw(t, "web"))
	switch rapid.IntRange(0, 3).Draw(t, "type") {
	case 0:
		return claim(s, owner, record.TypeTXT, record.Rdata(fmt.Sprintf("\x01%d", rapid.IntRange(0, 2).Draw(t, "text"))))
	case 1:
		return claim(s, owner, record.TypeCNAME, record.Rdata(name(fmt.Sprintf("h%d.example.net.", rapid.IntRange(0, 2).Draw(t, "target")))))
	}
	return claim(s, owner, record.TypeA, drawAddresses(t)...)
}

func (m *machine) drawHosts(t *rapid.T) {
	shards := map[string][]record.Claim{}
	for range rapid.IntRange(1, 2).Draw(t, "shards") {
		n := rapid.IntRange(0, 3).Draw(t, "shard")
		var claims []record.Claim
		for i := range rapid.IntRange(0, 5).Draw(t, "hosts") {
			zone := "example.net."
			if i == 4 {
				zone = "b.test."
			}
			c := claim(hostSource, fmt.Sprintf("h%d.%s", 5*n+i, zone), record.TypeA, drawAddresses(t)...)
			c.Place = rapid.SampledFrom([]string{"", "here"}).Draw(t, "place")
			claims = append(claims, c)
		}
		shards[fmt.Sprint("s", n)] = claims
	}
	m.sharded(t, hostSource, shards)
}

func (m *machine) drawWeb(t *rapid.T) {
	s := rapid.SampledFrom([]record.Source{webSource, keySource}).Draw(t, "source")
	var claims []record.Claim
	for range rapid.IntRange(0, 2).Draw(t, "claims") {
		c := drawWeb(t, s)
		if !slices.ContainsFunc(claims, func(d record.Claim) bool { return d.Key == c.Key }) {
			claims = append(claims, c)
		}
	}
	m.sharded(t, s, map[string][]record.Claim{"x": claims})
}

// drawBig changes more shards than a transaction takes.
func (m *machine) drawBig(t *rapid.T) {
	n := rapid.SampledFrom([]int{0, 50, 100, bigShards}).Draw(t, "shards")
	data, place := address(rapid.IntRange(1, 2).Draw(t, "address")), rapid.SampledFrom([]string{"", "here", "there"}).Draw(t, "place")
	shards := map[string][]record.Claim{}
	for i := range bigShards {
		shard := fmt.Sprint("b", i)
		if shards[shard] = nil; i < n {
			c := claim(bigSource, fmt.Sprintf("b%d.example.net.", i), record.TypeA, data)
			c.Place = place
			shards[shard] = []record.Claim{c}
		}
	}
	m.sharded(t, bigSource, shards)
}

func (m *machine) freshen(t *rapid.T) {
	m.up()
	m.stamp++
	c := claim(fresh, "_fresh.internal.example.net.", record.TypeTXT, record.Rdata(fmt.Sprintf("\x04%04d", m.stamp%10000)))
	c.TTL = 0
	if _, err := m.st.Commit(context.Background(), store.Txn{Do: []store.Op{claimtree.Ops(fresh, "fresh.internal", []record.Claim{c})}}); err != nil {
		t.Fatalf("stamp: %v", err)
	}
}

func (m *machine) doer(t *rapid.T) *controlapi.Doer {
	return &controlapi.Doer{Author: "alice", Reason: fmt.Sprintf("reason %d", len(m.acted))}
}

// did takes note of what a person did; nothing was done when the store is away or what
// was asked for is refused.
func (m *machine) did(t *rapid.T, err error, by *controlapi.Doer, action, subject string) bool {
	t.Helper()
	switch {
	case err == nil:
		m.acted = append(m.acted, deed{action, subject, by.Reason})
		m.deeds++
		return true
	case m.down && api.Code(err) == api.Unavailable, api.Code(err) == api.NotFound, api.Code(err) == api.Invalid:
	case api.Code(err) == api.Unavailable && (strings.Contains(err.Error(), "starting") || strings.Contains(err.Error(), "at the same moment")):
	default:
		t.Fatalf("%s %s: %v", action, subject, err)
	}
	return false
}

func (m *machine) drawFreeze(t *rapid.T) {
	what := rapid.SampledFrom([]string{"", "rule/*", "zone/*", string(zoneSource), string(hostSource), string(bigSource), string(keySource)}).Draw(t, "what")
	by := m.doer(t)
	d, err := m.person.Freeze(context.Background(), what, by)
	if err != nil {
		m.did(t, err, by, "freeze", "")
		return
	}
	m.did(t, nil, by, "freeze", d.ID)
	m.freezes[d.ID] = what
	m.order = append(m.order, d.ID)
}

func (m *machine) drawThaw(t *rapid.T) {
	if len(m.freezes) == 0 {
		t.Skip("nothing is frozen")
	}
	id := rapid.SampledFrom(m.order).Draw(t, "id") // not sorted: ids are another at every run
	by := m.doer(t)
	_, err := m.person.Thaw(context.Background(), id, by)
	if m.did(t, err, by, "thaw", id) {
		delete(m.freezes, id)
		m.order = slices.DeleteFunc(m.order, func(x string) bool { return x == id })
		for _, s := range m.sources {
			s.wasFrozen = s.wasFrozen && m.frozen(s.name)
		}
	}
}

func (m *machine) drawDecide(t *rapid.T) {
	decision := rapid.SampledFrom([]string{"release", "release", "drop"}).Draw(t, "decision")
	there := map[string]*controlapi.Hold{}
	ids := slices.Clone(m.ids)
	if holds, err := m.person.Holds(context.Background()); err == nil {
		for _, h := range holds {
			there[h.ID] = h
			ids = append(ids, h.ID)
		}
	}
	if len(ids) == 0 {
		t.Skip("nothing was ever held")
	}
	id := rapid.SampledFrom(ids).Draw(t, "id")
	by := m.doer(t)
	_, err := m.person.Decide(context.Background(), id, decision, by)
	h := there[id]
	if h == nil && err == nil {
		t.Fatalf("%s %s: done, and nothing is held as that", decision, id)
	}
	if !m.did(t, err, by, "hold "+decision, id) {
		return
	}
	s := m.source(record.Source(h.Source))
	switch {
	case decision == "release" && id == s.held:
		s.released[s.heldText] = true
	case decision == "release": // it came since the last look: any of what came may be meant
		for _, st := range s.states[1:] {
			s.released[st.text] = true
		}
	}
	if id == s.held {
		s.decision = decision
	}
}

func (m *machine) drawOverride(t *rapid.T) {
	n := rapid.IntRange(0, len(slots)-1).Draw(t, "slot")
	owner, typ := slots[n].owner, slots[n].typ
	rdata := fmt.Sprintf("192.0.2.%d", rapid.IntRange(1, 8).Draw(t, "data"))
	switch typ {
	case "TXT":
		rdata = `"` + rdata + `"`
	case "CNAME":
		rdata = "h1.example.net."
	}
	length := rapid.SampledFrom([]time.Duration{time.Second, 25 * time.Second, time.Hour}).Draw(t, "for")
	whole := rapid.Bool().Draw(t, "whole")
	by := m.doer(t)
	d, err := m.person.SetOverride(context.Background(), &controlapi.RecordSet{Owner: owner, Type: typ, TTL: 60, Rdata: []string{rdata}}, length.Milliseconds(), whole, by)
	if err != nil {
		m.did(t, err, by, "override set", "")
		return
	}
	m.did(t, nil, by, "override set", d.ID)
	list, err := m.person.Overrides(context.Background())
	i := slices.IndexFunc(list, func(o *controlapi.Override) bool { return o.ID == d.ID })
	if err != nil || i < 0 {
		t.Fatalf("override %s is set and not listed: %v", d.ID, err)
	}
	m.expire()
	s := slot(owner, typ)
	m.overrides[s] = override{d.ID, owner, typ, list[i].UntilMs}
	c := record.Claim{Source: tree.OverrideSource(d.ID)}
	switch typ {
	case "A":
		var n int
		fmt.Sscanf(rdata, "192.0.2.%d", &n)
		c.RRset = record.NewRRset(name(owner), record.TypeA, 60, address(n))
	case "TXT":
		text := strings.Trim(rdata, `"`)
		c.RRset = record.NewRRset(name(owner), record.TypeTXT, 60, record.Rdata(string(rune(len(text)))+text))
	case "CNAME":
		c.RRset = record.NewRRset(name(owner), record.TypeCNAME, 60, record.Rdata(name(rdata)))
	}
	st := newState([]record.Claim{c})
	st.id = d.ID
	m.source(s).claim(st)
}

// expire takes overrides away whose time is over, and gives their ids.
func (m *machine) expire() (ids []string) {
	for s, o := range m.overrides {
		if o.until <= time.Now().UnixMilli() {
			m.source(s).claim(state{})
			delete(m.overrides, s)
			ids = append(ids, o.id)
		}
	}
	return ids
}

func (m *machine) drawClear(t *rapid.T) {
	if len(m.overrides) == 0 {
		t.Skip("there are no overrides")
	}
	s := rapid.SampledFrom(sorted(m.overrides)).Draw(t, "slot")
	o := m.overrides[s]
	by := m.doer(t)
	_, err := m.person.ClearOverride(context.Background(), o.id, by)
	if m.did(t, err, by, "override cleared", o.id) {
		m.source(s).claim(state{})
		delete(m.overrides, s)
	}
}

func (m *machine) drawRollback(t *rapid.T) {
	v := rapid.Uint64Range(1, m.version+1).Draw(t, "version")
	var others []uint64 // whose content is another than what is published
	for v, bases := range m.bases {
		if bases[0].text != m.at.text {
			others = append(others, v)
		}
	}
	if len(others) > 0 && rapid.Bool().Draw(t, "another") {
		slices.Sort(others)
		v = rapid.SampledFrom(others).Draw(t, "other")
	}
	m.rollback(t, v, m.doer(t))
}

func (m *machine) rollback(t *rapid.T, v uint64, by *controlapi.Doer) {
	if _, known := m.bases[v]; !known && v <= m.version {
		t.Fatalf("version %d was never looked at", v)
	}
	if v > m.version {
		m.look(t)
		v = m.version
	}
	_, err := m.person.Rollback(context.Background(), int64(v), by)
	if api.Code(err) == api.NotFound && !m.down {
		t.Fatalf("rollback to version %d of %d: %v", v, m.version, err)
	}
	if m.did(t, err, by, "rollback", fmt.Sprint(v)) {
		m.pins = append(m.pins, v)
	}
}

func (m *machine) unpin(t *rapid.T) {
	by := m.doer(t)
	_, err := m.person.ReleasePin(context.Background(), by)
	if m.did(t, err, by, "release", "internal") {
		m.pins = append(m.pins, 0)
	}
}

// drawTwo has two people roll back at the same moment.
func (m *machine) drawTwo(t *rapid.T) {
	if m.down {
		t.Skip("the store is away")
	}
	m.look(t)
	a, b := rapid.Uint64Range(1, m.version).Draw(t, "a"), rapid.Uint64Range(1, m.version).Draw(t, "b")
	type result struct {
		version uint64
		by      *controlapi.Doer
		err     error
	}
	results := make(chan result, 2)
	for i, v := range []uint64{a, b} {
		by := &controlapi.Doer{Author: "alice", Reason: fmt.Sprintf("reason %d of two, %d", len(m.acted), i)}
		go func() {
			_, err := m.person.Rollback(context.Background(), int64(v), by)
			results <- result{v, by, err}
		}()
	}
	both := []result{<-results, <-results}
	n, err := m.st.Get(context.Background(), tree.PinPath("internal"))
	var pin tree.Pin
	if err != nil || tree.Decode(n, &pin) != nil {
		t.Fatalf("pin: %v", err)
	}
	if both[0].err == nil && pin.Reason == both[0].by.Reason { // who is there at last was last
		both[0], both[1] = both[1], both[0]
	}
	done := 0
	for _, r := range both {
		if api.Code(r.err) == api.Unavailable && strings.Contains(r.err.Error(), "at the same moment") {
			continue
		}
		if m.did(t, r.err, r.by, "rollback", fmt.Sprint(r.version)) {
			m.pins = append(m.pins, r.version)
			done++
		}
	}
	if done == 0 || m.pins[len(m.pins)-1] != pin.Version {
		t.Fatalf("of two rollbacks %d were done, and the pin is at %d, expected %v", done, pin.Version, m.pins)
	}
}

func (m *machine) drawStart(t *rapid.T) {
	if len(m.running) >= 3 {
		t.Skip("three presenters are enough")
	}
	m.running = append(m.running, startPresenter(t, m.st, m.accidents, m.bounds, rapid.Bool().Draw(t, "lags")))
}

func (m *machine) drawStop(t *rapid.T) {
	if len(m.running) == 0 {
		t.Skip("no presenter runs")
	}
	i := rapid.IntRange(0, len(m.running)-1).Draw(t, "presenter")
	m.running[i].stop(t, rapid.Bool().Draw(t, "dies"))
	m.running = slices.Delete(m.running, i, i+1)
}

// drawHandover has a presenter take over that has not heard yet what a person just said.
func (m *machine) drawHandover(t *rapid.T) {
	m.up()
	if len(m.running) < 2 {
		m.running = append(m.running, startPresenter(t, m.st, m.accidents, m.bounds, true))
		time.Sleep(300 * time.Millisecond)
	}
	m.accidents.mu.Lock()
	for _, p := range []string{tree.Holds, tree.Freezes, tree.Pins} {
		m.accidents.delay[p] = 100 * time.Millisecond
	}
	m.accidents.mu.Unlock()
	rapid.SampledFrom([]func(*rapid.T){m.drawRollback, m.unpin, m.drawFreeze, func(t *rapid.T) {
		if len(m.ids) > 0 {
			m.drawDecide(t)
		}
	}}).Draw(t, "said")(t)
	time.Sleep(time.Duration(rapid.SampledFrom([]int{0, 3, 150}).Draw(t, "then")) * time.Millisecond)
	for i, p := range m.running {
		if p.Status().Leading {
			p.stop(t, false)
			m.running = slices.Delete(m.running, i, i+1)
			return
		}
	}
}

func (m *machine) drawAccidents(t *rapid.T) {
	a := m.accidents
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left, a.seen = rapid.IntRange(0, 3).Draw(t, "commits"), 0
	a.lost, a.cut = rapid.Bool().Draw(t, "happened"), rapid.Bool().Draw(t, "later")
	for _, p := range []string{tree.Claims, tree.Holds, tree.Freezes, tree.Pins, tree.Overrides} {
		a.delay[p] = time.Duration(rapid.SampledFrom([]int{0, 0, 1, 10, 100}).Draw(t, "delay")) * time.Millisecond
	}
}

func (m *machine) drawAway(*rapid.T) {
	if m.down {
		m.up()
		return
	}
	m.st.SetAvailable(false)
	m.down = true
}

// published is the dataset, and its head.
func (m *machine) published(t tb) (*snapshot.Dataset, tree.Head) {
	t.Helper()
	d := load(t, m.st)
	n, err := m.st.Get(context.Background(), tree.HeadPath("internal"))
	var h tree.Head
	if err == nil {
		err = tree.Decode(n, &h)
	}
	if err != nil || h.Version != d.Version() || h.Digest != d.Digest().String() || h.Chain != d.Chain().String() {
		t.Fatalf("head is %+v (%v), the log leads to version %d with digest %s", h, err, d.Version(), d.Digest())
	}
	return d, h
}
