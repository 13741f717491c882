package nettest

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Faults are what a Proxy does to what passes, in each of both directions. The zero value
// does nothing.
type Faults struct {
	// Delay holds everything back, and Jitter up to so much longer, evenly drawn. Octets of a
	// connection stay in order, datagrams do not.
	Delay, Jitter time.Duration

	// Life is the mean time (exponentially drawn) after which a connection is reset. Zero:
	// none is.
	Life time.Duration
	// Stalls is the share, 0 to 1, of the pieces read from a connection that stop it for Stall.
	Stalls float64
	Stall  time.Duration

	// Loss, Duplicate and Reorder are shares, 0 to 1, of datagrams: lost, passed twice, held
	// back for heldBack and Jitter, so that later ones overtake them.
	Loss, Duplicate, Reorder float64
}

const (
	heldBack = 20 * time.Millisecond
	// pieces of at most pieceSize octets are under way in one direction of a connection: 2 MiB,
	// a window that does not bound what the lines of tests carry.
	pieces, pieceSize = 64, 32 << 10
	// idle is how long a source of datagrams keeps its own socket to the target.
	idle = 2 * time.Second
)

// Counts are what has passed a Proxy, and what was done to it.
type Counts struct {
	Connections, Broken, Stalled     int // Broken by Life or Break
	Datagrams                        int // that came, both directions
	Lost, Cut, Duplicated, Reordered int // Cut: lost because the line was cut
}

// Dial connects a Proxy to its target.
type Dial func() (net.Conn, error)

// Proxy passes connections, or datagrams, on to a target, and does to them what its faults
// say. The draws come from a seed, for each connection or source of datagrams by its number;
// which of them comes first is up to who connects.
type Proxy struct {
	faults Faults
	seed   uint64
	dial   Dial
	socket io.Closer
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex    // guards below
	open    chan struct{} // closed while the line is not cut
	live    map[*stream]bool
	sources map[netip.AddrPort]*source
	counts  Counts
}

// ProxyTCP passes on what connects to ln, which it closes.
func ProxyTCP(ln net.Listener, dial Dial, f Faults, seed uint64) *Proxy {
	p := newProxy(ln, dial, f, seed)
	p.wg.Go(func() {
		for n := uint64(0); ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return // closed
			}
			p.wg.Go(func() { p.connection(c, n) })
		}
	})
	return p
}

// ProxyUDP passes on what datagrams come to at, which it closes, and the answers back.
func ProxyUDP(at *net.UDPConn, dial Dial, f Faults, seed uint64) *Proxy {
	p := newProxy(at, dial, f, seed)
	p.wg.Go(func() { p.receive(at) })
	return p
}

func newProxy(socket io.Closer, dial Dial, f Faults, seed uint64) *Proxy {
	p := &Proxy{
		faults: f, seed: seed, dial: dial, socket: socket, open: make(chan struct{}),
		live: map[*stream]bool{}, sources: map[netip.AddrPort]*source{},
	}
	close(p.open)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Close ends what is under way, and waits for it.
func (p *Proxy) Close() {
	p.cancel()
	_ = p.socket.Close() // nothing is written to it
	p.wg.Wait()
}

// Cut makes a partition: connections stand still, new ones too, and datagrams are lost,
// until Heal.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
		p.open = make(chan struct{})
	default: // is cut
	}
}

// Heal ends a partition: connections go on.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open: // is not cut
	default:
		close(p.open)
	}
}

// Break resets all connections.
func (p *Proxy) Break() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.live {
		p.counts.Broken++
		delete(p.live, s)
		s.end()
	}
}

// Counts is what has happened until now.
func (p *Proxy) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

// Add is the sum of both.
func (c Counts) Add(d Counts) Counts {
	return Counts{
		Connections: c.Connections + d.Connections, Broken: c.Broken + d.Broken, Stalled: c.Stalled + d.Stalled, Datagrams: c.Datagrams + d.Datagrams,
		Lost: c.Lost + d.Lost, Cut: c.Cut + d.Cut, Duplicated: c.Duplicated + d.Duplicated, Reordered: c.Reordered + d.Reordered,
	}
}

func (p *Proxy) count(f func(*Counts)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.counts)
}

// gate is closed while the line is not cut.
func (p *Proxy) gate() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
}

// rng is that of one direction of the n-th connection or source.
func (p *Proxy) rng(n uint64, direction uint64) *rand.Rand {
	return rand.New(rand.NewPCG(p.seed, 2*n+direction))
}

// delay draws how long something is under way.
func (f Faults) delay(rng *rand.Rand) time.Duration {
	return f.Delay + time.Duration(rng.Float64()*float64(f.Jitter))
}

// stream is one connection.
type stream struct {
	ctx context.Context
	end context.CancelFunc
}

