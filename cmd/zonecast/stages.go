package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/agent"
	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/configapi"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/api/registryapi"
	"github.com/zonecast/zonecast/authority"
	"github.com/zonecast/zonecast/authority/standin"
	"github.com/zonecast/zonecast/canary"
	"github.com/zonecast/zonecast/configurator"
	"github.com/zonecast/zonecast/configurator/front"
	"github.com/zonecast/zonecast/control"
	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/replay"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/monitor"
	"github.com/zonecast/zonecast/mutator"
	"github.com/zonecast/zonecast/presenter"
	"github.com/zonecast/zonecast/publisher"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/registry"
	"github.com/zonecast/zonecast/rules"
	"github.com/zonecast/zonecast/service"
	"github.com/zonecast/zonecast/snapshot/journal"
	"github.com/zonecast/zonecast/swarm"
	"github.com/zonecast/zonecast/update"
)

// A stage is declared on a command, loaded with it, and then adds its tasks to a
// node. The functions below are one stage each, in the order in which data goes.

// policyOptions are what presenter and control decide claims by: with unequal ones
// `why` would explain something else than what is published.
type policyOptions struct {
	// MinTTL and MaxTTL bound the TTL of claims, in seconds. MaxTTL zero means no
	// bound but that of the protocol.
	MinTTL int `option:"min-ttl" help:"lowest TTL a claim may have, in seconds"`
	MaxTTL int `option:"max-ttl" help:"highest TTL a claim may have, in seconds; 0 means any"`
	// Datasets divide what is claimed by zones. None: it is one dataset.
	Datasets []datasets.Zones `option:"datasets" help:"datasets that the zones are divided among, each DATASET=ZONE ZONE...; a zone has all below it, and * is all that none names, which one must have; none: one dataset has everything"`
}

// Validate implements the kit's check.
func (o *policyOptions) Validate() error {
	if o.MinTTL < 0 || o.MinTTL > record.MaxTTL {
		return service.Invalid("min-ttl", fmt.Sprintf("0 to %d", record.MaxTTL))
	}
	if o.MaxTTL < 0 || o.MaxTTL > record.MaxTTL || o.MaxTTL > 0 && o.MaxTTL < o.MinTTL {
		return service.Invalid("max-ttl", fmt.Sprintf("0, or min-ttl to %d", record.MaxTTL))
	}
	_, err := datasets.New(o.Datasets)
	return err
}

// division is what Datasets says.
func (o *policyOptions) division() *datasets.Division {
	d, err := datasets.New(o.Datasets)
	if err != nil {
		panic(err) // Validate has said so
	}
	return d
}

func (o *policyOptions) policy() reconcile.Policy {
	p := reconcile.DefaultPolicy()
	p.MinTTL, p.MaxTTL = uint32(o.MinTTL), uint32(o.MaxTTL)
	return p
}

// apiStage is the side that people and programs talk to: registry and control.
type apiStage struct {
	Listen   string `option:"api" help:"address:port of the API"`
	Fleet    string `option:"fleet" help:"fleet file, a live source: one server a line in JSON"`
	server   api.ServerConfig
	registry registry.Config
	control  control.Config
	fleet    registry.FleetFileConfig
	people   configurator.Config // what people write, and its review

	rules  rules.Params        // the mutator's, where it is in the same process
	policy *policyOptions      // shared with the presenter where both are in one process
	files  *registry.FleetFile // nil without a fleet file
	ln     net.Listener        // nil before listen
}

// listen takes the port, before anything is started that would be in vain without.
func (s *apiStage) listen() (err error) {
	s.ln, err = listen("api", s.Listen)
	return err
}

func newAPIStage() *apiStage {
	return &apiStage{rules: rules.DefaultParams(), policy: &policyOptions{}, Listen: "127.0.0.1:7353", server: api.DefaultServerConfig(), registry: registry.DefaultConfig(), control: control.DefaultConfig(), fleet: registry.DefaultFleetFileConfig(), people: configurator.DefaultConfig()}
}

func (s *apiStage) declare(cmd *cobra.Command) {
	declare(cmd, "", s)
	declare(cmd, "fleet-file", &s.fleet)
	declare(cmd, "api-server", &s.server)
	declare(cmd, "registry", &s.registry)
	declare(cmd, "control", &s.control)
	declare(cmd, "configurator", &s.people)
}

