package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Config of a Server.
type Config struct {
	// Listen has the addresses, each for UDP and TCP. With port 0 the kernel picks
	// one that is free for both.
	Listen []netip.AddrPort
	// UDPWorkers is the number of sockets, each with its own thread, for each UDP
	// address; zero means one for each CPU.
	UDPWorkers int
	// MaxUDP is the room for a UDP response in octets; zero means 1232.
	MaxUDP int
	// MaxTCP and MaxTCPPerClient bound connections; a client is an IPv4 address or
	// an IPv6 /64. When MaxTCP is reached a new connection takes the place of the one
	// that has been silent longest. Zero means 10000 and 50.
	MaxTCP          int
	MaxTCPPerClient int
	// TCPIdle is how long a connection may be silent between two queries; a quarter
	// of it when more than half of MaxTCP is taken. Zero means 10s.
	TCPIdle time.Duration
	// TCPMessage is how long a client may take to send one query or to take one
	// response. Zero means 5s.
	TCPMessage time.Duration
	// TCPLife is how long a connection may last in all. Zero means 10m.
	TCPLife time.Duration
	// HandOver is the path of a unix socket. A server that runs there gives its sockets
	// to this one, and this one gives them to the next. Empty: sockets are bound, and
	// kept.
	HandOver string
}

// Counters counts what happens below the messages.
type Counters struct {
	TCPAccepted atomic.Uint64
	TCPRefused  atomic.Uint64 // closed at once because of a bound
	TCPEvicted  atomic.Uint64 // closed while silent, to make room
	TCPTimeouts atomic.Uint64 // closed in the middle of a message
	TCPOpen     atomic.Int64
	ReadErrors  atomic.Uint64 // of UDP sockets
	WriteErrors atomic.Uint64 // responses that could not be sent
	TooLarge    atomic.Uint64 // UDP responses larger than the path takes: sent cut, with TC
}

// ErrHandedOver is what Run returns when a successor has taken the sockets.
var ErrHandedOver = errors.New("sockets handed over to another process")

// Server has bound its sockets.
type Server struct {
	Counters Counters

	config     Config
	newHandler NewHandler
	log        *slog.Logger
	addrs      []netip.AddrPort
	udp        []udpSocket
	tcp        []*net.TCPListener
	conns      connections
	handlers   pool
	before     *net.UnixConn // the predecessor, until this one runs
}

type udpSocket struct {
	fd   int
	addr netip.AddrPort
}

// Listen binds all sockets or none. newHandler is called for each UDP socket, and for
// as many TCP connections as have messages at one moment.
func Listen(c Config, newHandler NewHandler, log *slog.Logger) (*Server, error) {
	defaultTo(&c.UDPWorkers, runtime.GOMAXPROCS(0))
	defaultTo(&c.MaxUDP, 1232)
	defaultTo(&c.MaxTCP, 10000)
	defaultTo(&c.MaxTCPPerClient, 50)
	defaultTo(&c.TCPIdle, 10*time.Second)
	defaultTo(&c.TCPMessage, 5*time.Second)
	defaultTo(&c.TCPLife, 10*time.Minute)
	s := &Server{config: c, newHandler: newHandler, log: log}
	s.conns.init()
	s.handlers.make = newHandler
	given, err := s.takeOver()
	if err != nil {
		return nil, err
	}
	for _, a := range c.Listen {
		i := slices.IndexFunc(given, func(h handed) bool { return h.addr == a })
		if i >= 0 {
			err = s.adopt(given[i])
			given = slices.Delete(given, i, i+1)
		} else {
			err = s.bind(a)
		}
		if err != nil {
			break
		}
	}
	for _, h := range given { // not wanted any more
		err = errors.Join(err, h.close())
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
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
	for _, u := range s.udp {
		errs = append(errs, unix.Close(u.fd))
	}
	for _, l := range s.tcp {
		errs = append(errs, l.Close())
	}
	if s.before != nil {
		errs = append(errs, s.before.Close())
		s.before = nil
	}
	s.udp, s.tcp = nil, nil
	return errors.Join(errs...)
}

// Run answers until ctx ends, then finishes the messages it is at, closes everything
// and returns nil; or until a successor has taken the sockets: ErrHandedOver.
func (s *Server) Run(ctx context.Context) (err error) {
	parent := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var stopping atomic.Bool
	for _, u := range s.udp {
		wg.Go(func() { s.serveUDP(u, &stopping) })
	}
	for _, l := range s.tcp {
		wg.Go(func() { s.acceptTCP(ctx, l) })
	}
	if s.config.HandOver != "" {
		ln, lerr := s.announce()
		if lerr != nil {
			err = lerr
			cancel(lerr)
		} else {
			wg.Go(func() { s.handOver(ctx, ln, cancel) })
		}
	}
	<-ctx.Done()
	stopping.Store(true)
	past := time.Unix(1, 0)
	for _, l := range s.tcp {
		l.SetDeadline(past)
	}
	if errors.Is(context.Cause(ctx), ErrHandedOver) {
		err = ErrHandedOver
		// Connections cannot be handed over. Who sends something soon is still answered.
		s.conns.drain(time.Now().Add(drainIdle), parent.Done())
	}
	// Deadlines in the past wake the readers; what is being written goes on.
	s.conns.stop(past)
	wg.Wait()
	s.handlers.close()
	return errors.Join(err, s.Close())
}

// drainIdle is how long a silent connection is kept after the sockets were handed
// over.
const drainIdle = time.Second

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
			return &net.OpError{Op: "listen", Addr: net.TCPAddrFromAddrPort(a), Err: explain(a, err)}
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
	var udp []udpSocket
	for range s.config.UDPWorkers {
		fd, err := listenUDP(got)
		if err != nil {
			err = fmt.Errorf("udp: %w", err)
			for _, u := range udp {
				err = errors.Join(err, unix.Close(u.fd))
			}
			return errors.Join(err, l.Close())
		}
		udp = append(udp, udpSocket{fd, got})
	}
	s.tcp = append(s.tcp, l)
	s.udp = append(s.udp, udp...)
	s.addrs = append(s.addrs, got)
	return nil
}

// adopt takes the sockets of an address from a predecessor, all of them: each may have
// queries in it.
func (s *Server) adopt(h handed) error {
	if h.tcp < 0 || len(h.udp) == 0 {
		return errors.Join(h.close(), s.bind(h.addr))
	}
	f := os.NewFile(uintptr(h.tcp), "tcp")
	l, err := net.FileListener(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("take over %s: %w", h.addr, err)
	}
	t, ok := l.(*net.TCPListener)
	if !ok {
		return errors.Join(fmt.Errorf("take over %s: a %T, expected a TCP listener", h.addr, l), l.Close())
	}
	s.tcp = append(s.tcp, t)
	for _, fd := range h.udp {
		s.udp = append(s.udp, udpSocket{fd, h.addr})
	}
	s.addrs = append(s.addrs, h.addr)
	return nil
}

func (h handed) close() error {
	var errs []error
	for _, fd := range h.udp {
		errs = append(errs, unix.Close(fd))
	}
	if h.tcp >= 0 {
		errs = append(errs, unix.Close(h.tcp))
	}
	return errors.Join(errs...)
}
