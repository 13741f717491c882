package background

import (
	"syscall"
	"testing"
)

// TestRun: the work is done on a thread that is less preferred, and this one stays as
// it was.
func TestRun(t *testing.T) {
	priority := func() int {
		p, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
		if err != nil {
			t.Fatal(err)
		}
		return 20 - p // the system call gives 40 to 1 for -20 to 19
	}
	before, within := priority(), 99
	Run(func() { within = priority() })
	if want := max(before, nice); within != want {
		t.Errorf("nice value %d at work, want %d", within, want)
	}
	for range 100 {
		if got := priority(); got != before {
			t.Fatalf("nice value %d behind the work, want %d as before", got, before)
		}
	}
}
