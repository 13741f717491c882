package bubbletest

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// The timers of a bubble share one context of the race detector, which two threads at once spoil: the
// process ends with a segmentation violation, or with "ThreadSanitizer: CHECK failed" (Go 1.26,
// runtime.(*timer).unlockAndRun). With one processor there are no two.
var (
	mu      sync.Mutex // guards below
	bubbles int        // that run
	usual   int        // processors when the first began
)

// Run is synctest.Test.
func Run(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if raced {
		begin()
		defer end()
	}
	synctest.Test(t, f)
}

func begin() {
	mu.Lock()
	defer mu.Unlock()
	if bubbles++; bubbles == 1 {
		usual = runtime.GOMAXPROCS(1)
	}
}

func end() {
	mu.Lock()
	defer mu.Unlock()
	if bubbles--; bubbles == 0 {
		runtime.GOMAXPROCS(usual)
	}
}
