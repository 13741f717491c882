package registry_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/registryapi"
	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/registry"
	"github.com/zonecast/zonecast/store"
)

// raced is a store that does something else once, just after a path was read.
type raced struct {
	store.Store
	path string
	then func()
}

func (r *raced) Get(ctx context.Context, path string) (store.Node, error) {
	n, err := r.Store.Get(ctx, path)
	if path == r.path && r.then != nil {
		then := r.then
		r.then = nil
		then()
	}
	return n, err
}

// Between the reading of a server without lease and its removal it gets one: the
// lease must not stay behind, where it could be renewed for a server that is gone.
func TestNoLeaseWithoutServer(t *testing.T) {
	st := newStore(t)
	if _, err := start(t, st, registry.DefaultConfig()).RegisterServer(t.Context(), reg("web1.example.net", "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	other := start(t, st, registry.DefaultConfig())
	r := start(t, &raced{Store: st, path: tree.LeasePath("web1.example.net"), then: func() {
		in := reg("web1.example.net", "192.0.2.1")
		in.LeaseMs = 10000
		if _, err := other.RegisterServer(t.Context(), in); err != nil {
			t.Error(err)
		}
	}}, registry.DefaultConfig())
	if _, err := r.DeregisterServer(t.Context(), "web1.example.net", "", ""); err != nil {
		t.Fatal(err)
	}
	if servers := mustHold(t, st); len(servers) != 0 {
		t.Errorf("left are %v", servers)
	}
	if _, err := r.Renew(t.Context(), "web1.example.net"); api.Code(err) != api.NotFound {
		t.Errorf("renewed a server that is gone: %v", err)
	}
}

// A lease without a server, whoever left it, goes when it runs out.
func TestOrphanedLeaseGoes(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		t.Cleanup(func() { st.Close() })
		path := tree.LeasePath("gone.example.net")
		if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: path, Value: tree.Encode(tree.Lease{TTL: 10000})}}}); err != nil {
			t.Fatal(err)
		}
		start(t, st, registry.DefaultConfig())
		time.Sleep(15 * time.Second)
		if n, err := st.Get(t.Context(), path); err == nil {
			t.Errorf("%s is there for ever", n.Path)
		}
	})
}

// slow is a store whose commits take a while, as on a busy disk.
type slow struct {
	store.Store
	by time.Duration
}

func (s slow) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	time.Sleep(s.by)
	return s.Store.Commit(ctx, txn)
}

// late is a store that keeps a transaction which its caller was told nothing of.
type late struct {
	store.Store
	txn *store.Txn // the first
}

func (l *late) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	if l.txn == nil {
		l.txn = &txn
		return 0, fmt.Errorf("commit: %w", store.ErrUnavailable)
	}
	return l.Store.Commit(ctx, txn)
}

// TestLateRegistration: a registration whose answer was lost is asked for again, and then the server goes.
// What comes late does not bring it back, though the server is not there as it was not before. (The
// simulation found it.)
func TestLateRegistration(t *testing.T) {
	st := newStore(t)
	l := &late{Store: st}
	r := start(t, l, registry.DefaultConfig())
	in := reg("web1.example.net", "192.0.2.1")
	if _, err := r.RegisterServer(t.Context(), in); api.Code(err) != api.Unavailable {
		t.Fatalf("%v, expected that it is not known", err)
	}
	if _, err := r.RegisterServer(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if _, err := r.DeregisterServer(t.Context(), "web1.example.net", "", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Commit(t.Context(), *l.txn); !errors.Is(err, store.ErrConflict) {
		t.Errorf("late registration: %v, expected a conflict", err)
	}
	if servers := mustHold(t, st); len(servers) != 0 {
		t.Errorf("left are %v", servers)
	}
	if _, err := r.RegisterServer(t.Context(), in); err != nil {
		t.Errorf("registered anew: %v", err)
	}
}

// Many leases that run out at once on a slow store: the time their removal takes is
// no outage, after which all leases would begin anew.
func TestSlowRemovalIsNoOutage(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		t.Cleanup(func() { st.Close() })
		fast := start(t, st, registry.DefaultConfig())
		var in []*registryapi.Registration
		for i := range 1000 {
			one := reg(fmt.Sprintf("web%d.example.net", i), fmt.Sprintf("192.0.%d.%d", i/250, 1+i%250))
			one.LeaseMs = 60000
			in = append(in, one)
		}
		if _, err := fast.RegisterServers(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		// The slow one leads: the election's node goes, and it is the first to stand.
		start(t, slow{st, 200 * time.Millisecond}, registry.DefaultConfig())
		synctest.Wait()
		if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.ElectRegistry, Delete: true}}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(150 * time.Second)
		if n := len(mustHold(t, st)); n != 0 {
			t.Errorf("%d servers are left 90 s after their leases ran out", n)
		}
	})
}

