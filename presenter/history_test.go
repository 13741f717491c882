package presenter

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// confused is a store in which everybody is elected at once, and no fence holds
// anybody back: only the condition on the head is left.
type confused struct{ store.Store }

type confusedSession struct{ store.Session }

func (c confused) Session(ctx context.Context, ttl time.Duration) (store.Session, error) {
	s, err := c.Store.Session(ctx, ttl)
	return confusedSession{s}, err
}

func (confusedSession) Elect(context.Context, string, []byte) (store.Leadership, error) {
	return store.Leadership{Fence: store.Cond{Path: "/nobody"}, Resign: func(context.Context) error { return nil }}, nil
}

// TestTwoLeadersNeverFork holds that two presenters that both believe to lead make
// one history.
func TestTwoLeadersNeverFork(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "1", zone())
		p, q := run(t, confused{st}), run(t, confused{st.Peer()})
		defer p.stop(t)
		defer q.stop(t)
		settle()
		for i := range 50 {
			put(t, st, fmt.Sprint(i%7), hosts(i%5+1)...)
			time.Sleep(time.Duration(i%4) * 7 * time.Millisecond)
		}
		settle()
		if d := equalsImport(t, st); d.Version() < 3 {
			t.Fatalf("version %d: the history was not made", d.Version())
		}
		if value(p.Presenter.metrics.failures)+value(q.Presenter.metrics.failures) == 0 {
			t.Fatal("the two never met")
		}
		notForked(t, st)
	})
}

// TestHistories replays random claims while presenters come, go, die and lose their
// commits: what is published in the end is what a fresh import of the claims makes,
// and no version was ever made twice.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		// A bubble is another goroutine, in which rapid's way to stop a case, a
		// panic, must not end.
		var stopped any
		bubbletest.Run(t, func(*testing.T) {
			defer func() { stopped = recover() }()
			replay(rt)
		})
		if stopped != nil {
			panic(stopped)
		}
	})
}

func replay(t *rapid.T) {
	st := memstore.New()
	defer st.Close()
	var mu sync.Mutex
	spoiled := 0 // commits that will go wrong
	spoil := func(store.Txn) error {
		mu.Lock()
		defer mu.Unlock()
		if spoiled == 0 {
			return nil
		}
		spoiled--
		return fmt.Errorf("commit: %w", store.ErrUnavailable)
	}
	start := func() (*running, *memstore.Store) {
		client := st.Peer()
		f := &faulty{Store: client}
		if rapid.Bool().Draw(t, "late") {
			f.after = spoil
		} else {
			f.before = spoil
		}
		return run(t, f, func(c *Config, _ *Deps) { c.SessionTTL = time.Second }), client
	}
	put(t, st, "1", zone())
	type process struct {
		*running
		client *memstore.Store
	}
	var at []process
	begin := func() {
		r, client := start()
		at = append(at, process{r, client})
	}
	end := func(p process) {
		p.cancel()
		<-p.done
		p.client.Close()
	}
	defer func() {
		for _, p := range at {
			end(p)
		}
	}()
	begin()
	for range rapid.IntRange(1, 40).Draw(t, "steps") {
		switch rapid.IntRange(0, 9).Draw(t, "step") {
		case 0, 1, 2, 3, 4:
			claims := hosts(rapid.IntRange(0, 4).Draw(t, "hosts"))
			shard := fmt.Sprint("s", rapid.IntRange(0, 3).Draw(t, "shard"))
			for i := range claims {
				claims[i].Data = []record.Rdata{record.Rdata([]byte{192, 0, 2, byte(rapid.IntRange(1, 3).Draw(t, "address"))})}
			}
			put(t, st, shard, claims...)
		case 5:
			ns := record.NewRRset(name("example.net."), record.TypeNS, uint32(rapid.IntRange(1, 3).Draw(t, "ttl")), record.Rdata(name("ns.example.net.")))
			if _, _, err := claimtree.Replace(context.Background(), st, "zone/more", []record.Claim{{RRset: ns, Source: "zone/more"}}); err != nil {
				t.Fatalf("replace: %v", err)
			}
		case 6:
			mu.Lock()
			spoiled = rapid.IntRange(0, 2).Draw(t, "spoiled")
			mu.Unlock()
		case 7:
			if len(at) < 3 {
				begin()
			}
		case 8:
			if len(at) > 0 {
				i := rapid.IntRange(0, len(at)-1).Draw(t, "ended")
				if rapid.Bool().Draw(t, "dies") {
					at[i].client.Die()
				}
				end(at[i])
				at = append(at[:i], at[i+1:]...)
			}
		case 9:
			st.Compact()
		}
		time.Sleep(time.Duration(rapid.SampledFrom([]int{0, 1, 2, 5, 25, 300}).Draw(t, "pause")) * time.Millisecond)
	}
	if len(at) == 0 {
		begin()
	}
	mu.Lock()
	spoiled = 0
	mu.Unlock()
	settle()
	settle()
	equalsImport(t, st)
	notForked(t, st)
}
