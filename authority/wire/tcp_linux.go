package wire

import (
	"encoding/binary"
	"errors"
	"math"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// tcpEvents is how many connections are looked at in a round.
	tcpEvents = 128
	// tcpBusy is how many events a round must have brought for the next one to look
	// for more before it sleeps.
	tcpBusy = 4
)

// Pad of an event that is of no connection.
const (
	ofWakeup   = -1
	ofListener = -2
)

// tcpLoop serves connections with one goroutine. Only the first loop accepts: it gives
// connections to all.
type tcpLoop struct {
	server    *Server
	epoll     int
	wakeup    int // eventfd
	listeners []sockets
	muted     int64 // until when listeners are not asked, as Server.now; zero: they are
	failures  uint64
	next      int // loop that gets the next connection
	events    [tcpEvents]unix.EpollEvent
	now       int64 // of this round
	phase     phase
	until     int64
	exchange

	mu      sync.Mutex // guards below: the first loop adds and evicts
	open    map[int32]*connection
	serial  int32
	lives   list // all, by age
	silent  list // nothing is under way
	reading list // a message has begun to arrive
	writing list // a response is not taken yet
	drained bool // no connection comes any more
}

// newTCPLoop makes the next one; the first takes the listeners.
func (s *Server) newTCPLoop() (l *tcpLoop, err error) {
	l = &tcpLoop{server: s, epoll: -1, wakeup: -1, open: map[int32]*connection{}}
	for _, k := range []*list{&l.silent, &l.reading, &l.writing} {
		k.order = byState
	}
	l.exchange.in = make([]byte, 2+maxMessage)
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if l.wakeup, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, errors.Join(err, l.close())
	}
	err = l.watch(unix.EPOLL_CTL_ADD, l.wakeup, ofWakeup, unix.EPOLLIN)
	if len(s.loops) == 0 {
		l.listeners = s.sockets
		for _, k := range l.listeners {
			err = errors.Join(err, l.watch(unix.EPOLL_CTL_ADD, k.tcp, ofListener, unix.EPOLLIN))
		}
	}
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *tcpLoop) watch(operation, fd int, pad int32, events uint32) error {
	return unix.EpollCtl(l.epoll, operation, fd, &unix.EpollEvent{Events: events, Fd: int32(fd), Pad: pad})
}

// close is for a loop that does not run. Its descriptors are closed once.
func (l *tcpLoop) close() (err error) {
	for _, fd := range []*int{&l.epoll, &l.wakeup} {
		if *fd >= 0 {
			err = errors.Join(err, unix.Close(*fd))
			*fd = -1
		}
	}
	return err
}

// wake makes the loop look at the phase and at new connections.
func (l *tcpLoop) wake() {
	// An error means that it has been woken often already.
	_, _ = unix.Write(l.wakeup, binary.NativeEndian.AppendUint64(nil, 1))
}

// serve runs until the server has stopped and no connection is left.
func (l *tcpLoop) serve() {
	var done func()
	l.handler, done = l.server.newHandler()
	defer done()
	n := 0
	for !l.ended() {
		n = epollWait(l.epoll, l.events[:], n >= tcpBusy, l.timeout())
		l.now = l.server.now()
		for i := range n {
			l.handle(&l.events[i])
		}
		l.sweep()
	}
}

func (l *tcpLoop) ended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.drained && len(l.open) == 0 && (l.phase == stopping || l.now >= l.until)
}

func (l *tcpLoop) handle(e *unix.EpollEvent) {
	switch e.Pad {
	case ofWakeup:
		var count [8]byte
		_, _ = unix.Read(l.wakeup, count[:])
		l.phase, l.until = l.server.phaseNow()
		if l.phase != serving && l == l.server.loops[0] {
			l.unlisten()
		}
		return
	case ofListener:
		if l.phase == serving {
			l.accept(int(e.Fd))
		}
		return
	}
	k := l.take(e)
	if k == nil {
		return
	}
	ok := false
	if len(k.out) > 0 {
		ok = l.resume(k)
	} else {
		ok = l.receive(k)
	}
	l.settle(k, ok)
}

