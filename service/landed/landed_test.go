package landed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zonecast/zonecast/internal/bubbletest"
)

// fake is a proxy that says what a test wants.
type fake struct {
	mu      sync.Mutex // guards below
	version uint64
	json    string
	status  int // instead of a value; 0: none
	age     time.Duration
	dead    bool
	deaf    bool // to what was asked for
	asked   int
	changed chan struct{}
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.changed)
	f.changed = make(chan struct{})
}

// count is how often it was asked.
func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

// ServeHTTP is a proxy's answer, with long polls.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var after uint64
	wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
	f.mu.Lock()
	_, polled := r.URL.Query()["after"]
	polled = polled && !f.deaf
	fmt.Sscan(r.URL.Query().Get("after"), &after)
	late := time.After(wait)
	defer f.mu.Unlock()
	f.asked++
	for polled && f.version <= after && f.status != http.StatusServiceUnavailable {
		changed := f.changed
		f.mu.Unlock()
		timeout := false
		select {
		case <-changed:
		case <-late:
			timeout = true
		case <-r.Context().Done():
			timeout = true
		}
		f.mu.Lock()
		if timeout {
			break
		}
	}
	h := w.Header()
	h.Set("Zonecast-Version", fmt.Sprint(f.version))
	h.Set("Zonecast-Age-Ms", fmt.Sprint(f.age.Milliseconds()))
	h.Set("Zonecast-Revision", fmt.Sprint("r", f.version))
	switch {
	case f.status != 0:
		w.WriteHeader(f.status)
		fmt.Fprint(w, `{"error":"because"}`)
	case polled && f.version <= after:
		w.WriteHeader(http.StatusNotModified)
	default:
		fmt.Fprint(w, f.json)
	}
}

// client is a client of the fake over pipes, so that it works in a bubble; close ends both.
func (f *fake) client() (c *Client, stop func()) {
	f.changed = make(chan struct{})
	conns := make(chan net.Conn)
	closed := make(chan struct{})
	srv := &http.Server{Handler: f}
	var once sync.Once
	ln := listener{conns, closed, func() { once.Do(func() { close(closed) }) }}
	go func() { _ = srv.Serve(ln) }() // ends with Close
	c = NewClientDial("fake", func(ctx context.Context) (net.Conn, error) {
		f.mu.Lock()
		dead := f.dead
		f.mu.Unlock()
		if dead {
			return nil, errors.New("connection refused")
		}
		here, there := net.Pipe()
		select {
		case conns <- there:
			return here, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	return c, func() {
		c.Close()
		_ = srv.Close() // of a test's connections
	}
}

type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func (l listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l listener) Close() error {
	l.close()
	return nil
}

func (l listener) Addr() net.Addr { return &net.UnixAddr{Name: "fake", Net: "unix"} }

type limits struct {
	Most int `json:"most"`
}

// TestSubscription follows a configuration through values that are refused, a removal, and
// a proxy that is dead: the last good one stays, and each time it is said.
func TestSubscription(t *testing.T) {
	dir := t.TempDir()
	bubbletest.Run(t, func(t *testing.T) {
		f := &fake{version: 10, json: `{"most":1}`, age: time.Second}
		c, stop := f.client()
		defer stop()
		var got []int
		options := Options[limits]{
			Client: c, Path: "app/limits", Cache: filepath.Join(dir, "cache"),
			Apply: func(l limits, v Value) error {
				if l.Most > 100 {
					return errors.New("most is over 100")
				}
				got = append(got, l.Most)
				return nil
			},
		}
		run := func() (*Subscription[limits], func()) {
			s, err := Subscribe(options)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { _ = s.Run(ctx) })
			return s, func() { cancel(); wg.Wait() }
		}
		s, end := run()
		settle := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		settle(time.Second)
		check := func(s *Subscription[limits], most int, version uint64, from, problem string) {
			t.Helper()
			v, ok := s.Value()
			st := s.Status()
			if !ok || v.Most != most || st.Value.Version != version || st.From != from || !strings.Contains(st.Problem, problem) || problem == "" && st.Problem != "" {
				t.Errorf("value %+v, %v; want %d, version %d from %s, problem %q", v, st, most, version, from, problem)
			}
		}
		check(s, 1, 10, "proxy", "")
		f.set(func() { f.version, f.json = 11, `{"most":2}` })
		settle(time.Second)
		check(s, 2, 11, "proxy", "")
		for _, bad := range []string{`{"most":101}`, `{"most":"x"}`, `{"mst":1}`} {
			f.set(func() { f.version, f.json = f.version+1, bad })
			settle(time.Second)
			check(s, 2, 11, "proxy", fmt.Sprintf("version %d of revision r%d was refused", f.version, f.version))
		}
		asked := f.count()
		settle(10 * time.Minute)
		if n := f.count() - asked; n > 12 {
			t.Errorf("a refused value was asked for %d times in 10 minutes", n)
		}
		check(s, 2, 11, "proxy", "was refused")
		if a := s.Status().Value.Age(); a < 10*time.Minute {
			t.Errorf("what is in force is said to be confirmed %v ago, a newer one was refused 10 minutes ago", a)
		}
		f.set(func() { f.version, f.json = 20, `{"most":3}` })
		settle(time.Second)
		check(s, 3, 20, "proxy", "")
		f.set(func() { f.version, f.status = 21, 404 })
		settle(5 * time.Minute)
		check(s, 3, 20, "proxy", "there is no configuration")
		f.set(func() { f.version, f.json, f.status = 22, `{"most":4}`, 0 })
		settle(time.Second)
		check(s, 4, 22, "proxy", "")

		// Dead.
		stop2 := func() { f.set(func() { f.dead = true; f.status = 503 }); c.Close() }
		stop2()
		settle(time.Hour)
		check(s, 4, 22, "proxy", "connection refused")
		end()
		n := len(got)
		s, end = run()
		settle(time.Second)
		check(s, 4, 22, "cache", "connection refused")
		if a := s.Status().Value.Age(); a < time.Hour {
			t.Errorf("age is %v after an hour", a)
		}
		if len(got) != n+1 {
			t.Errorf("%v", got)
		}
		// Back with an older one, then with a newer one.
		f.set(func() { f.dead, f.status, f.version, f.json = false, 0, 21, `{"most":9}` })
		settle(time.Minute)
		check(s, 4, 22, "cache", "older than 22")
		f.set(func() { f.version, f.json = 23, `{"most":5}` })
		settle(2 * time.Minute)
		check(s, 5, 23, "proxy", "")
		end()

		// A cache that is damaged is no cache.
		stop2()
		file := lastGoodFile(options.Cache, "app/limits")
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)-2]++
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
		s, end = run()
		settle(time.Minute)
		if _, ok := s.Value(); ok || s.Status().Problem == "" {
			t.Errorf("a damaged cache was taken: %v", s.Status())
		}
		end()
	})
}

