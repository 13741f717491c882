package modeltest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
)

func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func load(t tb, st *memstore.Store) *snapshot.Dataset {
	t.Helper()
	d, err := follow.Load(context.Background(), follow.Config{Dataset: "internal", Store: st})
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return d
}

// look lets everything come to rest and holds what there is against the model.
func (m *machine) look(t *rapid.T) {
	looks.Add(1)
	m.up()
	m.accidents.mu.Lock()
	m.accidents.left = 0
	m.accidents.mu.Unlock()
	if len(m.running) == 0 {
		m.running = append(m.running, startPresenter(t, m.st, m.accidents, m.bounds, false))
	}
	for near := true; near; {
		time.Sleep(20 * time.Second)
		near = false
		for _, o := range m.overrides {
			left := time.Until(time.UnixMilli(o.until))
			near = near || left < 5*time.Second && left > -5*time.Second
		}
	}
	synctest.Wait()
	m.ended = append(m.ended, m.expire()...)
	d, head := m.published(t)
	admitted := m.admitted(t)
	since := len(m.made)
	ways := m.versions(t, head)
	m.arrived(t, contentOf(d), ways, admitted)
	m.judged(t, admitted)
	m.told(t, d, head, admitted)
	m.history(t, since)
	m.rest(t, admitted)
}

// admitted is what is in force of each source, as it lies in the store.
func (m *machine) admitted(t *rapid.T) map[record.Source]state {
	nodes, _, err := m.st.List(context.Background(), tree.AdmittedPrefix("internal"))
	if err != nil {
		t.Fatalf("list what is admitted: %v", err)
	}
	claims := map[record.Source][]record.Claim{}
	for _, n := range nodes {
		s, _, ok := tree.SplitAdmitted("internal", n.Path)
		in, err := record.DecodeShard(n.Value)
		if !ok || err != nil {
			t.Fatalf("%s: %v", n.Path, err)
		}
		claims[s] = append(claims[s], in...)
	}
	out := map[record.Source]state{}
	for _, name := range m.names() {
		if !passes(name) {
			out[name] = newState(claims[name])
		}
	}
	return out
}

// versions holds that each version since the last look is what somebody asked for: of each
// source what it claimed at one time, all of it, never going back.
func (m *machine) versions(t *rapid.T, head tree.Head) []way {
	ways := []way{make(way, len(m.sources)+1)}
	worlds := map[string]world{}
	// fitting gives the ways onward on which the dataset is as given, and what lies below
	// overrides then.
	fitting := func(is content) (fit []way, bases map[string]content) {
		bases = map[string]content{}
		for _, w := range m.onward(ways) {
			here, ok := worlds[w.key()]
			if !ok {
				here = m.world(w)
				worlds[w.key()] = here
			}
			fits := false
			for i, full := range here.full {
				if full.text == is.text {
					bases[here.bases[i].text] = here.bases[i]
					fits = true
				}
			}
			if fits {
				fit = append(fit, w)
			}
		}
		return fit, bases
	}
	for _, l := range readLog(t, m.st, m.version, m.at) {
		versions.Add(1)
		before := ways
		if m.version > 0 { // what was hidden may have come since
			before, _ = fitting(m.at)
		}
		next, bases := fitting(l.content)
		if len(next) == 0 {
			t.Fatalf("version %d is what nobody asked for; to the version before:\n%s\n%s", l.version, difference(m.at, l.content), m)
		}
		if !l.fresh {
			m.made = append(m.made, made{l, m.at, [2][]way{before, next}})
		}
		ways = next
		m.bases[l.version] = slices.Collect(maps.Values(bases))
		m.at, m.version = l.content, l.version
	}
	if head.Version != m.version || m.at.digest().String() != head.Digest {
		t.Fatalf("head is %+v, the log ends at version %d with digest %s", head, m.version, m.at.digest())
	}
	return ways
}

func (m *machine) String() string {
	var b strings.Builder
	for _, n := range m.names() {
		s := m.sources[n]
		if len(s.states) == 1 && s.states[0].text == "" {
			continue
		}
		fmt.Fprintf(&b, "%s: %d states, frozen %v (ever since: %v), held %s %s\n", n, len(s.states), m.frozen(n), s.wasFrozen, s.held, s.decision)
		for i, st := range s.states {
			fmt.Fprintf(&b, "  %d:\n    %s\n", i, strings.ReplaceAll(st.String(), "\n", "\n    "))
		}
	}
	fmt.Fprintf(&b, "pins %v, freezes %v, guards %+v", m.pins, m.freezes, m.bounds)
	return b.String()
}

