package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// asker asks every host for a name over and over, and keeps what each answered.
type asker struct {
	mu  sync.Mutex // guards below
	got []map[string]int
}

func startAsker(t *testing.T, hosts []netip.AddrPort, owner string, pause time.Duration) *asker {
	t.Helper()
	a := &asker{}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i, h := range hosts {
		a.got = append(a.got, map[string]int{})
		wg.Go(func() {
			for Pause(ctx, pause) == nil {
				if text := addressOf(ctx, h, owner); text != "" {
					a.mu.Lock()
					a.got[i][text]++
					a.mu.Unlock()
				}
			}
		})
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
	return a
}

// addressOf asks a host for the addresses of a name; "": it starts, is too busy, or is dead.
func addressOf(ctx context.Context, host netip.AddrPort, owner string) string {
	n, err := record.ParseName(owner)
	if err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r, err := dnswire.Query(ctx, host, n, record.TypeA, false)
	if err != nil {
		return ""
	}
	text := r.RcodeName
	for _, s := range r.Answer {
		for _, d := range s.Data {
			text += " " + dnswire.FormatRdata(s.Type, d)
		}
	}
	return text
}

// saw is how often a host gave an answer.
func (a *asker) saw(host int, text string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.got[host][text]
}

// TestRingsReplay: a change that breaks a name which nobody asks the hosts of the ring for is found
// by what other hosts were asked: their sampled queries are answered from the data before and after.
func TestRingsReplay(t *testing.T) {
	t.Parallel() // it waits more than it works
	in := newSources(t)
	in.zone("example.net", zoneOf("www A 192.0.2.80\nftp A 192.0.2.21\n"))
	u := StartUp(t, UpOptions{Zones: in.zones, Guarded: true, Args: []string{
		"--presenter-trial-rings", "canary 10m host0", "--presenter-trial-load", "0", "--canary-every", "200ms", "--sample-window", "10s",
	}})
	startAsker(t, u.Hosts[2:], "ftp.example.net", 5*time.Millisecond)
	in.zone("example.net", zoneOf("www A 192.0.2.80\n"))
	var held []struct{ Why []string }
	eventually(t, "the change is held", func() error {
		if u.JSON(&held, "holds"); len(held) != 1 {
			out, _, _ := u.Run("rings")
			return fmt.Errorf("%d changes are held; %s", len(held), out)
		}
		return nil
	})
	why := strings.Join(held[0].Why, "\n")
	for _, want := range []string{"withdrawn in ring canary", "sampled queries would lose their answer", "in zone example.net., of all queries: NXDOMAIN", "ftp.example.net. A ("} {
		if !strings.Contains(why, want) {
			t.Errorf("it is held because\n%s\nexpected %q", why, want)
		}
	}
	holds(t, u, "ftp.example.net", "A", "NOERROR 192.0.2.21")
}

// TestRings has people break a zone: the hosts of the first ring alone answer it, and it is
// taken back and held with what was found; a good change goes from ring to ring; what robots
// change does not wait, and what nobody could judge is not passed.
func TestRings(t *testing.T) {
	t.Parallel() // it waits more than it works
	in := newSources(t)
	in.zone("example.net", zoneOf("www A 192.0.2.80\nftp A 192.0.2.21\n"))
	u := StartUp(t, UpOptions{Zones: in.zones, Guarded: true, Args: []string{
		"--presenter-trial-rings", "canary 2s host0", "--presenter-trial-rings", "second 1s host1", "--presenter-trial-load", "0", "--presenter-trial-limit", "5m", "--canary-every", "200ms",
	}})
	www := startAsker(t, u.Hosts, "www.example.net", 5*time.Millisecond)
	const before, gone = "NOERROR 192.0.2.80", "NXDOMAIN"
	until(t, func() string { // from fewer answers nothing is told
		if n := www.saw(0, before); n < 300 {
			return fmt.Sprintf("host0 has answered %d queries", n)
		}
		return ""
	})
	rings := func() string {
		out, _, _ := u.Run("rings")
		return out
	}

	in.zone("example.net", zoneOf("ftp A 192.0.2.21\n"))
	_, stderr, status := u.Run("register", "web7.example.net", "--address", "192.0.2.7", "--role", "web", "--site", "ams", "--wait")
	if status != 0 {
		t.Fatalf("a server is not registered while a change is tried: %s\n%s", stderr, rings())
	}
	var held []struct {
		ID, Source string
		Why        []string
	}
	eventually(t, "the change is held", func() error {
		if u.JSON(&held, "holds"); len(held) != 1 {
			return fmt.Errorf("%d changes are held; %s", len(held), rings())
		}
		return nil
	})
	if why := strings.Join(held[0].Why, "\n"); held[0].Source != "zone/example.net" || !strings.Contains(why, "withdrawn in ring canary") || !strings.Contains(why, "NXDOMAIN") {
		t.Errorf("held: %+v", held[0])
	}
	if www.saw(0, gone) == 0 {
		t.Error("the canary never answered what was tried")
	}
	until(t, func() string {
		if got := asked(t, u.Hosts[0], "www.example.net", "A"); got != before {
			return "after it was withdrawn the canary answers " + got
		}
		return ""
	})
	for i := 1; i < 3; i++ {
		if n := www.saw(i, gone); n > 0 {
			t.Errorf("host%d answered what was tried on the canary, %d times", i, n)
		}
	}
	audit, _, _ := u.Run("audit")
	why, _, _ := u.Run("why", "www.example.net", "A")
	if !strings.Contains(audit, "trial begun") || !strings.Contains(audit, "withdrawn in ring canary") || !strings.Contains(why, held[0].ID) {
		t.Errorf("audit:\n%s\nwhy:\n%s", audit, why)
	}
	if out := rings(); !strings.Contains(out, "nothing is tried") || !strings.Contains(out, "1 canary: host0 for 2s; live: host0") {
		t.Errorf("rings:\n%s", out)
	}

	// A good one: first host0, then host1, then all.
	const after = "NOERROR 192.0.2.81"
	in.zone("example.net", zoneOf("www A 192.0.2.81\nftp A 192.0.2.21\n"))
	var order []int
	eventually(t, "every host answers the change", func() error {
		for i := range u.Hosts {
			if www.saw(i, after) > 0 && !slices.Contains(order, i) {
				order = append(order, i)
			}
		}
		if len(order) < len(u.Hosts) {
			return fmt.Errorf("hosts %v do; %s", order, rings())
		}
		return nil
	})
	holds(t, u, "www.example.net", "A", after)
	if !slices.Equal(order, []int{0, 1, 2}) {
		t.Errorf("the change came to hosts in the order %v", order)
	}
	for i := range u.Hosts {
		if n := www.saw(i, "SERVFAIL"); n > 0 {
			t.Errorf("host%d answered SERVFAIL %d times", i, n)
		}
	}
	if audit, _, _ := u.Run("audit"); !strings.Contains(audit, "trial passed") {
		t.Errorf("audit:\n%s", audit)
	}

	// People decide at once.
	in.zone("example.net", zoneOf("www A 192.0.2.82\nftp A 192.0.2.21\n"))
	var view struct {
		Trial *struct{ ID, Ring, State, Text string }
	}
	eventually(t, "a change is tried", func() error {
		if u.JSON(&view, "rings"); view.Trial == nil || view.Trial.State == "" {
			return fmt.Errorf("%+v", view.Trial)
		}
		return nil
	})
	if _, stderr, status := u.Run("rings", "pass", view.Trial.ID, "--reason", "it is known", "--wait"); status != 0 {
		t.Fatalf("pass: %s", stderr)
	}
	holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.82")
}
