package dnswire_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// serve answers on UDP and TCP of one loopback port with handle.
func serve(t *testing.T, handle dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	for range 20 { // the port may be taken for TCP
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", pc.LocalAddr().String())
		if err != nil {
			pc.Close()
			continue
		}
		for _, s := range []*dns.Server{{PacketConn: pc, Handler: handle}, {Listener: l, Handler: handle}} {
			started, done := make(chan struct{}), make(chan struct{})
			s.NotifyStartedFunc = func() { close(started) }
			go func() { defer close(done); _ = s.ActivateAndServe() }()
			<-started
			t.Cleanup(func() { _ = s.Shutdown(); <-done })
		}
		return netip.MustParseAddrPort(pc.LocalAddr().String())
	}
	t.Fatal("no port free for UDP and TCP")
	return netip.AddrPort{}
}

func rr(t *testing.T, text string) dns.RR {
	t.Helper()
	r, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestQuery(t *testing.T) {
	server := serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Authoritative, m.Compress = true, true
		_, overTCP := w.RemoteAddr().(*net.TCPAddr)
		switch q.Question[0].Name {
		case "large.example.net.":
			if m.Truncated = !overTCP; overTCP {
				for range 100 {
					m.Answer = append(m.Answer, rr(t, "large.example.net. 60 IN TXT "+strings.Repeat("x", 200)))
				}
			}
		case "none.example.net.":
			m.Rcode = dns.RcodeNameError
			m.Ns = []dns.RR{rr(t, "Example.net. 60 IN SOA NS1.example.net. admin.example.net. 1 2 3 4 5")}
		case "late.example.net.":
			other := m.Copy()
			other.Id++
			_ = w.WriteMsg(other) // an answer to something else comes first
			m.Answer = []dns.RR{rr(t, "late.example.net. 60 IN A 192.0.2.1")}
		case "other.example.net.":
			m.Question[0].Name = "another.example.net."
		case "silent.example.net.":
			return
		default:
			m.Answer = []dns.RR{rr(t, "www.example.net. 60 IN A 192.0.2.2"), rr(t, "www.example.net. 60 IN A 192.0.2.1")}
			m.Extra = []dns.RR{rr(t, "ns.example.net. 60 IN A 192.0.2.9")}
			m.SetEdns0(1232, false)
		}
		_ = w.WriteMsg(m)
	})
	ask := func(n string, tcp bool) *dnswire.Response {
		t.Helper()
		r, err := dnswire.Query(t.Context(), server, name(t, n), record.TypeA, tcp)
		if err != nil {
			t.Fatal(err)
		}
		if r.Took <= 0 || r.Size < 12 {
			t.Errorf("%s: took %s, %d octets", n, r.Took, r.Size)
		}
		return r
	}
	for _, tcp := range []bool{false, true} {
		got := ask("www.example.net.", tcp)
		want := &dnswire.Response{
			RcodeName: "NOERROR", Authoritative: true, TCP: tcp, Size: got.Size, Took: got.Took,
			Answer:     []record.RRset{record.NewRRset(name(t, "www.example.net."), record.TypeA, 60, "\xc0\x00\x02\x01", "\xc0\x00\x02\x02")},
			Authority:  []record.RRset{},
			Additional: []record.RRset{record.NewRRset(name(t, "ns.example.net."), record.TypeA, 60, "\xc0\x00\x02\x09")},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("response (-want +got):\n%s", diff)
		}
	}
	if r := ask("large.example.net.", false); !r.TCP || r.Truncated || len(r.Answer) != 1 || r.Size < 20000 {
		t.Errorf("truncated response asked again: TCP %v, TC %v, %d RRsets, %d octets", r.TCP, r.Truncated, len(r.Answer), r.Size)
	}
	if r := ask("none.example.net.", false); r.RcodeName != "NXDOMAIN" || r.Rcode != 3 || len(r.Authority) != 1 || r.Authority[0].Owner != name(t, "example.net.") ||
		!strings.HasPrefix(string(r.Authority[0].Data[0]), "\x03ns1") {
		t.Errorf("negative response is %+v", r)
	}
	if r := ask("late.example.net.", false); len(r.Answer) != 1 {
		t.Errorf("response behind a foreign one is %+v", r)
	}
	for n, want := range map[string]error{"silent.example.net.": context.DeadlineExceeded, "other.example.net.": context.DeadlineExceeded} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := dnswire.Query(ctx, server, name(t, n), record.TypeA, false); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", n, err, want)
		}
		cancel()
	}
}

func TestQueryOfNobody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := netip.MustParseAddrPort(l.Addr().String())
	l.Close()
	_, err = dnswire.Query(t.Context(), server, record.Root, record.TypeNS, true)
	if err == nil || !strings.HasPrefix(err.Error(), "ask "+server.String()+" for . NS: ") {
		t.Errorf("error is %v, want one that says who was asked for what", err)
	}
}