func (s *apiStage) add(n *node) error {
	reg, err := registry.New(s.registry, registry.Deps{Store: n.store, Log: n.log, Metrics: n.svc.Registerer()})
	if err != nil {
		return err
	}
	n.add("registry", reg.Run)
	if s.Fleet != "" {
		s.fleet.Path = s.Fleet
		if s.files, err = registry.NewFleetFile(s.fleet, registry.Deps{Store: n.store, Log: n.log, Metrics: n.svc.Registerer()}); err != nil {
			return err
		}
		n.add("fleet file", s.files.Run)
	}
	con, err := control.NewSeveral(s.control, control.Deps{
		Store: n.store, Log: n.log, Metrics: n.svc.Registerer(), Policy: s.policy.policy(), Division: s.policy.division(), Fetcher: n.fetcher,
		Answers: func() (replay.Server, error) { return standin.New() },
	})
	if err != nil {
		return err
	}
	n.add("control", con.Run)
	n.warn("control", func() []string { return []string{con.Trouble()} })
	people, err := configurator.New(s.people, configurator.Deps{Store: n.store, Log: n.log, Metrics: n.svc.Registerer(), Rules: s.rules, Consider: con.Consider, Verify: con.VerifyText})
	if err != nil {
		return err
	}
	n.add("configurator", people.Run)
	if s.ln == nil {
		if err := s.listen(); err != nil {
			return err
		}
	}
	services := map[string]thrift.TProcessor{
		api.RegistryService: registryapi.NewRegistryProcessor(reg),
		api.ControlService:  controlapi.NewControlProcessor(con),

		api.ConfigurationService: configapi.NewConfigurationProcessor(front.New(people, con.VerifyText)),
	}
	for dataset, c := range con.Of() {
		services[api.ControlOf+dataset] = controlapi.NewControlProcessor(c)
	}
	n.add("api", func(ctx context.Context) error { return api.Serve(ctx, s.ln, services, s.server, n.log) })
	n.announce(tree.Service{Name: "api", API: reachable(s.ln.Addr().String())}, processID())
	return nil
}

// reachable is the address of a listener as other machines have it, when it listens on all of
// this one's: by the host's name.
func reachable(listen string) string {
	at, err := netip.ParseAddrPort(listen)
	name, hostErr := os.Hostname()
	if err != nil || !at.Addr().IsUnspecified() || hostErr != nil {
		return listen
	}
	return net.JoinHostPort(name, strconv.Itoa(int(at.Port())))
}

// mutatorStage turns servers into claims.
type mutatorStage struct{ mutator.Config }

func (s *mutatorStage) declare(cmd *cobra.Command) {
	s.Config = mutator.DefaultConfig()
	declare(cmd, "mutator", &s.Config)
}

func (s *mutatorStage) add(n *node) error {
	m, err := mutator.New(s.Config, mutator.Deps{Store: n.store, Log: n.log, Metrics: n.svc.Registerer()})
	if err != nil {
		return err
	}
	n.add("mutator", m.Run)
	return nil
}

// updateStage imports zone files.
type updateStage struct {
	update.Config
	files *update.Importer
}

func (s *updateStage) declare(cmd *cobra.Command) {
	s.Config = update.DefaultConfig()
	declare(cmd, "", &s.Config)
}

func (s *updateStage) add(n *node) (err error) {
	if s.files, err = update.New(s.Config, update.Deps{Store: n.store, Log: n.log, Metrics: n.svc.Registerer()}); err != nil {
		return err
	}
	n.add("update", s.files.Run)
	return nil
}

// presenterStage makes versions.
type presenterStage struct {
	presenter.Config
	policy *policyOptions
	landed landedOptions
	cmd    *cobra.Command // on which it is declared
	beside []string       // datasets that are made here beside Config.Dataset
}

func (s *presenterStage) declare(cmd *cobra.Command) {
	s.Config, s.landed, s.cmd = presenter.DefaultConfig(), newLandedOptions(), cmd
	declare(cmd, "presenter", &s.Config)
	declare(cmd, "", &s.landed)
}

