package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/store"
)

func (x *suite) sessionClose() {
	ss := x.session(x.s)
	w := x.s.Watch(x.ctx, "/e/", 0)
	x.next(w)
	rev := x.commit(ss, do(put("/e/a", "1"), put("/e/b", "1")))
	x.commit(x.s, do(put("/e/stays", "1")))
	n := x.wantValue(x.s, "/e/a", "1")
	want := store.Node{Path: "/e/a", Value: []byte("1"), Created: rev, Modified: rev, Ephemeral: true}
	if diff := cmp.Diff(want, n); diff != "" {
		x.Errorf("ephemeral node (-want +got):\n%s", diff)
	}
	x.gather(w, 3)
	if err := ss.Close(); err != nil {
		x.Fatalf("Close: %v", err)
	}
	x.wantValue(x.s, "/e/a", "")
	x.wantValue(x.s, "/e/b", "")
	if n := x.wantValue(x.s, "/e/stays", "1"); n.Ephemeral {
		x.Error("a node of Store.Commit is ephemeral")
	}
	if _, deletes := x.gather(w, 2); len(deletes) != 2 {
		x.Errorf("the watch has the deletes %q, expected /e/a and /e/b", deletes)
	}
	select {
	case <-ss.Done():
	default:
		x.Error("Done is not closed after Close")
	}
	_, err := ss.Commit(x.ctx, do(put("/e/late", "1")))
	x.wantError("Commit in a closed session", err, store.ErrSessionLost)
	_, err = ss.Commit(x.ctx, do(del("/e/stays")))
	x.wantError("Commit in a closed session", err, store.ErrSessionLost)
	_, err = ss.Elect(x.ctx, "/e/late", nil)
	x.wantError("Elect in a closed session", err, store.ErrSessionLost)
	x.wantValue(x.s, "/e/late", "")
	x.wantValue(x.s, "/e/stays", "1")
	if err := ss.Close(); err != nil {
		x.Errorf("second Close: %v", err)
	}

	ss = x.session(x.s)
	x.commit(ss, do(put("/e/c", "1")))
	other := x.peer()
	if err := x.s.Close(); err != nil {
		x.Fatalf("Close of the store: %v", err)
	}
	x.wantValue(other, "/e/c", "")
}

func (x *suite) sessionDeath() {
	if x.opts.Die == nil {
		x.Skip("the engine has no Die")
	}
	owner := x.peer()
	ss := x.session(owner)
	x.commit(ss, do(put("/e/a", "1")))
	x.opts.Die(x.T, owner)
	took := x.waitGone(x.s, "/e/a")
	if most := 3*x.opts.TTL + 5*time.Second; took > most {
		x.Errorf("the node went %s after its owner died, expected at most %s", took, most)
	}
}

