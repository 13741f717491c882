package packet

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// maxMessage is what the length before a message can say (RFC 1035 §4.2.2).
const maxMessage = 65535

func (s *Server) acceptTCP(ctx context.Context, l *net.TCPListener) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.AcceptTCP()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			s.log.Warn("TCP connection not accepted", "listen", l.Addr().String(), "error", err)
			if !pause(ctx) { // out of file descriptors: those we have will be given back
				return
			}
			continue
		}
		client := c.RemoteAddr().(*net.TCPAddr).AddrPort()
		client = netip.AddrPortFrom(client.Addr().Unmap(), client.Port())
		if !s.conns.add(c, clientOf(client.Addr()), s.config.MaxTCP, s.config.MaxTCPPerClient) {
			s.Counters.TCPRefused.Add(1)
			c.Close()
			continue
		}
		s.Counters.TCPAccepted.Add(1)
		s.Counters.TCPOpen.Add(1)
		wg.Go(func() {
			s.serveTCP(ctx, c, client)
			c.Close()
			s.conns.remove(c, clientOf(client.Addr()))
			s.Counters.TCPOpen.Add(-1)
		})
	}
}

// serveTCP answers the queries of one connection in their order; more may be on
// their way meanwhile (RFC 7766 §6.2.1.1).
func (s *Server) serveTCP(ctx context.Context, c *net.TCPConn, client netip.AddrPort) {
	handle, done := s.newHandler()
	defer done()
	r := bufio.NewReader(c)
	var length [2]byte
	var query, response []byte
	for {
		// Idle: until the first octet of a message comes.
		if !s.readBy(ctx, c, time.Now().Add(s.idle())) {
			return
		}
		if _, err := r.Peek(1); err != nil {
			return
		}
		// From the first octet to the last, however slowly they drip.
		if !s.readBy(ctx, c, time.Now().Add(s.config.TCPMessage)) {
			return
		}
		if _, err := io.ReadFull(r, length[:]); err != nil {
			s.countTimeout(err)
			return
		}
		n := int(binary.BigEndian.Uint16(length[:]))
		if cap(query) < n {
			query = make([]byte, n)
		}
		if _, err := io.ReadFull(r, query[:n]); err != nil {
			s.countTimeout(err)
			return
		}
		response = handle(query[:n], Meta{TCP: true, Client: client}, append(response[:0], 0, 0))
		if len(response) == 2 {
			return // what gets no answer is no DNS client
		}
		if len(response)-2 > maxMessage {
			panic("packet: handler made a message of more than 65535 octets")
		}
		binary.BigEndian.PutUint16(response, uint16(len(response)-2))
		if err := c.SetWriteDeadline(time.Now().Add(s.config.TCPMessage)); err != nil {
			return
		}
		if _, err := c.Write(response); err != nil {
			s.Counters.WriteErrors.Add(1)
			s.countTimeout(err)
			return
		}
	}
}

// readBy sets the deadline for reading; false when the server is stopping. The
// order matters: stop sets a deadline in the past after ctx ended, and this may
// have overwritten it.
func (s *Server) readBy(ctx context.Context, c *net.TCPConn, t time.Time) bool {
	return c.SetReadDeadline(t) == nil && ctx.Err() == nil
}

// idle is how long a silent connection is kept now.
func (s *Server) idle() time.Duration {
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

// connections knows what is open.
type connections struct {
	mu      sync.Mutex // guards below
	open    map[*net.TCPConn]struct{}
	clients map[netip.Addr]int
	stopped bool
}

func (c *connections) init() {
	c.open, c.clients = map[*net.TCPConn]struct{}{}, map[netip.Addr]int{}
}

// add enters a connection unless a bound is reached.
func (c *connections) add(conn *net.TCPConn, client netip.Addr, most, mostPerClient int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped || len(c.open) >= most || c.clients[client] >= mostPerClient {
		return false
	}
	c.open[conn] = struct{}{}
	c.clients[client]++
	return true
}

func (c *connections) remove(conn *net.TCPConn, client netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
	if c.clients[client]--; c.clients[client] == 0 {
		delete(c.clients, client)
	}
}

// stop wakes all readers and lets no new connection in.
func (c *connections) stop(past time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	for conn := range c.open {
		conn.SetReadDeadline(past)
	}
}
