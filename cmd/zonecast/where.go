package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/service"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/etcd"
	"github.com/zonecast/zonecast/store/proxied"
	"github.com/zonecast/zonecast/store/zookeeper"
)

// embedded is the store that `zonecast up` runs itself.
const embedded = "embedded"

// storeOptions say where the store is.
type storeOptions struct {
	Store  string `option:"store" help:"embedded (that of the zonecast up whose --dir is given), etcd://HOST:PORT,…, zookeeper://HOST:PORT,…/ROOT or etcd+unix:///PATH; on hosts also their site's proxy://HOST:PORT,…, proxy+tls://HOST:PORT,… or proxy+unix:///PATH"`
	Prefix string `option:"store-prefix" help:"path that stands before everything zonecast keeps in the store"`
	Auth   string `option:"store-auth" help:"file with user:password of a ZooKeeper; empty: as in --store, or none"`
	CA     string `option:"store-ca" help:"file with the certificates (PEM) that a proxy's must be signed by, for proxy+tls://; empty: those of this machine"`
	Cert   string `option:"store-cert" help:"file with the certificate (PEM) that is shown to a proxy, for proxy+tls://; empty: none"`
	Key    string `option:"store-key" help:"file with its private key (PEM)"`

	spread time.Duration // Spread of etcd.Config and zookeeper.Config
}

// hostSpread is that of hosts, of which there are thousands.
const hostSpread = 10 * time.Second

// dirOptions say which store `embedded` is.
type dirOptions struct {
	Dir string `option:"dir" help:"directory of the zonecast up on this machine whose store is meant by --store embedded"`
}

// defaultDir is where `zonecast up` has everything.
const defaultDir = ".zonecast"

// declareStore puts the options that say where the store is on cmd.
func declareStore(cmd *cobra.Command, o any, d *dirOptions) {
	d.Dir = defaultDir
	declare(cmd, "", o)
	declare(cmd, "", d)
}

// Validate implements the kit's check.
func (o *storeOptions) Validate() error {
	_, err := o.engine()
	return err
}

// public is Store without a password.
func (o *storeOptions) public() string {
	scheme, rest, found := strings.Cut(o.Store, "://")
	if !found {
		return o.Store
	}
	return scheme + "://" + rest[strings.LastIndexByte(rest, '@')+1:]
}

// engine is the client that the options ask for, without what is in files.
type engine struct {
	embedded  bool
	etcd      etcd.Config
	zookeeper zookeeper.Config
	proxy     proxied.Config // the one that is meant has servers
	tls       bool           // of the proxy
}

const storeForms = "embedded, etcd://HOST:PORT,…, zookeeper://[USER:PASSWORD@]HOST:PORT,…[/ROOT], etcd+unix:///PATH or, on hosts, proxy://HOST:PORT,…, proxy+tls://HOST:PORT,… or proxy+unix:///PATH"

// forms are those of one engine.
var forms = map[string]string{
	embedded: embedded, "etcd": "etcd://HOST:PORT,…", "etcd+unix": "etcd+unix:///PATH", "zookeeper": "zookeeper://[USER:PASSWORD@]HOST:PORT,…[/ROOT]",
	"proxy": "proxy://HOST:PORT,…", "proxy+tls": "proxy+tls://HOST:PORT,…", "proxy+unix": "proxy+unix:///PATH",
}

// engine reads the options. What is wrong with --store is named, and what it may be.
func (o *storeOptions) engine() (engine, error) {
	scheme, rest, found := strings.Cut(o.Store, "://")
	wrong := func(format string, args ...any) (engine, error) {
		form := forms[scheme]
		if form == "" || !found && o.Store != embedded {
			form = storeForms
		}
		return engine{}, &service.InvalidError{Option: "store", Expected: form + "; " + fmt.Sprintf(format, args...)}
	}
	switch {
	case o.Store == "":
		return wrong("it is empty")
	case o.Store == embedded:
		if err := checkEtcdPrefix(o.Prefix); err != nil {
			return engine{}, err
		}
		return engine{embedded: true, etcd: etcd.Config{Prefix: o.Prefix}}, nil
	case scheme == embedded:
		return wrong("nothing stands behind embedded; --dir says whose it is")
	case !found:
		return wrong("there is no engine before it, as in etcd://%s", o.Store)
	}
	switch scheme {
	case "etcd":
		if err := checkServers(rest); err != nil {
			return wrong("%v", err)
		}
		return engine{etcd: etcd.Config{Endpoints: strings.Split(rest, ","), Prefix: o.Prefix}}, checkEtcdPrefix(o.Prefix)
	case "etcd+unix":
		if err := checkSocket(rest); err != nil {
			return wrong("%v", err)
		}
		return engine{etcd: etcd.Config{Endpoints: []string{"unix://" + rest}, Prefix: o.Prefix}}, checkEtcdPrefix(o.Prefix)
	case "zookeeper":
		return o.zookeeper(rest, wrong)
	case "proxy", "proxy+tls", "proxy+unix":
		return o.proxy(scheme, rest, wrong)
	}
	return wrong("there is no engine %q", scheme)
}

