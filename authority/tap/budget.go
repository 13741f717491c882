package tap

import (
	"sync/atomic"
	"time"
)

// budget bounds how often something happens in a second, by all goroutines together. Time is cut into
// windows, each with its part of it.
type budget struct {
	most   int64 // in a second; negative: no bound
	window atomic.Int64
	taken  atomic.Int64 // in the window
}

// budgetWindows is how many windows a second has. Between two of them a goroutine whose clock reads
// the one before takes from the next one.
const budgetWindows = 10

// take tells whether it may happen once more.
func (b *budget) take(now time.Time) bool {
	if b.most < 0 {
		return true
	}
	w := now.UnixMilli() * budgetWindows / 1000
	// Also when the clock went back, but not for who is late by a window.
	if was := b.window.Load(); (w > was || w < was-1) && b.window.CompareAndSwap(was, w) {
		b.taken.Store(0)
	}
	most := max(b.most/budgetWindows, 1)
	return b.taken.Load() < most && b.taken.Add(1) <= most // in a flood it is read only
}
