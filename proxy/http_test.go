package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zonecast/zonecast/internal/memstore"
)

// ask does one request of a machine's proxy, in memory.
func (m *machine) ask(method, target string) *http.Response {
	m.mu.Lock()
	p := m.p
	m.mu.Unlock()
	w := httptest.NewRecorder()
	p.Handler().ServeHTTP(w, httptest.NewRequest(method, target, nil))
	return w.Result()
}

func body(t testing.TB, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestAPI is the contract of docs/local-configuration.md.
func TestAPI(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		m := newMachine(t, st)
		m.cfg.Prefixes = []string{"app/"}
		m.cfg.MaxWaiting = 3
		m.start()
		settle()
		v1 := land(t, st, "app/limits", `{"most": 1}`, "app/names", `["a"]`, "web/x", `1`)
		settle()
		time.Sleep(3 * time.Second)

		r := m.ask("GET", "/config/app/limits")
		for header, want := range map[string]string{
			"Content-Type": "application/json", "Zonecast-Version": fmt.Sprint(v1), "Zonecast-Revision": `r{"most": 1}`,
			"Zonecast-Type": "test.T", "Cache-Control": "no-store", "Zonecast-Problem": "", "Content-Length": "11",
		} {
			if got := r.Header.Get(header); got != want {
				t.Errorf("%s is %q, want %q", header, got, want)
			}
		}
		var ms int64
		if _, err := fmt.Sscan(r.Header.Get("Zonecast-Age-Ms"), &ms); err != nil || ms < 0 || ms > m.cfg.Confirm.Milliseconds() {
			t.Errorf("age is %q", r.Header.Get("Zonecast-Age-Ms"))
		}
		if got := body(t, r); r.StatusCode != 200 || got != `{"most": 1}` {
			t.Errorf("status %d, %s", r.StatusCode, got)
		}

		after := func(path string, v uint64, wait string) string {
			return fmt.Sprintf("/config/%s?after=%d&wait=%s", path, v, wait)
		}
		for _, tt := range []struct {
			method, target string
			status         int
			took           time.Duration
			want           string
		}{
			{"HEAD", "/config/app/limits", 200, 0, ""},
			{"GET", after("app/limits", v1-1, "10s"), 200, 0, "most"},
			{"GET", after("app/limits", v1, "10s"), 304, 10 * time.Second, ""},
			{"GET", after("app/limits", v1, "0s"), 304, 0, ""},
			{"GET", fmt.Sprintf("/config/app/limits?after=%d", v1), 304, 0, ""},
			{"GET", "/config/app/none", 404, 0, "there is no configuration app/none"},
			{"GET", after("app/none", v1, "7s"), 404, 7 * time.Second, "there is no configuration"},
			{"GET", "/config/web/x", 403, 0, "is not followed"},
			{"GET", "/config/app/a%20b", 400, 0, "octet 0x20"},
			{"GET", "/config/app/@head", 400, 0, "octet 0x40"},
			{"GET", "/config/" + strings.Repeat("a", 600), 400, 0, "600 octets"},
			{"GET", after("app/limits", 1, "61s"), 400, 0, "expected 0s to 1m0s"},
			{"GET", after("app/limits", 1, "-1s"), 400, 0, "expected 0s"},
			{"GET", "/config/app/limits?after=x", 400, 0, "after is"},
			{"GET", "/config/app/limits?since=1", 400, 0, "is none of after and wait"},
			{"GET", "/config/app/?limit=0", 400, 0, "limit is"},
			{"GET", "/config/app/?from=/", 400, 0, "configuration"},
			{"GET", "/config/app/?after=1", 400, 0, "is none of from and limit"},
			{"POST", "/config/app/limits", 405, 0, ""},
			{"DELETE", "/config/app/limits", 405, 0, ""},
			{"GET", "/else", 404, 0, ""},
		} {
			began := time.Now()
			r := m.ask(tt.method, tt.target)
			if got := body(t, r); r.StatusCode != tt.status || !strings.Contains(got, tt.want) || time.Since(began) != tt.took {
				t.Errorf("%s %s: status %d after %v, %s; want %d after %v, %q", tt.method, tt.target, r.StatusCode, time.Since(began), got, tt.status, tt.took, tt.want)
			}
			if strings.HasPrefix(tt.target, "/config/app/") && (r.StatusCode == 304 || r.StatusCode == 404) && r.Header.Get("Zonecast-Age-Ms") == "" {
				t.Errorf("%s %s: no age is told", tt.method, tt.target)
			}
		}

		// A long poll is answered at once when something lands, and when it is removed.
		poll := func(path string, v uint64) chan *http.Response {
			c := make(chan *http.Response, 1)
			go func() { c <- m.ask("GET", after(path, v, "60s")) }()
			return c
		}
		one, two := poll("app/limits", v1), poll("app/new", v1)
		time.Sleep(time.Second)
		began := time.Now()
		v2 := land(t, st, "app/limits", `2`, "app/new", `1`)
		if r := <-one; body(t, r) != `2` || time.Since(began) > time.Second {
			t.Errorf("who waited was answered %d after %v", r.StatusCode, time.Since(began))
		}
		if r := <-two; body(t, r) != `1` {
			t.Errorf("who waited for what was not there was answered %d", r.StatusCode)
		}
		gone := poll("app/limits", v2)
		time.Sleep(time.Second)
		v3 := land(t, st, "app/limits", "")
		if r := <-gone; r.StatusCode != 404 || r.Header.Get("Zonecast-Version") != fmt.Sprint(v3) {
			t.Errorf("who waited for what was removed was answered %d, version %s", r.StatusCode, r.Header.Get("Zonecast-Version"))
		}

		// So many may wait, and no more; others are answered all the same.
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { m.ask("GET", after("app/names", v1, "5s")) })
		}
		synctest.Wait()
		if r := m.ask("GET", after("app/names", v1, "5s")); r.StatusCode != 429 {
			t.Errorf("one too many: status %d", r.StatusCode)
		}
		if r := m.ask("GET", "/config/app/names"); r.StatusCode != 200 {
			t.Errorf("who does not wait: status %d", r.StatusCode)
		}
		var s Status
		if err := json.Unmarshal([]byte(body(t, m.ask("GET", "/status"))), &s); err != nil || s.Waiting != 3 || s.Version != v3 || s.Configs != 2 || !s.Whole {
			t.Errorf("status %+v, %v", s, err)
		}
		wg.Wait()
		stopped := m.p
		stopping := poll("app/names", v1)
		synctest.Wait()
		m.stop()
		if r := <-stopping; r.StatusCode != 503 {
			t.Errorf("who waits when the proxy stops is answered %d", r.StatusCode)
		}
		w := httptest.NewRecorder()
		stopped.Handler().ServeHTTP(w, httptest.NewRequest("GET", after("app/names", v1, "5s"), nil))
		if w.Code != 503 {
			t.Errorf("a proxy that stops: status %d", w.Code)
		}
	})
}

