package dnsload

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socketBuffer is asked for in both directions, in octets; the kernel gives at most
// net.core.rmem_max and wmem_max.
const socketBuffer = 4 << 20

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	size   uint32 // octets received
	_      [4]byte
}

// Both calls are raw: their sockets do not block, and the scheduler would charge
// every batch for being told.
func recvmmsg(fd int, m []mmsghdr) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), e
}

func sendmmsg(fd int, m []mmsghdr) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	return int(n), e
}

func rawRead(fd int, b []byte) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), e
}

func rawWrite(fd int, b []byte) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	return int(n), e
}

// rawPoll waits for events, at most as long as wait. Its caller may hold up a stop of
// the world for that long: the scheduler, had it been told, would give the thread's
// turn away, and the wake-up would be late. An error is as good as a wake-up.
func rawPoll(fds []unix.PollFd, wait time.Duration) {
	t := unix.NsecToTimespec(int64(wait))
	_, _, _ = syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), uintptr(len(fds)), uintptr(unsafe.Pointer(&t)), 0, 0, 0)
}

// socket makes a socket that does not block.
func socket(target netip.Addr, kind int) (int, error) {
	family := unix.AF_INET
	if target.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open socket: %w", err)
	}
	// Best effort: with less, more of what happens is loss, which is counted.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, socketBuffer)
	return fd, nil
}

func sockaddr(t netip.AddrPort) unix.Sockaddr {
	if t.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(t.Port()), Addr: t.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(t.Port()), Addr: t.Addr().As16()}
}

// dropped is how many packets the kernel threw away as the socket was full
// (SK_MEMINFO_DROPS, the last of nine numbers of SO_MEMINFO).
func dropped(fd int) uint64 {
	var info [9]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, e := syscall.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO, uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if e != 0 || size < uint32(unsafe.Sizeof(info)) {
		return 0
	}
	return uint64(info[8])
}

// threadCPU is the CPU time of the calling thread.
func threadCPU() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// sharpTimer makes the calling thread's sleeps end when they should, instead of up
// to 50 µs later (prctl(2), PR_SET_TIMERSLACK, in ns).
func sharpTimer() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) }

// checkCPUs refuses CPUs that this process may not use.
func checkCPUs(cpus []int) error {
	var may unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		return fmt.Errorf("read the CPUs of this process: %w", err)
	}
	for _, c := range cpus {
		if c < 0 || !may.IsSet(c) {
			return fmt.Errorf("there is no CPU %d for this process, expected some of its %d (%d in the machine)", c, may.Count(), runtime.NumCPU())
		}
	}
	return nil
}

// pin lets thread tid (0: the calling one) run on these CPUs only.
func pin(tid int, cpus ...int) error {
	var set unix.CPUSet
	for _, c := range cpus {
		set.Set(c)
	}
	if err := unix.SchedSetaffinity(tid, &set); err != nil {
		return fmt.Errorf("pin thread to CPUs %v: %w", cpus, err)
	}
	return nil
}

// pinProcess pins every thread that there is; those to come inherit it.
func pinProcess(cpus []int) error {
	tids, err := threadsOf(os.Getpid())
	if err != nil {
		return err
	}
	for _, tid := range tids {
		if err := pin(tid, cpus...); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

func threadsOf(pid int) ([]int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, fmt.Errorf("list threads of process %d: %w", pid, err)
	}
	var tids []int
	for _, e := range entries {
		if tid, err := strconv.Atoi(e.Name()); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids, nil
}

// cpuTimes are the CPU times of threads by thread id.
type cpuTimes map[int]time.Duration

// serverTimes reads them for all threads of the processes: the first number of
// schedstat is ns on a CPU.
func serverTimes(pids []int) (cpuTimes, error) {
	all := cpuTimes{}
	for _, pid := range pids {
		tids, err := threadsOf(pid)
		if err != nil {
			return nil, err
		}
		for _, tid := range tids {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/schedstat", pid, tid))
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
				continue // it has ended meanwhile
			}
			if err != nil {
				return nil, fmt.Errorf("read CPU time of process %d: %w", pid, err)
			}
			first, _, _ := strings.Cut(string(b), " ")
			ns, err := strconv.ParseInt(first, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("read CPU time of process %d: schedstat says %q, expected a number of ns first", pid, clip(string(b)))
			}
			all[tid] = time.Duration(ns)
		}
	}
	return all, nil
}

// since is the CPU time used after before, and how many threads have ended.
func (t cpuTimes) since(before cpuTimes) (used time.Duration, ended int) {
	for tid, d := range t {
		used += d - before[tid]
	}
	for tid := range before {
		if _, ok := t[tid]; !ok {
			ended++
		}
	}
	return used, ended
}
