package check

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/announcer/state"
	"github.com/zonecast/zonecast/internal/freshness"
	"github.com/zonecast/zonecast/record"
)

const owner = "\x06_fresh\x08internal\x08zonecast\x08internal\x00"

// daemon answers the freshness record with a text, by UDP and TCP; "" is silence.
type daemon struct {
	text, tcp atomic.Value
	addr      netip.AddrPort
	servers   []*dns.Server
}

func start(t *testing.T, addr string) *daemon {
	t.Helper()
	d := &daemon{}
	d.text.Store("")
	var pc net.PacketConn
	var ln net.Listener
	var err error
	for range 50 { // a port that is free for both
		if pc, err = net.ListenPacket("udp", addr); err != nil {
			t.Fatal(err)
		}
		if ln, err = net.Listen("tcp", pc.LocalAddr().String()); err == nil {
			break
		}
		pc.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	d.addr = netip.MustParseAddrPort(pc.LocalAddr().String())
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		s := d.text.Load().(string)
		if _, tcp := w.RemoteAddr().(*net.TCPAddr); tcp && d.tcp.Load() != nil {
			s = d.tcp.Load().(string)
		}
		if s == "" {
			return
		}
		m := new(dns.Msg).SetReply(q)
		m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{s}}}
		if s == "servfail" {
			m.Rcode, m.Answer = dns.RcodeServerFailure, nil
		}
		_ = w.WriteMsg(m)
	})
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: handler}, {Listener: ln, Handler: handler}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		d.servers = append(d.servers, s)
		go s.ActivateAndServe()
		<-started
	}
	t.Cleanup(d.kill)
	return d
}

func (d *daemon) kill() {
	for _, s := range d.servers {
		_ = s.Shutdown()
	}
	d.servers = nil
}

func stamp(version int, ms int64) string { return fmt.Sprintf("v=%d t=%d d=00", version, ms) }

// TestDaemon: a daemon comes up, answers wrongly, stands still, answers old data, hangs, dies
// and comes back: the verdict follows, and says why.
func TestDaemon(t *testing.T) {
	d := start(t, "127.0.0.1:0")
	cfg := Config{Interval: 20 * time.Millisecond, Fast: 10 * time.Millisecond, Timeout: 2 * time.Second, Damping: Damping{Rise: 2, Fall: 2, DeadFall: 2, StaleAfter: time.Hour}}
	c := New(Target{Name: "authority", Server: d.addr, Owner: owner, Type: record.TypeTXT, Fresh: true}, cfg)
	var passed atomic.Int64 // the clock jumps
	began := time.Now()
	c.now = func() time.Duration { return time.Since(began) + time.Duration(passed.Load()) }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	changed := make(chan struct{}, 100)
	d.text.Store(stamp(7, 1000))
	go func() { done <- c.Run(ctx, func() { changed <- struct{}{} }) }()
	until := func(h state.Health, says string) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(2 * time.Millisecond) {
			v, _ := c.Verdict()
			if v.Health == h && strings.Contains(v.Why, says) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("verdict %+v, want %v because %s", v, h, says)
			}
		}
	}
	until(state.Good, "")
	passed.Add(int64(2 * time.Hour))
	until(state.Stale, "stands still at version 7 since 2h")
	d.text.Store(stamp(8, 1)) // the mutator's clock went back: what counts is that it moves
	until(state.Good, "")
	d.text.Store(stamp(6, 999999))
	until(state.Stale, "answers version 6 after it answered 8")
	d.text.Store(stamp(9, 2))
	until(state.Good, "")
	d.text.Store("servfail")
	until(state.Bad, "answers SERVFAIL without")
	d.text.Store("nonsense")
	until(state.Bad, "has no time")
	d.text.Store(stamp(10, 3))
	until(state.Good, "")
	d.tcp.Store("servfail")
	until(state.Bad, "by TCP: ")
	d.tcp.Store(stamp(10, 3))
	until(state.Good, "")
	d.kill()
	until(state.Dead, "nobody listens on "+d.addr.String())
	again := start(t, d.addr.String())
	again.text.Store(stamp(11, 4))
	until(state.Good, "")
	cancel()
	if err := <-done; err == nil {
		t.Error("Run ended without an error")
	}
	if len(changed) < 8 {
		t.Errorf("%d changes were told", len(changed))
	}
}