func (s *presenterStage) add(n *node) error {
	var all []*presenter.Presenter
	for _, dataset := range append([]string{s.Dataset}, s.beside...) {
		cfg := s.Config
		cfg.Dataset = dataset
		p, err := presenter.New(cfg, presenter.Deps{
			Store: n.store, Log: n.log, Metrics: n.svc.Registerer(), Policy: s.policy.policy(), Division: s.policy.division(), Fetcher: n.fetcher, Name: processID(),
		})
		if err != nil {
			return err
		}
		all = append(all, p)
	}
	set := func(c presenter.Config) error {
		var errs []error
		for _, p := range all {
			errs = append(errs, p.SetGuard(c.Guard))
		}
		return errors.Join(errs...)
	}
	if err := followLanded(n, s.landed, s.cmd, &s.Config, set); err != nil {
		return err
	}
	for i, p := range all {
		name := "presenter"
		if i > 0 {
			name += " of " + s.beside[i-1]
		}
		n.add(name, p.Run)
		n.warn(name, func() []string {
			s := p.Status()
			return append([]string{s.Held, s.Pinned, s.Behind, s.Problem, s.Unreadable}, s.Waiting...)
		})
	}
	return nil
}

// canaryStage judges what rings of hosts try.
type canaryStage struct {
	canary.Config
	beside []string // datasets that are judged here beside Config.Dataset
}

func (s *canaryStage) declare(cmd *cobra.Command) {
	s.Config = canary.DefaultConfig()
	declare(cmd, "canary", &s.Config)
}

func (s *canaryStage) add(n *node) error {
	for i, dataset := range append([]string{s.Dataset}, s.beside...) {
		cfg, name := s.Config, "canary"
		if cfg.Dataset = dataset; i > 0 {
			name += " of " + dataset
		}
		c, err := canary.New(cfg, canary.Deps{
			Store: n.store, Log: n.log, Metrics: n.svc.Registerer(), Fetcher: n.fetcher, Name: processID(),
			Answers: func() (replay.Server, error) { return standin.New() },
		})
		if err != nil {
			return err
		}
		n.add(name, c.Run)
	}
	return nil
}

// publisherStage signs versions and offers snapshots.
type publisherStage struct {
	publisher.Config
	swarm swarmStage
	oneOf bool // there are others in this process, of other datasets
}

func (s *publisherStage) declare(cmd *cobra.Command) {
	s.Config = publisher.DefaultConfig()
	declare(cmd, "publisher", &s.Config)
	s.swarm.declare(cmd)
}

func (s *publisherStage) add(n *node) error {
	deps := publisher.Deps{Store: n.store, Log: n.log, Metrics: n.svc.Registerer(), Fetcher: n.fetcher, Name: processID()}
	sw, err := s.swarm.add(n, swarm.Deps{Name: processID(), Dataset: s.Dataset, Publisher: true})
	if err != nil {
		return err
	}
	if sw != nil {
		deps.Swarm = sw
	}
	p, err := publisher.New(s.Config, deps)
	if err != nil {
		return err
	}
	name := "publisher"
	if s.oneOf {
		name += " of " + s.Dataset
	}
	// Those of one process serve their own datasets.
	n.mux.Handle(publisher.Prefix+s.Dataset+"/", p.Handler())
	n.mux.Handle(publisher.Prefix+s.Dataset+publisher.TorrentSuffix, p.Handler())
	n.add(name, p.Run)
	n.warn(name, func() []string { s := p.Status(); return append(s.Revoked, s.Trouble) })
	return nil
}

// agentStage keeps a host's journal.
type agentStage struct {
	agent.Config
	swarm swarmStage
}

func (s *agentStage) declare(cmd *cobra.Command) {
	s.Config = agent.DefaultConfig()
	declare(cmd, "agent", &s.Config)
	s.swarm.declare(cmd)
}

