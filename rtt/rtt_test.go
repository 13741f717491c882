package rtt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"
)

// A sketch says what the library's says, and both are within their accuracy of the truth.
func TestQuantiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ms := rapid.SliceOfN(rapid.Float64Range(0.1, 60000), 1, 200).Draw(t, "milliseconds")
		reference, err := ddsketch.NewDefaultDDSketch(Accuracy)
		if err != nil {
			t.Fatal(err)
		}
		var s Sketch
		for i, v := range ms {
			d := time.Duration(v * 1e6)
			ms[i] = milliseconds(d)
			s.Add(d)
			if err := reference.Add(ms[i]); err != nil {
				t.Fatal(err)
			}
		}
		slices.Sort(ms)
		if got := s.Count(); got != uint64(len(ms)) {
			t.Fatalf("count is %d, expected %d", got, len(ms))
		}
		for _, q := range []float64{0, 0.05, 0.5, 0.9, 0.95, 1} {
			got := milliseconds(s.Quantile(q))
			want, err := reference.GetValueAtQuantile(q)
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(got-want) > 1e-5*want {
				t.Errorf("quantile %v is %v, the library says %v", q, got, want)
			}
			truth := ms[int(q*float64(len(ms)-1))]
			if math.Abs(got-truth) > Accuracy*truth*1.001 {
				t.Errorf("quantile %v is %v, in truth %v", q, got, truth)
			}
		}
	})
}

func TestSketchBounds(t *testing.T) {
	var s Sketch
	if s.Quantile(0.5) != 0 || s.Count() != 0 {
		t.Error("an empty sketch has a median")
	}
	for _, d := range []time.Duration{1, Shortest, Longest} {
		if !Valid(d) {
			t.Errorf("%v is not valid", d)
		}
		s.Add(d)
	}
	for _, d := range []time.Duration{0, -1, Longest + 1, math.MaxInt64, math.MinInt64} {
		if Valid(d) {
			t.Errorf("%v is valid", d)
		}
	}
	if len(s.bins) != 2 || int(s.bins[0].index) != firstBin || int(s.bins[1].index) != lastBin {
		t.Errorf("bins are %v", s.bins)
	}
	s.bins[0].count = math.MaxUint32 - 1
	s.Merge(s)
	if s.bins[0].count != math.MaxUint32 {
		t.Errorf("a count went over: %v", s.bins)
	}
}

// The estimate of clients is as near as is said.
func TestClients(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 3, 5, 10, 30, 100} {
		const rounds = 400
		sum := 0
		for range rounds {
			var c Clients
			for range n {
				h := random.Uint64()
				c.Add(h)
				c.Add(h) // again counts once
			}
			sum += c.Count()
		}
		if mean := float64(sum) / rounds; math.Abs(mean-float64(n)) > 0.1*float64(n) {
			t.Errorf("%d clients: in the mean %v", n, mean)
		}
	}
	if c := ^Clients(0); c.Count() != ManyClients {
		t.Errorf("full: %d", c.Count())
	}
}

func TestOf(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"192.0.2.77/32", "192.0.2.0/24"},
		{"192.0.2.77/24", "192.0.2.0/24"},
		{"192.0.2.77/20", "192.0.0.0/20"},
		{"::ffff:192.0.2.77/128", "192.0.2.0/24"},
		{"::ffff:192.0.2.77/112", "192.0.0.0/16"},
		{"::ffff:192.0.2.77/90", "0.0.0.0/0"},
		{"2001:db8:1:2::3/128", "2001:db8:1::/48"},
		{"2001:db8:1:2::3/32", "2001:db8::/32"},
	} {
		k, ok := Of(Client, netip.MustParsePrefix(c.in))
		if !ok || k.Prefix.String() != c.want || k.Check() != nil {
			t.Errorf("%s: %v, %v, expected %s", c.in, k.Prefix, ok, c.want)
		}
	}
	if _, ok := Of(Client, netip.Prefix{}); ok {
		t.Error("no prefix has a key")
	}
	if _, ok := OfAddr(Client, netip.Addr{}); ok {
		t.Error("no address has a key")
	}
	if k, ok := OfAddr(Resolver, netip.MustParseAddr("fe80::1%eth0")); !ok || k.Check() != nil {
		t.Errorf("an address with a zone: %v, %v", k, ok)
	}
}

