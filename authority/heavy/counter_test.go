package heavy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// check holds entries against exact counts, with the guarantees of Space-Saving.
func check(t interface{ Fatalf(string, ...any) }, what string, entries []Entry, exact map[string]uint64, k int) {
	var n uint64
	for _, count := range exact {
		n += count
	}
	there := map[string]bool{}
	for i, e := range entries {
		switch count := exact[string(e.Key)]; {
		case there[string(e.Key)]:
			t.Fatalf("%s: %x is there twice", what, e.Key)
		case e.Error > e.Count || count < e.Count-e.Error || count > e.Count:
			t.Fatalf("%s: %x came %d times, entry says %d to %d", what, e.Key, count, e.Count-e.Error, e.Count)
		case i > 0 && e.Count > entries[i-1].Count:
			t.Fatalf("%s: %d behind %d, expected the largest first", what, e.Count, entries[i-1].Count)
		}
		there[string(e.Key)] = true
	}
	for key, count := range exact {
		if count > n/uint64(k) && !there[key] {
			t.Fatalf("%s: %x came %d of %d times and is not there; k is %d", what, key, count, n, k)
		}
	}
}

// checkInside looks at what only the package sees: heap, places, and that the counts
// add up to all keys.
func checkInside(t interface{ Fatalf(string, ...any) }, c *Counter) {
	var sum uint64
	for i, n := range c.heap {
		sum += n.count
		if n.count < c.heap[max(i-1, 0)/2].count {
			t.Fatalf("heap: %d at %d is less than its parent", n.count, i)
		}
		e := &c.entries[n.entry]
		if int(e.at) != i || c.find(e.hash, e.key[:e.length]) != int(n.entry) {
			t.Fatalf("entry %d of heap %d is not found", n.entry, i)
		}
	}
	used := 0
	for _, p := range c.places {
		if p.entry != 0 {
			used++
		}
	}
	if sum != c.total || used != len(c.entries) {
		t.Fatalf("counts add up to %d of %d, %d places of %d", sum, c.total, used, len(c.entries))
	}
}

// TestAgainstExactCounts draws streams of a few or many keys, even or skewed, and
// spreads each over several Counters.
func TestAgainstExactCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k, workers := rapid.IntRange(1, 20).Draw(t, "k"), rapid.IntRange(1, 4).Draw(t, "workers")
		counters, parts := make([]*Counter, workers), make([]map[string]uint64, workers)
		for i := range counters {
			counters[i], parts[i] = New(k), map[string]uint64{}
		}
		all := map[string]uint64{}
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		keys, skew := rapid.IntRange(1, 200).Draw(t, "keys"), rapid.Float64Range(0, 4).Draw(t, "skew")
		for range rapid.IntRange(0, 3000).Draw(t, "n") {
			x := random.Float64()
			for range int(skew) {
				x *= random.Float64()
			}
			key, w := fmt.Sprint(int(x*float64(keys))), random.IntN(workers)
			counters[w].Add([]byte(key))
			parts[w][key]++
			all[key]++
		}
		for i, c := range counters {
			checkInside(t, c)
			check(t, "one", c.Top(k), parts[i], k)
			if len(parts[i]) <= k {
				for _, e := range c.Top(k) {
					if e.Error != 0 {
						t.Fatalf("%d keys of %d entries: error %d, want exact counts", len(parts[i]), k, e.Error)
					}
				}
			}
		}
		check(t, "merged", Merge(counters...), all, k)
	})
}

// TestFlood adds random names and a few that come often: these are found, and
// memory is what it was.
func TestFlood(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	c, k := New(256), 256
	exact := map[string]uint64{}
	for i := range 200_000 {
		key := binary.BigEndian.AppendUint64(nil, random.Uint64())
		if i%50 == 0 {
			key = []byte{byte(i / 50 % 4)} // four keys of half a percent each: 1/k is 0.39
		}
		c.Add(key)
		exact[string(key)]++
	}
	checkInside(t, c)
	check(t, "flood", c.Top(k), exact, k)
	for _, e := range c.Top(4) {
		if len(e.Key) != 1 {
			t.Errorf("%x is among the first four, want only the frequent keys", e.Key)
		}
	}
	if len(c.entries) != 256 || len(c.places) != 1024 {
		t.Errorf("%d entries and %d places, want 256 and 1024", len(c.entries), len(c.places))
	}
}

