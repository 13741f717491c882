package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
	"golang.org/x/sync/semaphore"
)

// Names of the services on the wire.
const (
	RegistryService = "Registry"
	ControlService  = "Control"
	// ControlOf and the name of a dataset is the Control of that one alone.
	ControlOf = ControlService + "/"
	// ConfigurationService is there where a configuration is kept.
	ConfigurationService = "Configuration"
)

// ServerConfig bounds what peers can take. Every field must be positive;
// DefaultServerConfig has reasons.
type ServerConfig struct {
	MaxConnections int           `option:"max-connections" help:"connections served at once; more are closed on arrival"`
	MaxFrame       int           `option:"max-frame" help:"octets of one call"`
	MaxInFlight    int64         `option:"max-in-flight" help:"octets of all calls above 64 KiB being read or handled"`
	MaxItems       int           `option:"max-items" help:"elements of one list or map of a call"`
	IdleTimeout    time.Duration `option:"idle-timeout" help:"how long a connection may be silent between calls"`
	ReadTimeout    time.Duration `option:"read-timeout" help:"how long a call may take to arrive once it has begun"`
	WriteTimeout   time.Duration `option:"write-timeout" help:"how long an answer may take to leave"`
	CallTimeout    time.Duration `option:"call-timeout" help:"how long a handler may take"`
	StopTimeout    time.Duration `option:"stop-timeout" help:"how long running calls may go on once the server stops"`
}

// DefaultServerConfig is for a control plane with some hundred clients.
func DefaultServerConfig() ServerConfig {
	return ServerConfig{
		MaxConnections: 1024,             // each costs about 20 KiB when idle
		MaxFrame:       16 << 20,         // 10,000 registrations of 300 octets are 3 MiB, a large zone file 10 MiB
		MaxInFlight:    64 << 20,         // four of the largest calls; decoded they take up to about 16 times that in the worst case
		MaxItems:       20000,            // registry.thrift allows 10,000; somewhat more is refused in words, not by a closed connection
		IdleTimeout:    10 * time.Minute, // clients keep connections; longer than most NATs do
		ReadTimeout:    30 * time.Second, // the largest message at 4.5 Mbit/s
		WriteTimeout:   30 * time.Second,
		CallTimeout:    75 * time.Second, // the longest wait of 60 s and what surrounds it
		StopTimeout:    5 * time.Second,
	}
}

// Validate names the first field that is out of range.
func (c ServerConfig) Validate() error {
	for _, f := range []struct {
		key   string
		value int64
		most  int64
	}{
		{"max-connections", int64(c.MaxConnections), 1 << 20},
		{"max-frame", int64(c.MaxFrame), 1 << 30},
		{"max-in-flight", c.MaxInFlight, 1 << 40},
		{"max-items", int64(c.MaxItems), 1 << 24},
		{"idle-timeout", int64(c.IdleTimeout), int64(24 * time.Hour)},
		{"read-timeout", int64(c.ReadTimeout), int64(time.Hour)},
		{"write-timeout", int64(c.WriteTimeout), int64(time.Hour)},
		{"call-timeout", int64(c.CallTimeout), int64(time.Hour)},
		{"stop-timeout", int64(c.StopTimeout), int64(time.Hour)},
	} {
		if f.value <= 0 || f.value > f.most {
			return fmt.Errorf("%s is %d, expected 1 to %d", f.key, f.value, f.most)
		}
	}
	if c.MaxInFlight < int64(c.MaxFrame) {
		return fmt.Errorf("max-in-flight is %d, expected at least max-frame (%d)", c.MaxInFlight, c.MaxFrame)
	}
	return nil
}

// smallCall is up to how many octets a call needs no room: what MaxConnections
// bounds already, 64 MiB at its default. So peers that announce large calls and do
// not send them are in the way of other large calls only.
const smallCall = 64 << 10

// Processor is a service as generated code makes it.
type Processor = thrift.TProcessor

// server is one running Serve.
type server struct {
	cfg      ServerConfig
	log      *slog.Logger
	services *thrift.TMultiplexedProcessor
	octets   *semaphore.Weighted // of calls in flight

	// stopping ends when no further call may begin; calls ends when running calls
	// must end.
	stopping, calls context.Context
}

