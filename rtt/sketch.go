package rtt

import (
	"iter"
	"math"
	"slices"
	"time"

	"github.com/DataDog/sketches-go/ddsketch/mapping"
)

// Accuracy is how far a quantile may be off, as a part of the true one.
const Accuracy = 0.02

// Bounds of what is measured. Below Shortest all counts as Shortest: no host on the
// other end of a line is nearer, and browsers round to as much. Longer than Longest is
// no round trip but a broken client, and is refused.
const (
	Shortest = 100 * time.Microsecond
	Longest  = 60 * time.Second
)

// bins maps milliseconds to bins whose bounds are (1+Accuracy)/(1-Accuracy) apart.
var bins = func() *mapping.LogarithmicMapping {
	m, err := mapping.NewLogarithmicMapping(Accuracy)
	if err != nil {
		panic(err)
	}
	return m
}()

// The first and the last bin: 334 of them.
var (
	firstBin = bins.Index(milliseconds(Shortest))
	lastBin  = bins.Index(milliseconds(Longest))
)

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// bin is how many measurements fell into one bin.
type bin struct {
	index int16
	count uint32 // stays at its largest value once it is there
}

// Sketch is a set of round-trip times: a DDSketch (Masson, Rim, Lee, VLDB 2019) of bounded
// range. The zero Sketch is empty.
type Sketch struct{ bins []bin } // ascending, without empty ones

// Valid tells whether a time can be a measured round trip: above zero, at most Longest.
func Valid(d time.Duration) bool { return d > 0 && d <= Longest }

// Add adds a time, which must be Valid.
func (s *Sketch) Add(d time.Duration) {
	s.add(int16(min(max(bins.Index(milliseconds(d)), firstBin), lastBin)), 1)
}

// add adds n to a bin, and tells whether it is a new one.
func (s *Sketch) add(index int16, n uint32) bool {
	i, found := slices.BinarySearchFunc(s.bins, index, func(b bin, index int16) int { return int(b.index) - int(index) })
	if found {
		s.bins[i].count = saturated(s.bins[i].count, n)
		return false
	}
	s.bins = slices.Insert(s.bins, i, bin{index, n})
	return true
}

func saturated(a, b uint32) uint32 {
	return uint32(min(uint64(a)+uint64(b), math.MaxUint32))
}

// Merge adds what o holds, which stays as it is.
func (s *Sketch) Merge(o Sketch) {
	if len(o.bins) == 0 {
		return
	}
	merged := make([]bin, 0, max(len(s.bins), len(o.bins)))
	a, b := s.bins, o.bins
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].index < b[0].index:
			merged, a = append(merged, a[0]), a[1:]
		case a[0].index > b[0].index:
			merged, b = append(merged, b[0]), b[1:]
		default:
			merged, a, b = append(merged, bin{a[0].index, saturated(a[0].count, b[0].count)}), a[1:], b[1:]
		}
	}
	s.bins = append(append(merged, a...), b...)
}

// Count is how many times were added.
func (s Sketch) Count() uint64 {
	n := uint64(0)
	for _, b := range s.bins {
		n += uint64(b.count)
	}
	return n
}

// Quantile is the time that a part q (0 to 1) of those added do not exceed: the median is
// Quantile(0.5). It is off by at most Accuracy. Zero for an empty sketch.
func (s Sketch) Quantile(q float64) time.Duration {
	n := s.Count()
	if n == 0 {
		return 0
	}
	rank, below := uint64(min(max(q, 0), 1)*float64(n-1)), uint64(0)
	for _, b := range s.bins {
		if below += uint64(b.count); below > rank {
			return timeOf(b.index)
		}
	}
	return timeOf(s.bins[len(s.bins)-1].index)
}

// timeOf is the time that stands for a bin.
func timeOf(index int16) time.Duration {
	return time.Duration(bins.Value(int(index)) * float64(time.Millisecond))
}

// All gives the times that stand for the bins, ascending, with how many fell into each.
func (s Sketch) All() iter.Seq2[time.Duration, uint64] {
	return func(yield func(time.Duration, uint64) bool) {
		for _, b := range s.bins {
			if !yield(timeOf(b.index), uint64(b.count)) {
				return
			}
		}
	}
}
