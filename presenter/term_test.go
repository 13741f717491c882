package presenter

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// slow is a store that gives no head while it is stuck.
type slow struct {
	store.Store
	stuck atomic.Bool
}

func (s *slow) Get(ctx context.Context, path string) (store.Node, error) {
	if s.stuck.Load() && path == tree.HeadPath("internal") {
		<-ctx.Done()
		return store.Node{}, context.Cause(ctx)
	}
	return s.Store.Get(ctx, path)
}

// Who lost the leadership while reading what is published stops reading, and stands
// again at once.
func TestTermEndsReading(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "zone", zone())
		s := &slow{Store: st}
		s.stuck.Store(true)
		r := run(t, s)
		defer r.stop(t)
		time.Sleep(time.Second)
		synctest.Wait()
		if !r.Status().Leading {
			t.Fatal("does not lead")
		}
		st.SetAvailable(false)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if r.Status().Leading {
			t.Error("leads still, 30 s after the store went away")
		}
		s.stuck.Store(false)
		st.SetAvailable(true)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if v := readHead(t, st).Version; v == 0 {
			t.Error("no version after the store came back")
		}
	})
}
