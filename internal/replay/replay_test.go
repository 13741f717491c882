package replay

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
)

// state is a dataset, by owner.
type state map[record.Name][]record.RRset

func (s state) At(name record.Name) []record.RRset { return s[name] }

func (s state) Below(name record.Name) iter.Seq[record.Name] {
	return func(yield func(record.Name) bool) {
		for n := range s {
			if n != name && n.IsSubdomainOf(name) && !yield(n) {
				return
			}
		}
	}
}

func name(t testing.TB, text string) record.Name {
	t.Helper()
	n, err := record.ParseName(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestChange holds a state with changes against one that has them.
func TestChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var names []record.Name
		for range rapid.IntRange(1, 8).Draw(t, "names") {
			n := record.Root
			for range rapid.IntRange(0, 3).Draw(t, "labels") {
				n, _ = n.Child(rapid.SampledFrom([]string{"a", "b", "\x00", "*"}).Draw(t, "label"))
			}
			names = append(names, n)
		}
		draw := func() *record.RRset {
			r := record.NewRRset(rapid.SampledFrom(names).Draw(t, "owner"), rapid.SampledFrom([]record.Type{record.TypeA, record.TypeTXT}).Draw(t, "type"), rapid.Uint32Range(1, 9).Draw(t, "ttl"), "x")
			return &r
		}
		all, otherwise := map[record.Key]*record.RRset{}, map[record.Key]*record.RRset{}
		put := func(m map[record.Key]*record.RRset) {
			for range rapid.IntRange(0, 6).Draw(t, "RRsets") {
				r := draw()
				m[r.Key] = r
			}
		}
		put(all)
		put(otherwise)
		for range rapid.IntRange(0, 4).Draw(t, "removed") {
			otherwise[draw().Key] = nil
		}
		build := func(m map[record.Key]*record.RRset) state {
			s := state{}
			for _, r := range m {
				if r != nil {
					s[r.Owner] = append(s[r.Owner], *r)
				}
			}
			return s
		}
		got := change(build(all), otherwise)
		maps.Copy(all, otherwise)
		want := build(all)
		byType := func(sets []record.RRset) []record.RRset {
			return slices.SortedFunc(slices.Values(sets), func(a, b record.RRset) int { return a.Key.Compare(b.Key) })
		}
		for _, n := range append(names, record.Root) {
			if d := cmp.Diff(byType(want.At(n)), byType(got.At(n))); d != "" {
				t.Fatalf("at %s: %s", n, d)
			}
			w, g := slices.Sorted(want.Below(n)), slices.Sorted(got.Below(n))
			if d := cmp.Diff(w, g); d != "" {
				t.Fatalf("below %s: %s", n, d)
			}
			for first := range got.Below(n) { // who needs one takes one
				if !slices.Contains(w, first) {
					t.Fatalf("%s is not below %s", first, n)
				}
				break
			}
		}
	})
}

func asked(times int, was, text string) tree.SampleQuestion {
	n, err := record.ParseName(text)
	if err != nil {
		panic(err)
	}
	return tree.SampleQuestion{Times: times, Was: was, Type: record.TypeA, Name: n}
}

// TestJoin joins a busy host with two that have little to do, and hosts that say nothing.
func TestJoin(t *testing.T) {
	got := Join([]tree.Sample{
		{},
		{From: 10_000, To: 20_000, Queries: 90_000, Questions: []tree.SampleQuestion{asked(8, "positive", "a."), asked(2, "nxdomain", "b.")}},
		// Half as long: as many queries are twice as many in a second.
		{From: 15_000, To: 20_000, Queries: 5_000, Questions: []tree.SampleQuestion{asked(10, "nodata", "b.")}},
		{From: 20_000, To: 20_000, Queries: 1 << 40, Questions: []tree.SampleQuestion{asked(1, "positive", "c.")}},
		{From: 5_000, To: 15_000, Queries: -3, Questions: []tree.SampleQuestion{asked(1, "positive", "a.")}},
	})
	if got.Hosts != 3 || got.Drawn != 21 || got.Queries != 95_001 || got.From.UnixMilli() != 5_000 || got.To.UnixMilli() != 20_000 {
		t.Errorf("%+v", got)
	}
	const all = 9000 + 1000 + 0.1 // queries in a second
	want := map[string]float64{"a.": (7200 + 0.1) / all, "b.": (1800 + 1000) / all}
	for _, q := range got.Questions {
		if math.Abs(q.Share-want[q.Name.String()]) > 1e-9 {
			t.Errorf("%s has the share %v, want %v", q.Name, q.Share, want[q.Name.String()])
		}
		delete(want, q.Name.String())
	}
	if len(want) > 0 || got.Questions[0].Name != "\x01a\x00" || math.Abs(got.NoName-1800/all) > 1e-9 {
		t.Errorf("%+v, missing %v", got, want)
	}
	if n := got.effective; n < 12 || n > 12.4 { // 10000² / (9000²/10 + 1000²/10)
		t.Errorf("as good as %v questions, want about 12.2", n)
	}
	if d := cmp.Diff(Traffic{}, Join(nil), cmp.AllowUnexported(Traffic{})); d != "" {
		t.Error(d)
	}
}

