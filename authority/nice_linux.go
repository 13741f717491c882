package authority

import (
	"runtime"
	"syscall"
)

// foldNice is the nice value of a fold: a thread that answers gets ten times its share
// of a processor.
const foldNice = 10

// behindQueries runs work on a thread to which others that have work are preferred, and
// waits for it.
func behindQueries(work func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: the thread, which cannot become preferred again, ends with the
		// goroutine. Without the right to it, the work goes on as others do.
		runtime.LockOSThread()
		_ = syscall.Setpriority(syscall.PRIO_PROCESS, syscall.Gettid(), foldNice)
		work()
	}()
	<-done
}
