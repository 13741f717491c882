//go:build interop

package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/storecopy"
	"github.com/zonecast/zonecast/store/zookeeper/zktest"
)

// TestZooKeeperInterop runs every stage over Debian's ZooKeeper, three servers with a
// user: a registration is answered, also after the leader was killed. Then the store
// moves to an embedded etcd, and the stages over that answer the same.
func TestZooKeeperInterop(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	servers, err := zktest.StartEnsemble(t.TempDir(), 3)
	t.Cleanup(func() {
		for _, s := range servers {
			if err := s.Kill(); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	var addresses []string
	for _, s := range servers {
		addresses = append(addresses, s.Address)
	}
	store := "zookeeper://" + strings.Join(addresses, ",") + "/dns/zonecast"
	auth := filepath.Join(t.TempDir(), "auth")
	if err := os.WriteFile(auth, []byte("alice:secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	zones := t.TempDir()
	writeZone(t, zones, "example.net", "ns A 192.0.2.1", "www A 192.0.2.2")
	extra := shortTerms()
	for _, k := range kinds {
		if k != "store" && k != "authority" {
			extra[k] = append(extra[k], "--store-auth", auth)
		}
	}
	a := NewApart(t, ApartOptions{Zones: zones, Store: store, Extra: extra})
	a.Start(kinds...)
	c := a.Client(ctx)
	mark, err := NewMark("example.net")
	if err != nil {
		t.Fatal(err)
	}
	step := func(what string, number int) {
		t.Helper()
		began := time.Now()
		change, err := register(ctx, c, mark.Registration(number))
		if err != nil {
			t.Fatalf("%s: register: %v", what, err)
		}
		if _, err := insist(ctx, func(ctx context.Context) (int64, error) { return AwaitServers(ctx, c, change.Revision) }); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		t.Logf("%s: answered everywhere after %v; %s", what, time.Since(began).Round(time.Millisecond), Machine())
	}
	step("the first change", 1)
	step("all well", 2)
	step("all well", 3)
	for _, s := range servers {
		if mode, err := s.Mode(); err == nil && mode == "leader" {
			if err := s.Kill(); err != nil {
				t.Fatal(err)
			}
			step("the leader was killed", 4)
			if err := s.Restart(); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	step("it is back", 5)
	want, err := settle(ctx, c, len(a.Hosts))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range a.Stages {
		if s.Kind == "store" {
			continue
		}
		if took, err := s.Stop(stopWithin); err != nil {
			t.Errorf("%s was told to stop: %v after %v", s.Name, err, took)
		}
	}
	for _, f := range a.Faults() {
		t.Error(f)
	}

	// The move.
	b := NewApart(t, ApartOptions{Zones: zones, Extra: shortTerms()})
	b.Start("store")
	target := "etcd://" + b.Store
	out, stderr, status := Run(t, "store", "copy", store, target, "--from-auth", auth, "--json")
	var rep storecopy.Report
	if err := json.Unmarshal([]byte(out), &rep); status != 0 || err != nil || rep.Nodes < 10 || rep.Ephemeral != 0 {
		t.Fatalf("store copy: status %d, %v, %s\n%s", status, err, out, stderr)
	}
	t.Logf("moved: %s", out)
	if _, stderr, status := Run(t, "store", "copy", store, target, "--from-auth", auth); status != 1 || !strings.Contains(stderr, "--force") {
		t.Errorf("a second copy: status %d\n%s, expected 1 and a hint of --force", status, stderr)
	}
	if _, stderr, status := Run(t, "store", "copy", store, target); status != 1 || !strings.Contains(stderr, "user:password") {
		t.Errorf("a copy by nobody: status %d\n%s, expected 1 and what to give", status, stderr)
	}
	// And back, to another root.
	if out, stderr, status := Run(t, "store", "copy", target, store+"2", "--to-auth", auth); status != 0 || !strings.Contains(out, "read back and equal") {
		t.Errorf("the copy back: status %d, %s\n%s", status, out, stderr)
	}
	b.Start(kinds[1:]...)
	c = b.Client(ctx)
	got, err := insist(ctx, func(ctx context.Context) (string, error) { return settle(ctx, c, len(b.Hosts)) })
	if err != nil || got != want {
		t.Errorf("after the move hosts answer digest %s, error %v, expected %s", got, err, want)
	}
	step("moved", 6)
}

// A replay through ZooKeeper ends in the digest of a start on an embedded etcd with the
// final files.
func TestReplayZooKeeperInterop(t *testing.T) {
	t.Parallel() // it waits more than it works
	server, err := zktest.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Kill(); err != nil {
			t.Error(err)
		}
	})
	replaySynthetic(t, "--store", "zookeeper://"+server.Address)
}