// TestList goes through pages of a list.
func TestList(t *testing.T) {
	bubble(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		m := newMachine(t, st)
		m.start()
		settle()
		var pairs []string
		for i := range 25 {
			pairs = append(pairs, fmt.Sprintf("app/%02d", i), `1`)
		}
		land(t, st, append(pairs, "ap/x", `1`, "apq", `1`, "b", `1`)...)
		settle()
		var got []string
		from := ""
		for pages := 0; ; pages++ {
			var l ListView
			if err := json.Unmarshal([]byte(body(t, m.ask("GET", "/config/app/?limit=10&from="+from))), &l); err != nil && from != "" {
				t.Fatal(err)
			}
			if from == "" {
				if err := json.Unmarshal([]byte(body(t, m.ask("GET", "/config/app/?limit=10"))), &l); err != nil {
					t.Fatal(err)
				}
			}
			for _, c := range l.Configs {
				got = append(got, c.Path)
			}
			if from = l.Next; from == "" {
				if pages != 2 {
					t.Errorf("%d pages, want 3", pages+1)
				}
				break
			}
		}
		if len(got) != 25 || got[0] != "app/00" || got[24] != "app/24" {
			t.Errorf("got %q", got)
		}
		var l ListView
		if err := json.Unmarshal([]byte(body(t, m.ask("GET", "/config/"))), &l); err != nil || len(l.Configs) != 28 {
			t.Errorf("%d of all, %v", len(l.Configs), err)
		}
		m.stop()
	})
}

// TestSocket has its permissions when it appears, replaces one that nobody listens on, and
// leaves a live one, and what is no socket, alone.
func TestSocket(t *testing.T) {
	dir := t.TempDir()
	cfg := DefaultConfig()
	cfg.Socket, cfg.Mode, cfg.Group = filepath.Join(dir, "run", "config.sock"), 0o620, fmt.Sprint(os.Getgid())
	ln, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(cfg.Socket)
	if err != nil || info.Mode().Perm() != 0o620 || info.Mode().Type() != fs.ModeSocket {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := Listen(cfg); err == nil || !strings.Contains(err.Error(), "another process listens there") {
		t.Errorf("error %v", err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Dir(cfg.Socket)); err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
	dead, err := net.Listen("unix", cfg.Socket)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	if ln, err = Listen(cfg); err != nil {
		t.Fatalf("in place of a dead one: %v", err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.Socket, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(cfg); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("error %v", err)
	}
	cfg.Socket = filepath.Join(dir, strings.Repeat("d", 90), "s")
	if _, err := Listen(cfg); err == nil {
		t.Error("a path that is too long was taken")
	}
}

func TestModes(t *testing.T) {
	for text, want := range map[string]Mode{"0660": 0o660, "666": 0o666, "0": 0} {
		var m Mode
		if err := m.UnmarshalText([]byte(text)); err != nil || m != want {
			t.Errorf("%s: %v, %v", text, m, err)
		}
	}
	for _, text := range []string{"", "rw", "1777", "0888", "-1"} {
		var m Mode
		if err := m.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was taken as %v", text, m)
		}
	}
}

// FuzzAPI asks for anything: every answer is one of those that are documented.
func FuzzAPI(f *testing.F) {
	st := memstore.New()
	f.Cleanup(func() { st.Close() })
	m := newMachine(f, st)
	land(f, st, "app/limits", `1`)
	m.start()
	f.Cleanup(m.stop)
	for deadline := time.Now().Add(10 * time.Second); m.p.Status().Version == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	f.Add("app/limits", "after=1&wait=0s")
	f.Add("app/", "limit=1&from=app/a")
	f.Add("../status", "")
	f.Fuzz(func(t *testing.T, path, query string) {
		if strings.Contains(query, "wait") {
			query = "after=" + query // never waits: it is not a version
		}
		req := httptest.NewRequest("GET", "/config/", nil)
		req.URL.Path, req.URL.RawQuery = "/config/"+path, query
		w := httptest.NewRecorder()
		m.p.Handler().ServeHTTP(w, req)
		switch r := w.Result(); r.StatusCode {
		case 200, 304, 301, 307, 400, 404:
		default:
			t.Errorf("%q ? %q: status %d", path, query, r.StatusCode)
		}
	})
}