// TestBounds draws samples of a known share: it lies within the bounds in about 95 of 100, and of few
// hits in no less than 90.
func TestBounds(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, p := range []float64{0, 0.002, 0.01, 0.2, 0.5, 0.99, 1} {
		within := 0
		const n, tries = 500, 2000
		for range tries {
			hits := 0.0
			for range n {
				if random.Float64() < p {
					hits++
				}
			}
			low, high := bounds(hits/n, n)
			if low < 0 || high > 1 || low > hits/n || high < hits/n {
				t.Fatalf("%v of %d: %v to %v", hits, n, low, high)
			}
			if low <= p && p <= high {
				within++
			}
		}
		if within < tries*90/100 {
			t.Errorf("a share of %v lies within the bounds %d times of %d", p, within, tries)
		}
	}
	if low, high := bounds(0, 300); low != 0 || high < 0.01 || high > 0.02 {
		t.Errorf("none of 300: %v to %v, want to 3.84/300", low, high)
	}
}

// response is a message in wire form.
func response(t *testing.T, rcode int, answer, authority, additional []string) []byte {
	t.Helper()
	m := new(dns.Msg).SetQuestion("www.example.net.", dns.TypeA)
	m.Id, m.Response, m.Rcode, m.Compress = 0, true, rcode, true
	for _, s := range []struct {
		from []string
		to   *[]dns.RR
	}{{answer, &m.Answer}, {authority, &m.Ns}, {additional, &m.Extra}} {
		for _, text := range s.from {
			rr, err := dns.NewRR(text)
			if err != nil {
				t.Fatal(err)
			}
			*s.to = append(*s.to, rr)
		}
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSeen holds which responses a client sees as other ones, and what is said of them.
func TestSeen(t *testing.T) {
	messages := map[string][]byte{
		"answer":       response(t, 0, []string{"www.example.net. 300 A 192.0.2.1"}, nil, nil),
		"with more":    response(t, 0, []string{"www.example.net. 300 A 192.0.2.1"}, nil, []string{"ns.example.net. 60 A 192.0.2.9"}),
		"ttl":          response(t, 0, []string{"www.example.net. 60 A 192.0.2.1"}, nil, nil),
		"five":         response(t, 0, []string{"www.example.net. 300 A 192.0.2.1", "www.example.net. 300 A 192.0.2.2", "www.example.net. 300 A 192.0.2.3", "www.example.net. 300 A 192.0.2.4", "www.example.net. 300 A 192.0.2.5"}, nil, nil),
		"alias":        response(t, 0, []string{"www.example.net. 300 CNAME a.example.net.", "a.example.net. 300 A 192.0.2.1"}, nil, nil),
		"away":         response(t, 0, []string{"www.example.net. 300 CNAME www.example.org."}, nil, nil),
		"nodata":       response(t, 0, nil, []string{"example.net. 60 SOA a. b. 1 2 3 4 60"}, nil),
		"serial":       response(t, 0, nil, []string{"example.net. 60 SOA a. b. 2 2 3 4 60"}, nil),
		"nodata ttl":   response(t, 0, nil, []string{"example.net. 61 SOA a. b. 2 2 3 4 61"}, nil),
		"alias nodata": response(t, 0, []string{"www.example.net. 300 CNAME a.example.net."}, []string{"example.net. 60 SOA a. b. 1 2 3 4 60"}, nil),
		"nxdomain":     response(t, 3, nil, []string{"example.net. 60 SOA a. b. 1 2 3 4 60"}, nil),
		"refused":      response(t, 5, nil, nil, nil),
		"servfail":     response(t, 2, nil, nil, nil),
		"referral":     response(t, 0, nil, []string{"www.example.net. 300 NS ns.www.example.net."}, []string{"ns.www.example.net. 300 A 192.0.2.53"}),
		"other glue":   response(t, 0, nil, []string{"www.example.net. 300 NS ns.www.example.net."}, []string{"ns.www.example.net. 300 A 192.0.2.54"}),
	}
	for _, c := range []struct {
		before, after string
		kind          Kind
		words         string
	}{
		{"answer", "answer", "", ""},
		{"answer", "with more", "", ""},
		{"nodata", "serial", "", ""},
		{"answer", "ttl", TTL, "192.0.2.1 (TTL 300) -> 192.0.2.1 (TTL 60)"},
		{"answer", "five", Data, "192.0.2.1 -> 192.0.2.1 | 192.0.2.2 | 192.0.2.3 | 2 more"},
		{"answer", "alias", Data, "192.0.2.1 -> CNAME a.example.net., 192.0.2.1"},
		{"alias", "away", Alias, "CNAME a.example.net., 192.0.2.1 -> CNAME www.example.org."},
		{"alias", "alias nodata", NoData, "CNAME a.example.net., 192.0.2.1 -> CNAME a.example.net., NODATA"},
		{"answer", "nxdomain", NXDomain, "192.0.2.1 -> NXDOMAIN"},
		{"nxdomain", "answer", Answer, "NXDOMAIN -> 192.0.2.1"},
		{"serial", "nodata ttl", TTL, "NODATA for 60 s -> NODATA for 61 s"},
		{"answer", "refused", Refused, "192.0.2.1 -> REFUSED"},
		{"answer", "servfail", Failure, "192.0.2.1 -> SERVFAIL"},
		{"nodata", "referral", Referral, "NODATA -> referral to www.example.net., NS ns.www.example.net., 192.0.2.53"},
		{"referral", "other glue", Referral, "referral to www.example.net., NS ns.www.example.net., 192.0.2.53 -> referral to www.example.net., NS ns.www.example.net., 192.0.2.54"},
	} {
		a, err := dnswire.ParseResponse(messages[c.before])
		if err != nil {
			t.Fatal(err)
		}
		b, err := dnswire.ParseResponse(messages[c.after])
		if err != nil {
			t.Fatal(err)
		}
		kind, err := Compare(messages[c.before], messages[c.after], record.TypeA)
		if kind != c.kind || err != nil {
			t.Errorf("%s, then %s: %q, %v, want %q", c.before, c.after, kind, err, c.kind)
		}
		one, two := see(a, record.TypeA), see(b, record.TypeA)
		if got := one.text(kind == TTL) + " -> " + two.text(kind == TTL); kind != "" && got != c.words {
			t.Errorf("%s, then %s: %s\nwant %s", c.before, c.after, got, c.words)
		}
	}
	for _, b := range [][]byte{nil, messages["alias"][:30]} {
		if _, err := Compare(b, messages["alias"], record.TypeA); err == nil {
			t.Errorf("%x was taken", b)
		}
	}
}

// TestLeads holds the names that answers lead to.
func TestLeads(t *testing.T) {
	b := response(t, 0,
		[]string{"www.example.net. 300 CNAME a.example.net.", "a.example.net. 300 MX 10 b.a.example.net.", "a.example.net. 300 SRV 1 2 3 c.example.net.", "a.example.net. 300 A 192.0.2.1"},
		[]string{"d.example.net. 300 NS e.example.org."}, nil)
	got, err := leads(b)
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, n := range got {
		text = append(text, n.String())
	}
	if want := []string{"a.example.net.", "b.a.example.net.", "c.example.net.", "e.example.org."}; !slices.Equal(text, want) {
		t.Errorf("leads to %v, want %v", text, want)
	}
	for n := range b {
		if _, err := leads(b[:n]); err == nil {
			t.Errorf("the first %d octets of %d were taken", n, len(b))
		}
	}
}

func FuzzLeads(f *testing.F) {
	m := new(dns.Msg).SetQuestion("www.example.net.", dns.TypeA)
	m.Compress = true
	for _, text := range []string{"www.example.net. 300 CNAME a.example.net.", "a.example.net. 300 MX 10 b.a.example.net.", "a.example.net. 300 NS www.example.net."} {
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	b, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("\x00\x00\x80\x00\x00\x00\x00\x01\x00\x00\x00\x00\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x00\x00\x02\xc0\x18"))
	f.Fuzz(func(t *testing.T, b []byte) {
		names, err := leads(b)
		if err != nil && names != nil {
			t.Errorf("names %v and the error %v", names, err)
		}
		for _, n := range names {
			if m, size, err := record.NameFromWire([]byte(n)); err != nil || size != len(n) || m != n {
				t.Errorf("%x is no canonical name: %v", n, err)
			}
		}
	})
}

// echo answers with one message, and counts what it was given.
type echo struct {
	put    int
	answer []byte
	err    error
}

func (e *echo) Put(sets []record.RRset) error {
	e.put += len(sets)
	return e.err
}

func (e *echo) Ask(record.Name, record.Type) []byte { return e.answer }

// TestPartIsSmall asks one name of a large state: what is put into the Server is what
// matters to it, and not one RRset more.
func TestPartIsSmall(t *testing.T) {
	s := state{}
	add := func(text string, typ record.Type) {
		r := record.NewRRset(name(t, text), typ, 60, "x")
		s[r.Owner] = append(s[r.Owner], r)
	}
	for i := range 1000 {
		add(fmt.Sprintf("host%d.rack%d.example.net.", i, i/40), record.TypeA)
	}
	add("example.net.", record.TypeSOA)
	add("example.net.", record.TypeNS)
	add("*.example.net.", record.TypeA)
	e := echo{answer: response(t, 0, nil, nil, nil)}
	traffic := Join([]tree.Sample{{To: 1, Questions: []tree.SampleQuestion{asked(1, "positive", "host1.rack0.example.net."), asked(1, "nxdomain", "nobody.rack1.example.net."), asked(2, "positive", "host50.rack1.example.net.")}}})
	change := Otherwise{s[name(t, "host1.rack0.example.net.")][0].Key: nil, s[name(t, "host999.rack24.example.net.")][0].Key: nil}
	got, err := Of(traffic, s, nil, change, func() (Server, error) { return &e, nil })
	if err != nil || got.Share != 0 || got.Drawn != 4 {
		t.Fatalf("%+v, %v", got, err)
	}
	if got.Touched != 0.25 { // one of four questions asks a name that changes, and gets the same answer here
		t.Errorf("touched is %v, want 0.25", got.Touched)
	}
	// Of one name, in each state: three of the zone, host1 in one of them, and one each by
	// which rack0, net and the root are there.
	if want := 2*(3+3) + 1; e.put > want {
		t.Errorf("%d RRsets were put, want at most %d", e.put, want)
	}
}

func TestOfFails(t *testing.T) {
	traffic := Join([]tree.Sample{{To: 1, Questions: []tree.SampleQuestion{asked(1, "positive", "a.")}}})
	broken := errors.New("broken")
	for what, serve := range map[string]func() (Server, error){
		"no Server":  func() (Server, error) { return nil, broken },
		"no room":    func() (Server, error) { return &echo{err: broken}, nil },
		"no message": func() (Server, error) { return &echo{answer: []byte("x")}, nil },
	} {
		if _, err := Of(traffic, state{}, Otherwise{{Owner: "\x01a\x00", Type: record.TypeA}: {Key: record.Key{Owner: "\x01a\x00", Type: record.TypeA}}}, nil, serve); err == nil || what != "no message" && !strings.Contains(err.Error(), "broken") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if e, err := Of(Traffic{}, nil, nil, nil, nil); err != nil || e.Drawn != 0 {
		t.Errorf("without questions: %+v, %v", e, err)
	}
}