// arrived holds that what is published now is what is in force now.
func (m *machine) arrived(t *rapid.T, now content, ways []way, admitted map[record.Source]state) {
	names := m.names()
	at := make(way, len(names)+1)
	at[len(names)] = len(m.pins) - 1
	for i, name := range names {
		s := m.sources[name]
		at[i] = len(s.states) - 1
		if !passes(name) {
			for at[i] >= 0 && s.states[at[i]].text != admitted[name].text {
				at[i]--
			}
			if at[i] < 0 {
				t.Fatalf("admitted of %s is what it has not claimed since the last look:\n%s\n%s", name, admitted[name], m)
			}
		}
	}
	here := m.world(at)
	pin := m.pins[len(m.pins)-1]
	var fits []content
	for i, full := range here.full {
		if full.text == now.text {
			fits = append(fits, here.bases[i])
		}
	}
	if len(fits) == 0 {
		t.Fatalf("published is not what is in force (pin %d); from what is in force to what is published:\n%s\n%s", pin, difference(here.full[0], now), m)
	}
	if pin != 0 {
		m.bases[pin] = fits
	}
	// The ways that were taken must lead there.
	for _, w := range m.onward(ways) {
		same := w[len(names)] == at[len(names)]
		for i, name := range names {
			s := m.sources[name]
			same = same && s.states[w[i]].text == s.states[at[i]].text
		}
		if same {
			return
		}
	}
	t.Fatalf("the versions do not lead to what is in force\n%s", m)
}

// around is what others may claim while a source's change is judged: anything that they
// claimed since the last look.
func (m *machine) around(s record.Source) [][]record.Claim {
	all := [][]record.Claim{nil}
	for _, n := range m.names() {
		if n == s {
			continue
		}
		var more [][]record.Claim
		for _, claims := range all {
			for _, st := range m.sources[n].states {
				more = append(more, slices.Concat(claims, st.claims))
			}
		}
		all = more
	}
	return all
}

// judge is what a guard must or may say of a source's change.
func (m *machine) judge(s *source, from, to state) judgement {
	out := judgement{must: true}
	for _, others := range m.around(s.name) {
		before, after := dataset(slices.Concat(others, from.claims)), dataset(slices.Concat(others, to.claims))
		j := m.bounds.judge(s.name, before, after, len(s.states) == 2)
		out.must = out.must && j.must
		out.may = out.may || j.may
		// Somebody's own record that looks like a sign of freshness is protected as one.
		out.may = out.may || m.bounds.on && strings.Contains(from.text, "\x06_fresh") && !strings.Contains(to.text, "\x06_fresh")
		out.removed, out.replaced = max(out.removed, j.removed), max(out.replaced, j.replaced)
	}
	return out
}

// judged holds that nothing passed a guard or a freeze, and that only what must wait does.
func (m *machine) judged(t *rapid.T, admitted map[record.Source]state) {
	holds := m.holds(t)
	for _, name := range m.names() {
		s := m.sources[name]
		if passes(name) {
			continue
		}
		now, h := admitted[name], holds[name]
		if s.wasFrozen && now.text != s.states[0].text {
			t.Fatalf("%s is frozen and changed:\n%s\n%s", name, now, m)
		}
		// A way from change to change on which each passes, or was let through.
		reach := make([]bool, len(s.states))
		reach[0] = true
		for j := range s.states {
			for i := range j {
				if reach[i] && (s.released[s.states[j].text] || !m.judge(s, s.states[i], s.states[j]).must) {
					reach[j] = true
				}
			}
		}
		passed := false
		for i, st := range s.states {
			passed = passed || reach[i] && st.text == now.text
		}
		if !passed {
			t.Fatalf("%s passed the guard, and nobody let it:\n%s\n%s", name, now, m)
		}
		if len(s.states) == 2 && now.text == s.latest().text && m.judge(s, s.states[0], s.states[1]).must {
			m.letThrough = append(m.letThrough, name)
		}
		if h != nil && !slices.Contains(m.ids, h.ID) {
			m.ids = append(m.ids, h.ID)
		}
		quiet := len(s.states) == 1 || len(s.states) == 2 && s.held != "" && s.heldText == s.latest().text
		switch {
		case now.text == s.latest().text:
			if h != nil {
				t.Fatalf("%s is held as %+v and is in force\n%s", name, h, m)
			}
		case m.frozen(name):
		case h == nil:
			t.Fatalf("%s waits and is neither frozen nor held\n%s", name, m)
		case h.Decision == "release":
			t.Fatalf("%s waits although it was released: %+v\n%s", name, h, m)
		default:
			may := s.heldText == s.latest().text || s.name.Kind() == record.KindRule && !m.makes(name, admitted)
			removed, replaced := 0, 0
			for i := range s.states {
				for j := range i {
					x := m.judge(s, s.states[j], s.states[i])
					may = may || x.may
					removed, replaced = removed+x.removed, replaced+x.replaced
				}
			}
			if may = may || removed > m.bounds.removed || replaced > m.bounds.replaced; !may {
				t.Fatalf("%s is held, and nothing is wrong with it: %+v\n%s", name, h, m)
			}
		}
		if h != nil && quiet && s.held == h.ID && h.Decision != s.decision {
			t.Fatalf("%s: decided %q, and it says %+v\n%s", name, s.decision, h, m)
		}
	}
}