// sessionLost: who cannot reach the engine for its ttl learns that it has lost its
// nodes, and lost they stay.
func (x *suite) sessionLost() {
	if x.opts.SetAvailable == nil {
		x.Skip("the engine has no SetAvailable")
	}
	ss := x.session(x.s)
	x.commit(ss, do(put("/e/a", "1")))
	x.opts.SetAvailable(x.T, x.s, false)
	select {
	case <-ss.Done():
	case <-time.After(patience):
		x.Fatal("Done is not closed though the engine is away")
	}
	x.opts.SetAvailable(x.T, x.s, true)
	_, err := ss.Commit(x.ctx, do(put("/e/a", "2")))
	x.wantError("Commit in a lost session", err, store.ErrSessionLost)
	ctx, cancel := context.WithTimeout(x.ctx, patience)
	defer cancel()
	for {
		_, err := x.s.Get(ctx, "/e/a")
		if errors.Is(err, store.ErrNotFound) {
			break
		}
		if ctx.Err() != nil {
			x.Fatalf("/e/a is still there, %s after its session was lost: %v", patience, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	next := x.session(x.s)
	x.commit(next, do(put("/e/a", "3")))
}

func (x *suite) sessionKeepsAlive() {
	ss := x.session(x.s)
	x.commit(ss, do(put("/e/a", "1")))
	select {
	case <-ss.Done():
		x.Error("the session was lost though its owner lives")
	case <-time.After(2*x.opts.TTL + x.opts.TTL/2):
	}
	x.wantValue(x.s, "/e/a", "1")
}

func (x *suite) sessionLimits() {
	for _, ttl := range []time.Duration{0, -time.Second} {
		if ss, err := x.s.Session(x.ctx, ttl); err == nil {
			ss.Close()
			x.Errorf("Session with a ttl of %s: no error", ttl)
		}
	}
	ss := x.session(x.s)
	_, err := ss.Commit(x.ctx, store.Txn{If: []store.Cond{{Path: "/e/a", Modified: 1}}, Do: []store.Op{put("/e/a", "1")}})
	x.wantError("Commit", err, store.ErrConflict)
	_, err = ss.Commit(x.ctx, do(put("/e/a", string(make([]byte, store.MaxValue+1)))))
	if err == nil {
		x.Error("Commit of a value that is too long: no error")
	}
	if _, err := ss.Elect(x.ctx, "/e/a", make([]byte, store.MaxValue+1)); err == nil {
		x.Error("Elect with a value that is too long: no error")
	}
}

// sessionTakesOver: a node belongs to who put it last.
func (x *suite) sessionTakesOver() {
	first, second := x.session(x.s), x.session(x.s)
	x.commit(first, do(put("/e/moved", "1"), put("/e/kept", "1"), put("/e/deleted", "1")))
	x.commit(second, do(put("/e/moved", "2")))
	x.commit(x.s, do(put("/e/kept", "2"), del("/e/deleted")))
	x.commit(x.s, do(put("/e/deleted", "2")))
	if err := first.Close(); err != nil {
		x.Fatal(err)
	}
	x.wantValue(x.s, "/e/moved", "2")
	x.wantValue(x.s, "/e/deleted", "2")
	if n := x.wantValue(x.s, "/e/kept", "2"); n.Ephemeral {
		x.Error("a node put by the store is still ephemeral")
	}
	if err := second.Close(); err != nil {
		x.Fatal(err)
	}
	x.wantValue(x.s, "/e/moved", "")
}

const office = "/elect/office"

func (x *suite) elect(ss store.Session, value string) store.Leadership {
	x.Helper()
	l, err := ss.Elect(x.ctx, office, []byte(value))
	if err != nil {
		x.Fatalf("Elect: %v", err)
	}
	return l
}

// stands starts an Elect that has to wait, and makes sure that it does.
func (x *suite) stands(ctx context.Context, ss store.Session, value string) <-chan elected {
	x.Helper()
	c := make(chan elected, 1)
	go func() {
		l, err := ss.Elect(ctx, office, []byte(value))
		c <- elected{l, err}
	}()
	select {
	case e := <-c:
		x.Fatalf("Elect returned %+v while another leads", e)
	case <-time.After(150 * time.Millisecond):
	}
	return c
}

type elected struct {
	store.Leadership
	err error
}

func (x *suite) wins(c <-chan elected) store.Leadership {
	x.Helper()
	select {
	case e := <-c:
		if e.err != nil {
			x.Fatalf("Elect: %v", e.err)
		}
		return e.Leadership
	case <-time.After(patience):
		x.Fatalf("nobody took over within %s", patience)
	}
	return store.Leadership{}
}

// noElections: who elects nobody says so at once, and leaves nothing behind.
func (x *suite) noElections() {
	ss := x.session(x.s)
	if l, err := ss.Elect(x.ctx, office, []byte("a")); err == nil {
		x.Errorf("Elect gave %+v, expected an error", l)
	}
	x.wantValue(x.s, office, "")
}

func (x *suite) electOne() {
	a, b := x.session(x.s), x.session(x.peer())
	l := x.elect(a, "a")
	n := x.wantValue(x.s, office, "a")
	if !n.Ephemeral || l.Fence != (store.Cond{Path: office, Modified: n.Modified}) {
		x.Errorf("fence is %+v for the node %+v", l.Fence, n)
	}
	waiting := x.stands(x.ctx, b, "b")
	if _, err := a.Elect(x.ctx, office, []byte("a")); err == nil {
		x.Error("a leader stood again in its own election: no error")
	}
	if err := l.Resign(x.ctx); err != nil {
		x.Fatalf("Resign: %v", err)
	}
	l2 := x.wins(waiting)
	x.wantValue(x.s, office, "b")
	if err := l.Resign(x.ctx); err != nil {
		x.Errorf("second Resign: %v", err)
	}
	x.wantValue(x.s, office, "b") // the old leader's resignation is not the new one's
	again := x.stands(x.ctx, a, "a")
	if err := l2.Resign(x.ctx); err != nil {
		x.Fatalf("Resign: %v", err)
	}
	x.wins(again)
	x.wantValue(x.s, office, "a")
}

// electMany: never two at once, and everybody's turn comes.
func (x *suite) electMany() {
	const candidates = 6
	stores := []store.Store{x.s, x.peer()}
	var leading atomic.Int32
	var wg sync.WaitGroup
	for i := range candidates {
		ss := x.session(stores[i%2])
		wg.Go(func() {
			l, err := ss.Elect(x.ctx, office, []byte(fmt.Sprint(i)))
			if err != nil {
				x.Errorf("Elect: %v", err)
				return
			}
			if n := leading.Add(1); n != 1 {
				x.Errorf("%d leaders at once", n)
			}
			if _, err := x.s.Commit(x.ctx, store.Txn{If: []store.Cond{l.Fence}, Do: []store.Op{put(fmt.Sprintf("/led/%d", i), "1")}}); err != nil {
				x.Errorf("Commit of a leader with its fence: %v", err)
			}
			leading.Add(-1)
			if i%2 == 0 {
				err = l.Resign(x.ctx)
			} else {
				err = ss.Close()
			}
			if err != nil {
				x.Errorf("giving up leadership: %v", err)
			}
		})
	}
	wg.Wait()
	if nodes, _, err := x.s.List(x.ctx, "/led/"); err != nil || len(nodes) != candidates {
		x.Errorf("%d of %d candidates led, error %v", len(nodes), candidates, err)
	}
}

func (x *suite) electTakesOver() {
	a, b := x.session(x.s), x.session(x.peer())
	x.elect(a, "a")
	waiting := x.stands(x.ctx, b, "b")
	start := time.Now()
	if err := a.Close(); err != nil {
		x.Fatal(err)
	}
	x.wins(waiting)
	if took := time.Since(start); took > x.opts.TTL/2+time.Second {
		x.Errorf("taking over from a session that was closed took %s, expected no wait for its ttl", took)
	}
}

func (x *suite) electAfterDeath() {
	if x.opts.Die == nil {
		x.Skip("the engine has no Die")
	}
	owner := x.peer()
	a, b := x.session(owner), x.session(x.s)
	old := x.elect(a, "a")
	waiting := x.stands(x.ctx, b, "b")
	x.opts.Die(x.T, owner)
	l := x.wins(waiting)
	if l.Fence == old.Fence {
		x.Errorf("the new leader has the dead one's fence %+v", l.Fence)
	}
	select {
	case <-a.Done():
	case <-time.After(patience):
		x.Error("the deposed leader does not know")
	}
}

func (x *suite) electFence() {
	a, b := x.session(x.s), x.session(x.s)
	l := x.elect(a, "a")
	rev := x.commit(x.s, store.Txn{If: []store.Cond{l.Fence}, Do: []store.Op{put("/data", "a")}})
	waiting := x.stands(x.ctx, b, "b")
	if err := a.Close(); err != nil {
		x.Fatal(err)
	}
	l2 := x.wins(waiting)
	_, err := x.s.Commit(x.ctx, store.Txn{If: []store.Cond{{Path: "/data", Modified: rev}, l.Fence}, Do: []store.Op{put("/data", "late")}})
	x.wantError("Commit of a deposed leader", err, store.ErrConflict)
	x.wantValue(x.s, "/data", "a")
	x.commit(x.s, store.Txn{If: []store.Cond{l2.Fence}, Do: []store.Op{put("/data", "b")}})
	if err := l2.Resign(x.ctx); err != nil {
		x.Fatal(err)
	}
	_, err = x.s.Commit(x.ctx, store.Txn{If: []store.Cond{l2.Fence}, Do: []store.Op{put("/data", "late")}})
	x.wantError("Commit of a leader that resigned", err, store.ErrConflict)
}

func (x *suite) electCancelled() {
	a, b := x.session(x.s), x.session(x.s)
	l := x.elect(a, "a")
	ctx, cancel := context.WithCancel(x.ctx)
	waiting := x.stands(ctx, b, "b")
	cancel()
	select {
	case e := <-waiting:
		x.wantError("Elect", e.err, context.Canceled)
	case <-time.After(patience):
		x.Fatal("Elect goes on though its ctx has ended")
	}
	if err := l.Resign(x.ctx); err != nil {
		x.Fatal(err)
	}
	// Who gave up does not win later, and may stand again.
	x.wantValue(x.s, office, "")
	x.elect(b, "b")
}

func (x *suite) electSessionEnds() {
	a, b := x.session(x.s), x.session(x.s)
	x.elect(a, "a")
	waiting := x.stands(x.ctx, b, "b")
	if err := b.Close(); err != nil {
		x.Fatal(err)
	}
	select {
	case e := <-waiting:
		x.wantError("Elect", e.err, store.ErrSessionLost)
	case <-time.After(patience):
		x.Fatal("Elect goes on though its session has ended")
	}
	x.wantValue(x.s, office, "a")
}

// electThroughOutage: a short outage neither ends a candidacy nor makes two leaders.
func (x *suite) electThroughOutage() {
	if x.opts.SetAvailable == nil {
		x.Skip("the engine has no SetAvailable")
	}
	a, b := x.session(x.s), x.session(x.s)
	l := x.elect(a, "a")
	waiting := x.stands(x.ctx, b, "b")
	x.opts.SetAvailable(x.T, x.s, false)
	time.Sleep(x.opts.TTL / 10)
	x.opts.SetAvailable(x.T, x.s, true)
	x.commitAgain(store.Txn{If: []store.Cond{l.Fence}, Do: []store.Op{put("/data", "a")}})
	if err := a.Close(); err != nil {
		x.Fatal(err)
	}
	x.wins(waiting)
	x.wantValue(x.s, office, "b")
}
