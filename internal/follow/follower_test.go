package follow_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

func TestFollow(t *testing.T) {
	for _, signed := range []bool{true, false} {
		t.Run(fmt.Sprintf("signed=%v", signed), func(t *testing.T) {
			o := newOrigin(t)
			h := newHost(t, nil)
			if signed {
				h = newHost(t, o.public())
			}
			o.publish()
			o.publish()
			o.sign()
			stop := h.run(o, nil)
			h.reaches(o)
			for range 20 {
				o.publish()
				o.sign()
			}
			h.reaches(o)
			stop()
			o.publish()
			o.sign()
			h.run(o, nil) // goes on from where it was
			h.reaches(o)
			if resets, groups, _ := h.counts(); resets != 0 || groups == 0 {
				t.Errorf("%d resets and %d groups, expected deltas only", resets, groups)
			}
			if k := h.kinds(); len(k) > 0 {
				t.Errorf("refused %v", h.told())
			}
		})
	}
}

func TestNothingBeyondTheManifest(t *testing.T) {
	o := newOrigin(t)
	h := newHost(t, o.public())
	h.run(o, nil)
	o.publish()
	o.sign()
	h.reaches(o)
	o.publish() // not signed
	o.publish(rrset(t, "late.example.net", 9))
	c := newHost(t, nil)
	c.run(o, nil)
	c.reaches(o) // the control plane has it
	if h.version() != 1 {
		t.Fatalf("host has version %d, signed is 1", h.version())
	}
	o.sign()
	h.reaches(o)
}

func TestLargeDeltas(t *testing.T) {
	o := newOrigin(t)
	h := newHost(t, o.public())
	h.run(o, nil)
	for _, n := range []int{1, 2500, 24000} {
		var put []record.RRset
		for i := range n {
			put = append(put, rrset(t, fmt.Sprintf("n%d-%d.example.net", n, i), byte(i)))
		}
		o.publish(put...)
		o.sign()
		h.reaches(o)
	}
	if size := len(o.logs[3]); size < store.MaxTxnBytes {
		t.Fatalf("the largest delta has %d octets: not in several transactions", size)
	}
	if resets, _, _ := h.counts(); resets != 0 {
		t.Errorf("%d resets, expected deltas only", resets)
	}
}

func TestSnapshotWhenTheLogIsTrimmed(t *testing.T) {
	o, f := newOrigin(t), &fetcher{}
	for range 10 {
		o.publish()
	}
	o.snapshot()
	f.offer(o)
	o.publish()
	o.sign()
	o.trim(11)
	for _, keys := range []bool{true, false} {
		h := newHost(t, nil)
		if keys {
			h = newHost(t, o.public())
		}
		h.run(o, f)
		h.reaches(o)
		if resets, groups, _ := h.counts(); resets != 1 || groups != 1 {
			t.Errorf("keys=%v: %d resets and %d groups, expected one of each", keys, resets, groups)
		}
	}
	d, err := follow.Load(t.Context(), follow.Config{Dataset: dataset, Store: o.st, Fetcher: f})
	if err != nil {
		t.Fatal(err)
	}
	if d.Digest() != o.d.Digest() || d.Version() != o.d.Version() {
		t.Errorf("loaded version %d %s, expected %d %s", d.Version(), d.Digest(), o.d.Version(), o.d.Digest())
	}
}

// A snapshot that comes slowly must not lose the deltas that are trimmed meanwhile.
func TestSlowFetch(t *testing.T) {
	o, f := newOrigin(t), &fetcher{gate: make(chan struct{})}
	for range 5 {
		o.publish()
	}
	o.snapshot()
	f.offer(o)
	o.sign()
	o.trim(6)
	h := newHost(t, o.public())
	h.run(o, f)
	eventually(t, "fetch", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.asked == 1 })
	for range 5 {
		o.publish()
		o.sign()
	}
	// The follower's watch must have them before they go.
	probe := newHost(t, nil)
	probe.d = o.d.Clone()
	for range 3 {
		o.publish()
		o.sign()
	}
	probe.run(o, nil)
	probe.reaches(o)
	close(f.gate)
	h.reaches(o)
	if f.asked != 1 {
		t.Errorf("%d fetches, expected 1", f.asked)
	}
}