// Serve answers calls of services (by their name on the wire) on ln until ctx
// ends; it owns and closes ln. Then no new call begins, running calls have
// StopTimeout to end before their context ends, and Serve returns nil.
func Serve(ctx context.Context, ln net.Listener, services map[string]Processor, cfg ServerConfig, log *slog.Logger) error {
	if err := cfg.Validate(); err != nil {
		return errors.Join(fmt.Errorf("api server: %w", err), ln.Close())
	}
	calls, endCalls := context.WithCancel(context.WithoutCancel(ctx))
	defer endCalls()
	s := &server{
		cfg: cfg, log: log, services: thrift.NewTMultiplexedProcessor(),
		octets: semaphore.NewWeighted(cfg.MaxInFlight), stopping: ctx, calls: calls,
	}
	for name, p := range services {
		s.services.RegisterProcessor(name, p)
	}
	var conns sync.WaitGroup
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	err := s.accept(ln, &conns)
	ln.Close()

	timer := time.AfterFunc(cfg.StopTimeout, endCalls)
	defer timer.Stop()
	if ctx.Err() == nil {
		endCalls() // the listener broke: nobody is left to wait for
	}
	conns.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (s *server) accept(ln net.Listener, conns *sync.WaitGroup) error {
	slots := semaphore.NewWeighted(int64(s.cfg.MaxConnections))
	for {
		c, err := ln.Accept()
		if err != nil {
			if s.stopping.Err() != nil || errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("accept on %s: %w", ln.Addr(), err)
			}
			// Out of file descriptors, most likely: others may give some back.
			s.log.Warn("accept failed", "listen", ln.Addr().String(), "error", err)
			select {
			case <-s.stopping.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		if !slots.TryAcquire(1) {
			s.log.Warn("connection refused: too many", "client", c.RemoteAddr().String(), "most", s.cfg.MaxConnections)
			c.Close()
			continue
		}
		conns.Go(func() {
			defer slots.Release(1)
			s.connection(c)
		})
	}
}

// connection serves one call after another.
func (s *server) connection(c net.Conn) {
	defer c.Close()
	ctx, cancel := context.WithCancel(context.WithValue(s.calls, callerKey{}, c.RemoteAddr()))
	defer cancel()
	r := bufio.NewReader(c)
	in, out := &frame{alive: (&peer{conn: c}).alive}, &frame{}
	for {
		err := s.call(ctx, c, r, in, out)
		switch {
		case err == nil:
			continue
		case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), s.stopping.Err() != nil:
		case isTimeout(err):
			s.log.Debug("connection closed: no progress", "client", c.RemoteAddr().String(), "error", err)
		default:
			s.log.Info("connection closed", "client", c.RemoteAddr().String(), "error", err)
		}
		return
	}
}

type callerKey struct{}

// Caller is the address from where the call that is being handled came; "" when it is
// none of Serve's.
func Caller(ctx context.Context) string {
	if a, ok := ctx.Value(callerKey{}).(net.Addr); ok {
		return a.String()
	}
	return ""
}

// call reads one call, handles it and answers.
func (s *server) call(ctx context.Context, c net.Conn, r *bufio.Reader, in, out *frame) error {
	c.SetReadDeadline(time.Now().Add(s.cfg.IdleTimeout))
	// A stop between calls interrupts the wait for the next one.
	awake := context.AfterFunc(s.stopping, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	_, err := r.Peek(1)
	if !awake() || s.stopping.Err() != nil {
		return net.ErrClosed
	}
	if err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(s.cfg.ReadTimeout))
	n, err := readHeader(r, s.cfg.MaxFrame)
	if err != nil {
		return err
	}
	// The wait for room is bounded like the reading it delays.
	room, cancelRoom := context.WithTimeout(ctx, s.cfg.ReadTimeout)
	if n > smallCall {
		err = s.octets.Acquire(room, int64(n))
	}
	cancelRoom()
	if err != nil {
		return fmt.Errorf("wait for %d octets of room: %w", n, err)
	}
	if n > smallCall {
		defer s.octets.Release(int64(n))
	}
	in.Reset()
	if err := readBody(in, r, n); err != nil {
		return err
	}
	out.begin()
	if err := s.process(ctx, in, out); err != nil {
		return err
	}
	if out.Len() == frameHeader {
		return nil // a oneway call
	}
	b, err := out.end(maxAnswer)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	c.SetWriteDeadline(time.Now().Add(s.cfg.WriteTimeout))
	_, err = c.Write(b)
	shrink(in)
	shrink(out)
	return err
}

// process runs the handler. An error means that the connection is of no use.
func (s *server) process(ctx context.Context, in, out *frame) (err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("call panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fmt.Errorf("call panicked: %v", p)
		}
	}()
	ok, terr := s.services.Process(ctx, protocol(in, s.cfg.MaxFrame, s.cfg.MaxItems), protocol(out, maxAnswer, maxItems))
	if !ok && terr != nil {
		// The generated code may have answered with a protocol error already, but
		// a peer that speaks wrongly is not worth keeping.
		return terr
	}
	return nil
}

// shrink gives a large buffer back to the collector: idle connections keep 64 KiB.
func shrink(f *frame) {
	if f.Cap() > 64<<10 {
		f.Buffer = bytes.Buffer{}
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
