package wire

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math"
	"net/netip"
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
	// UDPWorkers is the number of sockets for each UDP address, each with its own
	// thread (with more than threadedAddresses addresses: one of each address to a
	// thread), and of goroutines for TCP; zero means one for each CPU.
	UDPWorkers int
	// MaxUDP is the room for a UDP response in octets; zero means 1232.
	MaxUDP int
	// MaxTCP and MaxTCPPerClient bound connections; a client is an IPv4 address or
	// an IPv6 /64. When MaxTCP is reached a new connection takes the place of the one
	// that has been silent longest. Zero means 10000 and 50. What the limit of open
	// files leaves may be less.
	MaxTCP          int
	MaxTCPPerClient int
	// TCPIdle is how long a connection may be silent between two queries; a quarter
	// of it when more than half of MaxTCP is taken. Zero means 10s.
	TCPIdle time.Duration
	// TCPMessage is how long a client may take to send one query or to take one
	// response (more exactly 65535 octets of responses). Zero means 5s.
	TCPMessage time.Duration
	// TCPLife is how long a connection may last in all. Zero means 10m.
	TCPLife time.Duration
	// HandOver is the path of a unix socket. A server that runs there gives its sockets
	// to this one, and this one gives them to the next. Empty: sockets are bound, and
	// kept.
	HandOver string
	// Ready, unless nil, keeps a server that has a predecessor from answering until it
	// is closed: the predecessor goes on until then. Without a predecessor it is not
	// looked at.
	Ready <-chan struct{}
}

// Counters counts what happens below the messages.
type Counters struct {
	TCPAccepted atomic.Uint64
	TCPRefused  atomic.Uint64 // closed at once because of a bound
	TCPEvicted  atomic.Uint64 // closed while silent, to make room
	TCPTimeouts atomic.Uint64 // closed in the middle of a message
	TCPOverflow atomic.Uint64 // closed in the middle of a message, for maxPending
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
	began      time.Time        // what times of connections count from
	addrs      []netip.AddrPort // of sockets, and known when those are closed
	sockets    []sockets
	threads    []*udpThread
	loops      []*tcpLoop
	clients    clients
	pending    atomic.Int64 // octets of messages that TCP connections wait with
	before     *predecessor // until this one runs; nil: there is none
	udpStops   atomic.Bool

	mu    sync.Mutex // guards below
	phase phase      // of TCP; loops look when they are woken
	until int64      // when the phase should end, in nanoseconds since began
}

// phase is what becomes of TCP connections.
type phase int

const (
	serving  phase = iota
	draining       // no new ones; silent ones stay until the end of the phase
	stopping       // only responses are sent, until the end of the phase
)

const (
	// drainTime is how long silent connections are kept after the sockets were handed
	// over: their clients may have sent something.
	drainTime = time.Second
	// stopTime is how long clients may take for responses when the server stops.
	stopTime = time.Second
)