// TestWatchIsModest holds that a proxy that misbehaves is not asked in circles.
func TestWatchIsModest(t *testing.T) {
	for name, change := range map[string]func(f *fake){
		"dead": func(f *fake) { f.dead = true }, "refuses": func(f *fake) { f.status = 503 }, "nonsense": func(f *fake) { f.json = "x" },
		"absent": func(f *fake) { f.status = 404 }, "older": func(f *fake) { f.deaf = true },
	} {
		t.Run(name, func(t *testing.T) {
			bubbletest.Run(t, func(t *testing.T) {
				f := &fake{version: 1, json: `1`}
				c, stop := f.client()
				defer stop()
				f.set(func() { change(f) })
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				calls := 0
				if err := c.Watch(ctx, "a", 1, func(Value) error { calls++; return nil }, nil); err != nil || calls > 0 {
					t.Errorf("%d values, %v", calls, err)
				}
				if n := f.count(); n > 1000 {
					t.Errorf("asked %d times in an hour", n)
				}
			})
		})
	}
}

// TestOtherServer is no proxy at all.
func TestOtherServer(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/large") {
			w.Header().Set("Zonecast-Version", "1")
			for range MaxValue/1000 + 2 {
				fmt.Fprint(w, strings.Repeat("x", 1000))
			}
		}
	})}
	go func() { _ = srv.Serve(ln) }() // ends with Close
	defer srv.Close()
	c := NewClient(socket)
	defer c.Close()
	if _, err := c.Get(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "is it a proxy") {
		t.Errorf("error %v", err)
	}
	if _, err := c.Get(t.Context(), "large"); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("error %v", err)
	}
	if _, err := c.List(t.Context(), "", ""); err == nil {
		t.Error("an empty list was taken")
	}
	if _, err := NewClient(socket+"x").Get(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("error %v", err)
	}
}

func FuzzLastGood(f *testing.F) {
	f.Add(encodeLastGood(Value{Path: "a", Type: "t.T", Version: 7, JSON: []byte(`{"a":1}`)}))
	f.Add([]byte("{}\n{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := decodeLastGood("a", b)
		if err != nil {
			return
		}
		again, err := decodeLastGood("a", encodeLastGood(v))
		if err != nil || again.Version != v.Version || string(again.JSON) != string(v.JSON) {
			t.Errorf("%+v came back as %+v, %v", v, again, err)
		}
	})
}
