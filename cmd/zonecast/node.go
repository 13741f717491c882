package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
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
	"github.com/zonecast/zonecast/store/etcd"
	"github.com/zonecast/zonecast/store/proxied"
	"github.com/zonecast/zonecast/store/zookeeper"
)

// processOptions are those of every daemon.
type processOptions struct {
	service.LogOptions
	JSON  bool   `option:"json" help:"log as JSON, and print JSON and nothing else"`
	HTTP  string `option:"http" help:"address:port for metrics, status and snapshots; empty serves none"`
	Pprof bool   `option:"pprof" help:"serve /debug/pprof/ as well"`
}

// Logger logs to w as the options say.
func (p *processOptions) Logger(w io.Writer) (*slog.Logger, error) {
	o := p.LogOptions
	if p.JSON {
		o.Format = "json"
	}
	return o.Logger(w)
}

// storeOptions say where the store is.
type storeOptions struct {
	Store  string `option:"store" help:"etcd://HOST:PORT,HOST:PORT…, zookeeper://HOST:PORT,…/ROOT or etcd+unix:///PATH of the store; on hosts proxy://HOST:PORT,…, proxy+tls://HOST:PORT,… or proxy+unix:///PATH of their site's proxy, too"`
	Prefix string `option:"store-prefix" help:"path that stands before everything zonecast keeps in the store"`
	Auth   string `option:"store-auth" help:"file with user:password of a ZooKeeper; empty: as in --store, or none"`
	CA     string `option:"store-ca" help:"file with the certificates (PEM) that a proxy's must be signed by, for proxy+tls://; empty: those of this machine"`
	Cert   string `option:"store-cert" help:"file with the certificate (PEM) that is shown to a proxy, for proxy+tls://; empty: none"`
	Key    string `option:"store-key" help:"file with its private key (PEM)"`
}

// Validate implements the kit's check.
func (o *storeOptions) Validate() error {
	_, err := o.engine()
	return err
}

// public is Store without a password.
func (o *storeOptions) public() string {
	scheme, rest, _ := strings.Cut(o.Store, "://")
	return scheme + "://" + rest[strings.LastIndexByte(rest, '@')+1:]
}

// engine is the client that the options ask for, without what is in files.
type engine struct {
	etcd      etcd.Config
	zookeeper zookeeper.Config
	proxy     proxied.Config // the one that is meant has servers
	tls       bool           // of the proxy
}

func (o *storeOptions) engine() (engine, error) {
	wrong := &service.InvalidError{Option: "store", Expected: "etcd://HOST:PORT,…, zookeeper://[USER:PASSWORD@]HOST:PORT,…[/ROOT], etcd+unix:///PATH or, on hosts, proxy://HOST:PORT,…, proxy+tls://HOST:PORT,… or proxy+unix:///PATH"}
	scheme, rest, _ := strings.Cut(o.Store, "://")
	switch {
	case scheme == "proxy", scheme == "proxy+tls", scheme == "proxy+unix":
		e := engine{tls: scheme == "proxy+tls"}
		e.proxy.Endpoints = strings.Split(rest, ",")
		if scheme == "proxy+unix" {
			e.proxy.Endpoints = []string{"unix:" + rest}
		}
		if err := e.proxy.Validate(); err != nil {
			wrong.Expected += " (" + err.Error() + ")"
			return engine{}, wrong
		}
		if o.Prefix != "" {
			return engine{}, service.Invalid("store-prefix", "nothing: the proxy of a site has its own")
		}
		if (o.Cert == "") != (o.Key == "") {
			return engine{}, service.Invalid("store-key", "a file, with --store-cert: a certificate and its private key go together")
		}
		return e, nil
	case scheme == "etcd" && rest != "":
		return engine{etcd: etcd.Config{Endpoints: strings.Split(rest, ","), Prefix: o.Prefix}}, nil
	case scheme == "etcd+unix" && strings.HasPrefix(rest, "/"):
		return engine{etcd: etcd.Config{Endpoints: []string{"unix://" + rest}, Prefix: o.Prefix}}, nil
	case scheme != "zookeeper":
		return engine{}, wrong
	}
	var cfg zookeeper.Config
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		if cfg.Auth, rest = rest[:i], rest[i+1:]; cfg.Auth == "" {
			return engine{}, wrong
		}
	}
	servers, root, found := strings.Cut(rest, "/")
	if cfg.Servers = strings.Split(servers, ","); found && root != "" {
		cfg.Root = "/" + root
	}
	if o.Prefix != "" {
		if err := store.CheckPath(o.Prefix); err != nil {
			return engine{}, &service.InvalidError{Option: "store-prefix", Expected: "a path such as /zonecast (" + err.Error() + "), for --store zookeeper://…"}
		}
		cfg.Root = cmp.Or(cfg.Root, zookeeper.DefaultRoot) + o.Prefix
	}
	if err := cfg.Validate(); err != nil {
		wrong.Expected += " (" + err.Error() + ")"
		return engine{}, wrong
	}
	return engine{zookeeper: cfg}, nil
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
		ln, err := listen("http", p.HTTP)
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
	ln, err := net.Listen("tcp", address)
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

// openStore connects to the store that the options name.
func openStore(ctx context.Context, o storeOptions, log *slog.Logger) (store.Store, error) {
	e, err := o.engine()
	if err != nil {
		return nil, err
	}
	switch {
	case len(e.proxy.Endpoints) > 0:
		e.proxy.Log = log
		if e.tls {
			if e.proxy.TLS, err = o.tls(); err != nil {
				return nil, err
			}
		}
		return proxied.Open(ctx, e.proxy)
	case len(e.zookeeper.Servers) == 0:
		e.etcd.Log = log
		return etcd.Open(ctx, e.etcd)
	}
	if o.Auth != "" {
		if e.zookeeper.Auth, err = readAuth(o.Auth); err != nil {
			return nil, err
		}
	}
	e.zookeeper.Log = log
	return zookeeper.Open(ctx, e.zookeeper)
}

// tls is how a proxy is spoken to in TLS.
func (o *storeOptions) tls() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS13}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("--store-ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--store-ca %s has no certificate, expected PEM", o.CA)
		}
	}
	if o.Cert != "" {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, fmt.Errorf("--store-cert, --store-key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// nearby gives, beside fetcher, the proxy that the store is reached by, which has snapshots.
func nearby(st store.Store, fetcher follow.Fetcher, log *slog.Logger) follow.Fetcher {
	p, ok := st.(*proxied.Store)
	if !ok {
		return fetcher
	}
	client, base := p.Client()
	return follow.FirstOf{follow.Base{HTTP: follow.HTTP{Client: client, Log: log}, URL: base}, fetcher}
}

// maxAuth is the most octets of a file of credentials.
const maxAuth = 1024

// readAuth reads a file of one line, user:password.
func readAuth(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("--store-auth: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxAuth+1))
	if err != nil {
		return "", fmt.Errorf("--store-auth: %w", err)
	}
	line := strings.TrimRight(string(b), "\r\n")
	if user, password, ok := strings.Cut(line, ":"); !ok || user == "" || password == "" || len(b) > maxAuth || strings.ContainsAny(line, "\r\n") {
		return "", fmt.Errorf("--store-auth %s: expected one line user:password of at most %d octets", file, maxAuth)
	}
	return line, nil
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