// TestHung: a daemon that accepts and never answers is bad, not dead.
func TestHung(t *testing.T) {
	d := start(t, "127.0.0.1:0")
	cfg := Config{Interval: 10 * time.Millisecond, Fast: 10 * time.Millisecond, Timeout: 50 * time.Millisecond, Damping: Damping{Rise: 1, Fall: 2, DeadFall: 1, StaleAfter: time.Hour}}
	c := New(Target{Name: "authority", Server: d.addr, Owner: owner, Type: record.TypeTXT, Fresh: true}, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go c.Run(ctx, func() {})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if v, _ := c.Verdict(); v.Health == state.Bad && strings.Contains(v.Why, "does not answer within 50ms") {
			return
		} else if v.Health != state.Unknown || time.Now().After(deadline) {
			t.Fatalf("%+v", v)
		}
	}
}

// TestDamper: no verdict changes by less than its number of results in a row, dead only comes
// from refusals, and time alone makes nothing worse than stale.
func TestDamper(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := damper{Damping: Damping{Rise: rapid.IntRange(1, 4).Draw(t, "rise"), Fall: rapid.IntRange(1, 4).Draw(t, "fall"), DeadFall: rapid.IntRange(1, 4).Draw(t, "deadfall"), StaleAfter: 10 * time.Second}}
		good, bad, dead := 0, 0, 0
		now := time.Duration(0)
		for range rapid.IntRange(1, 80).Draw(t, "results") {
			now += time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "pause"))
			was := d.health
			var r result
			switch kind := rapid.SampledFrom([]string{"good", "bad", "dead"}).Draw(t, "kind"); kind {
			case "good":
				good, bad, dead = good+1, 0, 0
				if rapid.Bool().Draw(t, "stamped") {
					r.stamp = &freshness.Stamp{Version: rapid.Uint64Range(0, 5).Draw(t, "version"), Time: time.UnixMilli(rapid.Int64Range(-1e12, 1e12).Draw(t, "time"))}
				}
			default:
				good, bad, dead = 0, bad+1, dead+1
				if r = (result{err: fmt.Errorf("x"), dead: kind == "dead"}); !r.dead {
					dead = 0
				}
			}
			d.take(r, now)
			answering := func(h state.Health) bool { return h == state.Good || h == state.Stale }
			switch {
			case answering(d.health) && !answering(was) && good < d.Rise:
				t.Fatalf("%v after %d good ones of %d", d.health, good, d.Rise)
			case answering(was) && !answering(d.health) && bad < min(d.Fall, d.DeadFall):
				t.Fatalf("%v after %d bad ones", d.health, bad)
			case d.health == state.Dead && was != state.Dead && dead < d.DeadFall:
				t.Fatalf("dead after %d refusals of %d", dead, d.DeadFall)
			case r.err == nil && good >= d.Rise && !answering(d.health):
				t.Fatalf("%v after %d good ones", d.health, good)
			case bad >= max(d.Fall, d.DeadFall) && answering(d.health):
				t.Fatalf("%v after %d bad ones", d.health, bad)
			case dead >= d.DeadFall && d.health != state.Dead:
				t.Fatalf("%v after %d refusals", d.health, dead)
			}
		}
	})
}

func TestWorst(t *testing.T) {
	v := func(hs ...state.Health) (out []Verdict) {
		for _, h := range hs {
			out = append(out, Verdict{Target: "x", Health: h, Why: h.String()})
		}
		return out
	}
	for _, c := range []struct {
		of   []Verdict
		want state.Health
	}{
		{nil, state.Unknown},
		{v(state.Good), state.Good},
		{v(state.Good, state.Stale), state.Stale},
		{v(state.Stale, state.Unknown), state.Unknown},
		{v(state.Unknown, state.Bad), state.Bad},
		{v(state.Dead), state.Dead},
		{v(state.Dead, state.Dead), state.Dead},
		{v(state.Dead, state.Good), state.Bad},
		{v(state.Dead, state.Bad), state.Bad},
	} {
		if got, _ := Worst(c.of); got != c.want {
			t.Errorf("worst of %v is %v, want %v", c.of, got, c.want)
		}
	}
}

func TestConfig(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	for _, key := range []string{"interval", "fast-interval", "timeout", "rise", "fall", "dead-fall", "stale-after"} {
		if err := (Config{}).Validate(); err == nil || !strings.Contains(err.Error(), key+" is 0") {
			t.Errorf("%v says nothing of %s", err, key)
		}
	}
}
