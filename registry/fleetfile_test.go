package registry_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/registry"
	"github.com/zonecast/zonecast/store"
)

func line(name, address string) string {
	return fmt.Sprintf(`{"name": %q, "role": "web", "site": "sfo", "addresses": [%q]}`+"\n", name, address)
}

// fleetFile makes a follower of a new file, and a function that writes it.
func fleetFile(t *testing.T, st store.Store) (*registry.FleetFile, func(lines ...string)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fleet.jsonl")
	f, err := registry.NewFleetFile(registry.FleetFileConfig{Path: path, Rescan: time.Hour, Settle: time.Millisecond}, deps(st))
	if err != nil {
		t.Fatal(err)
	}
	return f, func(lines ...string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(strings.Join(lines, "")), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
}

func state(t *testing.T, st store.Store) tree.Source {
	t.Helper()
	n, err := st.Get(t.Context(), tree.SourcePath("update/fleet-fleet.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var s tree.Source
	if err := tree.Decode(n, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func names(servers map[string]fleet.Server) string {
	return strings.Join(slices.Sorted(maps.Keys(servers)), " ")
}

func TestFleetFileSync(t *testing.T) {
	st := newStore(t)
	f, write := fleetFile(t, st)
	ctx := t.Context()
	sync := func(changed int, wantErr, want string) {
		t.Helper()
		got := f.Sync(ctx, store.Cond{})
		if got.Changed != changed || (got.Problem() == "") != (wantErr == "") || !strings.Contains(got.Problem(), wantErr) {
			t.Errorf("got %d changed, %q, want %d, %q", got.Changed, got.Problem(), changed, wantErr)
		}
		if n := names(mustHold(t, st)); n != want {
			t.Errorf("registered are %q, want %q", n, want)
		}
		if s := state(t, st); s.Error != got.Problem() {
			t.Errorf("the source's state says %q, want %q", s.Error, got.Problem())
		}
	}
	sync(0, "is missing", "")
	write(line("web1.example.net", "192.0.2.1"), line("web2.example.net", "192.0.2.2"))
	sync(2, "", "web1.example.net web2.example.net")
	if s := state(t, st); s.Records != 2 || s.Revision == "" || s.Time == 0 {
		t.Errorf("state is %+v", s)
	}
	sync(0, "", "web1.example.net web2.example.net")

	write(line("web1.example.net", "192.0.2.2"), line("web2.example.net", "192.0.2.1"))
	sync(2, "", "web1.example.net web2.example.net") // swapped

	write(line("web1.example.net", "192.0.2.2"), `{"name": "web3.example.net"}`)
	sync(0, "fleet.jsonl:2: server web3.example.net: addresses are missing", "web1.example.net web2.example.net")
	if s := state(t, st); s.Records != 2 {
		t.Errorf("a broken file's state has %d records, want the 2 in force", s.Records)
	}
	write("")
	sync(0, "no server found", "web1.example.net web2.example.net")

	// web3 takes web2's address, in one change of the file.
	write(line("web1.example.net", "192.0.2.2"), line("web3.example.net", "192.0.2.1"))
	sync(2, "", "web1.example.net web3.example.net")

	write(`{"servers": 0}`)
	sync(2, "", "")
}

func TestFleetFileLeavesCallsAlone(t *testing.T) {
	st := newStore(t)
	f, write := fleetFile(t, st)
	r := start(t, st, registry.DefaultConfig())
	ctx := t.Context()
	if _, err := r.RegisterServer(ctx, reg("web1.example.net", "192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.RegisterServer(ctx, reg("web2.example.net", "192.0.2.2")); err != nil {
		t.Fatal(err)
	}
	write(line("web1.example.net", "192.0.2.1"), line("web2.example.net", "192.0.2.102"),
		line("web3.example.net", "192.0.2.1"[:8]+"9"), line("web4.example.net", "192.0.2.2"))
	got := f.Sync(ctx, store.Cond{})
	if got.Changed != 1 || len(got.Refused) != 2 || !strings.Contains(got.Refused[0], "web2.example.net was registered by call") ||
		!strings.Contains(got.Refused[1], "server web4.example.net: address 192.0.2.2 belongs to server web2.example.net") {
		t.Errorf("got %+v", got)
	}
	servers := mustHold(t, st)
	if servers["web1.example.net"].Origin != fleet.OriginCall || servers["web2.example.net"].Addresses[0].String() != "192.0.2.2" || servers["web3.example.net"].Origin != "fleet:fleet.jsonl" {
		t.Errorf("got %v", servers)
	}
	// What the file brought, the file must take away, or a call take over.
	if _, err := r.DeregisterServer(ctx, "web3.example.net", "", ""); api.Code(err) != api.Exists {
		t.Errorf("deregister a server of the file: %v", err)
	}
	if c, err := r.RegisterServer(ctx, reg("web3.example.net", "192.0.2.9")); err != nil || !c.Changed {
		t.Errorf("take over: %v, %v", c, err)
	}
	write(`{"servers": 0}`)
	if got := f.Sync(ctx, store.Cond{}); got.Changed != 0 || names(mustHold(t, st)) != "web1.example.net web2.example.net web3.example.net" {
		t.Errorf("got %+v", got)
	}
}

// A deposed leader changes nothing.
func TestFleetFileFence(t *testing.T) {
	st := newStore(t)
	f, write := fleetFile(t, st)
	write(line("web1.example.net", "192.0.2.1"))
	if got := f.Sync(t.Context(), store.Cond{Path: "/elect/x", Modified: 4711}); got.Changed != 0 || len(got.Refused) != 1 {
		t.Errorf("got %+v", got)
	}
	mustHold(t, st)
}

func TestFleetFileIsLive(t *testing.T) {
	st := newStore(t)
	f, write := fleetFile(t, st)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { f.Run(ctx) })
	defer func() { cancel(); wg.Wait() }()
	wait := func(want string) {
		t.Helper()
		deadline := time.Now().Add(10 * time.Second)
		for names(registered(t, st)) != want {
			if time.Now().After(deadline) {
				t.Fatalf("registered are %q, want %q", names(mustHold(t, st)), want)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	write(line("web1.example.net", "192.0.2.1"))
	wait("web1.example.net")
	write(line("web2.example.net", "192.0.2.1"))
	wait("web2.example.net")
	write(line("web2.example.net", "192.0.2.1"), line("web3.example.net", "192.0.2.3"))
	wait("web2.example.net web3.example.net")
}

// registered lists servers only: while changes run, lists of several prefixes
// are not of one moment.
func registered(t *testing.T, st *memstore.Store) map[string]fleet.Server {
	t.Helper()
	nodes, _, err := st.List(t.Context(), tree.Servers)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]fleet.Server)
	for _, n := range nodes {
		s, err := fleet.Decode(n.Value)
		if err != nil {
			t.Fatal(err)
		}
		out[s.ID()] = s
	}
	return out
}

func TestFleetFileConfig(t *testing.T) {
	for _, cfg := range []registry.FleetFileConfig{{}, {Path: "/tmp/a b"}, {Path: "/tmp/x", Rescan: -1}, {Path: "/tmp/" + strings.Repeat("x", 200)}} {
		if _, err := registry.NewFleetFile(cfg, deps(nil)); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
}
