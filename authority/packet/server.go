package packet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Meta says how a query came.
type Meta struct {
	TCP    bool
	Client netip.AddrPort
}

// Handler appends the response to dst and returns it; dst as it was means that
// there is none. query is valid during the call only. One Handler is called by one
// goroutine at a time.
type Handler func(query []byte, m Meta, dst []byte) []byte

// NewHandler gives a Handler for one goroutine, which calls done when it ends.
type NewHandler func() (h Handler, done func())

// Config of a Server.
type Config struct {
	// Listen has the addresses, each for UDP and TCP. With port 0 the kernel picks
	// one that is free for both.
	Listen []netip.AddrPort
	// UDPWorkers is the number of sockets and goroutines for each UDP address; zero
	// means one for each CPU.
	UDPWorkers int
	// MaxTCP and MaxTCPPerClient bound connections; a client is an IPv4 address or
	// an IPv6 /64. Zero means 1000 and 50.
	MaxTCP          int
	MaxTCPPerClient int
	// TCPIdle is how long a connection may be silent between two queries; a quarter
	// of it when more than half of MaxTCP is taken. Zero means 10s.
	TCPIdle time.Duration
	// TCPMessage is how long a client may take to send one query or to take one
	// response. Zero means 5s.
	TCPMessage time.Duration
}

// Counters counts what happens below the messages.
type Counters struct {
	TCPAccepted atomic.Uint64
	TCPRefused  atomic.Uint64 // closed at once because of a bound
	TCPTimeouts atomic.Uint64 // closed in the middle of a message
	TCPOpen     atomic.Int64
	ReadErrors  atomic.Uint64 // of UDP sockets
	WriteErrors atomic.Uint64 // responses that could not be sent
}

// Server has bound its sockets.
type Server struct {
	Counters Counters

	config     Config
	newHandler NewHandler
	log        *slog.Logger
	addrs      []netip.AddrPort
	udp        []*net.UDPConn
	tcp        []*net.TCPListener
	conns      connections
}

// Listen binds all sockets or none. newHandler is called once for each goroutine
// that reads queries: for each UDP socket, and for each TCP connection.
func Listen(c Config, newHandler NewHandler, log *slog.Logger) (*Server, error) {
	defaultTo(&c.UDPWorkers, runtime.GOMAXPROCS(0))
	defaultTo(&c.MaxTCP, 1000)
	defaultTo(&c.MaxTCPPerClient, 50)
	defaultTo(&c.TCPIdle, 10*time.Second)
	defaultTo(&c.TCPMessage, 5*time.Second)
	s := &Server{config: c, newHandler: newHandler, log: log}
	s.conns.init()
	for _, a := range c.Listen {
		if err := s.bind(a); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

func defaultTo[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Addrs are the addresses bound, in the order of Config.Listen.
func (s *Server) Addrs() []netip.AddrPort { return s.addrs }

// Close closes the sockets of a Server that is not running.
func (s *Server) Close() error {
	var errs []error
	for _, c := range s.udp {
		errs = append(errs, c.Close())
	}
	for _, l := range s.tcp {
		errs = append(errs, l.Close())
	}
	s.udp, s.tcp = nil, nil
	return errors.Join(errs...)
}

// Run answers until ctx ends, then finishes the messages it is at, closes
// everything and returns nil.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, c := range s.udp {
		wg.Go(func() { s.serveUDP(ctx, c) })
	}
	for _, l := range s.tcp {
		wg.Go(func() { s.acceptTCP(ctx, l) })
	}
	<-ctx.Done()
	// Deadlines in the past wake the readers; what is being written goes on.
	past := time.Unix(1, 0)
	for _, c := range s.udp {
		c.SetReadDeadline(past)
	}
	for _, l := range s.tcp {
		l.SetDeadline(past)
	}
	s.conns.stop(past)
	wg.Wait()
	return s.Close()
}

// pause waits a little after an error that may come again at once; false when ctx
// ended.
func pause(ctx context.Context) bool {
	t := time.NewTimer(20 * time.Millisecond)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (s *Server) bind(a netip.AddrPort) error {
	const attempts = 20 // only for port 0: the port free for TCP may be taken for UDP
	for i := 1; ; i++ {
		err := s.bindBoth(a)
		if err == nil {
			return nil
		}
		if a.Port() != 0 || i == attempts {
			return fmt.Errorf("listen on %s: %w", a, explain(a, err))
		}
	}
}

// bindBoth binds TCP first: without SO_REUSEPORT it notices another server of this
// kind, which the shared UDP sockets would not.
func (s *Server) bindBoth(a netip.AddrPort) error {
	l, err := listenTCP(a)
	if err != nil {
		return fmt.Errorf("tcp: %w", err)
	}
	got := netip.AddrPortFrom(a.Addr(), l.Addr().(*net.TCPAddr).AddrPort().Port())
	var udp []*net.UDPConn
	for range s.config.UDPWorkers {
		c, err := listenUDP(got)
		if err != nil {
			err = fmt.Errorf("udp: %w", err)
			for _, c := range udp {
				err = errors.Join(err, c.Close())
			}
			return errors.Join(err, l.Close())
		}
		udp = append(udp, c)
	}
	s.tcp = append(s.tcp, l)
	s.udp = append(s.udp, udp...)
	s.addrs = append(s.addrs, got)
	return nil
}
