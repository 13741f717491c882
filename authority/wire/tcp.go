package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zonecast/zonecast/authority/protocol"
)

// maxMessage is what the length before a message can say (RFC 1035 §4.2.2).
const maxMessage = 65535

// tcpBatch is how many messages of a connection are answered together.
const tcpBatch = 32

// buffers are borrowed while a connection has a message that is not whole or not
// answered.
type buffers struct {
	in    []byte // octets that arrived; whole messages from the front
	have  int
	out   []byte
	batch [tcpBatch]Message
}

var bufferPool = sync.Pool{New: func() any { return &buffers{in: make([]byte, 4096)} }}

func (s *Server) acceptTCP(ctx context.Context, l *net.TCPListener) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			s.log.Warn("TCP connection not accepted", "listen", l.Addr().String(), "error", err)
			if !pause(ctx) { // out of file descriptors: those we have will be given back
				return
			}
			continue
		}
		k := newConnection(c)
		switch evicted, ok := s.conns.add(k, s.config.MaxTCP, s.config.MaxTCPPerClient); {
		case !ok:
			s.Counters.TCPRefused.Add(1)
			c.Close()
			continue
		case evicted:
			s.Counters.TCPEvicted.Add(1)
		}
		s.Counters.TCPAccepted.Add(1)
		s.Counters.TCPOpen.Add(1)
		wg.Go(func() {
			s.serveTCP(k)
			c.Close()
			s.conns.remove(k)
			s.Counters.TCPOpen.Add(-1)
		})
	}
}

// serveTCP answers the queries of one connection.
func (s *Server) serveTCP(k *connection) {
	raw, err := k.conn.SyscallConn()
	if err != nil {
		return
	}
	end := time.Now().Add(s.config.TCPLife)
	for {
		// Idle: until the first octet of a message comes, without a buffer.
		idle := time.Now().Add(s.IdleTimeout())
		if idle.After(end) {
			idle = end
		}
		if k.conn.SetReadDeadline(idle) != nil || !s.conns.idle(k) || !readable(raw) || !s.conns.busy(k) {
			return
		}
		b := bufferPool.Get().(*buffers)
		ok := s.exchange(k, b)
		b.put()
		if !ok || time.Now().After(end) {
			return
		}
	}
}

// put gives the buffers back; large ones are left to the collector.
func (b *buffers) put() {
	if cap(b.in) > 1<<14 || cap(b.out) > 1<<16 {
		return
	}
	b.have = 0
	clear(b.batch[:])
	bufferPool.Put(b)
}

// readable waits until there is something to read, or the end.
func readable(raw syscall.RawConn) bool {
	err := raw.Read(func(fd uintptr) bool {
		var octet [1]byte
		_, _, err := unix.Recvfrom(int(fd), octet[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	return err == nil
}

// exchange reads and answers until no message is half read any more; false: the
// connection is to be closed.
func (s *Server) exchange(k *connection, b *buffers) bool {
	deadline := time.Now().Add(s.config.TCPMessage)
	for {
		// From the first octet of a message to its last, however slowly they drip.
		if k.conn.SetReadDeadline(deadline) != nil || s.conns.stopping() {
			return false
		}
		n, err := k.conn.Read(b.in[b.have:])
		b.have += n
		if err != nil && n == 0 {
			if b.have > 0 || !errors.Is(err, io.EOF) {
				s.countTimeout(err)
			}
			return false
		}
		answered, ok := s.answerTCP(k, b)
		if !ok {
			return false
		}
		if b.have == 0 {
			return true
		}
		if answered {
			deadline = time.Now().Add(s.config.TCPMessage)
		}
	}
}

// answerTCP answers all whole messages that b has and leaves the rest at its front.
func (s *Server) answerTCP(k *connection, b *buffers) (answered, ok bool) {
	for {
		n, at := 0, 0
		for n < tcpBatch && b.have-at >= 2 {
			size := int(binary.BigEndian.Uint16(b.in[at:]))
			if b.have-at < 2+size {
				b.grow(at, 2+size)
				break
			}
			b.batch[n] = Message{Query: b.in[at+2 : at+2+size], Client: k.client, Local: k.local, Response: b.batch[n].Response[:0]}
			at += 2 + size
			n++
		}
		if n == 0 {
			return answered, true
		}
		h := s.handlers.get()
		h.Answer(b.batch[:n], protocol.TCP)
		s.handlers.put(h)
		b.out = b.out[:0]
		for i := range b.batch[:n] {
			r := b.batch[i].Response
			if len(r) == 0 {
				return answered, false // what gets no answer is no DNS client
			}
			if len(r) > maxMessage {
				panic("wire: handler made a message of more than 65535 octets")
			}
			b.out = binary.BigEndian.AppendUint16(b.out, uint16(len(r)))
			b.out = append(b.out, r...)
		}
		b.have = copy(b.in, b.in[at:b.have])
		answered = true
		if err := k.conn.SetWriteDeadline(time.Now().Add(s.config.TCPMessage)); err != nil {
			return answered, false
		}
		if _, err := k.conn.Write(b.out); err != nil {
			s.Counters.WriteErrors.Add(1)
			s.countTimeout(err)
			return answered, false
		}
	}
}

// grow makes room for a message of size octets that begins at offset at.
func (b *buffers) grow(at, size int) {
	if len(b.in)-at >= size || at > 0 { // there is, or there will be when it is at the front
		return
	}
	in := make([]byte, size)
	copy(in, b.in[:b.have])
	b.in = in
}

// IdleTimeout is how long a silent connection is kept now.
func (s *Server) IdleTimeout() time.Duration {
	if s.Counters.TCPOpen.Load() > int64(s.config.MaxTCP/2) {
		return s.config.TCPIdle / 4
	}
	return s.config.TCPIdle
}

func (s *Server) countTimeout(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.Counters.TCPTimeouts.Add(1)
	}
}

// pool has the Handlers of TCP: as many as were ever needed at one moment.
type pool struct {
	make NewHandler

	mu   sync.Mutex // guards below
	free []Handler
	done []func()
}

func (p *pool) get() Handler {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		h := p.free[n-1]
		p.free = p.free[:n-1]
		return h
	}
	h, done := p.make()
	p.done = append(p.done, done)
	return h
}

func (p *pool) put(h Handler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, h)
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, done := range p.done {
		done()
	}
	p.free, p.done = nil, nil
}

// clientOf is what counts as one client: an IPv6 host owns at least a /64.
func clientOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return a
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}
