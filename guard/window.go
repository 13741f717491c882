package guard

import (
	"time"

	"github.com/zonecast/zonecast/record"
)

// buckets is how finely a window slides: what is counted leaves it at most a
// sixtieth of the window late, never early.
const buckets = 60

// window has what was counted lately, in buckets in order of time. A nil window has
// nothing.
type window struct {
	span    int64 // milliseconds
	buckets []bucket
	// seen has, of a source's window in a zone, the bucket that counts an RRset. One
	// that is replaced again counts once, in the newest bucket. It is not kept of what
	// is created, which may be much and may be let through in numbers.
	seen map[deed]int64
}

type bucket struct {
	at int64 // number of the bucket since 1970
	n  counts
}

// deed is what was done to one RRset.
type deed struct {
	key    record.Key
	effect effect
}

// wide is how many milliseconds a bucket has. At least one: a window has at least 1 s.
func wide(span int64) int64 { return span / buckets }

// past tells whether all that a bucket counts is older than the window.
func past(bucket, now, span int64) bool { return (bucket+1)*wide(span) <= now-span }

// sum adds up what is not older than the window at now.
func (w *window) sum(now int64) (all counts) {
	if w == nil {
		return all
	}
	for i := len(w.buckets) - 1; i >= 0 && !past(w.buckets[i].at, now, w.span); i-- {
		all.add(&w.buckets[i].n)
	}
	return all
}

// has tells in which bucket a deed counts that is not older than the window.
func (w *window) has(d deed, now int64) (bucket int64, ok bool) {
	if w == nil || d.effect == created {
		return 0, false
	}
	bucket, ok = w.seen[d]
	return bucket, ok && !past(bucket, now, w.span)
}

// at is the bucket of now, which is not before what was counted last.
func (w *window) at(now int64) *bucket {
	first := 0
	for first < len(w.buckets) && past(w.buckets[first].at, now, w.span) {
		first++
	}
	if first > 0 {
		w.buckets = append(w.buckets[:0], w.buckets[first:]...)
	}
	at := now / wide(w.span)
	if n := len(w.buckets); n == 0 || w.buckets[n-1].at != at {
		w.buckets = append(w.buckets, bucket{at: at})
	}
	return &w.buckets[len(w.buckets)-1]
}

// renew counts n of what the bucket counts at now instead.
func (w *window) renew(from int64, e effect, now int64) {
	to := w.at(now)
	for i := range w.buckets {
		if b := &w.buckets[i]; b.at == from && b.n[e] > 0 {
			b.n[e]--
			to.n[e]++
			return
		}
	}
}

// rescale makes the window one of another span. Each bucket goes to where it ended, so that
// nothing leaves the window early.
func (w *window) rescale(span, now int64) {
	to := func(at int64) int64 { return min((at+1)*wide(w.span)-1, now) / wide(span) }
	var fresh []bucket
	for _, b := range w.buckets {
		b.at = to(b.at)
		if n := len(fresh); n > 0 && fresh[n-1].at == b.at {
			fresh[n-1].n.add(&b.n)
		} else {
			fresh = append(fresh, b)
		}
	}
	for d, at := range w.seen {
		w.seen[d] = to(at)
	}
	w.buckets, w.span = fresh, span
}

// empty tells whether the window has nothing any more.
func (w *window) empty(now int64) bool {
	return len(w.buckets) == 0 || past(w.buckets[len(w.buckets)-1].at, now, w.span)
}

// forget gives the memory of what is older than the window back.
func (w *window) forget(now int64) {
	for d, at := range w.seen {
		if past(at, now, w.span) {
			delete(w.seen, d)
		}
	}
}

// clock makes times that never go back of those that callers give: where theirs goes
// back, this one stands, and goes on from there.
type clock struct {
	latest, offset int64 // milliseconds
}

func (c *clock) at(now time.Time) int64 { return max(now.UnixMilli()+c.offset, c.latest) }

func (c *clock) set(now time.Time) int64 {
	c.latest = c.at(now)
	c.offset = c.latest - now.UnixMilli()
	return c.latest
}