func (p *Proxy) connection(client net.Conn, n uint64) {
	s := &stream{}
	s.ctx, s.end = context.WithCancel(p.ctx)
	defer s.end()
	stop := context.AfterFunc(s.ctx, func() { reset(client) })
	there, back := p.rng(n, 0), p.rng(n, 1)
	p.count(func(c *Counts) { c.Connections++; p.live[s] = true })
	defer p.count(func(*Counts) { delete(p.live, s) })
	if p.faults.Life > 0 {
		t := time.AfterFunc(time.Duration(there.ExpFloat64()*float64(p.faults.Life)), func() {
			p.count(func(c *Counts) {
				if p.live[s] {
					c.Broken++
					delete(p.live, s)
				}
			})
			s.end()
		})
		defer t.Stop()
	}
	if !wait(s.ctx, p.gate()) {
		return
	}
	server, err := p.dial()
	if err != nil {
		return // the client is reset
	}
	stopServer := context.AfterFunc(s.ctx, func() { reset(server) })
	var wg sync.WaitGroup
	wg.Go(func() { p.pump(s, server, client, there) })
	wg.Go(func() { p.pump(s, client, server, back) })
	wg.Wait()
	if stop() {
		_ = client.Close() // all was said
	}
	if stopServer() {
		_ = server.Close()
	}
}

// reset closes a connection with RST.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // the connection may be closed
	}
	_ = c.Close()
}

// piece are octets that are to go on at a time, or the end of them, or a reset.
type piece struct {
	octets     []byte
	end, reset bool
	due        time.Time
}

// pump passes one direction on until its end, which it passes on as well.
func (p *Proxy) pump(s *stream, to, from net.Conn, rng *rand.Rand) {
	queue := make(chan piece, pieces)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(queue)
	wg.Go(func() {
		for one := range queue {
			if !wait(s.ctx, time.After(time.Until(one.due))) || !wait(s.ctx, p.gate()) {
				continue // the queue is emptied
			}
			_, err := to.Write(one.octets)
			if t, ok := to.(*net.TCPConn); ok && one.end {
				err = t.CloseWrite()
			}
			if err != nil || one.reset {
				s.end()
			}
		}
	})
	var last time.Time
	for {
		b := make([]byte, pieceSize)
		n, err := from.Read(b)
		due := time.Now().Add(p.faults.delay(rng))
		if n > 0 && p.faults.Stalls > 0 && rng.Float64() < p.faults.Stalls {
			p.count(func(c *Counts) { c.Stalled++ })
			due = due.Add(p.faults.Stall)
		}
		if due.Before(last) {
			due = last
		}
		last = due
		if n > 0 {
			queue <- piece{octets: b[:n], due: due}
		}
		if err != nil {
			end := errors.Is(err, io.EOF)
			queue <- piece{end: end, reset: !end, due: due} // a cut line does not tell either
			return
		}
	}
}

// wait waits for c. False means that ctx has ended.
func wait[T any](ctx context.Context, c <-chan T) bool {
	select {
	case <-c:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// source is where datagrams come from, and its socket to the target.
type source struct {
	server net.Conn
	there  *rand.Rand
}

// receive passes datagrams to the target.
func (p *Proxy) receive(at *net.UDPConn) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, s := range p.sources {
			_ = s.server.Close() // ends who reads from it
		}
	}()
	n := uint64(0)
	for {
		b := make([]byte, 64<<10)
		k, from, err := at.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // ICMP of a source that has gone
		}
		p.mu.Lock()
		s := p.sources[from]
		p.mu.Unlock()
		if s == nil {
			server, err := p.dial()
			if err != nil {
				continue // is lost
			}
			s = &source{server: server, there: p.rng(n, 0)}
			back := p.rng(n, 1)
			n++
			p.mu.Lock()
			p.sources[from] = s
			p.mu.Unlock()
			p.wg.Go(func() { p.answers(at, from, s, back) })
		}
		_ = s.server.SetReadDeadline(time.Now().Add(idle)) // a closed one loses the datagram
		p.datagram(s.there, func() { _, _ = s.server.Write(b[:k]) })
	}
}

// answers passes datagrams back to a source until nothing is said for a while.
func (p *Proxy) answers(at *net.UDPConn, to netip.AddrPort, s *source, rng *rand.Rand) {
	defer func() {
		p.mu.Lock()
		delete(p.sources, to)
		p.mu.Unlock()
		_ = s.server.Close()
	}()
	for {
		b := make([]byte, 64<<10)
		n, err := s.server.Read(b)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			continue // ICMP: nobody listens there, at present
		}
		p.datagram(rng, func() { _, _ = at.WriteToUDPAddrPort(b[:n], to) })
	}
}

// datagram does to one what the faults say; what cannot be sent is lost.
func (p *Proxy) datagram(rng *rand.Rand, send func()) {
	loss, twice, late := rng.Float64() < p.faults.Loss, rng.Float64() < p.faults.Duplicate, rng.Float64() < p.faults.Reorder
	delay := p.faults.delay(rng)
	again := p.faults.delay(rng)
	if late {
		delay += heldBack + p.faults.Jitter
	}
	p.count(func(c *Counts) {
		c.Datagrams++
		switch {
		case loss:
			c.Lost++
			return
		case late:
			c.Reordered++
		}
		if twice {
			c.Duplicated++
		}
	})
	if loss {
		return
	}
	p.after(delay, send)
	if twice {
		p.after(again, send)
	}
}

// after sends a datagram later, unless the line is cut then.
func (p *Proxy) after(d time.Duration, send func()) {
	pass := func() {
		select {
		case <-p.gate():
			send()
		default:
			p.count(func(c *Counts) { c.Cut++ })
		}
	}
	if d == 0 {
		pass()
		return
	}
	p.wg.Go(func() {
		if wait(p.ctx, time.After(d)) {
			pass()
		}
	})
}
