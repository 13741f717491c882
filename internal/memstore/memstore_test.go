package memstore_test

import (
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return memstore.New() }, storetest.Options{
		Peer:         func(t *testing.T, s store.Store) store.Store { return s.(*memstore.Store).Peer() },
		Die:          func(t *testing.T, s store.Store) { s.(*memstore.Store).Die() },
		Compact:      func(t *testing.T, s store.Store) { s.(*memstore.Store).Compact() },
		SetAvailable: func(t *testing.T, s store.Store, up bool) { s.(*memstore.Store).SetAvailable(up) },
		TTL:          200 * time.Millisecond,
	})
}

// Time in a bubble moves only when everything waits: nothing in a memstore may
// wait on anything but channels and timers.
func TestInBubble(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		s := memstore.New()
		defer s.Close()
		dying := s.Peer()
		ss, err := dying.Session(t.Context(), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ss.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: "/e"}}}); err != nil {
			t.Fatal(err)
		}
		w := s.Watch(t.Context(), "/", 0)
		<-w
		start := time.Now()
		dying.Die()
		if b := <-w; len(b.Deletes) != 1 {
			t.Errorf("batch is %+v, expected the deletion of /e", b)
		}
		if got := time.Since(start); got != 10*time.Second {
			t.Errorf("the node went after %s, expected its ttl of 10s", got)
		}
	})
}
