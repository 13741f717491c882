package recursor

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
)

func name(t testing.TB, text string) record.Name {
	t.Helper()
	n, err := record.ParseName(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// data is RDATA of a type, as far as planning looks at it.
var data = map[string]record.Rdata{
	"A": "\xc0\x00\x02\x01", "B": "\xc0\x00\x02\x02", "NS": "\x02ns\x00", "CNAME": "\x03www\x00", "DNAME": "\x03www\x00",
	"TXT": "\x03one", "DS": "\x00\x01\x08\x02abcd", "DNSKEY": "\x01\x00\x03\x08abcd",
	"SOA": "\x02ns\x00\x04host\x00\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\x04\x00\x00\x00\x05",
}

func set(t testing.TB, line string) record.RRset {
	t.Helper()
	owner, typ, _ := strings.Cut(line, " ")
	d := data[typ]
	if typ == "B" { // another address
		typ = "A"
	}
	k, err := record.ParseType(typ)
	if err != nil {
		t.Fatal(err)
	}
	return record.NewRRset(name(t, owner), k, 300, d)
}

func newTestIndex(t testing.TB, lines ...string) *index {
	t.Helper()
	d := snapshot.NewDataset("internal")
	var put []record.RRset
	for _, line := range lines {
		put = append(put, set(t, line))
	}
	delta, err := d.Change(1, put, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Apply(delta); err != nil {
		t.Fatal(err)
	}
	return newIndex(d)
}

// change applies lines, those with a minus removed, and gives the commands.
func (x *index) change(t testing.TB, lines ...string) (*plan, []string) {
	t.Helper()
	var put []record.RRset
	var remove []record.Key
	for _, line := range lines {
		if rest, gone := strings.CutPrefix(line, "-"); gone {
			remove = append(remove, set(t, rest).Key)
		} else {
			put = append(put, set(t, line))
		}
	}
	delta, err := x.Change(1, put, remove)
	if err != nil {
		t.Fatal(err)
	}
	p, err := x.apply(delta)
	if err != nil {
		t.Fatal(err)
	}
	return p, p.commands(x.ZoneOf)
}

// What a change has flushed, as the table over plan says.
func TestPlan(t *testing.T) {
	base := []string{
		"example.net SOA", "example.net NS", "www.example.net A", "deep.er.example.net A", "*.w.example.net TXT",
		"sub.example.net NS", "ns.sub.example.net A", "_fresh.internal.example.net TXT", "old.example.net DNAME",
	}
	for _, c := range []struct {
		what   string
		change []string
		want   []string
	}{
		{"an address", []string{"www.example.net B"}, []string{"flush www.example.net.", "flush_type example.net. SOA"}},
		{"a type that flush leaves", []string{"www.example.net TXT"}, []string{"flush_type example.net. SOA", "flush_type www.example.net. TXT"}},
		{"a created name below another", []string{"a.b.example.net A"}, []string{"flush a.b.example.net.", "flush_type example.net. SOA"}},
		{"a removed name", []string{"-www.example.net A"}, []string{"flush www.example.net.", "flush_type example.net. SOA"}},
		{"the freshness record", []string{"-_fresh.internal.example.net TXT"}, []string{"flush_type example.net. SOA", "flush_type _fresh.internal.example.net. TXT"}},
		{"a created name that a wildcard had", []string{"a.b.w.example.net A"}, []string{"flush_zone b.w.example.net.", "flush_type example.net. SOA"}},
		{"a wildcard", []string{"*.w.example.net A"}, []string{"flush_zone w.example.net.", "flush_type example.net. SOA"}},
		{"a wildcard that goes", []string{"-*.w.example.net TXT"}, []string{"flush_zone w.example.net.", "flush_type example.net. SOA"}},
		{"a moved delegation", []string{"-sub.example.net NS"}, []string{"flush_zone sub.example.net.", "flush_type example.net. SOA"}},
		{"glue", []string{"ns.sub.example.net B"}, []string{"flush ns.sub.example.net.", "flush_type example.net. SOA"}},
		{"name servers of a zone", []string{"-example.net NS"}, []string{"flush example.net.", "flush_type example.net. SOA"}},
		{"a DNAME", []string{"-old.example.net DNAME"}, []string{"flush_zone old.example.net.", "flush_type example.net. SOA"}},
		{"a zone within one", []string{"in.example.net SOA", "in.example.net NS"}, []string{"flush_zone in.example.net.", "flush_type example.net. SOA"}},
		{"a zone that goes", []string{"-example.net SOA", "-example.net NS"}, []string{"flush_zone example.net."}},
	} {
		x := newTestIndex(t, base...)
		p, got := x.change(t, c.change...)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
		soa := slices.ContainsFunc(c.change, func(l string) bool { return strings.HasSuffix(l, " SOA") })
		if soa != (p.zones != nil) {
			t.Errorf("%s: zones are %v", c.what, p.zones)
		}
		if diff := cmp.Diff(newIndex(x.Dataset).holds, x.holds); diff != "" {
			t.Errorf("%s: names that exist (-anew +kept):\n%s", c.what, diff)
		}
	}
}

// A whole version flushes what it changes, and no more: each zone would be a walk through the cache.
func TestPlanFull(t *testing.T) {
	x := newTestIndex(t, "example.net SOA", "www.example.net A", "ftp.example.net A", "example.org SOA", "www.example.org A", "gone.example SOA")
	var whole []record.RRset
	for _, line := range []string{"example.net SOA", "www.example.net B", "example.org SOA", "www.example.org A", "new.example SOA"} {
		whole = append(whole, set(t, line))
	}
	delta, err := x.Replace(2, whole)
	if err != nil {
		t.Fatal(err)
	}
	p, err := x.apply(delta)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"flush_zone gone.example.", "flush_zone new.example.", "flush ftp.example.net.", "flush www.example.net.", "flush_type example.net. SOA"}
	if diff := cmp.Diff(want, p.commands(x.ZoneOf)); diff != "" {
		t.Error(diff)
	}
	if len(p.zones) != 3 {
		t.Errorf("zones are %v", p.zones)
	}
	if diff := cmp.Diff(newIndex(x.Dataset).holds, x.holds); diff != "" {
		t.Errorf("names that exist (-anew +kept):\n%s", diff)
	}
}

// A freshness record that is replaced costs its own flush and nothing else.
func TestPlanFreshness(t *testing.T) {
	x := newTestIndex(t, "example.net SOA", "_fresh.internal.example.net TXT")
	fresh := record.NewRRset(name(t, "_fresh.internal.example.net"), record.TypeTXT, 1, "\x03two")
	delta, err := x.Change(2, []record.RRset{fresh}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := x.apply(delta)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"flush_type _fresh.internal.example.net. TXT"}, p.commands(x.ZoneOf)); diff != "" {
		t.Error(diff)
	}
}

// Beyond perZone the zone is flushed at once, and plans that wait together are one.
func TestPlanMany(t *testing.T) {
	x := newTestIndex(t, "example.net SOA", "example.org SOA")
	p, _ := x.change(t, "www.example.org A")
	var lines []string
	for i := range perZone + 1 {
		lines = append(lines, fmt.Sprintf("n%d.example.net A", i))
	}
	q, _ := x.change(t, lines...)
	p.add(q)
	want := []string{"flush_zone example.net.", "flush www.example.org.", "flush_type example.org. SOA"}
	if diff := cmp.Diff(want, p.commands(x.ZoneOf)); diff != "" {
		t.Error(diff)
	}
	if p.version != 3 {
		t.Errorf("version is %d, want 3", p.version)
	}
	// Each walk through the cache costs as much as one for the zone.
	lines = nil
	for i := range perZoneWalks + 1 {
		lines = append(lines, fmt.Sprintf("*.w%d.example.net TXT", i))
	}
	if _, got := x.change(t, lines...); !slices.Equal(got, []string{"flush_zone example.net."}) {
		t.Errorf("%d wildcards: %q", len(lines), got)
	}
}

// Keys at the apex make a zone one that is validated.
func TestPlanSigned(t *testing.T) {
	x := newTestIndex(t, "example.net SOA")
	p, got := x.change(t, "example.net DNSKEY")
	if diff := cmp.Diff([]zone{{name(t, "example.net"), true}}, p.zones, cmp.AllowUnexported(zone{})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"flush_zone example.net."}, got); diff != "" {
		t.Error(diff)
	}
	if p, _ := x.change(t, "example.net DS"); p.zones != nil {
		t.Errorf("zones are told anew: %v", p.zones)
	}
}

