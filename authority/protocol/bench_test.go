package protocol

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/authority/cookie"
	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/ratelimit"
)

// benchView is the hard zone among 100,000 names.
func benchView(t testing.TB) *data.View {
	hard := hardZone(t)
	for i := range 100_000 {
		hard = append(hard, mustRR(fmt.Sprintf("host%d.rack%d.example.net. 300 IN A 192.0.2.%d", i, i/40, i%256)))
	}
	return hard.view(t)
}

var benchQueries = []struct {
	what, name string
	qtype      uint16
}{
	{"hit", "host50000.rack1250.example.net.", dns.TypeA},
	{"nxdomain", "nobody.rack1250.example.net.", dns.TypeA},
	{"nodata", "www.example.net.", dns.TypeTXT},
	{"referral", "www.cut.example.net.", dns.TypeA},
	{"wildcard cname", "a.wild.example.net.", dns.TypeA},
	{"dname", "a.dn.example.net.", dns.TypeA},
	{"mx", "example.net.", dns.TypeMX},
	{"refused", "www.example.com.", dns.TypeA},
}

func benchQuery(name string, qtype uint16) []byte {
	q := new(dns.Msg)
	q.SetQuestion(name, qtype)
	q.SetEdns0(1232, true)
	b, err := q.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

func BenchmarkRespond(b *testing.B) {
	view := benchView(b)
	k := NewWorker(Config{})
	for _, bb := range benchQueries {
		b.Run(bb.what, func(b *testing.B) {
			q := benchQuery(bb.name, bb.qtype)
			buf := make([]byte, 0, 4096)
			b.ReportAllocs()
			for b.Loop() {
				buf = k.Respond(view, q, UDP, time.Unix(0, 0), buf[:0])
			}
		})
	}
}

// TestRespondDoesNotAllocate holds what the benchmark measures, with everything on.
func TestRespondDoesNotAllocate(t *testing.T) {
	view := hardZone(t).view(t)
	limiter, err := ratelimit.New(ratelimit.Config{PerSecond: 5}, ratelimit.Seed{})
	if err != nil {
		t.Fatal(err)
	}
	secrets := cookie.Random()
	k := NewWorker(Config{Identity: "host", Limiter: limiter, Cookies: func() *cookie.Secrets { return secrets }})
	buf := make([]byte, 0, 4096)
	for _, bb := range benchQueries {
		cookies, err := question(bb.name, bb.qtype, "0102030405060708").Pack()
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range [][]byte{benchQuery(bb.name, bb.qtype), cookies} {
			if n := testing.AllocsPerRun(100, func() { buf = k.Respond(view, q, UDP, time.Unix(0, 0), buf[:0]) }); n != 0 {
				t.Errorf("%s: %v allocations for an answer, want 0", bb.what, n)
			}
		}
	}
}
