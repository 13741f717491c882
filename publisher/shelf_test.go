package publisher

import (
	"crypto/sha256"
	"log/slog"
	"os"
	"sync"
	"testing"

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