func (s *agentStage) add(n *node) error {
	if site := "site=" + s.swarm.Site; s.swarm.Site != swarm.DefaultConfig().Site && !slices.Contains(s.Labels, site) {
		s.Labels = append(s.Labels, site)
	}
	deps := agent.Deps{Store: n.store, Log: n.log.With("host", s.Host), Metrics: n.metrics("host", s.Host), Fetcher: n.fetcher}
	deps.FetcherOf = func(string) (follow.Fetcher, func()) { return n.fetcher, func() {} }
	if s.swarm.Dir == "" {
		s.swarm.Dir = s.Journal + ".swarm"
	}
	old := func(dataset string) func() []string {
		return func() []string { return journal.Snapshots(datasets.Journal(s.Journal, s.Dataset, dataset)) }
	}
	carried, err := datasets.ReadCarried(s.Journal, s.Dataset)
	if err != nil {
		carried = nil // the agent says so; what was kept for others is fetched anew
	}
	sw, err := s.swarm.add(n, swarm.Deps{Name: s.Host, Dataset: s.Dataset, Log: deps.Log, Old: old(s.Dataset), Also: append(carried, s.Also...)})
	if err != nil {
		return err
	}
	if sw != nil {
		deps.Fetcher, deps.Beside, deps.Relieve = sw, sw, sw.Relieve
		if len(carried) > 0 && !slices.Contains(carried, s.Dataset) {
			sw.Leave() // until it is taken up
		}
		deps.FetcherOf = func(dataset string) (follow.Fetcher, func()) {
			part, err := sw.Of(dataset, old(dataset))
			if err != nil {
				deps.Log.Error("snapshots of a dataset come from the publisher's URLs alone", "dataset", dataset, "error", err)
				return n.fetcher, func() {}
			}
			return part, part.Leave
		}
	}
	a, err := agent.New(s.Config, deps)
	if err != nil {
		return err
	}
	n.add("agent "+s.Host, a.Run)
	n.warn("agent "+s.Host, func() []string { return slices.Concat(a.DirectTroubles(), a.Alarms(), []string{a.Status().Trouble}) })
	return nil
}

// authorityStage answers. It needs no store.
type authorityStage struct{ authority.Config }

func (s *authorityStage) declare(cmd *cobra.Command) {
	s.Config = authority.DefaultConfig()
	declare(cmd, "authority", &s.Config)
}

// add adds the authority of a host; the name is "" when it is the only one here.
func (s *authorityStage) add(n *node, host string) error {
	log := n.log
	if host != "" {
		log = log.With("host", host)
	}
	a, err := authority.New(s.Config, authority.Deps{Log: log, Metrics: n.metrics("host", host)})
	var in *net.OpError
	if errors.As(err, &in) && in.Op == "listen" {
		option := "--dns"
		if host == "" {
			option = "--authority-listen"
		}
		return inTheWay(option, in.Addr.String(), err)
	}
	if err != nil {
		return err
	}
	n.addAuthority(strings.TrimSpace("authority "+host), a)
	n.mux.Handle(strings.TrimSuffix("GET /top/"+host, "/"), a.Top())
	return nil
}

// addAuthority makes a task of an authority. When another process has taken its sockets
// this one ends: that is what was asked for, and no failure.
func (n *node) addAuthority(name string, a *authority.Server) {
	if a.Reopens() {
		n.svc.Add(service.Hangup("files of "+name, func(context.Context) error { a.Reopen(); return nil }))
	}
	n.add(name, func(ctx context.Context) error {
		err := a.Run(ctx)
		if errors.Is(err, authority.ErrHandedOver) && n.end != nil {
			n.end()
			<-ctx.Done()
			return nil
		}
		return err
	})
}

// monitorStage watches the hosts.
type monitorStage struct{ monitor.Config }

func (s *monitorStage) declare(cmd *cobra.Command) {
	s.Config = monitor.DefaultConfig()
	declare(cmd, "monitor", &s.Config)
}

func (s *monitorStage) add(n *node) error {
	m, err := monitor.New(s.Config, monitor.Deps{Store: n.store, Log: n.log, Metrics: n.svc.Registerer()})
	if err != nil {
		return err
	}
	n.mux.Handle("/fleet", m.Handler())
	n.add("monitor", m.Run)
	return nil
}

// processID tells processes apart for people: host name and process id.
func processID() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	clean := func(r rune) rune {
		if r <= ' ' || r >= 0x7f || r == '/' {
			return '-'
		}
		return r
	}
	return fmt.Sprintf("%s-%d", strings.Map(clean, host), os.Getpid())
}