func TestDeadSnapshotComesAlive(t *testing.T) {
	o, f := newOrigin(t), &fetcher{}
	o.publish()
	o.publish()
	o.snapshot()
	o.sign()
	o.trim(3)
	h := newHost(t, o.public())
	h.run(o, f)
	h.refuses(follow.KindUnreachable)
	if h.version() != 0 {
		t.Fatalf("version is %d", h.version())
	}
	f.offer(o)
	h.reaches(o)
}

func TestLoad(t *testing.T) {
	o := newOrigin(t)
	cfg := follow.Config{Dataset: dataset, Store: o.st}
	d, err := follow.Load(t.Context(), cfg)
	if err != nil || d.Version() != 0 {
		t.Fatalf("empty store: version %d, error %v; expected 0 and none", d.Version(), err)
	}
	for range 4 {
		o.publish()
	}
	if d, err = follow.Load(t.Context(), cfg); err != nil || d.Digest() != o.d.Digest() {
		t.Fatalf("log only: %v", err)
	}
	o.trim(3)
	if _, err = follow.Load(t.Context(), cfg); !errors.Is(err, follow.ErrUnreachable) {
		t.Fatalf("trimmed, no snapshot: error is %v, expected ErrUnreachable", err)
	}
	o.commit(store.Op{Path: tree.HeadPath(dataset), Value: []byte("{")})
	if _, err = follow.Load(t.Context(), cfg); !errors.Is(err, follow.ErrUnreachable) {
		t.Fatalf("damaged head: error is %v, expected ErrUnreachable", err)
	}
	o.st.SetAvailable(false)
	if _, err = follow.Load(t.Context(), cfg); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("store away: error is %v, expected ErrUnavailable", err)
	}
}

// A full delta heals whatever is broken or lost before it.
func TestFullDeltaHeals(t *testing.T) {
	o := newOrigin(t)
	for range 3 {
		o.publish()
	}
	o.trim(3) // and no snapshot
	o.sign()
	h, c := newHost(t, o.public()), newHost(t, nil)
	h.run(o, nil)
	c.run(o, nil)
	h.refuses(follow.KindUnreachable)
	c.refuses(follow.KindUnreachable)
	full, err := o.d.Replace(9000, []record.RRset{rrset(t, "all.example.net", 1)})
	if err != nil {
		t.Fatal(err)
	}
	o.log(full, o.encode(full))
	o.publish()
	o.sign()
	h.reaches(o)
	c.reaches(o)
}

func TestStoreOutage(t *testing.T) {
	o := newOrigin(t)
	h := newHost(t, o.public())
	h.run(o, nil)
	o.publish()
	o.sign()
	h.reaches(o)
	o.st.SetAvailable(false)
	o.st.SetAvailable(true)
	o.publish()
	o.sign()
	o.st.SetAvailable(false)
	o.st.SetAvailable(true)
	h.reaches(o)
	o.st.Compact() // history is lost: the watch begins anew
	o.publish()
	o.sign()
	h.reaches(o)
	if k := h.kinds(); len(k) > 0 {
		t.Errorf("refused %v", k)
	}
}

func TestSinkThatCannotKeep(t *testing.T) {
	o := newOrigin(t)
	h := newHost(t, o.public())
	h.setFail(errors.New("no space left on device"))
	h.run(o, nil)
	o.publish()
	o.sign()
	eventually(t, "three tries", func() bool { _, _, n := h.counts(); return n >= 3 })
	o.publish()
	o.sign()
	h.setFail(nil)
	h.reaches(o)
}

func TestSinkThatStops(t *testing.T) {
	o := newOrigin(t)
	o.publish()
	h := newHost(t, nil)
	h.setFail(fmt.Errorf("%w: damaged", follow.ErrStop))
	f, err := follow.New(follow.Config{Dataset: dataset, Store: o.st}, nil, h)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Run(t.Context()); !errors.Is(err, follow.ErrStop) {
		t.Errorf("Run: %v, expected ErrStop", err)
	}
}

