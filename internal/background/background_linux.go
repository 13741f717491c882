package background

import (
	"runtime"
	"syscall"
)

// nice is the nice value of the work: a thread that answers gets ten times its share of
// a processor (sched(7)).
const nice = 10

// Run runs work on a thread of its own and waits for it. Goroutines that work starts run
// as others do.
func Run(work func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: the thread, which cannot become preferred again, ends with the
		// goroutine.
		runtime.LockOSThread()
		_ = syscall.Setpriority(syscall.PRIO_PROCESS, syscall.Gettid(), nice)
		work()
	}()
	<-done
}
