package authority

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/packet"
	"github.com/zonecast/zonecast/authority/protocol"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
)

// Server is the authoritative server of one host.
type Server struct {
	config  Config
	log     *slog.Logger
	keys    []ed25519.PublicKey
	packet  *packet.Server
	workers workers
	metrics *collector

	current  atomic.Pointer[state] // never nil; what queries see
	problems atomic.Uint64         // of the journal, and versions not taken
	panics   atomic.Uint64         // queries lost by bugs
	follow   follower
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
	s := &Server{config: c, log: deps.Log}
	s.current.Store(&state{})
	s.follow.server = s
	s.workers.config = protocol.Config{MaxUDP: c.MaxUDP, Version: c.Version, Identity: c.Identity}
	for _, path := range c.Keys {
		keys, err := snapshot.LoadPublicKeys(path)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, keys...)
	}
	pc := packet.Config{
		UDPWorkers: c.UDPWorkers, MaxTCP: c.MaxTCP, MaxTCPPerClient: c.MaxTCPPerClient, TCPIdle: c.TCPIdle,
	}
	for _, l := range c.Listen {
		a, err := netip.ParseAddrPort(l)
		if err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}
		pc.Listen = append(pc.Listen, a)
	}
	var err error
	if s.packet, err = packet.Listen(pc, s.newHandler, deps.Log); err != nil {
		return nil, err
	}
	s.metrics = newCollector(s)
	if err := deps.Metrics.Register(s.metrics); err != nil {
		return nil, errors.Join(fmt.Errorf("register metrics of authority: %w", err), s.packet.Close())
	}
	return s, nil
}

// Addrs are the addresses it answers on, in the order of Config.Listen.
func (s *Server) Addrs() []netip.AddrPort { return s.packet.Addrs() }

// Serving is what is answered now; Version 0 means nothing yet.
func (s *Server) Serving() tree.HostDataset { return s.current.Load().HostDataset }

// Run answers until ctx ends and then returns nil.
func (s *Server) Run(ctx context.Context) error {
	// What an earlier life said it answers is not true any more.
	if err := s.unsay(); err != nil {
		s.log.Warn("status file of an earlier life not removed; the fleet will believe this host answers", "error", err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.follow.run(ctx) })
	return s.packet.Run(ctx)
}

// follower makes states out of the events of the journal. One goroutine.
type follower struct {
	server  *Server
	dataset *snapshot.Dataset // as the journal has it
	view    *data.View        // of dataset; nil: to be made anew
	problem string            // last one logged; "" after a version was taken
	status  string            // last problem with the status file that was logged
}

// retryFollow is how long after the end of Follow, which has its reasons in the
// journal, it is started again. What is served stays.
const retryFollow = time.Second

func (f *follower) run(ctx context.Context) {
	for {
		err := journal.Follow(ctx, f.server.config.Journal, f.server.keys, f.event)
		if ctx.Err() != nil {
			return
		}
		f.report(err)
		t := time.NewTimer(retryFollow)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// event takes one event. An error makes Follow start again from a whole state.
func (f *follower) event(e journal.Event) error {
	switch {
	case e.Problem != nil:
		f.report(e.Problem)
		return nil
	case e.Reset != nil:
		f.dataset, f.view = nil, nil
		if e.Reset.Name() != f.server.config.Dataset {
			f.report(fmt.Errorf("journal %s has the dataset %q, expected %q: check --journal and --dataset",
				f.server.config.Journal, e.Reset.Name(), f.server.config.Dataset))
			return nil
		}
		f.dataset = e.Reset
	case e.Delta != nil:
		if f.dataset == nil {
			return nil // of a dataset that is not ours
		}
		if err := f.dataset.Apply(e.Delta); err != nil {
			f.dataset, f.view = nil, nil
			return err
		}
		if e.Delta.Full {
			f.view = nil
		}
		if f.view != nil {
			f.view = f.view.Apply(e.Delta.Put, e.Delta.Remove, f.serial)
		}
	}
	return f.serve()
}

// serve swaps the state that queries see for the one of the dataset.
func (f *follower) serve() error {
	s := f.server
	old := s.current.Load()
	d := f.dataset
	if d.Version() == 0 {
		return nil // a journal without data
	}
	if d.Version() < old.Version {
		// Clients must not see time run backwards. Whoever means it restarts the server.
		f.report(fmt.Errorf("journal has version %d, older than version %d that is served: going on with the newer", d.Version(), old.Version))
		return nil
	}
	if d.Version() == old.Version && d.Digest().String() != old.Digest {
		f.report(fmt.Errorf("journal has another version %d (digest %s) than the one that is served (digest %s): going on with the latter until a newer version comes", d.Version(), d.Digest(), old.Digest))
		return nil
	}
	if f.view == nil {
		f.view = data.New(d.All(), f.serial)
	}
	now := &state{view: f.view, HostDataset: tree.HostDataset{
		Version: d.Version(), Digest: d.Digest().String(), Time: d.Time(), Since: time.Now().UnixMilli(),
	}}
	if d.Version() == old.Version {
		now.Since = old.Since
	}
	s.current.Store(now)
	f.problem = ""
	if old.view == nil {
		s.log.Info("first version served", "dataset", d.Name(), "version", d.Version(), "digest", now.Digest,
			"zones", f.view.Zones(), "rrsets", f.view.Sets())
	}
	f.tell(now.HostDataset)
	return nil
}

// tell writes the status file. When it cannot, the agent goes on reporting an older
// version than is served: safe.
func (f *follower) tell(h tree.HostDataset) {
	err := writeServing(f.server.config.StatusDir, h)
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != f.status {
		f.server.log.Warn("status file not written; the fleet will believe this host is behind", "error", err)
	}
	f.status = text
}

func (f *follower) serial(apex record.Name) (uint32, bool) {
	if _, ok := f.dataset.Stamp(apex); !ok {
		return 0, false
	}
	return f.dataset.Serial(apex), true
}

// report logs a problem once, however often it comes again.
func (f *follower) report(err error) {
	f.server.problems.Add(1)
	if text := err.Error(); text != f.problem {
		f.problem = text
		f.server.log.Warn("journal not followed; what was served stays", "error", err, "version", f.server.current.Load().Version)
	}
}

// unsay removes the file "serving".
func (s *Server) unsay() error {
	if s.config.StatusDir == "" {
		return nil
	}
	err := os.Remove(filepath.Join(s.config.StatusDir, "serving"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// writeServing replaces the file "serving" atomically. It is not synced to the
// disk: after a crash of the machine it says nothing true anyway.
func writeServing(dir string, h tree.HostDataset) error {
	if dir == "" {
		return nil
	}
	b, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	path := filepath.Join(dir, "serving")
	if err := os.WriteFile(path+".tmp", b, 0o644); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}