// The store was put back to an older state and another history grew from there:
// nobody goes back, and everybody takes the new history once it is ahead.
func TestForkedHistory(t *testing.T) {
	o, f := newOrigin(t), &fetcher{}
	for range 4 {
		o.publish()
	}
	old := o.d.Clone()
	o.publish()
	o.publish()
	o.sign()
	h := newHost(t, o.public())
	h.run(o, f)
	h.reaches(o) // version 6
	o.d = old    // version 4
	o.snapshot()
	f.offer(o)
	o.sign()
	h.refuses(follow.KindOlder)
	o.publish(rrset(t, "other.example.net", 5)) // another version 5
	o.publish(rrset(t, "other.example.net", 6)) // another version 6
	o.sign()
	h.refuses(follow.KindForked)
	if h.version() != 6 {
		t.Fatalf("version is %d, expected 6", h.version())
	}
	o.publish(rrset(t, "other.example.net", 7))
	o.sign()
	h.reaches(o)
	if resets, _, _ := h.counts(); resets != 1 {
		t.Errorf("%d resets, expected 1", resets)
	}
}

func TestFloor(t *testing.T) {
	o := newOrigin(t)
	for range 3 {
		o.publish()
		o.sign()
	}
	h := newHost(t, o.public())
	h.run(o, nil, func(c *follow.Config) { c.Floor = 5 })
	h.refuses(follow.KindOlder)
	o.publish()
	o.sign()
	o.publish()
	if h.version() != 0 {
		t.Fatalf("took version %d, the floor is 5", h.version())
	}
	o.sign()
	h.reaches(o)
}

// A snapshot below the floor is fetched where deltas lead from it to what is not below.
func TestSnapshotBelowTheFloor(t *testing.T) {
	o, f := newOrigin(t), &fetcher{}
	for range 3 {
		o.publish()
	}
	o.snapshot()
	f.offer(o)
	o.publish()
	o.sign()
	o.trim(4)
	h := newHost(t, o.public())
	h.run(o, f, func(c *follow.Config) { c.Floor = 5 })
	h.refuses(follow.KindOlder)
	o.publish()
	o.publish()
	o.sign()
	h.reaches(o)
	if resets, _, _ := h.counts(); resets != 1 {
		t.Errorf("%d resets, expected 1: nothing below the floor is taken", resets)
	}
}

