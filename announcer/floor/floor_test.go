package floor

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonecast/zonecast/announcer/state"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// put says what a host does.
func put(t testing.TB, st store.Store, host string, s state.State) {
	t.Helper()
	h := tree.VIPHost{Host: host, State: s.String(), Announced: s.Announced()}
	if _, err := st.Commit(context.Background(), store.Txn{Do: []store.Op{{Path: tree.VIPHostPath("dns", host), Value: tree.Encode(h)}}}); err != nil {
		t.Fatal(err)
	}
}

// TestLeases: a lease is given while enough stay, says why it is not, is given back, and goes
// with its host.
func TestLeases(t *testing.T) {
	st := memstore.New()
	ctx := t.Context()
	floor := func(host string) *Floor { return New(Config{Keep: 1, KeepPercent: 50}, st, "dns", host, time.Now) }
	ask := func(host string, able bool, want state.Lease, says string) {
		t.Helper()
		if got, text := floor(host).Ask(ctx, able, "test"); got != want || !strings.Contains(text, says) {
			t.Errorf("%s asks: %v, %q; want %v, %q", host, got, text, want, says)
		}
	}
	for _, h := range []string{"a", "b", "c", "d"} {
		put(t, st, h, state.Up)
	}
	ask("a", false, state.Granted, "")
	ask("a", false, state.Granted, "") // again is no more
	ask("b", false, state.Granted, "")
	ask("c", false, state.Refused, "1 others of 4 hosts announce it, and 2 have to stay")
	if err := floor("a").Return(ctx); err != nil {
		t.Fatal(err)
	}
	ask("c", false, state.Granted, "")
	ask("d", false, state.Refused, "1 others")
	// Held ones are counted for who cannot answer, and not for who can.
	if err := floor("b").Return(ctx); err != nil {
		t.Fatal(err)
	}
	put(t, st, "a", state.Held)
	put(t, st, "b", state.Held)
	ask("d", true, state.Refused, "0 others of 4 hosts announce it and can answer")
	ask("d", false, state.Granted, "")
	// With a host its lease goes.
	if _, err := st.Commit(ctx, store.Txn{Do: []store.Op{{Path: tree.VIPHostPath("dns", "c"), Delete: true}}}); err != nil {
		t.Fatal(err)
	}
	ask("d", false, state.Granted, "")
	p, err := floor("a").read(ctx)
	if err != nil || len(p.floor.Leases) != 1 || p.floor.Leases[0].Host != "d" || p.floor.Leases[0].Why != "test" {
		t.Errorf("%+v, %v", p.floor, err)
	}
	// Without a store there is none.
	st.SetAvailable(false)
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if got, text := floor("a").Ask(short, false, ""); got != state.Unreachable || !strings.Contains(text, "nothing is withdrawn") {
		t.Errorf("without a store: %v, %s", got, text)
	}
}

// TestUnreadable: leases that cannot be read let nobody go, a host that cannot be read is one
// that nobody counts on.
func TestUnreadable(t *testing.T) {
	st := memstore.New()
	put(t, st, "a", state.Up)
	for _, n := range []string{"b", "@floor"} {
		if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.VIPHostPath("dns", n), Value: []byte("{")}}}); err != nil {
			t.Fatal(err)
		}
		f := New(Config{Keep: 1}, st, "dns", "a", time.Now)
		if n == "b" {
			if got, _ := f.Ask(t.Context(), false, ""); got != state.Refused {
				t.Errorf("with an unreadable host: %v", got)
			}
			put(t, st, "b", state.Up)
			continue
		}
		if got, _ := f.Ask(t.Context(), false, ""); got != state.Unreachable {
			t.Errorf("with unreadable leases: %v", got)
		}
	}
}

// TestNeverBelow: many hosts whose checks fail and mend as a seed says, at once, with a store
// that they do not reach at times: however they interleave, those that announce are never fewer than
// the floor.
func TestNeverBelow(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			hosts := 3 + r.IntN(8)
			cfg := Config{Keep: 1 + r.IntN(3), KeepPercent: r.IntN(80)}
			st := memstore.New()
			var mu sync.Mutex // guards below
			out := map[string]bool{}
			least := hosts
			names := make([]string, hosts)
			for i := range names {
				names[i] = fmt.Sprintf("h%d", i)
				out[names[i]] = true
				put(t, st, names[i], state.Up)
			}
			keep := max(cfg.Keep, (hosts*cfg.KeepPercent+99)/100)
			granted, refused := 0, 0
			var g sync.WaitGroup
			for i, name := range names {
				own := rand.New(rand.NewPCG(seed, uint64(i)))
				g.Go(func() {
					peer := st.Peer()
					f := New(cfg, peer, "dns", name, time.Now)
					for range 40 {
						ctx, cancel := context.WithCancel(context.Background())
						if own.IntN(5) == 0 { // the store is away for this host
							cancel()
						}
						lease, _ := f.Ask(ctx, false, "checks fail")
						cancel()
						if lease != state.Granted {
							mu.Lock()
							refused++
							mu.Unlock()
							continue
						}
						mu.Lock()
						granted++
						delete(out, name)
						least = min(least, len(out))
						mu.Unlock()
						put(t, peer, name, state.Down)
						mu.Lock()
						out[name] = true
						mu.Unlock()
						put(t, peer, name, state.Up)
						if err := f.Return(context.Background()); err != nil {
							t.Error(err)
						}
					}
				})
			}
			g.Wait()
			if least < min(keep, hosts) {
				t.Errorf("%d of %d hosts announced, and %d had to stay", least, hosts, keep)
			}
			if keep < hosts && (granted == 0 || refused == 0) {
				t.Errorf("%d granted and %d refused: nothing was tried", granted, refused)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	for _, c := range []Config{{Keep: -1}, {KeepPercent: 101}} {
		if c.Validate() == nil {
			t.Errorf("%+v passes", c)
		}
	}
}
