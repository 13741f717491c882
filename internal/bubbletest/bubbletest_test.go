package bubbletest_test

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/bubbletest"
)

// TestTimers fires timers of one bubble from many goroutines: what ended the process under the race
// detector. Afterwards there are as many processors as before.
func TestTimers(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	t.Run("bubble", func(t *testing.T) {
		bubbletest.Run(t, func(*testing.T) {
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					for range 1000 {
						var due []*time.Timer // at the same time: whoever waits fires what is due
						for range 10 {
							due = append(due, time.NewTimer(time.Millisecond))
						}
						for _, timer := range due {
							<-timer.C
						}
					}
				})
			}
			all.Wait()
		})
	})
	if now := runtime.GOMAXPROCS(0); now != before {
		t.Errorf("%d processors after a bubble, %d before", now, before)
	}
}
