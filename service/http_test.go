package service_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/service"
)

// serve runs a service with the HTTP task on a free port.
func serve(t *testing.T, o service.HandlerOptions) (url string, s *service.Service, reg *prometheus.Registry, stop func() error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	reg = prometheus.NewRegistry()
	s = newService(t, service.Config{Version: "v1.2.3", Registry: reg})
	mux := s.Handler(o)
	mux.HandleFunc("POST /size", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	})
	task := service.HTTP("http", ln, mux, nil)
	task.WaitReady = 10 * time.Second
	s.Add(task)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	url = "http://" + ln.Addr().String()
	deadline := time.Now().Add(10 * time.Second)
	for s.State() != service.Alive {
		if time.Now().After(deadline) {
			t.Fatal("the service is not alive after 10s")
		}
		time.Sleep(time.Millisecond)
	}
	return url, s, reg, func() error { cancel(); return <-done }
}

// client keeps no connections, so that none outlives its test.
func client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := client().Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestHTTP(t *testing.T) {
	url, s, reg, stop := serve(t, service.HandlerOptions{})

	if code, body := get(t, url+"/healthz"); code != 200 || body != "ALIVE\n" {
		t.Errorf("healthz: %d %q", code, body)
	}
	s.Warn("disk", "full")
	if code, body := get(t, url+"/healthz"); code != 200 || body != "WARNING\n" {
		t.Errorf("healthz: %d %q", code, body)
	}
	_, body := get(t, url+"/status")
	var st service.Status
	if err := json.Unmarshal([]byte(body), &st); err != nil {
		t.Fatal(err)
	}
	if st.Name != "test" || st.Version != "v1.2.3" || st.Status != service.Warned || len(st.Tasks) != 1 || st.Tasks[0].State != service.TaskRunning {
		t.Errorf("status: %s", body)
	}
	_, body = get(t, url+"/metrics")
	for _, want := range []string{
		"go_goroutines", "process_open_fds", `zonecast_service_status{service="test",status="WARNING"} 1`,
		`zonecast_build_info{go="go`, `zonecast_http_request_seconds_count{code="200",method="get",service="test",task="http"} 3`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics: no %s", want)
		}
	}
	if code, _ := get(t, url+"/debug/pprof/"); code != 404 {
		t.Errorf("pprof without being asked for: %d", code)
	}
	if got := metric(t, reg, "zonecast_http_request_seconds", "code=404"); got != 1 {
		t.Errorf("requests with 404: %v, want 1", got)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := client().Get(url + "/healthz"); err == nil {
		t.Error("the server answers after its end")
	}
}

func TestHTTPBounds(t *testing.T) {
	url, _, _, stop := serve(t, service.HandlerOptions{Pprof: true})
	if code, body := get(t, url+"/debug/pprof/goroutine?debug=1"); code != 200 || !strings.Contains(body, "goroutine profile") {
		t.Errorf("pprof: %d", code)
	}
	for size, want := range map[int]int{1 << 20: http.StatusOK, 1<<20 + 1: http.StatusRequestEntityTooLarge} {
		res, err := client().Post(url+"/size", "text/plain", strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("a body of %d bytes: %d, want %d", size, res.StatusCode, want)
		}
	}
	req, err := http.NewRequest("GET", url+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Large", strings.Repeat("x", 64<<10))
	res, err := client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("64 KiB of headers: %d, want %d", res.StatusCode, http.StatusRequestHeaderFieldsTooLarge)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// A stop waits for the request in work.
func TestHTTPStopsGracefully(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inside := make(chan struct{})
	release := make(chan struct{})
	s := newService(t, service.Config{})
	s.Add(service.HTTP("http", ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(inside)
		<-release
		fmt.Fprint(w, "done")
	}), nil))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	answer := make(chan string, 1)
	go func() {
		res, err := client().Get("http://" + ln.Addr().String())
		if err != nil {
			answer <- err.Error()
			return
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		answer <- string(b)
	}()
	<-inside
	cancel()
	select {
	case err := <-done:
		t.Errorf("the service ended before the request: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	if got := <-answer; got != "done" {
		t.Errorf("answer %q, want %q", got, "done")
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestHealthzBeforeAndAfter(t *testing.T) {
	s := newService(t, service.Config{})
	h := s.Handler(service.HandlerOptions{})
	check := func(want int, body string) {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
		if w.Code != want || w.Body.String() != body {
			t.Errorf("healthz: %d %q, want %d %q", w.Code, w.Body, want, body)
		}
	}
	check(503, "STARTING\n")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Add(idle("a", nil))
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
	check(503, "STOPPED\n")
}
