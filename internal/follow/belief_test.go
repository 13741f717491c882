package follow_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot/journal"
	"github.com/zonecast/zonecast/store"
)

// beliefs is a set of keys that changes.
type beliefs struct {
	mu      sync.Mutex // guards below
	set     *journal.KeySet
	changed chan struct{}
}

func newBeliefs(keys ...ed25519.PrivateKey) *beliefs {
	b := &beliefs{set: &journal.KeySet{}, changed: make(chan struct{}, 1)}
	for _, k := range keys {
		b.set.Believed = append(b.set.Believed, k.Public().(ed25519.PublicKey))
	}
	return b
}

func (b *beliefs) keys() *journal.KeySet {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.set
}

// revoke takes the first key away.
func (b *beliefs) revoke(void bool) {
	b.mu.Lock()
	b.set = &journal.KeySet{Believed: b.set.Believed[1:], Revoked: []journal.Revoked{{Key: b.set.Believed[0], Void: void}}}
	b.mu.Unlock()
	b.tell()
}

// add believes another key, which is the first.
func (b *beliefs) add(k ed25519.PrivateKey) {
	b.mu.Lock()
	b.set = &journal.KeySet{Believed: append([]ed25519.PublicKey{k.Public().(ed25519.PublicKey)}, b.set.Believed...), Revoked: b.set.Revoked}
	b.mu.Unlock()
	b.tell()
}

func (b *beliefs) tell() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

func (b *beliefs) use(c *follow.Config) { c.Keys, c.KeysChanged = b.keys, b.changed }

// TestRevokedBefore: what a thief signed comes before what tells that its key is revoked. It is
// not taken, at the beginning and after a silence, and what can be believed is when that is known.
func TestRevokedBefore(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		thief := key(2)
		o := newOrigin(t)
		o.publish()
		o.putManifest(o.signed(o.manifest(), thief))
		h := newHost(t, o.public())
		b := newBeliefs(thief, o.key)
		var mu sync.Mutex
		asked, answer := 0, errors.New("the store does not say")
		revoked := func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			if asked++; asked == 3 {
				b.revoke(true)
				answer = nil
			}
			return answer
		}
		stop := h.run(o, nil, b.use, func(c *follow.Config) { c.Revoked = revoked })
		defer stop()
		time.Sleep(time.Minute)
		synctest.Wait()
		if resets, deltas, _ := h.counts(); resets+deltas > 0 { // host.check looks at what signed it, too
			t.Errorf("%d resets and %d deltas by the word of a revoked key", resets, deltas)
		}
		o.sign()
		h.reaches(o)
		for range 2 {
			o.publish()
			o.sign()
			h.reaches(o)
		}
		mu.Lock()
		if asked > 4 { // twice in vain, once that told, and once after the minute
			t.Errorf("asked %d times, expected 4: not with each version", asked)
		}
		mu.Unlock()
	})
}

// TestRevokedBeforeRefresh: the watch says nothing any more, and what a thief signed meanwhile is found
// by asking anew: so is what tells of revocations, first.
func TestRevokedBeforeRefresh(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		thief := key(2)
		o := newOrigin(t)
		o.publish()
		o.putManifest([]byte("garbage")) // lets the follower ask
		nodes, rev, err := o.st.List(t.Context(), tree.OutPrefix(dataset))
		if err != nil {
			t.Fatal(err)
		}
		st := &swapped{counting: counting{Store: o.st.Peer(), n: make(chan struct{}, 1)}, watch: make(chan store.Batch)}
		h := newHost(t, o.public())
		b := newBeliefs(thief, o.key)
		var stolen atomic.Bool
		stop := h.run(o, nil, b.use, func(c *follow.Config) {
			c.Store = st
			c.Revoked = func(context.Context) error {
				if stolen.CompareAndSwap(true, false) {
					b.revoke(true)
				}
				return nil
			}
		})
		defer stop()
		st.watch <- store.Batch{Reset: true, Revision: rev, Puts: nodes}
		time.Sleep(time.Minute)
		synctest.Wait()
		stolen.Store(true)
		o.putManifest(o.signed(o.manifest(), thief))
		time.Sleep(time.Minute)
		synctest.Wait()
		if resets, deltas, _ := h.counts(); resets+deltas > 0 {
			t.Errorf("%d resets and %d deltas by the word of a revoked key", resets, deltas)
		}
		o.sign()
		h.reaches(o)
	})
}

