package publisher

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// listing counts what is listed.
type listing struct {
	store.Store
	n *atomic.Int64
}

func (l listing) List(ctx context.Context, prefix string) ([]store.Node, store.Revision, error) {
	l.n.Add(1)
	return l.Store.List(ctx, prefix)
}

// TestOfferTrials signs what is tried for the rings that the canary stage says: nothing before it
// says anything, nothing that is not what the trial says, nothing after its time, and nothing any
// more when it is withdrawn or gone. What is passed stays until its version is signed.
func TestOfferTrials(t *testing.T) {
	dir := t.TempDir()
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		c := DefaultConfig()
		c.Dir, c.KeyFile = filepath.Join(dir, "snapshots"), filepath.Join(dir, "key")
		var lists atomic.Int64
		p, err := New(c, Deps{Store: listing{st, &lists}, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		commit := func(ops ...store.Op) {
			t.Helper()
			if _, err := st.Commit(t.Context(), store.Txn{Do: ops}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
		}
		done := make(chan struct{})
		s := &signer{Publisher: p, fence: store.Cond{Path: "/elect/x"}}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { defer close(done); s.offerTrials(ctx) }()
		defer func() { cancel(); <-done }()

		delta, err := trial.Compose("internal", 7, reconcile.Change{Put: []record.RRset{record.NewRRset("\x03www\x07example\x03net\x00", record.TypeA, 60, record.Rdata([]byte{192, 0, 2, 1}))}})
		if err != nil {
			t.Fatal(err)
		}
		policy := trial.DefaultPolicy()
		policy.Rings = []trial.Ring{{Name: "a", Hosts: []string{"dns1"}}, {Name: "b", Hosts: []string{"dns2"}}}
		x := trial.Trial{ID: "1", Dataset: "internal", Since: time.Now().UnixMilli(), Until: time.Now().Add(time.Hour).UnixMilli(), Number: 3, Base: 7, Size: len(delta), SHA256: trial.Sum(delta), Policy: policy}
		put := func(x trial.Trial) store.Op {
			return store.Op{Path: tree.TrialPath("internal"), Value: tree.Encode(x)}
		}
		say := func(begun int64, state trial.State, ring int) store.Op {
			return store.Op{Path: tree.JudgementPath("internal"), Value: tree.Encode(trial.Judgement{ID: "1", Begun: begun, State: state, Ring: ring})}
		}
		// offered holds to how many rings it is offered; 0: to none.
		offered := func(what string, rings int) {
			t.Helper()
			n, err := st.Get(t.Context(), tree.OfferPath("internal"))
			if rings == 0 {
				if !errors.Is(err, store.ErrNotFound) {
					t.Fatalf("%s: offered is %s, %v", what, n.Value, err)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			o, err := trial.Verify(n.Value, []ed25519.PublicKey{p.PublicKey()}, "internal")
			if err != nil || len(o.Rings) != rings || o.Number != x.Number || o.Until != x.Until {
				t.Fatalf("%s: offered is %+v, %v; want %d rings", what, o, err, rings)
			}
		}
		commit(trial.PartOps("internal", 3, delta)[0]...)
		commit(put(x))
		offered("nobody judges", 0)
		commit(say(x.Since-1, trial.Offered, 0))
		offered("another trial of the same change is judged", 0)
		commit(say(x.Since, trial.Offered, 0))
		offered("the first ring", 1)
		commit(say(x.Since, trial.Soaking, 1))
		offered("the second ring", 2)
		bad := x
		bad.SHA256 = strings.Repeat("0", 64)
		commit(put(bad))
		offered("the delta is another one: what is signed stays", 2)
		commit(put(x), say(x.Since, trial.Passed, 1))
		offered("it is passed", 2)
		commit(say(x.Since, trial.Withdrawn, 1))
		offered("it is withdrawn", 0)
		commit(say(x.Since, trial.Soaking, 0))
		offered("the first ring again", 1)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		offered("its time is over", 0)
		x.Until = time.Now().Add(time.Hour).UnixMilli()
		commit(put(x))
		offered("it has time again", 1)
		commit(store.Op{Path: tree.TrialPath("internal"), Delete: true})
		offered("it is gone", 0)

		// It has become version 8: hosts have that before the offer goes.
		ended := []store.Op{{Path: tree.TrialPath("internal"), Delete: true}, {Path: tree.HeadPath("internal"), Value: tree.Encode(tree.Head{Version: 8})}}
		commit(put(x), say(x.Since, trial.Passed, 1))
		offered("it is passed", 2)
		commit(ended...)
		offered("its version is not signed", 2)
		sign := func(version uint64) {
			p.mu.Lock()
			p.status.Signed = version
			p.mu.Unlock()
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		sign(7)
		offered("the version before is signed", 2)
		sign(8)
		offered("its version is signed", 0)
		sign(7)
		commit(put(x), say(x.Since, trial.Passed, 1))
		commit(ended...)
		time.Sleep(leavesFor)
		synctest.Wait()
		offered("nothing is signed for long", 0)

		// What hosts are told costs nothing while it is the same.
		commit(put(x), say(x.Since, trial.Soaking, 1))
		offered("it is tried", 2)
		before, err := st.Get(t.Context(), tree.OfferPath("internal"))
		if err != nil {
			t.Fatal(err)
		}
		lists.Store(0)
		for i := range 5 {
			j := trial.Judgement{ID: "1", Begun: x.Since, State: trial.Soaking, Ring: 1, Evidence: []string{fmt.Sprint(i)}}
			commit(store.Op{Path: tree.JudgementPath("internal"), Value: tree.Encode(j)})
		}
		if n := lists.Load(); n != 0 {
			t.Errorf("the delta was read %d times for evidence alone", n)
		}

		// What somebody else puts there does not stay.
		commit(store.Op{Path: tree.OfferPath("internal"), Delete: true})
		offered("somebody took it away", 2)
		commit(say(x.Since, trial.Withdrawn, 1))
		offered("it is withdrawn", 0)
		commit(store.Op{Path: tree.OfferPath("internal"), Value: before.Value})
		offered("an old offer came again", 0)
		commit(store.Op{Path: tree.TrialPath("internal"), Delete: true})
		commit(store.Op{Path: tree.OfferPath("internal"), Value: before.Value})
		time.Sleep(leavesFor)
		offered("an old offer came again, and nothing is tried", 0)
	})
}
