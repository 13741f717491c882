package mutator

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// Changes that never stop are written all the same.
func TestEndlessChangesAreWritten(t *testing.T) {
	st := memstore.New()
	defer st.Close()
	r := begin(t, st, store.Cond{Path: tree.ElectMutator})
	defer r.end()
	endless := make(chan store.Batch, 1000)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for n := store.Revision(1); ; n++ {
			s := web(1, func(s *fleet.Server) { s.TTL = uint32(n) % 1000 })
			select {
			case endless <- store.Batch{Revision: n, Puts: []store.Node{{Path: tree.ServerPath(s.Cluster, s.ID()), Value: s.Encode(), Modified: n}}}:
			case <-stop:
				close(endless)
				return
			}
		}
	}()
	done := make(chan error, 1)
	go func() { done <- r.take(t.Context(), store.Batch{Reset: true, Revision: 1}, endless) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("nothing is written while changes go on")
		close(stop)
		<-done
		stop = nil
	}
	if stop != nil {
		close(stop)
	}
	<-stopped
}

// A service whose addresses fit no message is served in part, and that is said where
// people look: in the state of the source.
func TestHugeServiceIsSaid(t *testing.T) {
	bubble(t, nil, func(t *testing.T, st *memstore.Store) {
		for i := range 70 {
			put(t, st, web(i, func(s *fleet.Server) {
				s.Addresses = nil
				for k := range 32 {
					s.Addresses = append(s.Addresses, netip.AddrFrom4([4]byte{10, 0, byte(i), byte(k + 1)}))
				}
			}))
		}
		time.Sleep(2 * sourcesInterval)
		synctest.Wait()
		n, err := st.Get(t.Context(), tree.SourcePath("rule/service"))
		if err != nil {
			t.Fatal(err)
		}
		var s tree.Source
		if err := tree.Decode(n, &s); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(s.Error, "web.example.net. A: 240 of 2240 records are left out") || s.Records == 0 {
			t.Errorf("the source says %+v", s)
		}
	})
}
