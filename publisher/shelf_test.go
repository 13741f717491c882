package publisher

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
)

// step makes the next version of d.
func step(t *testing.T, d *snapshot.Dataset) {
	t.Helper()
	owner, err := record.ParseName("www.example.net")
	if err != nil {
		t.Fatal(err)
	}
	delta, err := d.Change(int64(d.Version()+1)*1000, []record.RRset{record.NewRRset(owner, record.TypeA, 300, record.Rdata([]byte{192, 0, 2, byte(d.Version())}))}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Apply(delta); err != nil {
		t.Fatal(err)
	}
}

// TestShelfTogether: a large delta comes while a snapshot is being made. Neither takes the
// other's file for one that is left over, or that nobody offers.
func TestShelfTogether(t *testing.T) {
	s, _, err := openShelf(t.TempDir(), "internal", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	d := snapshot.NewDataset("internal")
	for n := range 50 {
		step(t, d)
		var both sync.WaitGroup
		both.Go(func() {
			if _, err := s.add(d.Clone()); err != nil {
				t.Error(err)
			}
		})
		both.Go(func() {
			for i := range 4 {
				sum := sha256.Sum256([]byte{byte(n), byte(i)})
				if err := s.addDelta(uint64(4*n+i+1), sum[:]); err != nil {
					t.Error(err)
				}
			}
		})
		both.Wait()
		offered := s.offered()
		for _, d := range s.large() {
			offered = append(offered, d.File())
		}
		for _, ref := range offered {
			if _, err := os.Stat(follow.SnapshotFile(s.dir, ref.ID)); err != nil {
				t.Fatalf("offered, and not there: %v", err)
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	left, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := len(s.offered()) + len(s.large()) + 1; len(left) != want {
		t.Errorf("%d files, expected the %d that are offered and their list", len(left), want-1)
	}
}

// TestSnapshotAfterFullDisk: a snapshot that could not be made is tried again soon, not when one
// more is due: until then the log grows, and hosts that join replay all of it.
func TestSnapshotAfterFullDisk(t *testing.T) {
	dir := t.TempDir()
	bubbletest.Run(t, func(t *testing.T) {
		c := DefaultConfig()
		c.Dir, c.KeyFile = filepath.Join(dir, "p"), filepath.Join(dir, "key")
		p, err := New(c, Deps{Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Name: "p1"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); p.makeSnapshots(ctx) }()
		defer func() { cancel(); <-done }()
		d := snapshot.NewDataset("internal")
		next := func() {
			step(t, d)
			p.follow(d, 0)
			synctest.Wait()
		}
		next()
		if n := len(p.Status().Snapshots); n != 1 {
			t.Fatalf("%d snapshots, expected 1", n)
		}
		in := filepath.Join(c.Dir, offeredFile)
		if err := os.Rename(in, in+".aside"); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(in, 0o755); err != nil { // in the way
			t.Fatal(err)
		}
		time.Sleep(c.SnapshotPause)
		for range c.SnapshotEvery {
			next()
		}
		if p.Status().Trouble == "" {
			t.Fatal("made though it could not be")
		}
		if left, err := filepath.Glob(filepath.Join(c.Dir, "*.snapshot")); err != nil || len(left) != 1 {
			t.Errorf("%d files, %v, expected the one that is offered", len(left), err)
		}
		if err := os.Remove(in); err != nil {
			t.Fatal(err)
		}
		for range 2 * int(c.SnapshotPause/time.Second) {
			time.Sleep(time.Second)
			next()
		}
		if s := p.Status(); len(s.Snapshots) != 2 || s.Trouble != "" {
			t.Errorf("%d snapshots and trouble %q, %d versions later", len(s.Snapshots), s.Trouble, 2*int(c.SnapshotPause/time.Second))
		}
	})
}