// The election's node can vanish although the session lives: a store that was put
// back from a copy, a person's hand. Leases run out all the same.
func TestLostElectionIsStoodForAgain(t *testing.T) {
	leased(t, func(t *testing.T, st *memstore.Store, _ *registry.Registry, there func() bool) {
		if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.ElectRegistry, Delete: true}}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if there() {
			t.Error("nobody lets leases run out any more")
		}
	})
}

// A server node that cannot be read is in nobody's way: it can be registered anew
// and deregistered, and others in the same call are done.
func TestBrokenServerCanBeMended(t *testing.T) {
	for _, again := range []string{"register", "deregister"} {
		t.Run(again, func(t *testing.T) {
			st := newStore(t)
			r := start(t, st, registry.DefaultConfig())
			if _, err := r.RegisterServer(t.Context(), reg("web1.example.net", "192.0.2.1", "192.0.2.2")); err != nil {
				t.Fatal(err)
			}
			if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.ServerPath("web.sfo", "web1.example.net"), Value: []byte("{")}}}); err != nil {
				t.Fatal(err)
			}
			want := 1
			if again == "register" {
				want = 2
				out, err := r.RegisterServers(t.Context(), []*registryapi.Registration{reg("web1.example.net", "192.0.2.2", "192.0.2.3"), reg("web2.example.net", "192.0.2.1")})
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range out {
					if o.Code != "" {
						t.Errorf("%s: %s: %s", o.Name, o.Code, o.Message)
					}
				}
			} else {
				if _, err := r.DeregisterServer(t.Context(), "web1.example.net", "", ""); err != nil {
					t.Error(err)
				}
				if _, err := r.RegisterServer(t.Context(), reg("web2.example.net", "192.0.2.1")); err != nil {
					t.Error(err)
				}
			}
			if servers := mustHold(t, st); len(servers) != want || !strings.Contains(names(servers), "web2") {
				t.Errorf("servers are %s", names(servers))
			}
		})
	}
}

// A deregistration whose answer was lost is sent again: it is no error then, and has
// the revision to wait for. A name that never was is one.
func TestDeregisterAgain(t *testing.T) {
	st := newStore(t)
	r := start(t, st, registry.DefaultConfig())
	if _, err := r.RegisterServer(t.Context(), reg("web1.example.net", "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ListServers(t.Context(), "", 0, nil); err != nil { // it has read the store
		t.Fatal(err)
	}
	first, err := r.DeregisterServer(t.Context(), "web1.example.net", "", "")
	if err != nil {
		t.Fatal(err)
	}
	again, err := r.DeregisterServer(t.Context(), "web1.example.net", "", "")
	if err != nil || again.Changed || again.Revision < first.Revision {
		t.Errorf("got %v, %v, want unchanged at %d", again, err, first.Revision)
	}
	if _, err := r.DeregisterServer(t.Context(), "web2.example.net", "", ""); api.Code(err) != api.NotFound {
		t.Errorf("a name that never was: %v", err)
	}
}

// A rescan that falls into the writing of the file reads no half of it.
func TestRescanWaitsForTheWriter(t *testing.T) {
	st := newStore(t)
	path := filepath.Join(t.TempDir(), "fleet.jsonl")
	whole := line("web1.example.net", "192.0.2.1") + line("web2.example.net", "192.0.2.2")
	if err := os.WriteFile(path, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := registry.NewFleetFile(registry.FleetFileConfig{Path: path, Rescan: 10 * time.Millisecond, Settle: time.Minute}, deps(st))
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	<-f.Ready()
	if n := len(mustHold(t, st)); n != 2 {
		t.Fatalf("%d servers, want 2", n)
	}
	if err := os.WriteFile(path, []byte(line("web1.example.net", "192.0.2.1")), 0o600); err != nil { // the writer pauses here
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // ten rescans
	if n := len(mustHold(t, st)); n != 2 {
		t.Errorf("%d servers after half of the file was read, want 2", n)
	}
	cancel()
	<-done
}