func measurement() *rapid.Generator[Measurement] {
	return rapid.Custom(func(t *rapid.T) Measurement {
		var a netip.Addr
		if rapid.Bool().Draw(t, "v6") {
			a = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(rapid.IntRange(0, 3).Draw(t, "net"))})
		} else {
			a = netip.AddrFrom4([4]byte{198, 51, byte(rapid.IntRange(0, 3).Draw(t, "net")), 1})
		}
		k, _ := OfAddr(rapid.SampledFrom([]Kind{Client, Resolver}).Draw(t, "kind"), a)
		return Measurement{
			Key: k, PoP: rapid.SampledFrom([]string{"esams", "eqiad", "ulsfo"}).Draw(t, "pop"),
			RTT:    time.Duration(rapid.Int64Range(1, int64(Longest)).Draw(t, "rtt")),
			Client: rapid.Uint64().Draw(t, "client"), At: time.Unix(rapid.Int64Range(1e9, 1e9+5000).Draw(t, "at"), 0),
		}
	})
}

func tableOf(t interface{ Fatal(...any) }, limit Limit, all []Measurement) *Table {
	out := New(limit)
	for _, m := range all {
		if err := out.Add(m); err != nil {
			t.Fatal(err)
		}
		if err := out.AddDemand(m.Key, m.Client%3, m.Client%5, m.At); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func encoded(t interface{ Fatal(...any) }, table *Table) []byte {
	var b bytes.Buffer
	n, err := table.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatal(n, b.Len(), err)
	}
	return b.Bytes()
}

// However measurements are spread over tables, and in whatever order and grouping those are
// merged, the octets are those of one table of all.
func TestMergeIsBlind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(measurement(), 0, 60).Draw(t, "measurements")
		want := encoded(t, tableOf(t, Limit{}, all))

		parts := make([][]Measurement, 4)
		for _, m := range rapid.Permutation(all).Draw(t, "order") {
			i := rapid.IntRange(0, 3).Draw(t, "part")
			parts[i] = append(parts[i], m)
		}
		var tables []*Table
		for _, p := range parts {
			tables = append(tables, tableOf(t, Limit{}, p))
		}
		for len(tables) > 1 { // any two of them
			tables = rapid.Permutation(tables).Draw(t, "pair")
			if err := tables[0].Merge(tables[1]); err != nil {
				t.Fatal(err)
			}
			tables = append(tables[:1], tables[2:]...)
		}
		if got := encoded(t, tables[0]); !bytes.Equal(got, want) {
			t.Errorf("merged:\n%x, at once:\n%x", got, want)
		}
	})
}

func TestEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := tableOf(t, Limit{}, rapid.SliceOfN(measurement(), 0, 60).Draw(t, "measurements"))
		b := encoded(t, table)
		in := bytes.NewReader(append(slices.Clone(b), "behind"...))
		back, err := Read(in, Limit{})
		if err != nil {
			t.Fatal(err)
		}
		if in.Len() != len("behind") {
			t.Errorf("%d octets are left, expected those behind", in.Len())
		}
		if diff := cmp.Diff(slices.Collect(table.All()), slices.Collect(back.All()), cmp.AllowUnexported(Sketch{}, bin{}), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Error(diff)
		}
		if back.octets != table.octets || !back.Begin.Equal(table.Begin) || !back.End.Equal(table.End) {
			t.Errorf("%d octets from %v to %v, expected %d from %v to %v", back.octets, back.Begin, back.End, table.octets, table.Begin, table.End)
		}
		if !bytes.Equal(encoded(t, back), b) {
			t.Error("read and written again it differs")
		}
		// Any octet that is damaged, and any end, is found.
		i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		damaged := slices.Clone(b)
		damaged[i] ^= byte(rapid.IntRange(1, 255).Draw(t, "by"))
		if _, err := Read(bytes.NewReader(damaged), Limit{}); err == nil {
			t.Errorf("octet %d was changed, and nothing said", i)
		}
		if _, err := Read(bytes.NewReader(b[:i]), Limit{}); err == nil || (err == io.EOF) != (i == 0) {
			t.Errorf("cut off at %d: %v", i, err)
		}
	})
}

