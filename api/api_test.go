package api_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/thrift/lib/go/thrift"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/answer"
	"github.com/zonecast/zonecast/api/registryapi"
)

// fake answers what the tests ask; methods not listed panic, which is a test, too.
type fake struct {
	registryapi.Registry
	entered, left chan struct{}
}

func (f *fake) GetServer(ctx context.Context, name string) (*registryapi.Server, error) {
	switch name {
	case "none":
		return nil, api.Refuse(api.NotFound, "zonecast servers lists them", "server %q is not registered", name)
	case "broken":
		return nil, errors.New("out of paper")
	case "wait":
		f.entered <- struct{}{}
		<-ctx.Done()
		f.left <- struct{}{}
		return nil, api.Refuse(api.Timeout, "", "gave up")
	}
	return &registryapi.Server{Name: name, Addresses: []string{"192.0.2.1"}}, nil
}

func (f *fake) RegisterServers(_ context.Context, rs []*registryapi.Registration) ([]*registryapi.Outcome, error) {
	return make([]*registryapi.Outcome, 0), nil
}

type running struct {
	addr string
	fake *fake
	stop func() error
}

func serve(t *testing.T, change func(*api.ServerConfig)) *running {
	t.Helper()
	return serveOn(t, "tcp", "127.0.0.1:0", change)
}

func serveOn(t *testing.T, network, addr string, change func(*api.ServerConfig)) *running {
	t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	cfg := api.DefaultServerConfig()
	if change != nil {
		change(&cfg)
	}
	f := &fake{entered: make(chan struct{}, 10), left: make(chan struct{}, 10)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- api.Serve(ctx, ln, map[string]thrift.TProcessor{api.RegistryService: registryapi.NewRegistryProcessor(f)}, cfg, slog.New(slog.DiscardHandler))
	}()
	stop := sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return &running{addr: ln.Addr().String(), fake: f, stop: stop}
}