// Listen binds all sockets or none. newHandler is called for each thread of UDP and
// each goroutine of TCP.
func Listen(c Config, newHandler NewHandler, log *slog.Logger) (*Server, error) {
	c.UDPWorkers = cmp.Or(c.UDPWorkers, Processors())
	c.MaxUDP = cmp.Or(c.MaxUDP, 1232)
	c.MaxTCP = cmp.Or(c.MaxTCP, 10000)
	c.MaxTCPPerClient = cmp.Or(c.MaxTCPPerClient, 50)
	c.TCPIdle = cmp.Or(c.TCPIdle, 10*time.Second)
	c.TCPMessage = cmp.Or(c.TCPMessage, 5*time.Second)
	c.TCPLife = cmp.Or(c.TCPLife, 10*time.Minute)
	s := &Server{config: c, newHandler: newHandler, log: log, began: time.Now()}
	s.clients.open = map[netip.Addr]int{}
	given, err := s.takeOver()
	if err != nil {
		return nil, err
	}
	for _, a := range c.Listen {
		k := sockets{addr: a, tcp: -1}
		for i := range given {
			if given[i].addr == a {
				k, given[i] = given[i], sockets{tcp: -1}
			}
		}
		if k, err = k.open(c.UDPWorkers); err != nil {
			break
		}
		s.sockets = append(s.sockets, k)
		s.addrs = append(s.addrs, k.addr)
	}
	for _, k := range given { // not wanted any more
		err = errors.Join(err, k.close())
	}
	if err == nil {
		err = s.prepare()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// prepare makes what serves the sockets.
func (s *Server) prepare() error {
	threads, err := s.newUDPThreads()
	s.threads = threads
	if err != nil {
		return err
	}
	s.boundTCP()
	for range s.config.UDPWorkers {
		l, err := s.newTCPLoop()
		if err != nil {
			return err
		}
		s.loops = append(s.loops, l)
	}
	return nil
}

// boundTCP keeps MaxTCP below the limit of open files: beyond it connections could be
// neither taken nor refused.
func (s *Server) boundTCP() {
	const others = 200 // sockets, files, and what the rest of the process opens
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil || limit.Cur > math.MaxInt32 {
		return
	}
	most := max(int(limit.Cur)-others, int(limit.Cur)/2)
	if s.config.MaxTCP > most {
		s.log.Warn("fewer TCP connections than configured: the limit of open files (ulimit -n) leaves no more", "max_tcp", s.config.MaxTCP, "room", most)
		s.config.MaxTCP = most
	}
}

// Addrs are the addresses bound, in the order of Config.Listen.
func (s *Server) Addrs() []netip.AddrPort { return slices.Clone(s.addrs) }

// Close closes the sockets of a Server that is not running.
func (s *Server) Close() error {
	var errs []error
	for _, t := range s.threads {
		errs = append(errs, t.close())
	}
	for _, l := range s.loops {
		errs = append(errs, l.close())
	}
	for _, k := range s.sockets {
		errs = append(errs, k.close())
	}
	if s.before != nil {
		errs = append(errs, s.before.close())
		s.before = nil
	}
	s.threads, s.loops, s.sockets = nil, nil, nil
	return errors.Join(errs...)
}

// Run answers until ctx ends, then finishes the messages it is at, closes everything
// and returns nil; or until a successor has taken the sockets: ErrHandedOver.
func (s *Server) Run(ctx context.Context) error {
	if !s.awaitReady(ctx) {
		return s.Close()
	}
	within, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	n := len(s.threads)
	bring(n)
	defer bring(-n)
	var udp, tcp, heir sync.WaitGroup
	for _, t := range s.threads {
		udp.Go(func() { t.serve() })
	}
	for _, l := range s.loops {
		tcp.Go(func() { l.serve() })
	}
	err := s.relieve(within)
	if err != nil {
		cancel(err)
	} else if s.config.HandOver != "" {
		heir.Go(func() {
			if err := s.awaitSuccessor(within, cancel); err != nil {
				cancel(err)
			}
		})
	}
	<-within.Done()
	heir.Wait()
	s.udpStops.Store(true)
	if cause := context.Cause(within); cause != context.Cause(ctx) {
		err = cause
	}
	if errors.Is(err, ErrHandedOver) {
		s.enter(draining, drainTime)
		stop := make(chan struct{})
		heir.Go(func() {
			select {
			case <-ctx.Done(): // told not to wait
				s.enter(stopping, stopTime)
			case <-stop:
			}
		})
		tcp.Wait()
		close(stop)
		heir.Wait()
	} else {
		s.enter(stopping, stopTime)
	}
	tcp.Wait()
	udp.Wait()
	return errors.Join(err, s.Close())
}

// awaitReady waits for Config.Ready as long as a predecessor answers; false when ctx
// ended before.
func (s *Server) awaitReady(ctx context.Context) bool {
	if s.before == nil || s.config.Ready == nil {
		return ctx.Err() == nil
	}
	select {
	case <-s.config.Ready:
	case <-s.before.gone:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// enter begins a phase and wakes who has to know.
func (s *Server) enter(p phase, last time.Duration) {
	s.mu.Lock()
	s.phase, s.until = p, s.now()+int64(last)
	s.mu.Unlock()
	for _, l := range s.loops {
		l.wake()
	}
}

func (s *Server) phaseNow() (p phase, until int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase, s.until
}

// now is the time of connections: nanoseconds since the server was made.
func (s *Server) now() int64 { return int64(time.Since(s.began)) }

// IdleTimeout is how long a silent connection is kept now.
func (s *Server) IdleTimeout() time.Duration {
	if s.Counters.TCPOpen.Load() > int64(s.config.MaxTCP/2) {
		return s.config.TCPIdle / 4
	}
	return s.config.TCPIdle
}