// What a foreign table cannot make anybody take.
func TestReadBounds(t *testing.T) {
	all := make([]Measurement, 40)
	for i := range all {
		k, _ := OfAddr(Client, netip.AddrFrom4([4]byte{198, 51, byte(i), 1}))
		all[i] = Measurement{Key: k, PoP: fmt.Sprintf("pop%d", i%5), RTT: time.Duration(i+1) * time.Millisecond, Client: uint64(i), At: time.Unix(1e9, 0)}
	}
	b := encoded(t, tableOf(t, Limit{}, all))
	for _, c := range []struct {
		limit Limit
		want  string
	}{{Limit{Rows: 39}, "40 rows, expected at most 39"}, {Limit{Octets: 5000}, "more than 5000 octets"}, {Limit{Rows: 40}, ""}} {
		if _, err := Read(bytes.NewReader(b), c.limit); c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, expected %q", c.limit, err, c.want)
		}
	}
	// A header that promises much costs nothing.
	promise := slices.Clone(b[:headerSize])
	binary.LittleEndian.PutUint32(promise[36:], maxEncodedRows)
	if n := testing.AllocsPerRun(10, func() {
		if _, err := Read(bytes.NewReader(promise), Limit{}); err == nil {
			t.Error("a promise was taken")
		}
	}); n > 40 {
		t.Errorf("%v allocations for a header", n)
	}
	if tables, err := ReadAll(bytes.NewReader(append(slices.Clone(b), b...)), Limit{}, 2); err != nil || len(tables) != 2 {
		t.Errorf("two: %d, %v", len(tables), err)
	}
	if _, err := ReadAll(bytes.NewReader(append(slices.Clone(b), b...)), Limit{}, 1); err == nil {
		t.Error("more than one was read")
	}
	if _, err := ReadAll(bytes.NewReader(append(slices.Clone(b), b[:9]...)), Limit{}, 2); err == nil || !strings.Contains(err.Error(), "table 2: ") {
		t.Errorf("one and a part: %v", err)
	}
	if tables, err := ReadAll(strings.NewReader(""), Limit{}, 2); err != nil || len(tables) != 0 {
		t.Errorf("none: %d, %v", len(tables), err)
	}
}

// A limit holds at each step; what was touched last stays.
func TestLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.SampledFrom([]Limit{{Rows: 3}, {Octets: 900}, {Rows: 5, Octets: 2000}, {Rows: 1}, {Octets: 1}}).Draw(t, "limit")
		table := New(limit)
		for _, m := range rapid.SliceOfN(measurement(), 1, 60).Draw(t, "measurements") {
			if err := table.Add(m); err != nil {
				t.Fatal(err)
			}
			if n := table.Len(); n > 1 && (limit.Rows > 0 && n > limit.Rows || limit.Octets > 0 && table.Octets() > limit.Octets) {
				t.Fatalf("%d rows of %d octets, limit %+v", n, table.Octets(), limit)
			}
			if _, ok := table.Get(m.Key); !ok {
				t.Fatal("what was added is not there")
			}
		}
		octets, rows := 0, 0
		for r := range table.All() {
			rows++
			octets += rowSize + cellSize*len(r.Cells)
			for _, c := range r.Cells {
				octets += binSize * len(c.Times.bins)
			}
		}
		if rows != table.Len() || octets != table.Octets() {
			t.Errorf("%d rows of %d octets, it says %d of %d", rows, octets, table.Len(), table.Octets())
		}
	})
}

