package follow_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// A store that was put back counts its revisions from an older one: what it says
// then is the truth all the same, also to a follower that has listed it before.
func TestRevisionsGoBack(t *testing.T) {
	o := newOrigin(t)
	for range 20 {
		o.publish()
	}
	o.putManifest([]byte("garbage")) // lets the follower list
	h := newHost(t, o.public())
	st := &swapped{counting: counting{Store: o.st.Peer(), n: make(chan struct{}, 100)}, watch: make(chan store.Batch)}
	nodes, before, err := o.st.List(t.Context(), tree.DatasetPrefix(dataset))
	if err != nil {
		t.Fatal(err)
	}
	h.run(o, nil, func(c *follow.Config) { c.Store = st })
	st.watch <- store.Batch{Reset: true, Revision: before, Puts: nodes}
	eventually(t, "two lists", func() bool { return st.lists() >= 2 })

	again := newOrigin(t) // revisions begin at 1
	again.publish()
	again.sign()
	nodes, rev, err := again.st.List(t.Context(), tree.DatasetPrefix(dataset))
	if err != nil {
		t.Fatal(err)
	}
	if rev >= before {
		t.Fatalf("revision %d, expected below %d", rev, before)
	}
	o.st.SetAvailable(false) // lists fail from now on: the watch alone must do
	st.watch <- store.Batch{Reset: true, Revision: rev, Puts: nodes}
	h.reaches(again)
}

// swapped is a store whose watch is the test's.
type swapped struct {
	counting
	watch chan store.Batch
}

func (s *swapped) Watch(context.Context, string, store.Revision) <-chan store.Batch { return s.watch }

// The store was lost and a history began anew, with no snapshot yet: who had the old
// one takes the new one as soon as it is ahead, by walking it from its beginning.
func TestHistoryFromTheBeginning(t *testing.T) {
	for _, signed := range []bool{true, false} {
		t.Run(fmt.Sprintf("signed=%v", signed), func(t *testing.T) {
			old := newOrigin(t)
			for range 5 {
				old.publish()
			}
			o := newOrigin(t)
			for i := range 5 {
				o.publish(rrset(t, "other.example.net", byte(i)))
			}
			o.sign()
			h := newHost(t, nil)
			if signed {
				h = newHost(t, o.public())
			}
			h.d = old.d.Clone()
			h.run(o, nil)
			h.refuses(follow.KindForked)
			o.publish(rrset(t, "other.example.net", 6))
			o.sign()
			h.reaches(o)
			if resets, _, _ := h.counts(); resets != 1 {
				t.Errorf("%d resets, expected 1", resets)
			}
		})
	}
}

// The same, when a full delta that was published before the fork was noticed leads on.
func TestForkAboveAFullDelta(t *testing.T) {
	old := newOrigin(t)
	for range 5 {
		old.publish()
	}
	o := newOrigin(t)
	d, err := snapshot.FullDelta(dataset, 4, 4000, snapshot.Chain{1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if o.d, err = snapshot.Start(d); err != nil {
		t.Fatal(err)
	}
	o.put(4, o.encode(d))
	o.publish()
	o.publish()
	o.sign()
	h := newHost(t, o.public())
	h.d = old.d.Clone()
	h.run(o, nil)
	h.reaches(o)
}

// A store that stays behind for hours, with a version every second, does not fill
// the log with one line for each.
func TestRefusalsAreFew(t *testing.T) {
	o := newOrigin(t)
	h := newHost(t, o.public())
	h.run(o, nil, func(c *follow.Config) { c.Floor = 1 << 40 })
	for v := range 200 {
		o.publish()
		o.sign()
		if v%20 == 0 {
			h.refuses(follow.KindOlder)
			time.Sleep(2 * time.Millisecond)
		}
	}
	o.putManifest([]byte("end"))
	h.refuses(follow.KindManifest)
	if n := len(h.told()); n > 12 {
		t.Errorf("%d refusals told of 200 versions, expected 12 or fewer", n)
	}
}