// makes tells whether anything in the dataset would be the source's.
func (m *machine) makes(s record.Source, admitted map[record.Source]state) bool {
	var others []record.Claim
	for n, st := range admitted {
		if n != s {
			others = append(others, st.claims...)
		}
	}
	return dataset(others).text != dataset(slices.Concat(others, m.sources[s].latest().claims)).text
}

func (m *machine) holds(t *rapid.T) map[record.Source]*controlapi.Hold {
	list, err := m.person.Holds(context.Background())
	if err != nil {
		t.Fatalf("holds: %v", err)
	}
	out := map[record.Source]*controlapi.Hold{}
	for _, h := range list {
		if out[record.Source(h.Source)] != nil {
			t.Fatalf("%s is held twice: %+v", h.Source, list)
		}
		out[record.Source(h.Source)] = h
	}
	return out
}

// told holds what people are told.
func (m *machine) told(t *rapid.T, d *snapshot.Dataset, head tree.Head, admitted map[record.Source]state) {
	ctx := context.Background()
	pin := m.pins[len(m.pins)-1]
	if head.Pinned != pin {
		t.Fatalf("head is %+v, expected the pin at %d", head, pin)
	}
	if p, err := m.person.Pinned(ctx); err != nil || uint64(p.Version) != pin {
		t.Fatalf("pinned says %+v (%v), expected %d", p, err, pin)
	}
	list, err := m.person.Overrides(ctx)
	if err != nil || len(list) != len(m.overrides) {
		t.Fatalf("%d overrides (%v), expected %d", len(list), err, len(m.overrides))
	}
	for _, o := range list {
		if w, ok := m.overrides[slot(o.Record.Owner, o.Record.Type)]; !ok || w.id != o.ID {
			t.Fatalf("override %+v, expected %+v", o, w)
		}
	}
	freezes, err := m.person.Freezes(ctx)
	if err != nil || len(freezes) != len(m.freezes) {
		t.Fatalf("%d freezes (%v), expected %d", len(freezes), err, len(m.freezes))
	}
	waiting := 0
	holds := m.holds(t)
	for name, st := range admitted {
		if st.text != m.sources[name].latest().text && (m.frozen(name) || holds[name] != nil && holds[name].Decision != "drop") {
			waiting++
		}
	}
	for s, rev := range m.last {
		a, err := m.person.Wait(ctx, int64(rev), "claims", "internal", 0)
		arrived := pin == 0 && admitted[s].text == m.sources[s].latest().text
		// Of commits that were read together it is not always known whose they were.
		if err != nil || a.Done && !arrived || arrived && !a.Done && !strings.Contains(a.Stage, " waits: ") {
			t.Fatalf("wait for the change of %s at revision %d says %+v (%v)\n%s", s, rev, a, err, m)
		}
		if h := holds[s]; h != nil && pin == 0 && !m.frozen(s) && strings.HasPrefix(a.Stage, string(s)) && !strings.Contains(a.Stage, h.ID) {
			t.Fatalf("wait for the change of %s says %q, held as %+v", s, a.Stage, h)
		}
	}
	m.explained(t, admitted, pin)
	leading := 0
	for _, p := range m.running {
		s := p.Status()
		if !s.Leading {
			continue
		}
		leading++
		if s.Version != m.version || s.Digest != head.Digest || (s.Pinned != "") != (pin != 0) || s.Held != "" || s.Problem != "" || len(s.Waiting) != waiting {
			t.Fatalf("status is %q, expected version %d, pin %d and %d waiting\n%s", s, m.version, pin, waiting, m)
		}
	}
	if leading != 1 {
		t.Fatalf("%d presenters lead", leading)
	}
	if r, ok := d.Get(record.Key{Owner: name("_fresh.internal.example.net."), Type: record.TypeTXT}); m.inZone("example.net.") && (!ok || r.Data[0] != record.Rdata(fmt.Sprintf("\x04%04d", m.stamp%10000))) {
		t.Fatalf("freshness stands at %v, expected %d", r, m.stamp)
	}
}