func TestTop(t *testing.T) {
	c := New(3)
	for _, key := range []string{"a", "b", "b", "c", "c", "c", ""} { // the last takes the place of a
		c.Add([]byte(key))
	}
	want := []Entry{{[]byte("c"), 3, 0}, {[]byte("b"), 2, 0}, {[]byte(""), 2, 1}}
	for n := range 5 {
		if d := cmp.Diff(want[:min(n, 3)], c.Top(n)); d != "" {
			t.Errorf("top %d: -want +got:\n%s", n, d)
		}
	}
	if got := c.Top(-1); len(got) != 0 {
		t.Errorf("top -1 gave %v", got)
	}
	if c.Total() != 7 {
		t.Errorf("total %d, want 7", c.Total())
	}
}

func TestKeys(t *testing.T) {
	c := New(0) // 1
	long := bytes.Repeat([]byte{1}, MaxKey)
	c.Add(long)
	c.Add(append(slices.Clone(long), 1)) // left out
	if d := cmp.Diff([]Entry{{long, 1, 0}}, c.Top(9)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	top := c.Top(1)
	top[0].Key[0]++
	if !bytes.Equal(c.Top(1)[0].Key, long) {
		t.Error("who changes a key of Top changes the Counter")
	}
	if got := Merge(); len(got) != 0 {
		t.Errorf("of no Counters: %v", got)
	}
	if got := Merge(New(5), New(5)); len(got) != 0 {
		t.Errorf("of empty Counters: %v", got)
	}
}

// TestReaders is for the race detector.
func TestReaders(t *testing.T) {
	a, b := New(16), New(16)
	var wg sync.WaitGroup
	for i, c := range []*Counter{a, b} {
		wg.Go(func() {
			for n := range 5000 {
				c.Add([]byte{byte(n % (20 + i))})
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for range 100 {
				a.Top(5)
				Merge(a, b)
			}
		})
	}
	wg.Wait()
	if got := a.Total() + b.Total(); got != 10_000 {
		t.Errorf("total %d, want 10000", got)
	}
}

func TestNoAllocation(t *testing.T) {
	c, n, key := New(64), uint64(0), make([]byte, MaxKey)
	if got := testing.AllocsPerRun(5000, func() {
		n++
		binary.BigEndian.PutUint64(key, n*n%1000)
		c.Add(key)
	}); got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}

func FuzzAdd(f *testing.F) {
	f.Add([]byte("abcabca"), uint8(2))
	f.Fuzz(func(t *testing.T, stream []byte, k uint8) {
		c, exact := New(int(k)), map[string]uint64{}
		for i, b := range stream { // keys of one octet, and of up to 260
			key := bytes.Repeat([]byte{b}, 1+i%2*int(b)+i%2*4)
			c.Add(key)
			if len(key) <= MaxKey {
				exact[string(key)]++
			}
		}
		checkInside(t, c)
		check(t, "fuzz", c.Top(256), exact, max(int(k), 1))
	})
}

func BenchmarkAdd(b *testing.B) {
	names := make([][]byte, 1<<16)
	for i := range names {
		names[i] = fmt.Appendf(nil, "\x07www%04x\x07example\x03com\x00\x00\x01", i)
	}
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.2, 1, uint64(len(names)-1))
	order := make([]uint16, 1<<16)
	for i := range order {
		order[i] = uint16(zipf.Uint64())
	}
	b.Run("one", func(b *testing.B) {
		c := New(256)
		for b.Loop() {
			c.Add(names[0])
		}
	})
	b.Run("zipf", func(b *testing.B) {
		c := New(256)
		for i := 0; b.Loop(); i++ {
			c.Add(names[order[i%len(order)]])
		}
	})
	b.Run("flood", func(b *testing.B) { // nearly each one is new
		c := New(256)
		for i := 0; b.Loop(); i++ {
			c.Add(names[i%len(names)])
		}
	})
}

func BenchmarkMerge(b *testing.B) {
	counters := make([]*Counter, 4)
	for w := range counters {
		counters[w] = New(256)
		for i := range 10_000 {
			counters[w].Add(fmt.Appendf(nil, "name%d", i*i%(1000+w)))
		}
	}
	b.Run("top-20-of-256", func(b *testing.B) {
		for b.Loop() {
			counters[0].Top(20)
		}
	})
	b.Run("4-of-256", func(b *testing.B) {
		for b.Loop() {
			Merge(counters...)
		}
	})
}
