package wire

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// epollWait gives how many events there are. With traffic it looks past the scheduler
// first; it waits for most at last, or for ever if that is negative.
func epollWait(fd int, events []unix.EpollEvent, traffic bool, most time.Duration) int {
	if traffic {
		n, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(fd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
		if e == 0 && n > 0 {
			return int(n)
		}
	}
	ms := -1
	if most >= 0 {
		ms = int((most + time.Millisecond - 1) / time.Millisecond)
	}
	n, err := unix.EpollWait(fd, events, ms)
	if err != nil {
		return 0 // interrupted
	}
	return n
}