func dial(t *testing.T, addr string) *api.Client {
	t.Helper()
	c, err := api.Dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestCalls(t *testing.T) {
	s := serve(t, nil)
	c := dial(t, s.addr)
	got, err := c.Registry.GetServer(t.Context(), "web1.example.net")
	if err != nil || got.Name != "web1.example.net" {
		t.Fatalf("got %v, %v", got, err)
	}
	_, err = c.Registry.GetServer(t.Context(), "none")
	var r *answer.Refused
	if !errors.As(err, &r) || api.Code(err) != api.NotFound || api.Hint(err) == "" || api.Message(err) != `server "none" is not registered` {
		t.Errorf("got %v, want a refusal not_found", err)
	}
	if _, err = c.Registry.GetServer(t.Context(), "broken"); err == nil || !strings.Contains(err.Error(), "out of paper") || api.Code(err) != "" {
		t.Errorf("got %v, want the handler's error", err)
	}
	if _, err := c.Control.Status(t.Context()); err == nil {
		t.Error("a service that is not there answered")
	}
	if _, err = c.Registry.GetServer(t.Context(), "again"); err != nil {
		t.Errorf("after a refused service: %v", err)
	}
}

// A client may be used by several at once; the race detector says whether it may.
func TestCallsAtOnce(t *testing.T) {
	c := dial(t, serve(t, nil).addr)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if got, err := c.Registry.GetServer(t.Context(), "web1.example.net"); err != nil || got.Name != "web1.example.net" {
					t.Errorf("got %v, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	serveOn(t, "unix", path, nil)
	if _, err := dial(t, "unix://"+path).Registry.GetServer(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
}

// The library's own client must get on with this server: others will come with it.
func TestLibraryClient(t *testing.T) {
	s := serve(t, nil)
	cfg := &thrift.TConfiguration{ConnectTimeout: 5 * time.Second, SocketTimeout: 5 * time.Second}
	tr := thrift.NewTFramedTransportConf(thrift.NewTSocketConf(s.addr, cfg), cfg)
	if err := tr.Open(); err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	in := thrift.NewTCompactProtocolConf(tr, cfg)
	c := registryapi.NewRegistryClient(thrift.NewTStandardClient(in, thrift.NewTMultiplexedProtocol(thrift.NewTCompactProtocolConf(tr, cfg), api.RegistryService)))
	for range 3 {
		if got, err := c.GetServer(t.Context(), "a"); err != nil || got.Name != "a" {
			t.Fatalf("got %v, %v", got, err)
		}
	}
}

func TestContextEndsCall(t *testing.T) {
	s := serve(t, nil)
	c := dial(t, s.addr)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-s.fake.entered; cancel() }()
	if _, err := c.Registry.GetServer(ctx, "wait"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	<-s.fake.left // the server noticed that the caller is gone
	short, cancel2 := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel2()
	if _, err := c.Registry.GetServer(short, "wait"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want deadline exceeded", err)
	}
	if _, err := c.Registry.GetServer(t.Context(), "a"); err != nil {
		t.Errorf("after two interrupted calls: %v", err)
	}
}

func TestClientSurvivesRestart(t *testing.T) {
	s := serve(t, nil)
	c := dial(t, s.addr)
	if _, err := c.Registry.GetServer(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Registry.GetServer(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), s.addr) {
		t.Errorf("got %v, want an error that says where", err)
	}
	serveOn(t, "tcp", s.addr, nil)
	if _, err := c.Registry.GetServer(t.Context(), "a"); err != nil {
		t.Errorf("after the restart: %v", err)
	}
}

func TestStopEndsRunningCalls(t *testing.T) {
	s := serve(t, func(c *api.ServerConfig) { c.StopTimeout = 10 * time.Millisecond })
	c := dial(t, s.addr)
	got := make(chan error, 1)
	go func() { _, err := c.Registry.GetServer(context.Background(), "wait"); got <- err }()
	<-s.fake.entered
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; api.Code(err) != api.Timeout {
		t.Errorf("got %v, want the handler's own answer", err)
	}
}

func TestPanicClosesOneConnection(t *testing.T) {
	s := serve(t, nil)
	c := dial(t, s.addr)
	if _, err := c.Registry.Renew(t.Context(), "a"); err == nil {
		t.Error("a panic answered")
	}
	if _, err := c.Registry.GetServer(t.Context(), "a"); err != nil {
		t.Errorf("after a panic: %v", err)
	}
}

// closedBy waits until the server closes the connection.
func closedBy(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, err := c.Read(make([]byte, 1))
	var ne net.Error
	if err == nil || (errors.As(err, &ne) && ne.Timeout()) {
		t.Errorf("read %d, %v: the connection is still open", n, err)
	}
}

func rawDial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestBounds(t *testing.T) {
	t.Run("connections", func(t *testing.T) {
		s := serve(t, func(c *api.ServerConfig) { c.MaxConnections = 1 })
		c := dial(t, s.addr)
		if _, err := c.Registry.GetServer(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		closedBy(t, rawDial(t, s.addr))
	})
	t.Run("frame", func(t *testing.T) {
		s := serve(t, func(c *api.ServerConfig) { c.MaxFrame = 1000 })
		raw := rawDial(t, s.addr)
		io.WriteString(raw, "GET / HTTP/1.1\r\n\r\n")
		closedBy(t, raw)
	})
	t.Run("idle", func(t *testing.T) {
		s := serve(t, func(c *api.ServerConfig) { c.IdleTimeout = 20 * time.Millisecond })
		closedBy(t, rawDial(t, s.addr))
	})
	t.Run("slow sender", func(t *testing.T) {
		s := serve(t, func(c *api.ServerConfig) { c.ReadTimeout = 20 * time.Millisecond })
		raw := rawDial(t, s.addr)
		raw.Write(binary.BigEndian.AppendUint32(nil, 1000))
		closedBy(t, raw)
	})
	t.Run("items", func(t *testing.T) {
		s := serve(t, func(c *api.ServerConfig) { c.MaxItems = 10 })
		c := dial(t, s.addr)
		ask := func(n int) error {
			rs := make([]*registryapi.Registration, n)
			for i := range rs {
				rs[i] = &registryapi.Registration{}
			}
			_, err := c.Registry.RegisterServers(t.Context(), rs)
			return err
		}
		if err := ask(10); err != nil {
			t.Errorf("10 items: %v", err)
		}
		if err := ask(11); err == nil {
			t.Error("11 items were taken")
		}
	})
}

func TestConfigValidate(t *testing.T) {
	cfg := api.DefaultServerConfig()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	cfg.IdleTimeout = 0
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "idle-timeout") {
		t.Errorf("got %v, want an error that names idle-timeout", err)
	}
	for addr, ok := range map[string]bool{"127.0.0.1:7353": true, "tcp://[::1]:7353": true, "unix:///run/x": true, "unix://x": false, "127.0.0.1": false, "": false} {
		if _, _, err := api.SplitAddress(addr); (err == nil) != ok {
			t.Errorf("SplitAddress(%q): %v, want ok %t", addr, err, ok)
		}
	}
}

// FuzzServe sends foreign bytes: the server must neither fall nor stop answering.
func FuzzServe(f *testing.F) {
	f.Add([]byte("\x82\x21\x01\x12Registry:get_server\x18\x01a\x00"))
	f.Add([]byte("\x82\x21\x01\x19Registry:register_servers\x19\xfc\xff\xff\x7f"))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	go api.Serve(f.Context(), ln, map[string]thrift.TProcessor{api.RegistryService: registryapi.NewRegistryProcessor(&fake{entered: make(chan struct{}, 1), left: make(chan struct{}, 1)})}, api.DefaultServerConfig(), slog.New(slog.DiscardHandler))
	c, err := api.Dial(f.Context(), ln.Addr().String())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		raw := rawDial(t, ln.Addr().String())
		raw.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
		raw.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, raw)
		if _, err := c.Registry.GetServer(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	})
}
