package exabgp

import (
	"bufio"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/announcer/route"
)

// TestConversation: lines are said one after the other and acknowledged; one that is refused, or
// acknowledged late, is an error, and nothing overtakes it; at the end what is announced is
// taken back.
func TestConversation(t *testing.T) {
	lines, out := io.Pipe()
	in, acks := io.Pipe()
	heard := make(chan string)
	go func() {
		for s := bufio.NewScanner(lines); s.Scan(); {
			heard <- s.Text()
		}
	}()
	changed := make(chan struct{}, 10)
	s := New(Config{AS: 65101, NextHop6: netip.MustParseAddr("2001:db8:1::2")}, in, out, slog.New(slog.DiscardHandler), func() { changed <- struct{}{} })
	s.timeout = time.Minute
	p4, p6 := netip.MustParsePrefix("192.0.2.53/32"), netip.MustParsePrefix("2001:db8::53/128")
	do := func(f func() error, answer string, want ...string) error {
		t.Helper()
		done := make(chan error, 1)
		go func() { done <- f() }()
		for _, w := range want {
			if got := <-heard; got != w {
				t.Errorf("said %s, want %s", got, w)
			}
			if answer != "" {
				if _, err := io.WriteString(acks, answer); err != nil {
					t.Fatal(err)
				}
			}
		}
		return <-done
	}
	routes := []route.Route{
		{Prefix: p4, MED: 100, Communities: []route.Community{route.GracefulShutdown, 65000<<16 | 53}, LargeCommunities: []route.LargeCommunity{{ASN: 1, Data1: 2, Data2: 3}}},
		{Prefix: p6, MED: 1000, Prepend: 1},
	}
	if err := do(func() error { return s.Announce(t.Context(), routes) }, "something else\ndone\n",
		"announce route 192.0.2.53/32 next-hop self med 100 community [65535:0 65000:53] large-community [1:2:3]",
		"announce route 2001:db8::53/128 next-hop 2001:db8:1::2 med 1000 as-path [65101 65101]"); err != nil {
		t.Error(err)
	}
	if p := s.Peers()[0]; !p.Established {
		t.Errorf("%+v", p)
	}
	if err := do(func() error { return s.Withdraw(t.Context(), []netip.Prefix{p4}) }, "error\n", "withdraw route 192.0.2.53/32 next-hop self"); err == nil || !strings.Contains(err.Error(), "refuses") {
		t.Errorf("refused: %v", err)
	}
	<-changed
	if p := s.Peers()[0]; p.Established || p.State != "failed" {
		t.Errorf("%+v", p)
	}
	// Late.
	s.timeout = 10 * time.Millisecond
	late := func() error { return s.Withdraw(t.Context(), []netip.Prefix{p4}) }
	if err := do(late, "", "withdraw route 192.0.2.53/32 next-hop self"); err == nil || !strings.Contains(err.Error(), "within 10ms") {
		t.Errorf("late: %v", err)
	}
	if err := late(); err == nil || !strings.Contains(err.Error(), "within 10ms") { // it is not said again
		t.Errorf("late again: %v", err)
	}
	if p := s.Peers()[0]; p.State != "waiting" {
		t.Errorf("%+v", p)
	}
	s.timeout = time.Minute
	if _, err := io.WriteString(acks, "done\n"); err != nil {
		t.Fatal(err)
	}
	<-changed
	if err := do(func() error { return s.Stop(false) }, "done\n", "withdraw route 2001:db8::53/128 next-hop 2001:db8:1::2"); err != nil {
		t.Error(err)
	}
	if err := s.Stop(false); err != nil {
		t.Error(err)
	}
	acks.Close()
	if err := late(); err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("gone: %v", err)
	}
}

// TestWithoutAcknowledgements: with an ExaBGP that acknowledges nothing a withdrawal is said all the
// same, each line once, and what may be announced is taken back at the end.
func TestWithoutAcknowledgements(t *testing.T) {
	lines, out := io.Pipe()
	in, acks := io.Pipe()
	heard := make(chan string, 100)
	go func() {
		for s := bufio.NewScanner(lines); s.Scan(); {
			heard <- s.Text()
		}
	}()
	s := New(Config{AS: 65101}, in, out, slog.New(slog.DiscardHandler), func() {})
	s.timeout = time.Millisecond
	p := netip.MustParsePrefix("192.0.2.53/32")
	says := func(want string) {
		t.Helper()
		select {
		case got := <-heard:
			if got != want {
				t.Errorf("said %s, want %s", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("not said: %s", want)
		}
	}
	const announce, withdraw = "announce route 192.0.2.53/32 next-hop self med 100", "withdraw route 192.0.2.53/32 next-hop self"
	routes := []route.Route{{Prefix: p, MED: 100}}
	for range 3 {
		if err := s.Announce(t.Context(), routes); err == nil {
			t.Error("announced without an acknowledgement")
		}
	}
	says(announce)
	for range 3 {
		if err := s.Withdraw(t.Context(), []netip.Prefix{p}); err == nil {
			t.Error("withdrawn without an acknowledgement")
		}
	}
	says(withdraw)
	if err := s.Announce(t.Context(), routes); err == nil {
		t.Error("announced without an acknowledgement")
	}
	says(announce)
	_ = s.Stop(false)
	says(withdraw)
	// Acknowledgements that come after all are of the lines in their order.
	s.timeout = time.Minute
	go io.WriteString(acks, "done\ndone\ndone\ndone\n")
	for end := time.Now().Add(10 * time.Second); s.Peers()[0].State != "established"; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%+v", s.Peers())
		}
	}
	if err := s.Stop(false); err != nil {
		t.Error(err)
	}
	if len(heard) > 0 {
		t.Errorf("said besides: %s", <-heard)
	}
	acks.CloseWithError(io.ErrUnexpectedEOF)
	if err := s.Announce(t.Context(), routes); err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("gone: %v", err)
	}
}

// TestLateAcknowledgement: a line that was acknowledged late is done, and is not said again.
func TestLateAcknowledgement(t *testing.T) {
	s := &Speaker{}
	for range 100 {
		l := &line{done: make(chan struct{}), until: time.Now().Add(-time.Second)}
		l.end(nil)
		if err := s.await(t.Context(), []*line{l}); err != nil {
			t.Fatal(err)
		}
	}
}
