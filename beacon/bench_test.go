package beacon

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/beacon/dnslog/dnslogtest"
	"github.com/zonecast/zonecast/beacon/token"
)

// nobody takes a response.
type nobody struct{ header http.Header }

func (n nobody) Header() http.Header         { return n.header }
func (n nobody) Write(b []byte) (int, error) { return len(b), nil }
func (n nobody) WriteHeader(int)             {}

// BenchmarkReport is what a report costs the server without its socket: of clients in 200,000 networks, of
// six targets, joined and counted; and one that is forged.
func BenchmarkReport(b *testing.B) {
	for _, kind := range []string{"taken", "forged"} {
		b.Run(kind, func(b *testing.B) {
			c := testConfig(b)
			c.Most, c.PerMinute, c.PerClient, c.Write, c.Life = maxMost, 1<<30, 1<<30, time.Hour, time.Hour
			r := run(b, c)
			keys, err := token.Load(c.Keys)
			if err != nil {
				b.Fatal(err)
			}
			if kind == "forged" {
				keys = token.Random()
			}
			h, w := r.Handler(), nobody{http.Header{}}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				text, _ := keys.Issue(time.Now())
				req := httptest.NewRequest(http.MethodPost, "/report", strings.NewReader(body(text, "esams", 11, "eqiad", 93, "ulsfo", 150, "map", 12, "any", 13)))
				n++
				req.RemoteAddr = fmt.Sprintf("%d.%d.%d.1:4242", 20+n>>16%3, n>>8&255, n&255)
				h.ServeHTTP(w, req)
			}
			if got := r.outcomes(r.metrics.reports); got[kind] != n {
				b.Errorf("reports %v, expected %d %s", got, n, kind)
			}
		})
	}
}

// BenchmarkQuery is what a query that an authority tells of costs the server, from the frame on: of a token
// that is good, of one that is forged, of a name that somebody made up, and of another name.
func BenchmarkQuery(b *testing.B) {
	for _, kind := range []string{"taken", "forged", "malformed", "sampled"} {
		b.Run(kind, func(b *testing.B) {
			c := testConfig(b)
			c.Most, c.Write, c.Life = maxMost, time.Hour, time.Hour
			r := run(b, c)
			keys, err := token.Load(c.Keys)
			if err != nil {
				b.Fatal(err)
			}
			if kind == "forged" {
				keys = token.Random()
			}
			var frames [][]byte
			for i := range 1000 {
				text, _ := keys.Issue(time.Now())
				name := map[string]string{"malformed": "xyz." + c.Zone, "sampled": "www.example.org"}[kind]
				if name == "" {
					name = text + ".esams." + c.Zone
				}
				frame, err := dnslogtest.Message(name, netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), netip.Prefix{})
				if err != nil {
					b.Fatal(err)
				}
				frames = append(frames, frame)
			}
			a := r.authority()
			n := 0
			for b.Loop() {
				if err := a.Write(frames[n%len(frames)]); err != nil {
					b.Fatal(err)
				}
				n++
			}
			a.end() // it is confirmed when all was read
			r.eventually("read", func() bool { return r.outcomes(r.metrics.queries)[kind] == n })
		})
	}
}
