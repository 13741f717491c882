package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rules"
)

// scene is what a made-up host answers.
type scene struct {
	mu      sync.Mutex // guards below
	records map[string]string
	seen    map[string]int // questions
}

func (s *scene) set(mark Mark, server, service, reverse int, fresh string, serial int) {
	v4, v6 := mark.Addresses(server)
	w4, w6 := mark.Addresses(service)
	p4, p6 := mark.Addresses(reverse)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = map[string]string{
		mark.Server.String() + " A": v4.String(), mark.Server.String() + " AAAA": v6.String(),
		mark.Service.String() + " A": w4.String(), mark.Service.String() + " AAAA": w6.String(),
		rules.ReverseName(p4).String() + " PTR": mark.Server.String(), rules.ReverseName(p6).String() + " PTR": mark.Server.String(),
		freshName + " TXT": fresh,
		"example.net. SOA": fmt.Sprintf("ns.example.net. hostmaster.example.net. %d 1 1 1 1", serial),
	}
	s.seen = map[string]int{}
}

// asked is the number of times that the question asked least often was asked.
func (s *scene) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	least := 1 << 30
	for q := range s.records {
		if !strings.HasSuffix(q, " PTR") { // asked for what was seen, which may be another
			least = min(least, s.seen[q])
		}
	}
	return least
}

func (s *scene) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := new(dns.Msg)
	m.SetReply(q)
	m.Authoritative = true
	key := q.Question[0].Name + " " + dns.TypeToString[q.Question[0].Qtype]
	s.seen[key]++
	if rdata := s.records[key]; rdata == "" {
		m.Rcode = dns.RcodeNameError
	} else if rr, err := dns.NewRR(strings.Replace(key, " ", " 60 IN ", 1) + " " + rdata); err == nil {
		m.Answer = []dns.RR{rr}
	}
	_ = w.WriteMsg(m) // the watcher asks again
}

// A watcher sees every kind of going back and every mixture, and nothing in a host
// that does neither.
func TestWatcher(t *testing.T) {
	mark, err := NewMark("example.net")
	if err != nil {
		t.Fatal(err)
	}
	zone, err := record.ParseName("example.net")
	if err != nil {
		t.Fatal(err)
	}
	const fresh5 = `"v=5 t=5000 d=aa"`
	good := func(s *scene) { s.set(mark, 5, 5, 5, fresh5, 50) }
	for name, c := range map[string]struct {
		then func(*scene)
		want string // in a violation; empty: none
	}{
		"goes on":          {func(s *scene) { s.set(mark, 6, 6, 6, `"v=6 t=6000 d=bb"`, 51) }, ""},
		"stays":            {good, ""},
		"goes back":        {func(s *scene) { s.set(mark, 4, 4, 4, fresh5, 50) }, "says number 4, what was asked before said 5"},
		"mixture":          {func(s *scene) { s.set(mark, 6, 5, 6, fresh5, 51) }, "says number 5, what was asked before said 6"},
		"no PTR":           {func(s *scene) { s.set(mark, 5, 5, 6, fresh5, 50) }, "PTR of number 5 is gone"},
		"serial goes back": {func(s *scene) { s.set(mark, 5, 5, 5, fresh5, 49) }, "went back from 50 to 49"},
		"serial stays":     {func(s *scene) { s.set(mark, 6, 6, 6, fresh5, 50) }, "is still 50"},
		"older freshness":  {func(s *scene) { s.set(mark, 5, 5, 5, `"v=4 t=6000 d=aa"`, 50) }, "freshness went back"},
		"other digest":     {func(s *scene) { s.set(mark, 5, 5, 5, `"v=5 t=5000 d=bb"`, 50) }, "had digest aa and now bb"},
		"all gone": {func(s *scene) {
			s.mu.Lock()
			s.records = map[string]string{" ": ""}
			s.seen = map[string]int{" ": 9}
			s.mu.Unlock()
		}, "is gone (NXDOMAIN)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &scene{}
			good(s)
			pc, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			server := &dns.Server{PacketConn: pc, Handler: s}
			var wg sync.WaitGroup
			wg.Go(func() { _ = server.ActivateAndServe() }) // its error is that of Shutdown
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			w := NewWatcher(pc.LocalAddr().(*net.UDPAddr).AddrPort(), mark, []record.Name{zone}, 1)
			wg.Go(func() { w.Run(ctx) })
			defer func() { cancel(); _ = server.Shutdown(); wg.Wait() }()

			until := func(what string, ok func() bool) {
				t.Helper()
				for !ok() {
					if err := Pause(ctx, time.Millisecond); err != nil {
						t.Fatalf("%s: %v; %+v", what, err, w.Report())
					}
				}
			}
			until("everything is asked", func() bool { return s.asked() >= 3 })
			if v := w.Report().Violations; len(v) > 0 {
				t.Fatalf("violations of a good host: %q", v)
			}
			c.then(s)
			if c.want == "" {
				until("everything is asked again", func() bool { return s.asked() >= 3 })
				if v := w.Report().Violations; len(v) > 0 {
					t.Errorf("violations of a good host: %q", v)
				}
				return
			}
			until("a violation that says "+c.want, func() bool { return strings.Contains(strings.Join(w.Report().Violations, "\n"), c.want) })
		})
	}
}

// A watcher knows how long a host was silent.
func TestWatcherOutage(t *testing.T) {
	mark, err := NewMark("example.net")
	if err != nil {
		t.Fatal(err)
	}
	w := NewWatcher(netip.MustParseAddrPort("127.0.0.1:1"), mark, nil, 1)
	if r := w.Report(); r.Longest != 0 {
		t.Errorf("outage of %v before the first answer, expected 0", r.Longest)
	}
	w.answers = time.Now().Add(-time.Hour)
	if r := w.Report(); r.Longest < time.Hour {
		t.Errorf("outage of %v, expected an hour", r.Longest)
	}
}