// explained holds that what people are told of each name is what is published there, and
// that claims that wait are named.
func (m *machine) explained(t *rapid.T, admitted map[record.Source]state, pin uint64) {
	owners := map[record.Name]bool{}
	for _, s := range m.sources {
		for _, st := range s.states {
			for _, c := range st.claims {
				owners[c.Owner] = true
			}
		}
	}
	for owner := range owners {
		x, err := m.person.Why(context.Background(), owner.String(), "")
		if err != nil {
			t.Fatalf("why %s: %v", owner, err)
		}
		wins, waits := map[string]bool{}, map[string]bool{}
		for _, c := range x.Claims {
			data := c.Type + " " + strings.Join(c.Rdata, " ")
			switch c.Verdict {
			case "wins", "agrees", "united":
				wins[data] = true
			case "waits":
				waits[c.Source+" "+data] = true
			}
		}
		published := map[string]bool{}
		list, err := m.person.GetRecords(context.Background(), owner.String(), "")
		if err != nil {
			t.Fatalf("records of %s: %v", owner, err)
		}
		for _, r := range list.Records {
			if r.Type != "TXT" || !strings.HasPrefix(r.Owner, "_fresh.") {
				published[r.Type+" "+strings.Join(r.Rdata, " ")] = true
			}
		}
		for data := range wins {
			if !published[data] && !strings.HasPrefix(owner.String(), "_fresh.") {
				t.Fatalf("why %s says that %q wins, published is %v\n%s", owner, data, published, m)
			}
		}
		for data := range published {
			if !wins[data] && pin == 0 {
				t.Fatalf("%s %s is published, and why says %v\n%s", owner, data, x.Claims, m)
			}
		}
		if pin > 0 != strings.Contains(strings.Join(x.Notes, "\n"), fmt.Sprintf("pinned at the content of version %d", pin)) {
			t.Fatalf("why %s says %q, the pin is at %d", owner, x.Notes, pin)
		}
		for n, now := range admitted {
			for _, c := range m.sources[n].latest().claims {
				if c.Owner != owner || now.text == m.sources[n].latest().text || slices.ContainsFunc(now.claims, func(d record.Claim) bool { return d.Key == c.Key }) {
					continue
				}
				if !slices.ContainsFunc(x.Claims, func(d *controlapi.Claim) bool {
					return d.Source == string(n) && d.Type == c.Type.String() && d.Verdict == "waits"
				}) {
					t.Fatalf("why %s does not say that the %s of %s waits: %v\n%s", owner, c.Type, n, x.Claims, m)
				}
			}
		}
	}
}

func (m *machine) inZone(apex string) bool {
	_, ok := m.at.sets[record.Key{Owner: name(apex), Type: record.TypeSOA}]
	return ok
}

// rest makes what is now the beginning of what comes.
func (m *machine) rest(t *rapid.T, admitted map[record.Source]state) {
	holds := m.holds(t)
	for n, s := range m.sources {
		latest, changed := s.latest(), len(s.states) > 1
		s.states = []state{latest}
		clear(s.released)
		s.held, s.heldText, s.decision = "", "", ""
		if passes(n) {
			continue
		}
		if changed { // also when it went and came back
			m.unsaid[n] = true
		}
		if now := admitted[n]; now.text != latest.text {
			s.states = []state{now, latest}
		}
		if h := holds[n]; h != nil {
			s.held, s.heldText, s.decision = h.ID, latest.text, h.Decision
			if h.Decision == "release" { // and frozen: it comes with the thaw
				s.released[latest.text] = true
			}
		}
		s.wasFrozen = m.frozen(n)
	}
	m.pins = m.pins[len(m.pins)-1:]
	m.deeds = 0
	clear(m.last)
}
