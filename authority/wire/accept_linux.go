package wire

import (
	"math"
	"net/netip"

	"golang.org/x/sys/unix"
)

// acceptBatch is how many connections are accepted before those that are open have
// their turn.
const acceptBatch = 64

// accept takes connections from a listener.
func (l *tcpLoop) accept(listener int) {
	for range acceptBatch {
		fd, from, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			l.admit(fd, addrPort(from))
		case unix.EAGAIN:
			return
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			l.exhausted(err)
			return
		case unix.EINTR, unix.ECONNABORTED, unix.EPERM, unix.EPROTO, unix.ENOPROTOOPT, unix.ENETDOWN, unix.ENETUNREACH, unix.EHOSTDOWN, unix.EHOSTUNREACH:
			// That connection's own, accept(2): there may be others.
		default:
			l.exhausted(err)
			return
		}
	}
}

// exhausted lets new connections wait a little for room, after it has made some.
func (l *tcpLoop) exhausted(err error) {
	if l.failures++; l.failures&(l.failures-1) == 0 { // the 1st, 2nd, 4th, 8th...
		l.server.log.Warn("TCP connection not accepted", "error", err, "failures", l.failures)
	}
	if l.server.evict() {
		l.server.Counters.TCPEvicted.Add(1)
	}
	l.mute(l.now + int64(errorPause))
}

// mute asks no listener until a time; zero: asks them again.
func (l *tcpLoop) mute(until int64) {
	events := uint32(unix.EPOLLIN)
	if until != 0 {
		events = 0
	}
	l.muted = until
	for _, k := range l.listeners {
		if err := l.watch(unix.EPOLL_CTL_MOD, k.tcp, ofListener, events); err != nil {
			l.server.log.Error("TCP listener not watched", "listen", k.addr.String(), "error", err)
		}
	}
}

// unlisten takes the listeners out: a successor may have them. Only then may loops end,
// since the first one gives connections to all.
func (l *tcpLoop) unlisten() {
	for _, k := range l.listeners {
		_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, k.tcp, nil)
	}
	l.listeners, l.muted = nil, 0
	for _, other := range l.server.loops {
		other.mu.Lock()
		other.drained = true
		other.mu.Unlock()
		other.wake()
	}
}

// admit gives a new connection to a loop unless a bound is reached.
func (l *tcpLoop) admit(fd int, client netip.AddrPort) {
	s := l.server
	k := &connection{fd: fd, client: client, local: localOf(fd), accepted: l.now, since: l.now}
	if !s.clients.enter(client.Addr(), s.config.MaxTCPPerClient) {
		s.Counters.TCPRefused.Add(1)
		unix.Close(fd)
		return
	}
	if s.Counters.TCPOpen.Load() >= int64(s.config.MaxTCP) {
		if !s.evict() {
			s.clients.leave(client.Addr())
			s.Counters.TCPRefused.Add(1)
			unix.Close(fd)
			return
		}
		s.Counters.TCPEvicted.Add(1)
	}
	// A batch goes by one write: waiting for more (Nagle) is loss alone.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	s.Counters.TCPAccepted.Add(1)
	s.Counters.TCPOpen.Add(1)
	l.next = (l.next + 1) % len(s.loops)
	s.loops[l.next].add(k)
}

// localOf is the address a connection came to.
func localOf(fd int) netip.Addr {
	self, err := unix.Getsockname(fd)
	if err != nil {
		return netip.Addr{} // reset meanwhile
	}
	return addrPort(self).Addr()
}

// add puts a connection among the silent ones.
func (l *tcpLoop) add(k *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.serial = (l.serial + 1) & math.MaxInt32
	k.serial = l.serial
	alone := len(l.open) == 0
	l.open[int32(k.fd)] = k
	l.lives.push(k)
	k.state = &l.silent
	l.silent.push(k)
	if err := l.watch(unix.EPOLL_CTL_ADD, k.fd, k.serial, unix.EPOLLIN); err != nil {
		l.drop(k)
		return
	}
	if alone {
		l.wake() // it may sleep for ever
	}
}

// evict closes the connection that has been silent longest; false: there is none.
func (s *Server) evict() bool {
	var of *tcpLoop
	oldest := int64(math.MaxInt64)
	for _, l := range s.loops {
		l.mu.Lock()
		if k := l.silent.first; k != nil && k.since < oldest {
			of, oldest = l, k.since
		}
		l.mu.Unlock()
	}
	if of == nil {
		return false
	}
	of.mu.Lock()
	defer of.mu.Unlock()
	k := of.silent.first
	if k != nil {
		of.drop(k)
	}
	return k != nil
}