// TestKeyAddedAfterItsRevocation: a key comes into a host's files that was revoked when nobody here
// knew it. What it signed is not taken before the store was asked for revocations.
func TestKeyAddedAfterItsRevocation(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		thief := key(2)
		o := newOrigin(t)
		o.publish()
		o.sign()
		h := newHost(t, o.public())
		b := newBeliefs(o.key)
		stop := h.run(o, nil, b.use, func(c *follow.Config) {
			c.Revoked = func(context.Context) error {
				if len(b.keys().Believed) > 1 {
					b.revoke(true)
				}
				return nil
			}
		})
		defer stop()
		h.reaches(o)
		o.publish()
		o.putManifest(o.signed(o.manifest(), thief))
		h.refuses(follow.KindSignature)
		b.add(thief)
		synctest.Wait()
		if got := h.version(); got != 1 {
			t.Errorf("took version %d by the word of a key that is revoked", got)
		}
		o.sign()
		h.reaches(o)
	})
}

// TestRevokedWhileFetched: a snapshot that a thief offered is on its way when something newer
// by another key is the target, and the thief's key is revoked: what arrives is not taken.
func TestRevokedWhileFetched(t *testing.T) {
	thief := key(2)
	o, f := newOrigin(t), &fetcher{gate: make(chan struct{})}
	for range 3 {
		o.publish()
	}
	forged := newOrigin(t)
	for range 4 {
		forged.publish(rrset(t, "forged.example.net", byte(forged.d.Version())))
	}
	forged.snapshot()
	f.offer(forged)
	o.putManifest(forged.signed(forged.manifest(), thief))
	h := newHost(t, o.public())
	b := newBeliefs(thief, o.key)
	h.run(o, f, b.use)
	eventually(t, "fetch", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.asked == 1 })
	o.publish()
	o.publish()
	o.sign() // version 5: the target
	probe := newHost(t, o.public())
	probe.run(o, nil)
	probe.reaches(o)
	b.revoke(true)
	eventually(t, "that is noticed", func() bool { return len(b.changed) == 0 })
	close(f.gate)
	h.reaches(o)
	if resets, _, _ := h.counts(); resets > 1 { // host.check has looked at what signed it
		t.Errorf("%d resets, expected 1 at most", resets)
	}
}

// TestRevokedWhileDiskFull: what a thief signed cannot be kept for hours, and its key is revoked
// meanwhile: it is not kept when there is room, and another history of the same version is.
func TestRevokedWhileDiskFull(t *testing.T) {
	thief := key(2)
	for _, void := range []bool{false, true} {
		o := newOrigin(t)
		o.publish()
		o.publish()
		o.sign()
		h := newHost(t, o.public())
		b := newBeliefs(thief, o.key)
		stop := h.run(o, nil, b.use)
		h.reaches(o)
		honest := o.d.Clone()
		h.setFail(errors.New("no space left on device"))
		o.publish(rrset(t, "forged.example.net", 6))
		o.putManifest(o.signed(o.manifest(), thief))
		eventually(t, "three tries", func() bool { _, _, n := h.counts(); return n >= 3 })
		b.revoke(void)
		eventually(t, "that is noticed", func() bool { return len(b.changed) == 0 })
		h.setFail(nil)
		o.d = honest
		o.publish(rrset(t, "honest.example.net", 7))
		o.sign()
		h.reaches(o) // host.check has looked at what signed it
		o.publish()
		o.sign()
		h.reaches(o)
		stop()
	}
}
