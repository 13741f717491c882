package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/configtree"
	"github.com/zonecast/zonecast/service/landed"
	"github.com/zonecast/zonecast/snapshot/journal/faultfs"
	"github.com/zonecast/zonecast/store"
)

// machine is a machine with a disk, on which a proxy is started and killed. Its programs
// reach the one that runs over pipes, so that all of it works in a bubble.
type machine struct {
	t    testing.TB
	st   store.Store
	disk *faultfs.FS
	cfg  Config

	mu sync.Mutex // guards below
	ln *pipes     // nil: no proxy runs
	p  *running
}

type running struct {
	*Proxy
	cancel context.CancelFunc
	done   chan error
	srv    *http.Server
}

const cacheDir = "/var/lib/zonecast/proxy"

func newMachine(t testing.TB, st store.Store) *machine {
	cfg := DefaultConfig()
	cfg.Dir = cacheDir
	return &machine{t: t, st: st, disk: faultfs.New(), cfg: cfg}
}

// start starts a proxy.
func (m *machine) start() *running {
	m.t.Helper()
	p, err := New(m.cfg, Deps{Store: m.st, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), FS: m.disk})
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{p, cancel, make(chan error, 1), &http.Server{Handler: p.Handler()}}
	ln := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	go func() { r.done <- p.Run(ctx) }()
	go func() { _ = r.srv.Serve(ln) }() // ends with Close
	m.mu.Lock()
	m.ln, m.p = ln, r
	m.mu.Unlock()
	return r
}

// stop ends the proxy as an operator does.
func (m *machine) stop() {
	m.t.Helper()
	m.mu.Lock()
	p := m.p
	m.ln, m.p = nil, nil
	m.mu.Unlock()
	p.cancel()
	if err := <-p.done; err != nil && !errors.Is(err, faultfs.ErrCrashed) {
		m.t.Errorf("run: %v", err)
	}
	_ = p.srv.Close() // of listeners and connections of a test
}

// crash ends the machine at once: what was not synced is lost.
func (m *machine) crash(loss faultfs.Loss) {
	m.t.Helper()
	m.disk.CrashAt(1)
	m.stop()
	m.disk = m.disk.Reboot(loss)
}

func (m *machine) dial(ctx context.Context) (net.Conn, error) {
	m.mu.Lock()
	ln := m.ln
	m.mu.Unlock()
	if ln == nil {
		return nil, errors.New("connection refused")
	}
	here, there := net.Pipe()
	select {
	case ln.conns <- there:
		return here, nil
	case <-ln.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *machine) client() *landed.Client { return landed.NewClientDial("proxy", m.dial) }

// pipes is a listener of pipes.
type pipes struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

// land lands configurations: path, value, path, value; an empty value deletes.
func land(t testing.TB, st store.Store, pairs ...string) uint64 {
	t.Helper()
	w, err := configtree.Open(context.Background(), st)
	if err != nil {
		t.Fatal(err)
	}
	l := configtree.Landing{Revision: fmt.Sprintf("r%.40s", pairs[1])}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			l.Delete = append(l.Delete, pairs[i])
			continue
		}
		l.Put = append(l.Put, configtree.Config{Path: pairs[i], Type: "test.T", Revision: l.Revision, Sources: []string{pairs[i] + ".star"}, Value: []byte(pairs[i+1])})
	}
	h, err := w.Land(context.Background(), l)
	if err != nil {
		t.Fatal(err)
	}
	return h.Version
}

// big is JSON that does not fit a node: n and some octets.
func big(n, size int) string { return fmt.Sprintf(`[%d,"%s"]`, n, strings.Repeat("x", size)) }

// bubble runs test in a bubble with time enough for all pauses at its end.
func bubble(t *testing.T, test func(*testing.T)) {
	t.Helper()
	bubbletest.Run(t, func(t *testing.T) {
		test(t)
		synctest.Wait()
	})
}

// settle lets everything happen that can, pauses included.
func settle() {
	time.Sleep(12 * time.Second)
	synctest.Wait()
}

// value gets a configuration or fails.
func (m *machine) value(path string) landed.Value {
	m.t.Helper()
	c := m.client()
	defer c.Close()
	v, err := c.Get(context.Background(), path)
	if err != nil {
		m.t.Fatal(err)
	}
	return v
}
