package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/service"
	"github.com/zonecast/zonecast/store"
)

// processOptions are those of every daemon.
type processOptions struct {
	service.LogOptions
	JSON  bool   `option:"json" help:"log as JSON, and print JSON and nothing else"`
	HTTP  string `option:"http" help:"address:port for metrics, status and snapshots; empty serves none"`
	Pprof bool   `option:"pprof" help:"serve /debug/pprof/ as well"`

	// shared: the successor of this process listens on HTTP beside it, until it takes over.
	shared bool
}

// Logger logs to w as the options say.
func (p *processOptions) Logger(w io.Writer) (*slog.Logger, error) {
	o := p.LogOptions
	if p.JSON {
		o.Format = "json"
	}
	return o.Logger(w)
}

// declare puts options on cmd; what it refuses is a mistake in this program.
func declare(cmd *cobra.Command, section string, cfg any) {
	if err := service.Declare(cmd, section, cfg); err != nil {
		panic(err)
	}
}

// load gives the declared options their values.
func load(cmd *cobra.Command) error {
	if err := service.Load(cmd, os.LookupEnv, ""); err != nil {
		return misused(cmd, err)
	}
	return nil
}

// node is one process: the store, the service that runs its tasks, and what they
// share.
type node struct {
	store   store.Store
	svc     *service.Service
	log     *slog.Logger
	mux     *http.ServeMux
	fetcher follow.Fetcher
	closers []func() error // in order of acquisition
	end     func()         // ends the process in order; nil where no task does
}

// newNode makes a process called name; its store is set by the caller. The store is
// opened, not waited for: a daemon starts, and serves what it has, while the store
// is dead.
func newNode(name string, p processOptions, logTo io.Writer) (*node, error) {
	log, err := p.Logger(logTo)
	if err != nil {
		return nil, err
	}
	svc, err := service.New(service.Config{Name: name, Version: version, Log: log, Notify: service.NotifierFrom(os.Getenv)})
	if err != nil {
		return nil, err
	}
	n := &node{
		svc: svc, log: log, mux: svc.Handler(service.HandlerOptions{Pprof: p.Pprof}),
		fetcher: follow.HTTP{Log: log},
	}
	if p.HTTP != "" {
		bind := listen
		if p.shared {
			bind = listenShared
		}
		ln, err := bind("http", p.HTTP)
		if err != nil {
			return nil, err
		}
		svc.Add(service.HTTP("http", ln, n.mux, log))
	}
	return n, nil
}

func defaultLog() service.LogOptions { return service.DefaultLogOptions() }

// listen binds a TCP address for the option called key.
func listen(key, address string) (net.Listener, error) {
	return listenBy(net.ListenConfig{}, key, address)
}

// listenShared is listen beside another process of this user that has done the same.
func listenShared(key, address string) (net.Listener, error) {
	const reusePort = 0xf // SO_REUSEPORT of Linux on amd64 and arm64 (asm-generic/socket.h)
	return listenBy(net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if e := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, reusePort, 1) }); e != nil {
			return e
		}
		return err
	}}, key, address)
}

func listenBy(lc net.ListenConfig, key, address string) (net.Listener, error) {
	ln, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, inTheWay("--"+key, address, fmt.Errorf("--%s %s: %w", key, address, err))
	}
	return ln, nil
}

// inTheWay adds to an error of listening on the address of an option what to do.
func inTheWay(option, address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		_, port, _ := net.SplitHostPort(address)
		return hinted{err, fmt.Sprintf("another process has the port (`ss -lpn 'sport = :%s'` shows which): stop it, or choose another %s", port, option)}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return hinted{err, "no interface of this machine has the address: add it, or choose another " + option}
	case errors.Is(err, syscall.EACCES):
		return hinted{err, "ports below 1024 need root or CAP_NET_BIND_SERVICE: choose another " + option}
	}
	return hinted{err, option + " takes address:port such as 127.0.0.1:7353"}
}

// metrics labels the metrics of one of several like parts of this process.
func (n *node) metrics(label, value string) prometheus.Registerer {
	if label == "" {
		return n.svc.Registerer()
	}
	return prometheus.WrapRegistererWith(prometheus.Labels{label: value}, n.svc.Registerer())
}

// add makes a task of the service out of a stage.
func (n *node) add(name string, run func(context.Context) error) {
	n.svc.Add(service.Task{Name: name, Run: run})
}

// warn looks every second at what troubles a stage, and makes it a warning of the
// process: /status says it, and the log, when it begins and when it is over.
func (n *node) warn(name string, troubles func() []string) {
	n.svc.Add(service.Periodic("warnings of "+name, time.Second, func(context.Context) error {
		var now []string
		for _, text := range troubles() {
			if text != "" {
				now = append(now, text)
			}
		}
		if len(now) == 0 {
			n.svc.ClearWarning(name)
		} else {
			n.svc.Warn(name, strings.Join(now, "; "))
		}
		return nil
	}, service.RunAtStart()))
}

// announce keeps an ephemeral node that says where this process listens.
func (n *node) announce(s tree.Service, id string) {
	const ttl = 10 * time.Second
	value := tree.Encode(s)
	n.add("announce "+s.Name, func(ctx context.Context) error {
		for ctx.Err() == nil {
			err := n.present(ctx, tree.ServicePath(s.Name, id), value, ttl)
			if ctx.Err() != nil {
				return nil
			}
			n.log.Debug("service node lost, making it again", "service", s.Name, "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
		return nil
	})
}

// present holds an ephemeral node until ctx ends or the session is lost.
func (n *node) present(ctx context.Context, path string, value []byte, ttl time.Duration) error {
	session, err := n.store.Session(ctx, ttl)
	if err != nil {
		return err
	}
	if _, err := session.Commit(ctx, store.Txn{Do: []store.Op{{Path: path, Value: value}}}); err != nil {
		return errors.Join(err, session.Close())
	}
	select {
	case <-ctx.Done():
	case <-session.Done():
	}
	return session.Close()
}

// run runs the tasks until ctx ends, and then frees what was acquired, last first.
func (n *node) run(ctx context.Context) error {
	err := n.svc.Run(ctx)
	return errors.Join(err, n.close())
}

func (n *node) close() error {
	var err error
	for i := len(n.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, n.closers[i]())
	}
	n.closers = nil
	return err
}
