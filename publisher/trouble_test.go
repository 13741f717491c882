package publisher

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// TestShelfThatCannotBeCleaned: a disk that lets nothing be removed keeps nobody from signing.
func TestShelfThatCannotBeCleaned(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, buildingFile, "x"), 0o755); err != nil { // a directory that is not empty stays
		t.Fatal(err)
	}
	if _, _, err := openShelf(dir, "internal", slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("shelf is not opened: %v", err)
	}
}

// TestShelfLeavesRoom: a snapshot for which there is no room is not begun: the store may lie on the
// same disk, and ends when that is full.
func TestShelfLeavesRoom(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount a small file system")
	}
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("no file system can be mounted: %v", err)
	}
	defer func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	s, _, err := openShelf(filepath.Join(disk, "shelf"), "internal", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	d := snapshot.NewDataset("internal")
	step(t, d)
	if _, err := s.add(d.Clone()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(disk, "filler"), make([]byte, 1<<20), 0o644); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}
	step(t, d)
	if _, err := s.add(d.Clone()); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "expected") {
		t.Errorf("error is %v, expected one that says how much room there is", err)
	}
	if err := os.Remove(filepath.Join(disk, "filler")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.add(d); err != nil {
		t.Error(err)
	}
}

// TestForeignManifestOfOurVersion: what somebody writes in place of the manifest is replaced though no
// newer version comes: who begins now needs ours.
func TestForeignManifestOfOurVersion(t *testing.T) {
	dir := t.TempDir()
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		d := snapshot.NewDataset("internal")
		delta, err := d.Replace(1, nil)
		if err == nil {
			err = d.Apply(delta)
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := delta.Encode()
		if err != nil {
			t.Fatal(err)
		}
		_, log, err := follow.LogOps("internal", 1, b)
		if err != nil {
			t.Fatal(err)
		}
		head := tree.Head{Version: 1, Digest: d.Digest().String(), Chain: d.Chain().String(), Time: 1, Content: 1}
		commit := func(ops ...store.Op) {
			t.Helper()
			if _, err := st.Commit(t.Context(), store.Txn{Do: ops}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * stuckLook)
			synctest.Wait()
		}
		c := DefaultConfig()
		c.Dir, c.KeyFile, c.Validity = filepath.Join(dir, "snapshots"), filepath.Join(dir, "key"), 0
		p, err := New(c, Deps{Store: st, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Name: "p"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = p.Run(ctx) }()
		defer func() { cancel(); <-done }()
		manifest := func() store.Node {
			t.Helper()
			n, err := st.Get(t.Context(), tree.ManifestPath("internal"))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		ours := func(what string) {
			t.Helper()
			if m, err := snapshot.VerifyManifest(manifest().Value, []ed25519.PublicKey{p.PublicKey()}); err != nil || m.Chain != d.Chain() {
				t.Errorf("%s: %+v, %v", what, m, err)
			}
		}
		commit(log, store.Op{Path: tree.HeadPath("internal"), Value: tree.Encode(head)})
		ours("at the start")
		was := manifest().Modified
		time.Sleep(10 * stuckLook)
		if manifest().Modified != was {
			t.Error("it is signed again and again")
		}
		_, thief, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, version := range []uint64{1, 7} {
			m := snapshot.Manifest{Dataset: "internal", Version: version, Time: 1, Chain: snapshot.Chain{1}, Content: 1, Oldest: 1}
			foreign, err := m.Sign(thief)
			if err != nil {
				t.Fatal(err)
			}
			commit(store.Op{Path: tree.ManifestPath("internal"), Value: foreign})
			ours("a thief wrote another one")
		}
		commit(store.Op{Path: tree.ManifestPath("internal"), Delete: true})
		ours("somebody deleted it")
	})
}

// TestTrialThatCannotBeOffered: a trial whose delta is lost is not read every second, and one line says so.
func TestTrialThatCannotBeOffered(t *testing.T) {
	dir := t.TempDir()
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		c := DefaultConfig()
		c.Dir, c.KeyFile = filepath.Join(dir, "snapshots"), filepath.Join(dir, "key")
		var lists atomic.Int64
		var text bytes.Buffer
		p, err := New(c, Deps{Store: listing{st, &lists}, Log: slog.New(slog.NewTextHandler(&text, nil)), Metrics: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		policy := trial.DefaultPolicy()
		policy.Rings = []trial.Ring{{Name: "a", Hosts: []string{"dns1"}}}
		x := trial.Trial{ID: "1", Dataset: "internal", Since: 1, Until: time.Now().Add(time.Hour).UnixMilli(), Number: 3, Base: 7, Size: 10, SHA256: trial.Sum(nil), Policy: policy}
		j := trial.Judgement{ID: "1", Begun: 1, State: trial.Offered}
		if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.TrialPath("internal"), Value: tree.Encode(x)}, {Path: tree.JudgementPath("internal"), Value: tree.Encode(j)}}}); err != nil {
			t.Fatal(err)
		}
		s := &signer{Publisher: p, fence: store.Cond{Path: "/elect/x"}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.offerTrials(ctx) }()
		time.Sleep(10 * time.Minute)
		cancel()
		<-done
		if n := strings.Count(text.String(), "trial not offered"); n != 1 {
			t.Errorf("%d lines say so, expected 1:\n%s", n, text.String())
		}
		if n := lists.Load(); n < 30 || n > 90 {
			t.Errorf("it was read %d times in ten minutes, expected about 60", n)
		}
	})
}
