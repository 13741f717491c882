package sample

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/authority/heavy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestShares draws from skewed streams, spread unevenly over Drawers and turns, and holds
// the shares of all keys together against the exact ones: the mean of many draws is they.
func TestShares(t *testing.T) {
	const (
		k, keys = 50, 8
		draws   = 4000
	)
	stream := []int{}
	for key := range keys {
		for range 1 << key { // 1 to 128 times
			stream = append(stream, key)
		}
	}
	var sums [keys]int
	for range draws {
		drawers := []*Drawer{New(k), New(k), New(k)}
		var parts []Draw
		for i, key := range stream { // in order: keys come in runs
			// The first Drawer gets most, and gives what it kept in the middle.
			drawers[i%7/3].Add([]byte{byte(key)}, uint8(key))
			if i == len(stream)/3 {
				parts = append(parts, drawers[0].Take())
			}
		}
		for _, d := range drawers {
			parts = append(parts, d.Take())
		}
		all := Join(k, parts...)
		if all.Seen != uint64(len(stream)) || len(all.Kept) != k {
			t.Fatalf("%d of %d kept, want %d of %d", len(all.Kept), all.Seen, k, len(stream))
		}
		for _, x := range all.Kept {
			if x.Key[0] != x.Outcome {
				t.Fatalf("key %d has the outcome %d", x.Key[0], x.Outcome)
			}
			sums[x.Outcome]++
		}
	}
	for key, sum := range sums {
		p := float64(int(1)<<key) / float64(len(stream))
		want, deviation := p*k*draws, math.Sqrt(k*draws*p*(1-p))
		if off := math.Abs(float64(sum) - want); off > 5*deviation {
			t.Errorf("key %d came %d times, want %.0f within %.0f", key, sum, want, 5*deviation)
		}
	}
}

// TestAgainstSorting holds a Drawer against sorting all tickets: Join of any parts keeps
// the least.
func TestAgainstSorting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.IntRange(1, 30).Draw(t, "k")
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var parts []Draw
		var all []Ticket
		for range rapid.IntRange(0, 5).Draw(t, "parts") {
			d := New(k + rapid.IntRange(0, 3).Draw(t, "more"))
			n := rapid.IntRange(0, 100).Draw(t, "n")
			for range n {
				d.Add(binary.BigEndian.AppendUint64(nil, random.Uint64()), 0)
			}
			p := d.Take()
			if p.Seen != uint64(n) || len(p.Kept) != min(n, cap(d.heap)) {
				t.Fatalf("kept %d of %d, want %d of %d", len(p.Kept), p.Seen, min(n, cap(d.heap)), n)
			}
			if again := d.Take(); again.Seen != 0 || len(again.Kept) != 0 {
				t.Fatalf("what was taken is there again: %v", again)
			}
			parts, all = append(parts, p), append(all, p.Kept...)
		}
		want := Draw{Kept: all}
		want.sort()
		want.Kept = want.Kept[:min(k, len(want.Kept))]
		if got := Join(k, parts...); !slices.Equal(got.Kept, want.Kept) {
			t.Fatalf("joined %v, want %v", got.Kept, want.Kept)
		}
	})
}

func TestKeys(t *testing.T) {
	d := New(0) // 1
	long := strings.Repeat("x", heavy.MaxKey)
	d.Add([]byte(long), 3)
	d.Add([]byte(long+"x"), 4) // left out
	if got := d.Take(); got.Seen != 1 || len(got.Kept) != 1 || got.Kept[0].Key != long || got.Kept[0].Outcome != 3 {
		t.Errorf("took %v", got)
	}
	if got := Join(3); got.Seen != 0 || len(got.Kept) != 0 {
		t.Errorf("of nothing: %v", got)
	}
	if got := cap(New(1 << 30).heap); got != MaxKept {
		t.Errorf("a Drawer keeps %d, want at most %d", got, MaxKept)
	}
}

func TestNoAllocation(t *testing.T) {
	d, key := New(100), bytes.Repeat([]byte{1}, heavy.MaxKey)
	if got := testing.AllocsPerRun(5000, func() { d.Add(key, 0) }); got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}

// TestReaders is for the race detector.
func TestReaders(t *testing.T) {
	d := New(10)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 5000 {
			d.Add([]byte{byte(i)}, 0)
		}
	})
	seen := uint64(0)
	for range 100 {
		seen += d.Take().Seen
	}
	wg.Wait()
	if seen += d.Take().Seen; seen != 5000 {
		t.Errorf("%d were seen, want 5000", seen)
	}
}

func BenchmarkAdd(b *testing.B) {
	names := make([][]byte, 1<<12)
	for i := range names {
		names[i] = fmt.Appendf(nil, "\x07www%04x\x07example\x03com\x00\x00\x01", i)
	}
	d := New(1000)
	for i := 0; b.Loop(); i++ {
		if i%(1<<20) == 0 {
			d.Take() // a minute's part of what is sampled of a million queries a second
		}
		d.Add(names[i%len(names)], 0)
	}
}
