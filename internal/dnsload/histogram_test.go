package dnsload

import (
	"bytes"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A quantile is the sample at that rank, within 1 %, up to 60 s.
func TestQuantilesAgainstSortedSamples(t *testing.T) {
	sample := rapid.Custom(func(t *rapid.T) int64 {
		return rapid.Int64Range(0, int64(1)<<rapid.IntRange(0, 35).Draw(t, "magnitude")).Draw(t, "ns")
	})
	rapid.Check(t, func(t *rapid.T) {
		samples := rapid.SliceOfN(sample, 1, 300).Draw(t, "samples")
		var h, left, right Histogram
		sum := 0.0
		for i, v := range samples {
			h.add(v)
			sum += float64(v)
			if i%2 == 0 {
				left.add(v)
			} else {
				right.add(v)
			}
		}
		if left.merge(&right); left != h {
			t.Fatal("two merged parts are not the whole")
		}
		slices.Sort(samples)
		for _, q := range []float64{0, .001, .5, .9, .99, .999, 1} {
			want := samples[max(int(math.Ceil(q*float64(len(samples))-1e-9)), 1)-1]
			got := int64(h.Quantile(q))
			if diff := math.Abs(float64(got - want)); diff > 0.01*float64(want) {
				t.Fatalf("quantile %g of %d samples is %d, want %d within 1 %%", q, len(samples), got, want)
			}
		}
		if got := int64(h.Max()); got != samples[len(samples)-1] {
			t.Fatalf("max %d, want %d", got, samples[len(samples)-1])
		}
		if got, want := int64(h.Mean()), int64(sum/float64(len(samples))); got != want {
			t.Fatalf("mean %d, want %d", got, want)
		}
	})
}

func TestBuckets(t *testing.T) {
	last := -1
	for i := range buckets {
		b := bucketOf(middleOf(i))
		if b != i || b <= last {
			t.Fatalf("the middle of bucket %d lies in bucket %d", i, b)
		}
		last = b
	}
	if b := bucketOf(maxValue); b != buckets-1 {
		t.Fatalf("the largest value lies in bucket %d of %d", b, buckets)
	}
	var h Histogram
	h.add(-5)
	h.add(math.MaxInt64)
	if h.Quantile(0) != 0 || h.Max() != maxValue || h.Count() != 2 {
		t.Fatalf("values out of range: least %v, most %v, %d of them", h.Quantile(0), h.Max(), h.Count())
	}
	if (&Histogram{}).Quantile(.5) != 0 || (&Histogram{}).Mean() != 0 {
		t.Fatal("an empty histogram has values")
	}
}

func TestHistogramText(t *testing.T) {
	var h Histogram
	for range 3 {
		h.add(int64(100 * time.Microsecond))
	}
	h.add(int64(2 * time.Millisecond))
	var out bytes.Buffer
	if err := h.Write(&out); err != nil {
		t.Fatal(err)
	}
	got := regexp.MustCompile(` +`).ReplaceAllString(out.String(), " ")
	for _, want := range []string{"\n 100.096 0.750000000000 3 4.00\n", "\n 2000.000 1.000000000000 4\n", "#[Max = 2000.000, Total count = 4]\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func BenchmarkHistogramAdd(b *testing.B) {
	var h Histogram
	for i := range b.N {
		h.add(int64(i) * 37 & 0xfffff)
	}
}
