package api

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// peerInterval is how often the kernel is asked whether a peer is still there.
// Generated code asks every 5 ms for each running call; a caller that gave up
// is noticed soon enough for calls that wait up to a minute.
const peerInterval = 100 * time.Millisecond

// peer tells whether the other side of a connection has closed it.
type peer struct {
	conn net.Conn

	mu    sync.Mutex // guards below: the watcher of a call may still run when the next call's begins
	asked time.Time
	gone  bool
}

func (p *peer) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone || time.Since(p.asked) < peerInterval {
		return !p.gone
	}
	p.asked = time.Now()
	p.gone = closed(p.conn)
	return !p.gone
}

// closed looks without reading: the next call may have arrived already.
func closed(c net.Conn) bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false // a pipe in a test
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	var n int
	var rerr error
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, rerr = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	switch {
	case err != nil:
		return true
	case rerr == nil:
		return n == 0 // end of stream
	default:
		return !errors.Is(rerr, syscall.EAGAIN) && !errors.Is(rerr, syscall.EINTR)
	}
}
