package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/authority"
	"github.com/zonecast/zonecast/internal/atomicfile"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/service"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store/etcd"
)

// upOptions are those of `up`.
type upOptions struct {
	Dir   string         `option:"dir" help:"directory for everything that must survive a restart"`
	Hosts int            `option:"hosts" help:"DNS hosts to run; host i answers on port --dns + i"`
	DNS   netip.AddrPort `option:"dns" help:"address:port on which the first host answers"`
	// Sample and SampleWindow are those of each host's authority.
	Sample       int           `option:"sample" help:"how many questions, drawn at random and without who asks, each host keeps to try changes on; 0 keeps none"`
	SampleWindow time.Duration `option:"sample-window" help:"from the questions of which time they are drawn, 10s to 1h"`
}

// maxHosts is as many as a test on one machine can want; more hosts run elsewhere.
const maxHosts = 100

// Validate implements the kit's check.
func (o *upOptions) Validate() error {
	switch {
	case o.Dir == "":
		return &service.InvalidError{Option: "dir", Expected: "a directory"}
	case o.Hosts < 1 || o.Hosts > maxHosts:
		return &service.InvalidError{Option: "hosts", Expected: fmt.Sprintf("1 to %d", maxHosts)}
	case int(o.DNS.Port())+o.Hosts-1 > 65535 || o.DNS.Port() == 0:
		return &service.InvalidError{Option: "dns", Expected: "a port with room for all hosts up to 65535"}
	}
	return nil
}

// up is all of zonecast in one process, but for the store, which is a child or runs
// already.
type up struct {
	upOptions
	process processOptions
	store   storeOptions
	api     *apiStage
	mutator mutatorStage
	update  updateStage
	present presenterStage
	canary  canaryStage
	monitor monitorStage

	hosts []endpoint
	at    string // where the store is, for --store of others
}

// endpoints is DIR/endpoints.json: where everything answers.
type endpoints struct {
	API   string     `json:"api"`
	HTTP  string     `json:"http"`
	Store string     `json:"store"` // for `zonecast run … --store`
	Hosts []endpoint `json:"hosts"`
}

// readyView is what up prints as JSON when all hosts answer.
type readyView struct {
	Ready        bool  `json:"ready"`
	Version      int64 `json:"version"`
	Milliseconds int64 `json:"ms"`
	endpoints
}

type endpoint struct {
	Name string `json:"name"`
	DNS  string `json:"dns"`
}

