package dnsload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// readBuffer holds at least one message with its length (RFC 1035 §4.2.2).
	readBuffer = 2 + 65535
	// writeBuffer bounds what the kernel has not taken yet, in octets: two batches.
	writeBuffer = 2 * batch * (2 + maxQuery)
	// redial is the pause before a connection that ended is made anew.
	redial = 10 * time.Millisecond
)

// stream is the TCP part of a flow.
type stream struct {
	in         []byte // what came, from a message's length on
	have       int    // octets of in
	out        []byte // what is to be sent
	connecting bool
	redialAt   int64 // when fd is -1
}

// streams is TCP with many queries on the way in each connection.
type streams struct {
	target  netip.AddrPort
	timeout time.Duration
}

func (t *streams) open(f *flow) error {
	f.stream = stream{in: make([]byte, readBuffer), out: make([]byte, 0, writeBuffer)}
	if err := t.dial(f); err != nil {
		return fmt.Errorf("connect to %s: %w", t.target, err)
	}
	for end := time.Now().Add(t.timeout); f.stream.connecting; {
		left := time.Until(end)
		if left <= 0 {
			return fmt.Errorf("connect to %s: no answer within %v", t.target, t.timeout)
		}
		p := []unix.PollFd{{Fd: int32(f.fd), Events: unix.POLLOUT}}
		ts := unix.NsecToTimespec(int64(left))
		if _, err := unix.Ppoll(p, &ts, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("connect to %s: %w", t.target, err)
		}
		if err := t.connected(f); err != nil {
			return fmt.Errorf("connect to %s: %w", t.target, err)
		}
	}
	return nil
}

// dial begins a connection.
func (t *streams) dial(f *flow) (err error) {
	if f.fd, err = socket(t.target.Addr(), unix.SOCK_STREAM); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(f.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	f.stream.connecting = true
	if err := unix.Connect(f.fd, sockaddr(t.target)); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	return nil
}

// connected looks whether the connection that f waits for is there.
func (t *streams) connected(f *flow) error {
	p := []unix.PollFd{{Fd: int32(f.fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(p, 0); n == 0 || err != nil {
		return nil
	}
	code, err := unix.GetsockoptInt(f.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if code != 0 {
		return syscall.Errno(code)
	}
	f.stream.connecting = false
	return nil
}

func (t *streams) ready(w *worker, f *flow) (bool, error) {
	if f.fd < 0 {
		if w.clock.now() < f.stream.redialAt {
			return false, nil
		}
		w.recent.Reconnects++
		if err := t.dial(f); err != nil {
			return false, t.broken(w, f, err)
		}
	}
	if f.stream.connecting {
		if err := t.connected(f); err != nil {
			return false, t.broken(w, f, err)
		}
	}
	return !f.stream.connecting, nil
}

// broken ends a connection: what was outstanding on it is lost.
func (t *streams) broken(w *worker, f *flow, cause error) error {
	w.lose(f)
	if f.fd >= 0 {
		_ = unix.Close(f.fd) // it has ended already
	}
	f.fd = -1
	f.stream.have, f.stream.out, f.stream.connecting = 0, f.stream.out[:0], false
	f.stream.redialAt = w.clock.now() + int64(redial)
	switch {
	case errors.Is(cause, unix.ECONNREFUSED):
		return w.refused()
	case cause == nil || errors.Is(cause, unix.ECONNRESET) || errors.Is(cause, unix.EPIPE) || errors.Is(cause, unix.ETIMEDOUT):
		return nil
	}
	return fmt.Errorf("connection to %s: %w", t.target, cause)
}

func (t *streams) receive(w *worker, f *flow) (bool, error) {
	if ok, err := t.ready(w, f); !ok {
		return false, err
	}
	if err := t.flush(w, f); err != nil || f.fd < 0 {
		return false, err
	}
	s := &f.stream
	n, e := rawRead(f.fd, s.in[s.have:])
	switch {
	case e == syscall.EAGAIN || e == syscall.EINTR:
		return false, nil
	case e != 0:
		return false, t.broken(w, f, e)
	case n == 0:
		return true, t.broken(w, f, nil)
	}
	s.have += n
	now := w.clock.now()
	at := 0
	for s.have-at >= 2 {
		size := int(binary.BigEndian.Uint16(s.in[at:]))
		if s.have-at < 2+size {
			break
		}
		w.heard(f, s.in[at+2:at+2+size], now)
		at += 2 + size
	}
	s.have = copy(s.in, s.in[at:s.have])
	return true, nil
}

// flush gives the kernel what it takes of what is to be sent.
func (t *streams) flush(w *worker, f *flow) error {
	s := &f.stream
	if len(s.out) == 0 {
		return nil
	}
	n, e := rawWrite(f.fd, s.out)
	switch {
	case e == syscall.EAGAIN || e == syscall.EINTR:
		return nil
	case e != 0:
		return t.broken(w, f, e)
	}
	s.out = s.out[:copy(s.out, s.out[n:])]
	return nil
}

// send puts the queries behind those that wait; the next receive gives them to the
// kernel, so that a connection that breaks then has them among what it lost.
func (t *streams) send(w *worker, f *flow, n int) (int, error) {
	s := &f.stream
	sent := 0
	for _, q := range w.picked[:n] {
		at := len(s.out)
		if at+2+maxQuery > cap(s.out) {
			break
		}
		s.out = s.out[:at+2+maxQuery]
		size := w.put(s.out[at+2:], q)
		binary.BigEndian.PutUint16(s.out[at:], uint16(size))
		s.out = s.out[:at+2+size]
		sent++
	}
	return sent, nil
}

func (t *streams) wants(f *flow) int16 {
	if f.stream.connecting || len(f.stream.out) > 0 {
		return unix.POLLIN | unix.POLLOUT
	}
	return unix.POLLIN
}
