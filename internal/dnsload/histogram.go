package dnsload

import (
	"bufio"
	"fmt"
	"io"
	"math/bits"
	"time"
)

// A histogram has linear buckets within each power of two: 2^subBits of them, so
// that a bucket is at most 1/128 (0.8 %) as wide as its values are large, and its
// middle is at most 0.4 % away from them. Values below 2^(subBits+1) ns are exact.
const (
	subBits = 7
	// maxValue is the largest value told apart, in ns: 68.7 s, more than any
	// timeout allowed.
	maxValue = 1<<36 - 1
	buckets  = (36-subBits-1)<<subBits + 1<<(subBits+1)
)

// Histogram counts durations. The zero value is empty. It is not safe for use by
// several goroutines.
type Histogram struct {
	counts [buckets]uint64
	n      uint64
	max    int64
	sum    float64 // ns; float64, as 2^63 ns are soon reached
}

func bucketOf(v int64) int {
	e := max(bits.Len64(uint64(v))-subBits-1, 0)
	return e<<subBits + int(v>>e)
}

// middleOf is the value that stands for bucket i.
func middleOf(i int) int64 {
	if i < 2<<subBits {
		return int64(i)
	}
	e := i>>subBits - 1
	low := int64(i-e<<subBits) << e
	return low + int64(1)<<e/2
}

// add counts v, in ns; what is negative counts as 0.
func (h *Histogram) add(v int64) {
	v = min(max(v, 0), maxValue)
	h.counts[bucketOf(v)]++
	h.n++
	h.sum += float64(v)
	h.max = max(h.max, v)
}

// merge adds what o has.
func (h *Histogram) merge(o *Histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.n += o.n
	h.sum += o.sum
	h.max = max(h.max, o.max)
}

// Count is the number of values.
func (h *Histogram) Count() uint64 { return h.n }

// Max is the largest value, exactly; 0 without values.
func (h *Histogram) Max() time.Duration { return time.Duration(h.max) }

// Mean is the mean of all values, exactly; 0 without values.
func (h *Histogram) Mean() time.Duration {
	if h.n == 0 {
		return 0
	}
	return time.Duration(h.sum / float64(h.n))
}

// Quantile is the smallest value that at least q (0 to 1) of all values do not
// exceed, within 0.4 %; 0 without values.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	return h.at(rankOf(q, h.n))
}

// rankOf is the place of quantile q among n sorted values, from 1.
func rankOf(q float64, n uint64) uint64 {
	exact := q * float64(n)
	rank := uint64(exact)
	// q has no exact binary form: 0.9 of 10 is the 9th, not the 10th.
	if exact-float64(rank) > 1e-9*exact {
		rank++
	}
	return min(max(rank, 1), n)
}

func (h *Histogram) at(rank uint64) time.Duration {
	seen := uint64(0)
	for i, n := range h.counts {
		if seen += n; seen >= rank {
			return time.Duration(min(middleOf(i), h.max))
		}
	}
	return time.Duration(h.max)
}

// Write writes every bucket that has values in the text form of HdrHistogram
// (.hgrm), which its plotters read: value in µs, quantile, values up to it, and
// 1/(1-quantile).
func (h *Histogram) Write(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "%12s %14s %10s %14s\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")
	seen := uint64(0)
	for i, n := range h.counts {
		if n == 0 {
			continue
		}
		seen += n
		value := float64(min(middleOf(i), h.max)) / 1e3
		if seen == h.n { // where 1/(1-quantile) is infinite
			fmt.Fprintf(b, "%12.3f %14.12f %10d\n", float64(h.max)/1e3, 1.0, seen)
			break
		}
		q := float64(seen) / float64(h.n)
		fmt.Fprintf(b, "%12.3f %14.12f %10d %14.2f\n", value, q, seen, 1/(1-q))
	}
	fmt.Fprintf(b, "#[Mean    = %12.3f]\n#[Max     = %12.3f, Total count    = %12d]\n", float64(h.Mean())/1e3, float64(h.max)/1e3, h.n)
	return b.Flush()
}