// A dataset that is all new has all zones flushed, those of the one before, too.
func TestPlanWhole(t *testing.T) {
	x := newTestIndex(t, "example.net SOA")
	full, err := x.Replace(2, []record.RRset{set(t, "example.org SOA")})
	if err != nil {
		t.Fatal(err)
	}
	p, err := x.apply(full)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"flush_zone example.net.", "flush_zone example.org."}, p.commands(x.ZoneOf)); diff != "" {
		t.Error(diff)
	}
}

func TestConf(t *testing.T) {
	c := DefaultConfig()
	c.Authority, c.Dir, c.Threads, c.User = "127.0.0.1:5300", "/var/lib/zonecast/recursor", 3, "unbound"
	c.Forward = []string{"192.0.2.1", "corp.example.net=192.0.2.2:5353", "corp.example.net=2001:db8::2", "example.net=192.0.2.9"}
	c.Insecure, c.LocalData, c.Include = []string{"corp.example.net"}, []string{"printer.example.net. 3600 IN A 192.0.2.9"}, "/etc/zonecast/more.conf"
	got, err := c.conf([]zone{{name(t, "10.in-addr.arpa"), false}, {name(t, "1.168.192.in-addr.arpa"), false}, {name(t, "16.172.in-addr.arpa"), false}, {name(t, "example.net"), true}, {name(t, `a\"b\\.example.org`), false}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"num-threads: 3", "rrset-cache-slabs: 4", "username: \"unbound\"",
		"domain-insecure: \"10.in-addr.arpa.\"", "local-zone: \"10.in-addr.arpa.\" transparent", "local-zone: \"1.168.192.in-addr.arpa.\" transparent",
		"local-zone: \"16.172.in-addr.arpa.\" transparent", "domain-insecure: \"corp.example.net\"", "name: \"a\\034b\\092.example.org.\"",
		"local-data: \"printer.example.net. 3600 IN A 192.0.2.9\"", "include: \"/etc/zonecast/more.conf\"",
		"stub-zone:\n  name: \"example.net.\"\n  stub-addr: 127.0.0.1@5300\n", "forward-zone:\n  name: \".\"\n  forward-addr: 192.0.2.1@53\n",
		"forward-zone:\n  name: \"corp.example.net.\"\n  forward-addr: 192.0.2.2@5353\n  forward-addr: 2001:db8::2@53\n",
		"control-interface: \"/var/lib/zonecast/recursor/control.sock\"",
	} {
		if !bytes.Contains(got, []byte(want)) {
			t.Errorf("unbound.conf lacks %q:\n%s", want, got)
		}
	}
	for _, no := range []string{"domain-insecure: \"example.net.\"", "forward-addr: 192.0.2.9@53", "local-zone: \"168.192"} {
		if bytes.Contains(got, []byte(no)) {
			t.Errorf("unbound.conf has %q", no)
		}
	}
}

// A zone above zones that Unbound answers itself opens those.
func TestOpened(t *testing.T) {
	n := 0
	for range opened(name(t, "172.in-addr.arpa")) {
		n++
	}
	if n != 16 {
		t.Errorf("172.in-addr.arpa opens %d zones, want 16", n)
	}
	for b := range opened(name(t, "example.net")) {
		t.Errorf("example.net opens %s", b)
	}
}

func TestDifference(t *testing.T) {
	c := DefaultConfig()
	c.Authority = "127.0.0.1:5300"
	plainZone, signed, private := zone{name(t, "example.net"), false}, zone{name(t, "example.net"), true}, zone{name(t, "10.in-addr.arpa"), false}
	for _, d := range []struct {
		old, now []zone
		want     []string
		live     bool
	}{
		{nil, []zone{private}, []string{"local_zone 10.in-addr.arpa. transparent", "stub_add +i 10.in-addr.arpa. 127.0.0.1@5300"}, true},
		{[]zone{plainZone}, []zone{signed}, []string{"stub_remove +i example.net.", "stub_add example.net. 127.0.0.1@5300"}, true},
		{[]zone{private}, nil, []string{"stub_remove +i 10.in-addr.arpa."}, false},
	} {
		got, live := c.difference(d.old, d.now)
		if diff := cmp.Diff(d.want, got); diff != "" || live != d.live {
			t.Errorf("live is %t, want %t; %s", live, d.live, diff)
		}
	}
}

func TestValidate(t *testing.T) {
	good := DefaultConfig()
	good.Authority, good.Journal, good.StatusDir, good.Keys, good.Dir = "127.0.0.1:5300", "j", "s", []string{"k.pub"}, "d"
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for key, spoil := range map[string]func(*Config){
		"listen":       func(c *Config) { c.Listen = nil },
		"allow":        func(c *Config) { c.Allow = []string{"192.0.2.1"} },
		"authority":    func(c *Config) { c.Authority = "0.0.0.0:53" },
		"dataset":      func(c *Config) { c.Dataset = "" },
		"journal":      func(c *Config) { c.Journal = "" },
		"status-dir":   func(c *Config) { c.StatusDir = "" },
		"keys":         func(c *Config) { c.Keys = nil },
		"dir":          func(c *Config) { c.Dir = "" },
		"forward":      func(c *Config) { c.Forward = []string{"example.net=nowhere"} },
		"local-data":   func(c *Config) { c.LocalData = []string{"a\nserver:"} },
		"include":      func(c *Config) { c.Include = `a"b` },
		"trust-anchor": func(c *Config) { c.Anchor = "a\nb" },
		"insecure":     func(c *Config) { c.Insecure = []string{"a..b"} },
		"threads":      func(c *Config) { c.Threads = -1 },
		"cache-size":   func(c *Config) { c.CacheSize = 0 },
	} {
		c := good
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), key+":") {
			t.Errorf("%s spoilt: error is %v", key, err)
		}
	}
}