func TestRefusals(t *testing.T) {
	flip := func(b []byte, at int) []byte {
		c := append([]byte(nil), b...)
		c[(at+len(c))%len(c)] ^= 1
		return c
	}
	tests := []struct {
		name string
		kind follow.Kind
		// spoil publishes version 3 spoilt. Then the version is mended or followed by
		// good ones in any case.
		spoil func(o *origin)
	}{
		{"bit of the delta", follow.KindChain, func(o *origin) { o.publish(); o.put(3, flip(o.logs[3], 40)); o.sign() }},
		{"delta cut off", follow.KindChain, func(o *origin) { o.publish(); o.put(3, o.logs[3][:60]); o.sign() }},
		{"another delta in its place", follow.KindChain, func(o *origin) { o.publish(); o.put(3, o.logs[2]); o.sign() }},
		{"log form", follow.KindLog, func(o *origin) {
			o.publish()
			o.commit(store.Op{Path: tree.LogPath(dataset, 3), Value: []byte("Xgarbage")})
			o.sign()
		}},
		{"empty log node", follow.KindLog, func(o *origin) {
			o.publish()
			o.commit(store.Op{Path: tree.LogPath(dataset, 3)})
			o.sign()
		}},
		{"oversized delta announced", follow.KindLog, func(o *origin) {
			o.publish()
			o.commit(store.Op{Path: tree.LogPath(dataset, 3), Value: []byte(`P{"parts":5000,"size":327680000,"sha256":"` + fmt.Sprintf("%064d", 0) + `"}`)})
			o.sign()
		}},
		{"genuine chain of garbage", follow.KindLog, func(o *origin) {
			good := o.d.Clone()
			m := o.manifest()
			m.Version, m.Chain = 3, snapshot.ChainOf([]byte("garbage"))
			o.put(3, []byte("garbage"))
			o.putManifest(o.signed(m, o.key))
			o.d = good
		}},
		{"order of the log", follow.KindChain, func(o *origin) {
			o.publish()
			o.publish()
			three, four := o.logs[3], o.logs[4]
			o.put(3, four)
			o.put(4, three)
			o.sign()
		}},
		{"bit of the manifest", follow.KindManifest, func(o *origin) {
			o.publish()
			o.putManifest(flip(o.signed(o.manifest(), o.key), 3))
		}},
		{"manifest cut off", follow.KindManifest, func(o *origin) {
			o.publish()
			b := o.signed(o.manifest(), o.key)
			o.putManifest(b[:len(b)/2])
		}},
		{"oversized manifest", follow.KindManifest, func(o *origin) {
			o.publish()
			o.putManifest(make([]byte, store.MaxValue))
		}},
		{"bit of the signature", follow.KindSignature, func(o *origin) {
			o.publish()
			b := o.signed(o.manifest(), o.key)
			c := append([]byte(nil), b...)
			if i := len(c) - 20; c[i] == 'A' {
				c[i] = 'B'
			} else {
				c[i] = 'A'
			}
			o.putManifest(c)
		}},
		{"signed by another key", follow.KindSignature, func(o *origin) { o.publish(); o.putManifest(o.signed(o.manifest(), key(2))) }},
		{"older manifest again", follow.KindOlder, func(o *origin) { o.publish(); o.putManifest(o.sigs[1]) }},
		{"manifest of another dataset", follow.KindDataset, func(o *origin) {
			o.publish()
			m := o.manifest()
			m.Dataset = "external"
			o.putManifest(o.signed(m, o.key))
		}},
		{"delta of another dataset", follow.KindDataset, func(o *origin) {
			d, err := snapshot.FullDelta("external", 3, 3000, o.d.Chain(), nil)
			if err != nil {
				o.t.Fatal(err)
			}
			b := o.encode(d)
			m := o.manifest()
			m.Version, m.Chain = 3, snapshot.ChainOf(b)
			o.put(3, b)
			o.putManifest(o.signed(m, o.key))
		}},
		{"digest of the manifest", follow.KindDigest, func(o *origin) {
			o.publish()
			m := o.manifest()
			m.Digest[0] ^= 1
			o.putManifest(o.signed(m, o.key))
		}},
		{"digest of the delta", follow.KindDigest, func(o *origin) {
			d, _ := o.next(rrset(o.t, "bad.example.net", 1))
			d.Digest[0] ^= 1
			b := o.encode(d)
			m := o.manifest()
			m.Version, m.Chain, m.Digest = 3, snapshot.ChainOf(b), d.Digest
			o.put(3, b)
			o.putManifest(o.signed(m, o.key))
		}},
		{"two histories of one version", follow.KindForked, func(o *origin) {
			m := o.manifest()
			m.Chain[0] ^= 1
			o.putManifest(o.signed(m, o.key))
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o, f := newOrigin(t), &fetcher{}
			h := newHost(t, o.public())
			h.run(o, f)
			o.publish()
			o.sign()
			o.publish()
			o.sign()
			h.reaches(o)
			before := h.digest()
			test.spoil(o)
			h.refuses(test.kind)
			if h.version() != 2 || h.digest() != before {
				t.Fatalf("host is at version %d, expected 2 as before", h.version())
			}
			for _, r := range h.told() {
				if r.Err == nil || r.Time.IsZero() || r.String() == "" {
					t.Errorf("refusal says too little: %+v", r)
				}
			}
			// It is mended, one way or another: by a full delta above everything.
			full, err := snapshot.FullDelta(dataset, 9, 9000, snapshot.Chain{1}, []record.RRset{rrset(t, "mended.example.net", 1)})
			if err != nil {
				t.Fatal(err)
			}
			if o.d, err = snapshot.Start(full); err != nil {
				t.Fatal(err)
			}
			o.put(9, o.encode(full))
			o.sign()
			h.reaches(o)
			o.publish()
			o.sign()
			h.reaches(o)
		})
	}
}

