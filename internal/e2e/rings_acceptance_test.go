//go:build acceptance

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestRingsRestarts kills every process, kind by kind, while a change is tried: it goes on with
// the same trial on the same hosts and nowhere else, and becomes a version when it is passed.
//
//	make acceptance RUN=TestRingsRestarts
func TestRingsRestarts(t *testing.T) {
	in := newSources(t)
	in.zone("example.net", zoneOf("www A 192.0.2.80\n"))
	a := NewApart(t, ApartOptions{Hosts: 2, Zones: in.zones, Fleet: in.fleet, Canary: true, Extra: map[string][]string{
		"presenter": {"--presenter-trial-rings", "canary 1h host0", "--presenter-trial-load", "0"},
	}})
	a.Start(kinds...)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	c := a.Client(ctx)
	const before, after = "NOERROR 192.0.2.80", "NOERROR 192.0.2.81"
	answers := func(what string, host int, want string) {
		t.Helper()
		deadline := time.Now().Add(2 * time.Minute)
		got := ""
		for time.Now().Before(deadline) {
			if got = addressOf(ctx, a.Hosts[host], "www.example.net"); got == want {
				return
			}
			if Pause(ctx, 20*time.Millisecond) != nil {
				break
			}
		}
		t.Fatalf("%s: host%d answers %s, want %s", what, host, got, want)
	}
	answers("at the start", 0, before)
	answers("at the start", 1, before)
	www := startAsker(t, a.Hosts, "www.example.net", 20*time.Millisecond)
	in.zone("example.net", zoneOf("www A 192.0.2.81\n"))
	answers("it is tried", 0, after)
	r, err := c.Control.Rings(ctx)
	if err != nil || r.Trial == nil {
		t.Fatalf("rings: %v, %v", r, err)
	}
	id, begun := r.Trial.ID, r.Trial.SinceMs
	for _, kind := range []string{"canary", "presenter", "publisher", "agent", "authority", "update", "mutator", "store"} {
		for _, s := range a.Of(kind) {
			s.Kill()
		}
		for _, s := range a.Of(kind) {
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
		}
		deadline, wrong := time.Now().Add(2*time.Minute), ""
		for time.Now().Before(deadline) {
			wrong = ""
			r, err := c.Control.Rings(ctx)
			switch {
			case err != nil:
				wrong = err.Error()
			case r.Trial == nil || r.Trial.ID != id || r.Trial.SinceMs != begun || r.Trial.State != "soaking":
				wrong = fmt.Sprint(r.Trial)
			default:
				if got := addressOf(ctx, a.Hosts[0], "www.example.net"); got != after {
					wrong = "host0 answers " + got
				}
			}
			if wrong == "" || Pause(ctx, 50*time.Millisecond) != nil {
				break
			}
		}
		if wrong != "" {
			t.Fatalf("after every %s was killed: %s", kind, wrong)
		}
		t.Logf("%s: the trial goes on", kind)
	}
	if n := www.saw(1, after); n > 0 {
		t.Errorf("host1 answered what was tried on host0, %d times", n)
	}
	if _, stderr, status := Run(t, "rings", "pass", id, "--reason", "it is good", "--wait", "--timeout", "90s", "--api", a.API); status != 0 {
		t.Fatalf("pass: %s", stderr)
	}
	answers("it is passed", 0, after)
	answers("it is passed", 1, after)
	out, _, _ := Run(t, "audit", "--api", a.API)
	if strings.Count(out, "trial begun") != 1 || !strings.Contains(out, "trial passed") {
		t.Errorf("audit:\n%s", out)
	}
	if faults := a.Faults(); len(faults) > 0 {
		t.Error(faults)
	}
}
