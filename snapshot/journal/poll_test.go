package journal

import (
	"context"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/bubbletest"
)

// Where the system tells of no changes a follower looks every 100 ms, and where it
// does, once a second all the same.
func TestPolling(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		w := newWaiter(systemFS{}, t.TempDir()) // watch is not called: as where there is no inotify
		for _, c := range []struct {
			what waiting
			most time.Duration
		}{{forMore, pollEvery}, {forJournal, pollEvery}, {forWhole, wholeEvery}, {forRepair, lookEvery}} {
			began := time.Now()
			if err := w.wait(context.Background(), c.what); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took != c.most {
				t.Errorf("waiting for %d took %s, expected %s", c.what, took, c.most)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := w.wait(ctx, forMore); err != context.Canceled {
			t.Errorf("after the end: %v", err)
		}
	})
}