// A new time of a PoP is seen as soon as there are enough new measurements; what is thin is
// filled up from before.
func TestRecent(t *testing.T) {
	k, _ := OfAddr(Client, netip.MustParseAddr("192.0.2.1"))
	slot := func(at int64, n int, rtt time.Duration, pops ...string) *Table {
		table := New(Limit{})
		for i := range n {
			for _, pop := range pops {
				if err := table.Add(Measurement{Key: k, PoP: pop, RTT: rtt, Client: uint64(i), At: time.Unix(at, 0)}); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := table.AddDemand(k, uint64(n), 0, time.Unix(at, 0)); err != nil {
			t.Fatal(err)
		}
		return table
	}
	old, new := slot(100, 50, 20*time.Millisecond, "esams", "drmrs"), slot(200, 5, 200*time.Millisecond, "esams")
	for _, order := range [][]*Table{{old, new}, {new, old}} {
		for _, c := range []struct {
			want         uint64
			esams, drmrs time.Duration
			count        uint64
		}{{5, 200 * time.Millisecond, 20 * time.Millisecond, 5}, {6, 20 * time.Millisecond, 20 * time.Millisecond, 55}, {0, 20 * time.Millisecond, 20 * time.Millisecond, 55}} {
			got, err := Recent(order, c.want, Limit{})
			if err != nil {
				t.Fatal(err)
			}
			r, ok := got.Get(k)
			if !ok || len(r.Cells) != 2 || r.Demand != 55 {
				t.Fatalf("row is %+v", r)
			}
			near := func(got, want time.Duration) bool {
				return math.Abs(float64(got-want)) < Accuracy*float64(want)
			}
			if drmrs, esams := r.Cells[0], r.Cells[1]; !near(esams.Times.Quantile(0.5), c.esams) || !near(drmrs.Times.Quantile(0.5), c.drmrs) || esams.Times.Count() != c.count {
				t.Errorf("want %d: esams %v of %d, drmrs %v", c.want, esams.Times.Quantile(0.5), esams.Times.Count(), drmrs.Times.Quantile(0.5))
			}
		}
	}
	if r, _ := old.Get(k); r.Cells[0].Times.Count() != 50 {
		t.Error("what was merged from has changed")
	}
}

func TestBadMeasurements(t *testing.T) {
	k, _ := OfAddr(Client, netip.MustParseAddr("192.0.2.1"))
	good := Measurement{Key: k, PoP: "esams", RTT: time.Millisecond, At: time.Unix(1e9, 0)}
	for _, c := range []struct {
		change func(*Measurement)
		want   string
	}{
		{func(m *Measurement) { m.RTT = 0 }, "round-trip time 0s, expected above 0 and up to 1m0s"},
		{func(m *Measurement) { m.RTT = -time.Second }, "round-trip time -1s"},
		{func(m *Measurement) { m.RTT = time.Hour }, "round-trip time 1h0m0s"},
		{func(m *Measurement) { m.PoP = "" }, `PoP ""`},
		{func(m *Measurement) { m.PoP = "a b" }, `PoP "a b"`},
		{func(m *Measurement) { m.PoP = strings.Repeat("a", 64) }, "1 to 63"},
		{func(m *Measurement) { m.Key.Kind = 3 }, "kind 3 of 192.0.2.0/24"},
		{func(m *Measurement) { m.Key.Prefix = netip.MustParsePrefix("192.0.2.1/24") }, "192.0.2.1/24 is no prefix"},
		{func(m *Measurement) { m.Key.Prefix = netip.MustParsePrefix("::ffff:192.0.2.0/120") }, "is no prefix"},
	} {
		m := good
		c.change(&m)
		table := New(Limit{})
		if err := table.Add(m); err == nil || !strings.Contains(err.Error(), c.want) || !table.Empty() {
			t.Errorf("%+v: %v, expected %q", m, err, c.want)
		}
	}
	table := New(Limit{})
	for i := range MaxPoPs {
		m := good
		m.PoP = fmt.Sprintf("p%d", i)
		if err := table.Add(m); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.Add(good); err == nil {
		t.Error("one PoP more than there may be")
	}
}

func FuzzRead(f *testing.F) {
	k, _ := OfAddr(Client, netip.MustParseAddr("192.0.2.1"))
	k6, _ := OfAddr(Resolver, netip.MustParseAddr("2001:db8::1"))
	f.Add(encoded(f, New(Limit{})))
	f.Add(encoded(f, tableOf(f, Limit{}, []Measurement{
		{k, "esams", 20 * time.Millisecond, 1, time.Unix(1e9, 0)}, {k, "eqiad", 90 * time.Millisecond, 2, time.Unix(1e9+7, 0)}, {k6, "esams", time.Minute, 3, time.Unix(1e9+9, 0)},
	})))
	f.Fuzz(func(t *testing.T, b []byte) {
		// The checksum is made to fit, or nothing would be found behind it.
		if len(b) > headerSize+8 {
			b = binary.LittleEndian.AppendUint64(slices.Clone(b[:len(b)-8]), xxh3.Hash(b[:len(b)-8]))
		}
		table, err := Read(bytes.NewReader(b), Limit{Rows: 1000, Octets: 1 << 20})
		if err != nil {
			return
		}
		// What is taken is in the one form that it has.
		if got := encoded(t, table); !bytes.Equal(got, b[:len(got)]) {
			t.Errorf("read\n%x, written\n%x", b, got)
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	table := New(Limit{Rows: 100_000})
	random := rand.New(rand.NewPCG(1, 2))
	all := make([]Measurement, 1<<16)
	for i := range all {
		k, _ := OfAddr(Client, netip.AddrFrom4([4]byte{byte(random.IntN(4)), byte(random.IntN(256)), byte(random.IntN(256)), 1}))
		all[i] = Measurement{Key: k, PoP: fmt.Sprintf("pop%d", random.IntN(14)), RTT: time.Duration(random.Int64N(3e8)) + 1, Client: random.Uint64(), At: time.Unix(1e9, 0)}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := table.Add(all[i&(1<<16-1)]); err != nil {
			b.Fatal(err)
		}
	}
}

// What docs/format/rtt.md says of bins.
func TestFirstAndLastBin(t *testing.T) {
	if firstBin != -58 || lastBin-firstBin+1 != 334 {
		t.Errorf("bins from %d to %d, expected 334 from -58 on", firstBin, lastBin)
	}
}

func TestReadDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a[b]*")
	if _, err := ReadDir(dir, Limit{}, time.Time{}); err == nil {
		t.Error("a directory that is not there was read")
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	k, _ := OfAddr(Client, netip.MustParseAddr("192.0.2.1"))
	for i, at := range []int64{1e9, 1e9 + 100} {
		b := encoded(t, tableOf(t, Limit{}, []Measurement{{k, "esams", time.Millisecond, 1, time.Unix(at, 0)}}))
		for name, b := range map[string][]byte{fmt.Sprintf("%d.rtt", i): b, fmt.Sprintf("torn%d.rtt", i): b[:len(b)-1], "empty.rtt": encoded(t, New(Limit{})), "other": []byte("x")} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for since, want := range map[int64]int{0: 2, 1e9: 2, 1e9 + 1: 1, 1e9 + 101: 0} {
		tables, err := ReadDir(dir, Limit{}, time.Unix(since, 0))
		if len(tables) != want || err == nil || strings.Count(err.Error(), "torn") != 2 {
			t.Errorf("since %d: %d tables, %v, expected %d and two errors", since, len(tables), err, want)
		}
	}
}

// Rows that nobody measured go before those that somebody did, however new they are: who makes up
// the addresses of queries takes no measurement away.
func TestHeardGoFirst(t *testing.T) {
	key := func(n int) Key {
		k, _ := OfAddr(Client, netip.AddrFrom4([4]byte{198, 51, byte(n), 1}))
		return k
	}
	now := time.Unix(1_800_000_000, 0)
	tab := New(Limit{Rows: 10})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for n := range 8 {
		must(tab.Add(Measurement{Key: key(n), PoP: "esams", RTT: time.Millisecond, At: now}))
	}
	for n := range 100 {
		must(tab.AddDemand(key(100+n), 0, 1, now))
	}
	for n := range 8 {
		if r, ok := tab.Get(key(n)); !ok || len(r.Cells) != 1 {
			t.Errorf("%v is gone", key(n))
		}
	}
	if _, ok := tab.Get(key(199)); !ok || tab.Len() != 10 || tab.Evicted != 98 {
		t.Errorf("%d rows, %d evicted, expected 10 with the newest of those that were heard of, and 98", tab.Len(), tab.Evicted)
	}
	if loaded, sampled := tab.Wanted(); loaded != 0 || sampled != 2 {
		t.Errorf("demand %d and %d", loaded, sampled)
	}
	// One that was heard of and is measured then is one of those that stay.
	must(tab.Add(Measurement{Key: key(199), PoP: "esams", RTT: time.Millisecond, At: now}))
	must(tab.Add(Measurement{Key: key(8), PoP: "esams", RTT: time.Millisecond, At: now}))
	must(tab.AddDemand(key(99), 0, 1, now))
	if _, ok := tab.Get(key(99)); ok || tab.Len() != 10 {
		t.Errorf("%d rows, expected that one without a measurement finds no room", tab.Len())
	}
	must(tab.Add(Measurement{Key: key(9), PoP: "esams", RTT: time.Millisecond, At: now}))
	if _, ok := tab.Get(key(0)); ok || tab.Len() != 10 {
		t.Errorf("%d rows, expected that the one measured longest ago is gone", tab.Len())
	}

	// So it is when tables are put together; the newer one comes first.
	older := New(Limit{})
	must(older.AddDemand(key(50), 0, 1, now.Add(-time.Hour)))
	for n := range 4 {
		must(older.Add(Measurement{Key: key(60 + n), PoP: "eqiad", RTT: time.Millisecond, At: now.Add(-time.Hour)}))
	}
	newer := New(Limit{})
	for n := range 6 {
		must(newer.AddDemand(key(70+n), 0, 1, now))
		must(newer.Add(Measurement{Key: key(80 + n), PoP: "eqiad", RTT: time.Millisecond, At: now}))
	}
	all, err := Recent([]*Table{older, newer}, 0, Limit{Rows: 8})
	must(err)
	if n := len(all.measuredKeys()); all.Len() != 8 || n != 8 || all.Evicted != 9 {
		t.Errorf("%d rows, %d of them measured, %d evicted, expected 8, 8 and 9", all.Len(), n, all.Evicted)
	}
	for n := range 6 {
		if _, ok := all.Get(key(80 + n)); !ok {
			t.Errorf("%v of the newer table is gone", key(80+n))
		}
	}
}

func (t *Table) measuredKeys() (keys []Key) {
	for r := range t.All() {
		if len(r.Cells) > 0 {
			keys = append(keys, r.Key)
		}
	}
	return keys
}

// All tables of one place together have a bound: what is older is left out, and said.
func TestAllBounded(t *testing.T) {
	dir := t.TempDir()
	var all bytes.Buffer
	var one int
	for i := range 10 {
		tab := New(Limit{})
		k, _ := OfAddr(Client, netip.AddrFrom4([4]byte{198, 51, byte(i), 1}))
		if err := tab.Add(Measurement{Key: k, PoP: "esams", RTT: time.Millisecond, At: time.Unix(1_800_000_000+int64(i), 0)}); err != nil {
			t.Fatal(err)
		}
		one = tab.Octets()
		var b bytes.Buffer
		if _, err := tab.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		all.Write(b.Bytes())
		// By the number and not by the text of the name.
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("b1@%d%s", 7+i, Suffix)), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	newest := func(tables []*Table) (n int64) {
		for _, tab := range tables {
			n = max(n, tab.End.Unix()-1_800_000_000)
		}
		return n
	}
	tables, err := ReadDir(dir, Limit{Octets: 4 * one}, time.Time{})
	if err == nil || !strings.Contains(err.Error(), "the newest 5 of 10 files") || len(tables) != 5 || newest(tables) != 9 || newest(tables[4:]) != 5 {
		t.Errorf("%d tables, %v, expected the newest 5", len(tables), err)
	}
	tables, err = ReadAll(bytes.NewReader(all.Bytes()), Limit{Octets: 4 * one}, 10)
	if err == nil || !strings.Contains(err.Error(), "the first 6 of 10 are left out") || len(tables) != 4 || newest(tables[:1]) != 6 {
		t.Errorf("%d tables, %v, expected the newest 4", len(tables), err)
	}
	if tables, err = ReadAll(bytes.NewReader(all.Bytes()), Limit{Octets: 10 * one}, 10); err != nil || len(tables) != 10 {
		t.Errorf("%d tables, %v, expected all", len(tables), err)
	}
}