func (o *storeOptions) zookeeper(rest string, wrong func(string, ...any) (engine, error)) (engine, error) {
	var cfg zookeeper.Config
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		if cfg.Auth, rest = rest[:i], rest[i+1:]; cfg.Auth == "" {
			return wrong("nothing stands before the @")
		}
	}
	servers, root, found := strings.Cut(rest, "/")
	if cfg.Servers = strings.Split(servers, ","); found && root != "" {
		cfg.Root = "/" + root
	}
	if o.Prefix != "" {
		if err := store.CheckPath(o.Prefix); err != nil {
			return engine{}, &service.InvalidError{Option: "store-prefix", Expected: "a path such as /zonecast (" + err.Error() + ")"}
		}
		cfg.Root = cmp.Or(cfg.Root, zookeeper.DefaultRoot) + o.Prefix
	}
	if err := cfg.Validate(); err != nil {
		return wrong("%v", err)
	}
	return engine{zookeeper: cfg}, nil
}

func (o *storeOptions) proxy(scheme, rest string, wrong func(string, ...any) (engine, error)) (engine, error) {
	e := engine{tls: scheme == "proxy+tls"}
	if scheme == "proxy+unix" {
		if err := checkSocket(rest); err != nil {
			return wrong("%v", err)
		}
		e.proxy.Endpoints = []string{"unix:" + rest}
	} else {
		if err := checkServers(rest); err != nil {
			return wrong("%v", err)
		}
		e.proxy.Endpoints = strings.Split(rest, ",")
	}
	if o.Prefix != "" {
		return engine{}, service.Invalid("store-prefix", "nothing: the proxy of a site has its own")
	}
	if (o.Cert == "") != (o.Key == "") {
		return engine{}, service.Invalid("store-key", "a file, with --store-cert: a certificate and its private key go together")
	}
	return e, nil
}

// checkServers tells what is wrong with HOST:PORT,HOST:PORT….
func checkServers(text string) error {
	switch {
	case text == "":
		return errors.New("no server is named")
	case strings.Contains(text, "@"):
		return errors.New("a user can be given to ZooKeeper only")
	case strings.Contains(text, "/"):
		servers, path, _ := strings.Cut(text, "/")
		return fmt.Errorf("/%s stands behind %s, which has no paths; --store-prefix is one of etcd's", path, servers)
	}
	for _, s := range strings.Split(text, ",") {
		host, port, err := net.SplitHostPort(s)
		switch {
		case s == "":
			return fmt.Errorf("a server of %q is empty", text)
		case err != nil && !strings.Contains(s, ":"):
			return fmt.Errorf("%s has no port", s)
		case err != nil:
			return err
		case host == "" || port == "":
			return fmt.Errorf("%q has no host or no port", s)
		}
	}
	return nil
}

func checkSocket(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%q is no absolute path", path)
	}
	return nil
}

func checkEtcdPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	if err := store.CheckPath(prefix); err != nil {
		return &service.InvalidError{Option: "store-prefix", Expected: "a path such as /zonecast (" + err.Error() + ")"}
	}
	return nil
}

// embeddedSocket is where the store of the `zonecast up` in dir listens, or will.
func embeddedSocket(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	// A directory with a long path has its socket elsewhere, and says where when it is ready.
	if b, err := os.ReadFile(filepath.Join(abs, "endpoints.json")); err == nil {
		var e endpoints
		if json.Unmarshal(b, &e) == nil {
			if socket, ok := strings.CutPrefix(e.Store, "etcd+unix://"); ok {
				return socket, nil
			}
			if e.Store != "" {
				return "", hinted{fmt.Errorf("--store embedded: the zonecast up in %s works on another store", abs), "--store " + e.Store}
			}
		}
	}
	return filepath.Join(abs, "store", "socket"), nil
}

// leads tells why a stage that is elected cannot use the store that the options name, or nil.
func (o *storeOptions) leads(stage string) error {
	if e, err := o.engine(); err != nil || len(e.proxy.Endpoints) == 0 {
		return err
	}
	return fmt.Errorf("--store %s: the %s needs the store itself, and cannot be at a site's proxy: expected embedded, etcd://…, etcd+unix://… or zookeeper://…", o.public(), stage)
}