// take gives the connection of an event. Nobody evicts it until it is settled.
func (l *tcpLoop) take(e *unix.EpollEvent) *connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.open[e.Fd]
	if k == nil || k.serial != e.Pad {
		return nil // evicted meanwhile
	}
	if k.state == &l.silent {
		l.silent.remove(k)
		k.state = nil
	}
	return k
}

// settle puts a connection where it belongs after an event; not ok: it is closed.
func (l *tcpLoop) settle(k *connection, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	to := &l.silent
	switch {
	case len(k.out) > 0:
		to = &l.writing
	case len(k.in) > 0:
		to = &l.reading
	}
	over := k.last || l.phase == stopping || l.phase == draining && l.now >= l.until
	if !ok || over && to != &l.writing {
		l.drop(k)
		return
	}
	if to == k.state && !k.advanced {
		return // the same message, however often it is continued
	}
	k.advanced = false
	if k.state != nil {
		k.state.remove(k)
	}
	k.state, k.since = to, l.now
	to.push(k)
}

// drop closes a connection; l.mu is held.
func (l *tcpLoop) drop(k *connection) {
	if k.state != nil {
		k.state.remove(k)
	}
	l.lives.remove(k)
	delete(l.open, int32(k.fd))
	s := l.server
	s.pending.Add(-int64(cap(k.in) + cap(k.out)))
	k.in, k.out, k.state = nil, nil, nil
	s.clients.leave(k.client.Addr())
	s.Counters.TCPOpen.Add(-1)
	unix.Close(k.fd)
}

// sweep closes what is over.
func (l *tcpLoop) sweep() {
	if l.muted != 0 && l.now >= l.muted && l.phase == serving {
		l.mute(0)
	}
	s := l.server
	l.mu.Lock()
	defer l.mu.Unlock()
	idle, message, end := int64(s.IdleTimeout()), int64(s.config.TCPMessage), l.now >= l.until
	for k := l.lives.first; k != nil && l.now-k.accepted >= int64(s.config.TCPLife) && !k.last; k = l.lives.first {
		if k.last = true; k.state != &l.writing {
			l.drop(k)
			continue
		}
		l.lives.remove(k) // to the end, so that it hides no other
		l.lives.push(k)
	}
	for k := l.silent.first; k != nil && (l.now-k.since >= idle || l.phase == stopping || l.phase == draining && end); k = l.silent.first {
		l.drop(k)
	}
	for k := l.reading.first; k != nil && (l.now-k.since >= message || l.phase == stopping); k = l.reading.first {
		if l.now-k.since >= message {
			s.Counters.TCPTimeouts.Add(1)
		}
		l.drop(k)
	}
	for k := l.writing.first; k != nil && (l.now-k.since >= message || l.phase == stopping && end); k = l.writing.first {
		s.Counters.TCPTimeouts.Add(1)
		s.Counters.WriteErrors.Add(1)
		l.drop(k)
	}
}

// timeout is how long there is nothing to do unless something comes; negative: for
// ever.
func (l *tcpLoop) timeout() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, next := l.server, int64(math.MaxInt64)
	for _, d := range []struct {
		k    *connection
		time time.Duration
	}{{l.silent.first, s.IdleTimeout()}, {l.reading.first, s.config.TCPMessage}, {l.writing.first, s.config.TCPMessage}} {
		if d.k != nil {
			next = min(next, d.k.since+int64(d.time))
		}
	}
	if k := l.lives.first; k != nil && !k.last {
		next = min(next, k.accepted+int64(s.config.TCPLife))
	}
	if l.muted != 0 {
		next = min(next, l.muted)
	}
	if l.phase != serving {
		next = min(next, l.until)
	}
	if next == math.MaxInt64 {
		return -1
	}
	wait := time.Duration(max(0, next-s.now()))
	if l.silent.first != nil {
		wait = min(wait, s.config.TCPIdle/4) // what IdleTimeout may become meanwhile
	}
	return wait
}