func TestRefusedSnapshots(t *testing.T) {
	other := newOrigin(t)
	tests := map[string]func(o *origin, f *fetcher){
		"bit":       func(o *origin, f *fetcher) { o.file[len(o.file)/2] ^= 1 },
		"truncated": func(o *origin, f *fetcher) { o.file = o.file[:len(o.file)-1] },
		"another": func(o *origin, f *fetcher) {
			other.publish()
			other.snapshot()
			o.file = other.file
		},
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			o, f := newOrigin(t), &fetcher{}
			o.publish()
			o.publish()
			o.snapshot()
			good := append([]byte(nil), o.file...)
			spoil(o, f)
			f.offer(o)
			o.sign()
			o.trim(3)
			h := newHost(t, o.public())
			h.run(o, f)
			h.refuses(follow.KindSnapshot)
			if h.version() != 0 {
				t.Fatalf("version is %d", h.version())
			}
			o.file = good
			f.offer(o)
			h.reaches(o)
		})
	}
}

// What is refused again and again is told once.
// unreadable hands over what cannot be read, as a disk that fails does.
type unreadable struct{ dir string }

func (u unreadable) Fetch(context.Context, snapshot.Ref, string, func(done, total int64)) (string, error) {
	return u.dir, nil
}

// TestOwnDiskIsNobodysFault: a file that the disk here does not give back is not one that
// somebody forged.
func TestOwnDiskIsNobodysFault(t *testing.T) {
	o := newOrigin(t)
	o.publish()
	o.snapshot()
	o.sign()
	o.trim(2)
	h := newHost(t, o.public())
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "stays"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	h.run(o, unreadable{dir})
	h.refuses(follow.KindUnreachable)
	if k := h.kinds(); slices.Contains(k, follow.KindSnapshot) {
		t.Errorf("refused %v", k)
	}
}

func TestRefusedOnce(t *testing.T) {
	o := newOrigin(t)
	o.publish()
	o.putManifest([]byte("garbage"))
	h := newHost(t, o.public())
	st := &counting{Store: o.st.Peer(), n: make(chan struct{}, 100)}
	h.run(o, nil, func(c *follow.Config) { c.Store = st })
	eventually(t, "several retries", func() bool { return st.lists() >= 4 })
	if k := h.kinds(); len(k) != 1 {
		t.Errorf("refused %v, expected once", k)
	}
}

// TestConvergence plays a random life and demands that the host ends where the
// origin is, whatever happened, and never goes back (host checks each step).
func TestConvergence(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 0))
			o, f := newOrigin(t), &fetcher{}
			h := newHost(t, o.public())
			stop := h.run(o, f)
			for range 120 {
				switch rng.IntN(12) {
				case 0, 1, 2, 3, 4:
					o.publish(rrset(t, fmt.Sprintf("h%d.example.net", rng.IntN(30)), byte(rng.IntN(200))))
				case 5, 6:
					if o.d.Version() > 0 {
						o.sign()
					}
				case 7:
					if o.d.Version() > 0 {
						o.snapshot()
						f.offer(o)
						o.sign()
						if rng.IntN(2) == 0 {
							o.trim(o.ref.Version + 1)
						}
					}
				case 8:
					stop()
					stop = h.run(o, f)
				case 9:
					o.st.SetAvailable(false)
					o.st.SetAvailable(true)
				case 10:
					o.st.Compact()
				case 11:
					if len(o.sigs) > 0 && o.d.Version() > 0 {
						o.putManifest([]byte("garbage"))
						o.sign()
					}
				}
			}
			o.publish()
			o.sign()
			h.reaches(o)
		})
	}
}

// counting counts Lists.
type counting struct {
	store.Store
	n chan struct{}
}

func (c *counting) lists() int { return len(c.n) }

func (c *counting) List(ctx context.Context, prefix string) ([]store.Node, store.Revision, error) {
	select {
	case c.n <- struct{}{}:
	default:
	}
	return c.Store.List(ctx, prefix)
}
