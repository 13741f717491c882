package lead_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/lead"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/store"
)

func election(st store.Store) lead.Election {
	return lead.Election{Store: st, Path: "/elect/test", TTL: 5 * time.Second, Log: slog.New(slog.DiscardHandler)}
}

// Of several processes one runs the task; when it dies another does.
func TestOneRuns(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		var running, most, runs atomic.Int32
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var peers []*memstore.Store
		for range 3 {
			peer := st.Peer()
			peers = append(peers, peer)
			wg.Go(func() {
				lead.Run(ctx, election(peer), func(ctx context.Context, fence store.Cond) error {
					runs.Add(1)
					if n := running.Add(1); n > most.Load() {
						most.Store(n)
					}
					defer running.Add(-1)
					if _, err := st.Commit(ctx, store.Txn{If: []store.Cond{fence}, Do: []store.Op{{Path: "/x"}}}); err != nil {
						t.Errorf("the fence does not hold: %v", err)
					}
					<-ctx.Done()
					return ctx.Err()
				})
			})
		}
		for range 3 {
			synctest.Wait()
			if running.Load() != 1 {
				t.Errorf("%d run, want 1", running.Load())
			}
			// A store that is away for longer than the ttl ends every session.
			st.SetAvailable(false)
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if running.Load() != 0 {
				t.Errorf("%d run without a session", running.Load())
			}
			st.SetAvailable(true)
			time.Sleep(10 * time.Second)
		}
		cancel()
		wg.Wait()
		if most.Load() != 1 || runs.Load() < 4 {
			t.Errorf("at most %d ran at once, want 1; %d runs, want at least 4", most.Load(), runs.Load())
		}
		for _, p := range peers {
			p.Close()
		}
	})
}

// A task that fails at once is not run in circles, and one that ran long starts soon.
func TestPauses(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		n := 0
		lead.Run(ctx, election(st), func(context.Context, store.Cond) error { n++; return errors.New("no") })
		if n < 10 || n > 25 { // 0.1 s doubling to 5 s: 6 in the first 6.3 s, then one each 5 s
			t.Errorf("%d runs in a minute", n)
		}
	})
}