// openStore connects to the store that the options name; dir is that of the embedded one.
func openStore(ctx context.Context, o storeOptions, dir string, log *slog.Logger) (store.Store, error) {
	e, err := o.engine()
	if err != nil {
		return nil, err
	}
	switch {
	case e.embedded:
		socket, err := embeddedSocket(dir)
		if err != nil {
			return nil, err
		}
		e.etcd.Endpoints = []string{"unix://" + socket}
	case len(e.proxy.Endpoints) > 0:
		e.proxy.Log = log
		if e.tls {
			if e.proxy.TLS, err = o.tls(); err != nil {
				return nil, err
			}
		}
		return proxied.Open(ctx, e.proxy)
	case len(e.zookeeper.Servers) > 0:
		if o.Auth != "" {
			if e.zookeeper.Auth, err = readAuth(o.Auth); err != nil {
				return nil, err
			}
		}
		e.zookeeper.Log, e.zookeeper.Spread = log, o.spread
		return zookeeper.Open(ctx, e.zookeeper)
	}
	e.etcd.Log, e.etcd.Spread = log, o.spread
	return etcd.Open(ctx, e.etcd)
}

// listens tells why nobody can be reached at a socket, or nil.
func listens(socket string) error {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	return c.Close()
}

// openNow is openStore for a command: that an embedded store does not run is said at once.
func openNow(ctx context.Context, o storeOptions, dir string, log *slog.Logger) (store.Store, error) {
	if o.Store == embedded {
		socket, err := embeddedSocket(dir)
		if err != nil {
			return nil, err
		}
		if err := listens(socket); err != nil {
			return nil, hinted{fmt.Errorf("--store embedded: no store runs in %s: %w", dir, err), "`zonecast up --dir " + dir + "` runs one; --dir names another"}
		}
	}
	return openStore(ctx, o, dir, log)
}

// apiFinder finds the API: where --api says, or, when that says nothing and --store does, at one
// of the addresses that are in the store.
type apiFinder struct {
	store clientStore
	dir   dirOptions
	cmd   *cobra.Command
}

// clientStore says where the store is in which the API is found.
type clientStore struct{ storeOptions }

// Validate implements the kit's check.
func (o *clientStore) Validate() error {
	if o.Store == "" {
		return nil
	}
	return o.storeOptions.Validate()
}

// here is the store that is meant when none is named: that of the `zonecast up` in dir, if one runs
// there, otherwise the one that a store is by default.
func (o *clientStore) here(dir string) storeOptions {
	found := o.storeOptions
	if found.Store != "" {
		return found
	}
	found.Store = defaultStore
	if socket, err := embeddedSocket(dir); err == nil && listens(socket) == nil {
		found.Store = embedded
	}
	return found
}

// declare puts the options on cmd; all but --store and --dir, which are seldom needed, are
// known and not in the help.
func (f *apiFinder) declare(cmd *cobra.Command) {
	f.dir.Dir, f.cmd = defaultDir, cmd
	declare(cmd, "", &f.store)
	declare(cmd, "", &f.dir)
	for _, name := range []string{"store-prefix", "store-auth", "store-ca", "store-cert", "store-key"} {
		_ = cmd.Flags().MarkHidden(name) // it is there: declare has made it
	}
}

// dial connects to the API and says where it was. named is what --api has, hint what to do when
// nobody is there.
func (f *apiFinder) dial(ctx context.Context, named, hint string) (c *api.Client, at string, err error) {
	given := slices.ContainsFunc(service.Origins(f.cmd), func(o service.Origin) bool { return o.Flag == "--api" && o.From != "default" })
	addresses := []string{named}
	if f.store.Store != "" && !given {
		hint = "that is where the API says in the store that it is; --api HOST:PORT says where it can be reached from here"
		if addresses, err = findAPI(ctx, f.store.storeOptions, f.dir.Dir); err != nil {
			return nil, "", err
		}
	}
	var errs []error
	for _, at := range addresses {
		if c, err = api.Dial(ctx, at); err == nil {
			return c, at, nil
		}
		errs = append(errs, err)
	}
	return nil, "", hinted{errors.Join(errs...), hint}
}

// findAPI gives where the API is, as the store has it, in random order.
func findAPI(ctx context.Context, o storeOptions, dir string) (addresses []string, err error) {
	st, err := openNow(ctx, o, dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	nodes, _, err := st.List(ctx, tree.Services+"api/")
	if err != nil {
		return nil, hinted{fmt.Errorf("find the API: %w", err), "--store says where the store is, as in the services that run; --api names the API itself"}
	}
	for _, n := range nodes {
		var s tree.Service
		if tree.Decode(n, &s) == nil && s.API != "" {
			addresses = append(addresses, s.API)
		}
	}
	if len(addresses) == 0 {
		return nil, hinted{fmt.Errorf("find the API: none is in the store %s", o.public()), "`zonecast run registry`, or `zonecast up`, is one; --api names one itself"}
	}
	rand.Shuffle(len(addresses), func(i, k int) { addresses[i], addresses[k] = addresses[k], addresses[i] })
	return addresses, nil
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
