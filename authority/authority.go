package authority

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/protocol"
	"github.com/zonecast/zonecast/authority/tap"
	"github.com/zonecast/zonecast/authority/wire"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trust"
)

// Server is the authoritative server of one host.
type Server struct {
	config  Config
	log     *slog.Logger
	ring    *trust.Ring
	packet  *wire.Server
	workers workers
	metrics *collector

	current  atomic.Pointer[state] // never nil; what queries see
	problems atomic.Uint64         // of the journal, and versions not taken
	panics   atomic.Uint64         // queries lost by bugs
	folds    atomic.Uint64         // images made of changes
	damaged  atomic.Uint64         // images found damaged
	unfit    atomic.Uint64         // versions with maps that were not taken
	source   interface {           // of states
		run(context.Context)
		keep(context.Context)
	}
	images images
	// carried, unless nil, are those of all datasets that this host answers from, in order.
	carried atomic.Pointer[[]*Server]
	front   *Server // that answers from this one, which has no sockets; nil: it has
	guard   *guard
	tap     *tap.Tap // nil: none
	top     top
	sampled sampling // of the goroutine of watch

	once  sync.Once     // closes ready
	ready chan struct{} // closed when there is a first version to answer
}

// state is one version as it is answered.
type state struct {
	view *data.View // nil: no data yet
	tree.HostDataset
}

// New binds the sockets and loads the keys. It answers SERVFAIL to all that comes
// once Run is called and until the journal has given a first version.
func New(c Config, deps Deps) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("configure authority: %w", err)
	}
	s := &Server{config: c, log: deps.Log, ready: make(chan struct{})}
	s.current.Store(&state{})
	s.images.dir = c.ImageDir
	s.source = &follower{server: s}
	var err error
	if s.guard, err = newGuard(c); err != nil {
		return nil, err
	}
	s.workers.config = protocol.Config{
		MaxUDP: c.MaxUDP, Version: c.Version, Identity: c.Identity,
		Idle: func() time.Duration { return s.packet.IdleTimeout() }, Cookies: s.guard.secrets(),
	}
	if s.ring, err = trust.Open(trust.Config{Keys: c.Keys, Revoked: c.Revoked, Memory: trust.MemoryFile(c.Journal), Reader: true, Log: deps.Log}); err != nil {
		return nil, err
	}
	pc := wire.Config{
		UDPWorkers: c.UDPWorkers, MaxUDP: c.MaxUDP, MaxTCP: c.MaxTCP, MaxTCPPerClient: c.MaxTCPPerClient,
		TCPIdle: c.TCPIdle, TCPLife: c.TCPLife, HandOver: c.HandOver, Ready: s.ready,
	}
	for _, l := range c.Listen {
		a, err := netip.ParseAddrPort(l)
		if err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}
		pc.Listen = append(pc.Listen, a)
	}
	if s.packet, err = wire.Listen(pc, s.newHandler, deps.Log); err != nil {
		return nil, err
	}
	if err := s.prepare(deps.Source); err != nil {
		return nil, errors.Join(err, s.packet.Close())
	}
	// Once the sockets are this server's: it begins a file anew, which else is another's.
	if tc, on, err := c.tap(); on || err != nil {
		if err == nil {
			s.tap, err = tap.Open(tc, deps.Log)
		}
		if err != nil {
			s.images.close()
			return nil, errors.Join(err, s.packet.Close())
		}
	}
	s.metrics = newCollector(s)
	if err := deps.Metrics.Register(s.metrics); err != nil {
		s.images.close()
		return nil, errors.Join(fmt.Errorf("register metrics of authority: %w", err), s.packet.Close())
	}
	return s, nil
}

// prepare makes room for images and, when the data comes from files, loads it.
func (s *Server) prepare(source Source) error {
	if err := s.images.open(); err != nil {
		return err
	}
	if source == nil {
		return nil
	}
	static := &static{server: s, source: source}
	s.source = static
	if err := static.load(); err != nil {
		s.images.close()
		return err
	}
	return nil
}

// Addrs are the addresses it answers on, in the order of Config.Listen.
func (s *Server) Addrs() []netip.AddrPort { return s.packet.Addrs() }

// Serving is what is answered now; Version 0 means nothing yet.
func (s *Server) Serving() tree.HostDataset { return s.current.Load().HostDataset }

// ErrHandedOver is what Run returns when a successor has taken the sockets.
var ErrHandedOver = wire.ErrHandedOver

// show makes queries see a state.
func (s *Server) show(now *state) {
	s.current.Store(now)
	if now.view != nil {
		if s.front != nil {
			s = s.front
		}
		s.once.Do(func() { close(s.ready) })
	}
}

// Run answers until ctx ends and then returns nil, or until a successor has taken the
// sockets (Config.HandOver): ErrHandedOver. A server that has a predecessor begins to
// answer when it has data.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	// What an earlier life said it answers is not true any more.
	if err := s.unsay(); err != nil {
		s.log.Warn("status file of an earlier life not removed; the fleet will believe this host answers", "error", err)
	}
	defer s.images.close()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // the sockets may end before ctx does
	wg.Go(func() { s.watch(ctx) })
	if s.tap != nil {
		wg.Go(func() {
			if err := s.tap.Run(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("dnstap ended; answers go on", "error", err)
			}
		})
	}
	if f, follows := s.source.(*follower); follows {
		s.follow(ctx, f, &wg)
		wg.Go(func() { s.carry(ctx) })
	} else {
		wg.Go(func() { s.source.run(ctx) })
		wg.Go(func() { s.source.keep(ctx) })
	}
	return s.packet.Run(ctx)
}

// Reopens tells whether there are files that Reopen begins anew.
func (s *Server) Reopens() bool { return s.tap != nil && s.config.DnstapFile != "" }

// Reopen has the dnstap file put aside and begun anew, for who moves or mends it. It does
// not wait for that.
func (s *Server) Reopen() {
	if s.Reopens() {
		s.tap.Reopen()
	}
}

// Counts are the zones and RRsets that are answered now.
func (s *Server) Counts() (zones, sets int) {
	if v := s.current.Load().view; v != nil {
		return v.Zones(), v.Sets()
	}
	return 0, 0
}