func newUp() *cobra.Command {
	answers := authority.DefaultConfig()
	u := &up{
		upOptions: upOptions{
			Dir: defaultDir, Hosts: 3, DNS: netip.MustParseAddrPort("127.0.0.1:5300"), Sample: answers.Sample, SampleWindow: answers.SampleWindow,
		},
		process: processOptions{LogOptions: defaultLog(), HTTP: "127.0.0.1:7380"},
		store:   storeOptions{Store: embedded},
		api:     newAPIStage(),
	}
	cmd := &cobra.Command{
		Use: "up", Short: "run everything on this machine", Args: exactArgs(),
		Long: `up runs the whole of zonecast on this machine: embedded store, registry, rules, presenter, publisher and some DNS hosts.
When all hosts answer it prints a line that starts with "ready"; DIR/endpoints.json then says where everything is.
--zones and --fleet are live: a changed file is a change. What is in --dir survives a restart. With --store it works on a store that runs already.`,
		Example: `  zonecast up --dir /var/lib/zonecast --hosts 3 --dns 127.0.0.1:5300 --zones zones --fleet fleet.jsonl`,
	}
	declare(cmd, "", &u.upOptions)
	declare(cmd, "", &u.process)
	declare(cmd, "", &u.store)
	u.api.declare(cmd)
	u.mutator.declare(cmd)
	u.update.declare(cmd)
	u.present.declare(cmd)
	u.present.policy = u.api.policy
	declare(cmd, "policy", u.api.policy)
	u.canary.declare(cmd)
	u.monitor.declare(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		if u.process.HTTP == "" {
			return usageError{errors.New("--http is empty, expected address:port: hosts fetch snapshots there")}
		}
		return u.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

func (u *up) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	began := time.Now()
	unlock, err := lockDir(u.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := os.Remove(u.path("endpoints.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	n, err := newNode("up", u.process, stderr)
	if err != nil {
		return err
	}
	if err := u.build(ctx, n); err != nil {
		return errors.Join(err, n.close())
	}
	n.svc.Add(service.Task{Name: "ready", Once: true, Run: func(ctx context.Context) error { return u.ready(ctx, n, began, stdout, stderr) }})
	return n.run(ctx)
}

// build acquires everything in the order in which data goes.
func (u *up) build(ctx context.Context, n *node) error {
	if err := os.MkdirAll(u.path("keys"), 0o700); err != nil {
		return err
	}
	key := u.path("keys", "publisher.key")
	if _, err := snapshot.LoadOrCreateKey(key); err != nil {
		return err
	}
	// Ports first: what is in the way should be said before anything is started.
	hosts, err := u.buildHosts(n, key+".pub")
	if err != nil {
		return err
	}
	if err := u.api.listen(); err != nil {
		return err
	}
	if err := u.startStore(ctx, n); err != nil {
		return err
	}
	if u.present.landed.Cache == "" {
		u.present.landed.Cache = u.path("landed")
	}
	if u.api.people.Dir == "" {
		if _, err := exec.LookPath("git"); err == nil {
			u.api.people.Dir = u.path("configuration.git")
		} else {
			n.log.Warn("there is no configuration as code: it is kept by git, which is not installed", "error", err)
		}
	}
	stages := []func(*node) error{u.api.add, u.mutator.add, u.update.add, u.present.add, u.canary.add}
	for i, dataset := range u.datasets() {
		pub := publisherStage{oneOf: i > 0}
		pub.declare(&cobra.Command{})
		pub.Dir, pub.KeyFile, pub.URLs = u.path("snapshots"), key, []string{"http://" + u.process.HTTP}
		if pub.Dataset = dataset; i > 0 {
			pub.Dir = u.path("datasets", dataset, "snapshots")
			u.present.beside, u.canary.beside = append(u.present.beside, dataset), append(u.canary.beside, dataset)
		}
		stages = append(stages, pub.add)
	}
	if len(u.datasets()) > 1 {
		u.mutator.Fresh.Datasets = u.datasets()
	}
	u.api.rules = u.mutator.Rules
	for _, add := range stages {
		if err := add(n); err != nil {
			return err
		}
	}
	for _, add := range hosts {
		if err := add(n); err != nil {
			return err
		}
	}
	return u.monitor.add(n)
}

// buildHosts adds the authorities, which need no store, and returns what adds the
// agents.
func (u *up) buildHosts(n *node, publicKey string) (agents []func(*node) error, err error) {
	for i := range u.Hosts {
		name := "host" + strconv.Itoa(i)
		dns := netip.AddrPortFrom(u.DNS.Addr(), u.DNS.Port()+uint16(i)).String()
		journal, status := u.path("hosts", name, "journal"), u.path("hosts", name, "status")
		for _, dir := range []string{journal, status} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return nil, err
			}
		}
		var auth authorityStage
		auth.declare(&cobra.Command{})
		auth.Listen, auth.Journal, auth.StatusDir, auth.Keys = []string{dns}, journal, status, []string{publicKey}
		auth.ImageDir = u.path("hosts", name, "images")
		auth.Sample, auth.SampleWindow = u.Sample, u.SampleWindow
		auth.UDPWorkers, auth.Identity, auth.Version = 1, name, "zonecast "+version
		if err := auth.add(n, name); err != nil {
			return nil, err
		}
		agt := &agentStage{}
		agt.declare(&cobra.Command{})
		agt.Host, agt.Journal, agt.StatusDir, agt.Keys, agt.DNS = name, journal, status, []string{publicKey}, dns
		agt.Also = u.datasets()[1:]
		agt.SampleEvery = min(agt.SampleEvery, u.SampleWindow/5) // a window has five samples
		if u.api.control.Operators != "" {
			socket, remove, err := etcd.SocketPath(u.path("hosts", name))
			if err != nil {
				return nil, err
			}
			n.closers = append(n.closers, remove)
			agt.Operators, agt.Direct = u.api.control.Operators, "unix:"+socket
		}
		agents = append(agents, agt.add)
		u.hosts = append(u.hosts, endpoint{name, dns})
	}
	return agents, nil
}

// datasets are those that are made here: first the one of the options, which has what no other
// names.
func (u *up) datasets() []string {
	all := []string{u.present.Dataset}
	for _, d := range u.api.policy.division().Names() {
		if d != u.present.Dataset {
			all = append(all, d)
		}
	}
	return all
}

func (u *up) path(elem ...string) string { return filepath.Join(append([]string{u.Dir}, elem...)...) }

// startStore starts the embedded etcd as a child of this process, unless there is a
// store already, and connects.
func (u *up) startStore(ctx context.Context, n *node) error {
	if u.store.Store != embedded {
		st, err := openStore(ctx, u.store, "", n.log)
		if err != nil {
			return err
		}
		n.closers = append(n.closers, st.Close)
		n.store, u.at = st, u.store.public()
		return nil
	}
	dir := u.path("store")
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	socket, remove, err := etcd.SocketPath(dir)
	if err != nil {
		return err
	}
	n.closers = append(n.closers, remove)
	u.at = "etcd+unix://" + socket
	child, err := etcd.StartChild(ctx, etcd.ChildConfig{
		Command: []string{exe, "run", "store", "--etcd-dir", dir, "--etcd-listen", socket, "--log-level", "warn", "--http", ""},
		Dir:     dir, Socket: socket, Log: n.log,
	})
	if err != nil {
		return err
	}
	n.closers = append(n.closers, child.Close)
	st, err := etcd.Open(ctx, etcd.Config{Endpoints: []string{child.Endpoint()}, Prefix: u.store.Prefix, Log: n.log})
	if err != nil {
		return err
	}
	n.closers = append(n.closers, st.Close)
	n.store = explainedStore{st, child.Trouble}
	return nil
}

// ready waits until what the sources have is answered by all hosts, and says so.
func (u *up) ready(ctx context.Context, n *node, began time.Time, stdout, stderr io.Writer) error {
	file := u.path("endpoints.json")
	ends := endpoints{API: u.api.Listen, HTTP: u.process.HTTP, Store: u.at, Hosts: u.hosts}
	bar := newProgress(stderr, "starting")
	arrived, err := u.everywhere(ctx, n, bar)
	bar.done()
	if err != nil || ctx.Err() != nil {
		return err
	}
	if err := atomicfile.Write(file, 0o644, append(tree.Encode(ends), '\n')); err != nil {
		return err
	}
	took := time.Since(began)
	if u.process.JSON {
		return json.NewEncoder(stdout).Encode(readyView{Ready: true, Version: arrived.Version, Milliseconds: took.Milliseconds(), endpoints: ends})
	}
	u.writeReady(stdout, arrived.Version, took)
	return nil
}
