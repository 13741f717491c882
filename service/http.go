package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// Bounds of the HTTP server. A handler that needs longer (a snapshot on a slow
// line) moves its own deadline by http.ResponseController.
const (
	httpHeaderTime  = 5 * time.Second
	httpReadTime    = 30 * time.Second
	httpWriteTime   = 90 * time.Second // a CPU profile of 60 s, and its transfer
	httpIdleTime    = 2 * time.Minute  // longer than a scrape interval of a minute
	httpStopTime    = 5 * time.Second  // for the requests in work when the task stops
	httpHeaderBytes = 16 << 10
	httpBodyBytes   = 1 << 20
	httpConns       = 1024 // open connections; the next wait in the kernel's queue
	publicConns     = 1 << 14
	publicIdleTime  = 10 * time.Second // a page's fetches follow each other within one
	httpScrapes     = 4                // /metrics at the same time; the next are refused
	httpScrapeTime  = 20 * time.Second
)

// HandlerOptions says what Handler has.
type HandlerOptions struct {
	// Pprof adds /debug/pprof/, which lets everyone who can connect slow the process
	// down and read its command line.
	Pprof bool
}

// Handler has /metrics (Prometheus), /status (Status as JSON), /healthz (200 while
// the service is ALIVE or WARNING, else 503) and, if asked for, /debug/pprof/.
// Callers may add routes.
func (s *Service) Handler(o HandlerOptions) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.cfg.Registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError, // one bad collector must not hide the others
		MaxRequestsInFlight: httpScrapes,
		Timeout:             httpScrapeTime,
		EnableOpenMetrics:   true,
	}))
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		_ = e.Encode(s.Status()) // an error is the reader's hanging up
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		st := s.State()
		if st != Alive && st != Warned {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = io.WriteString(w, string(st)+"\n")
	})
	if o.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// HTTP is a task that serves h on ln, which is the task's from then on and is
// closed when it stops; so it cannot be restarted. Requests in work have 5 s to end.
// Bounds: 16 KiB of headers, 1 MiB of body, 30 s to send a request, 90 s to be
// answered, 1024 connections. Metrics, each with the label task:
//
//	zonecast_http_request_seconds{code,method}
//	zonecast_http_requests_in_flight
func HTTP(name string, ln net.Listener, h http.Handler, log *slog.Logger) Task {
	return serveHTTP(name, ln, h, log, httpConns, httpIdleTime)
}

// PublicHTTP is HTTP for everybody's browsers: 16,384 connections, of which an idle one is
// closed after 10 s.
func PublicHTTP(name string, ln net.Listener, h http.Handler, log *slog.Logger) Task {
	return serveHTTP(name, ln, h, log, publicConns, publicIdleTime)
}

func serveHTTP(name string, ln net.Listener, h http.Handler, log *slog.Logger, conns int, idle time.Duration) Task {
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "zonecast_http_request_seconds", Help: "How long an HTTP request took.",
		ConstLabels:                     prometheus.Labels{"task": name},
		Buckets:                         prometheus.ExponentialBuckets(100e-6, 4, 11),
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  100,
		NativeHistogramMinResetDuration: time.Hour,
	}, []string{"code", "method"})
	inFlight := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "zonecast_http_requests_in_flight", Help: "HTTP requests in work.",
		ConstLabels: prometheus.Labels{"task": name},
	})
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	h = promhttp.InstrumentHandlerInFlight(inFlight, promhttp.InstrumentHandlerDuration(seconds, h))
	run := func(ctx context.Context) error {
		requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		srv := &http.Server{
			Handler:           http.MaxBytesHandler(h, httpBodyBytes),
			ReadHeaderTimeout: httpHeaderTime,
			ReadTimeout:       httpReadTime,
			WriteTimeout:      httpWriteTime,
			IdleTimeout:       idle,
			MaxHeaderBytes:    httpHeaderBytes,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
			BaseContext:       func(net.Listener) context.Context { return requests },
		}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(netutil.LimitListener(ln, conns)) }()
		Ready(ctx)
		select {
		case err := <-served:
			return fmt.Errorf("serve HTTP on %s: %w", ln.Addr(), err)
		case <-ctx.Done():
		}
		limit, done := context.WithTimeout(context.WithoutCancel(ctx), httpStopTime)
		defer done()
		err := srv.Shutdown(limit)
		if errors.Is(err, context.DeadlineExceeded) {
			cancel()
			err = srv.Close()
		}
		<-served // http.ErrServerClosed
		return err
	}
	return Task{Name: name, Run: run, Collectors: []prometheus.Collector{seconds, inFlight}}
}
