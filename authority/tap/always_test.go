package tap

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/record"
)

func query(t testing.TB, name string) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeA)
	m.SetEdns0(1232, false)
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func always(t testing.TB, zones ...string) *Worker {
	t.Helper()
	c := Config{Socket: "/nowhere", Queue: 16}
	for _, z := range zones {
		name, err := record.ParseName(z)
		if err != nil {
			t.Fatal(err)
		}
		c.Always = append(c.Always, name)
	}
	tap, err := Open(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return tap.NewWorker()
}

func TestAlways(t *testing.T) {
	w := always(t, "b.example.net", "beacon.example.org")
	for name, want := range map[string]bool{
		"x.b.example.net.": true, "X.eSaMs.B.eXaMpLe.NET.": true, "1.2.3.beacon.example.org.": true,
		"b.example.net.": false, "example.net.": false, ".": false, "b.example.net.example.com.": false, "xb.example.net.": false, "x.b.example.net.au.": false,
		`x.1b.example.net.`: false, `1.b\.example.net.`: false,
	} {
		if got := w.Always(query(t, name)); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	good := query(t, "x.b.example.net.")
	for i := range headerSize + 17 { // cut off before the root it is none
		if w.Always(good[:i]) {
			t.Errorf("%d octets of a query are taken for one", i)
		}
	}
	long := append(good[:headerSize:headerSize], bytes.Repeat([]byte("\x01x"), 30_000)...)
	if w.Always(append(long, good[headerSize:]...)) {
		t.Error("what is behind 60,000 octets is taken for the end of a name")
	}
	good[4], good[5] = 0, 0
	if w.Always(good) {
		t.Error("a query without a question asks for something")
	}
	if always(t).Always(query(t, "x.b.example.net.")) {
		t.Error("without names one is always taken")
	}
}

func FuzzAlways(f *testing.F) {
	f.Add(query(f, "x.b.example.net."))
	f.Add(query(f, "X.B.Example.NET."))
	w := always(f, "b.example.net")
	f.Fuzz(func(t *testing.T, b []byte) {
		got := w.Always(b)
		if len(b) < headerSize {
			if got {
				t.Error("less than a header")
			}
			return
		}
		if b[4]|b[5] == 0 {
			return
		}
		name, _, err := record.NameFromWire(b[headerSize:])
		zone, _ := record.ParseName("b.example.net")
		if want := err == nil && name != zone && name.IsSubdomainOf(zone); err == nil && got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	})
}

func TestAlwaysAllocatesNothing(t *testing.T) {
	w := always(t, "beacon.example.org", "b.example.net")
	taken, other := query(t, "x.B.example.net."), query(t, "www.example.net.")
	if n := testing.AllocsPerRun(1000, func() {
		if !w.Always(taken) || w.Always(other) {
			t.Fatal("wrong")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// BenchmarkAlways is what each query of another name costs where there is such a name.
func BenchmarkAlways(b *testing.B) {
	w, other := always(b, "beacon.example.org"), query(b, "www.images.example.net.")
	for b.Loop() {
		w.Always(other)
	}
}

func TestSocketTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := collectFrom(l)
	r := run(t, Config{Socket: "tcp://" + l.Addr().String(), Every: 1, Identity: "ns1.example", Version: "v1"})
	eventually(t, "connected", func() bool { return r.Counters().Connected })
	r.NewWorker().Record(answer(100))
	eventually(t, "written", func() bool { return r.Counters().Written == 1 })
	c.close()
	eventually(t, "noticed", func() bool { return r.log.count("is away") == 1 })
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if len(c.got) != 1 {
		t.Errorf("%d messages, want 1", len(c.got))
	}
}

func TestAlwaysConfig(t *testing.T) {
	for socket, want := range map[string]string{
		"tcp://192.0.2.1:6000": "", "tcp://[2001:db8::1]:6000": "", "tcp://collector.example.net:6000": "",
		"tcp://": "expected the path", "tcp://192.0.2.1": "expected the path", "tcp://192.0.2.1:": "expected the path", "tcp://:6000": "expected the path",
	} {
		if err := (Config{Socket: socket}).Validate(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", socket, err, want)
		}
	}
	if err := (Config{Socket: "s", Always: make([]record.Name, maxAlways+1)}).Validate(); err == nil {
		t.Error("too many names")
	}
}