// TestPlansAreBounded: an authority that answers nothing new, while versions come and the dataset is
// read anew, costs no memory without bound, and nothing that was to be flushed is forgotten; a
// dataset of a lower version than those that waited is flushed when that is answered.
func TestPlansAreBounded(t *testing.T) {
	x := newTestIndex(t, "example.net SOA", "example.org SOA", "gone.example SOA", "www.gone.example A")
	r := &carried{Recursor: &Recursor{wake: make(chan struct{}, 1), log: slog.New(slog.DiscardHandler)}, index: x, dataset: "internal"}
	size := func() (n int) {
		for _, p := range r.pending {
			n += len(p.names) + len(p.types) + len(p.subtrees)
		}
		return n
	}
	event := func(lines ...string) {
		t.Helper()
		var put []record.RRset
		var remove []record.Key
		for _, line := range lines {
			if rest, gone := strings.CutPrefix(line, "-"); gone {
				remove = append(remove, set(t, rest).Key)
			} else {
				put = append(put, set(t, line))
			}
		}
		d, err := r.index.Change(1, put, remove)
		if err == nil {
			err = r.event(journal.Event{Delta: d})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	event("-www.gone.example A", "-gone.example SOA")
	for i := range 3 * maxPending {
		var lines []string
		for j := range 20 {
			lines = append(lines, fmt.Sprintf("n%d-%d.example.net A", i, j))
		}
		event(lines...)
		if n := size(); len(r.pending) > maxPending || n > maxPlan+30*maxPending {
			t.Fatalf("after %d versions %d plans with %d things wait", i, len(r.pending), n)
		}
	}
	later := r.pending[len(r.pending)-1].version
	for range 3 {
		again := snapshot.NewDataset("internal")
		delta, err := again.Change(1, []record.RRset{set(t, "example.org SOA"), set(t, "example.net SOA")}, nil)
		if err == nil {
			err = again.Apply(delta)
		}
		if err == nil {
			err = r.event(journal.Event{Reset: again})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(r.pending) != 1 || size() > maxPlan+100 {
		t.Errorf("%d plans with %d things wait after all was read anew", len(r.pending), size())
	}
	p := r.take(1)
	if p == nil || p.version != 1 || later <= 1 {
		t.Fatalf("nothing is flushed with version 1, %d was the last before", later)
	}
	if got, want := p.commands(r.index.ZoneOf), []string{"flush_zone gone.example.", "flush_zone example.net.", "flush_zone example.org."}; !slices.Equal(got, want) {
		t.Errorf("flushed is %q, want %q", got, want)
	}
	// What could not be flushed waits before what came meanwhile.
	r.back(p)
	event("www.example.org A")
	r.back(r.take(1))
	if len(r.pending) != 2 || r.pending[0].version != 1 {
		t.Errorf("%d plans wait, the first of version %d", len(r.pending), r.pending[0].version)
	}
	p = r.take(2)
	event("www.example.net A")
	if err := r.event(journal.Event{Reset: x.Dataset}); err != nil { // of the first history
		t.Fatal(err)
	}
	r.back(p)
	if p = r.take(1 << 60); p == nil || len(r.pending) != 0 || len(p.zones) != 2 {
		t.Errorf("%+v, and %d wait", p, len(r.pending))
	}
}

// asked is a control that notes what it is told, and refuses what no Unbound before 1.17.1 knows.
type asked []string

func (a *asked) do(_ context.Context, command string) (string, error) {
	*a = append(*a, command)
	if command == "reload_keep_cache" {
		return "", &refusal{command, "error unknown command 'reload_keep_cache'"}
	}
	return "ok", nil
}

// TestReloadOfAnOlderUnbound: one that cannot keep its cache takes a configuration without, and that is
// said.
func TestReloadOfAnOlderUnbound(t *testing.T) {
	var log bytes.Buffer
	c := &asked{}
	r := &Recursor{control: c, log: slog.New(slog.NewTextHandler(&log, nil)), cfg: Config{Authority: "127.0.0.1:5300"}}
	if err := r.swap(t.Context(), nil, nil, false); err != nil || len(*c) != 0 {
		t.Errorf("nothing changed: %v, and it was told %q", err, *c)
	}
	many := make([]zone, liveZones+1)
	for i := range many {
		many[i] = zone{apex: name(t, fmt.Sprintf("z%d.example", i))}
	}
	if err := r.swap(t.Context(), nil, many, false); err != nil {
		t.Fatal(err)
	}
	if want := []string{"reload_keep_cache", "reload"}; !slices.Equal(*c, want) || !strings.Contains(log.String(), "begins anew") {
		t.Errorf("it was told %q, want %q; logged is %s", *c, want, &log)
	}
}
