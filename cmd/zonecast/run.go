package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/service"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/etcd"
)

func newRun() *cobra.Command {
	run := &cobra.Command{
		Use:   "run SERVICE",
		Short: "run one service as its own process",
		Long: `run runs one service of zonecast as its own process; all meet in the store that --store names.
A service that is started twice waits: one of each is elected, the other takes over when it dies.
Options may also stand in the file that --config names; ` + "`zonecast run example`" + ` prints one with all of them.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return misused(cmd, errors.New("run takes the name of a service"))
			}
			return misused(cmd, fmt.Errorf("run knows no service %q", args[0]))
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	run.AddCommand(newRunStore(), newExample())

	apis := newAPIStage()
	addService(run, "registry", "servers register; people ask (API, fleet file, leases)", withPolicy(apis.policy, apis.declare), func(n *node) error { return apis.add(n) })
	var mut mutatorStage
	addService(run, "mutator", "rules turn servers into claims", mut.declare, mut.add)
	var upd updateStage
	addService(run, "update", "zone files of a directory are sources of claims", upd.declare, upd.add)
	pre := presenterStage{policy: &policyOptions{}}
	addService(run, "presenter", "reconciles claims into versions", withPolicy(pre.policy, pre.declare), pre.add)
	var can canaryStage
	addService(run, "canary", "judges what rings of hosts try before all hosts have it", can.declare, can.add)
	var pub publisherStage
	addService(run, "publisher", "signs versions, offers snapshots (needs --http)", pub.declare, pub.add)
	var agt agentStage
	addService(run, "agent", "on a host: keeps the verified journal", agt.declare, agt.add)
	var ann announcerStage
	addService(run, "announcer", "on a host: announces service addresses by BGP while they can be answered", ann.declare, ann.add)
	var mon monitorStage
	addService(run, "monitor", "asks every host how fresh it is", mon.declare, mon.add)
	var mpr mapperStage
	addService(run, "mapper", "computes from round-trip times and capacities which PoP serves whom", mpr.declare, mpr.add)
	var prx proxyStage
	addService(run, "proxy", "serves configurations to a machine's programs, and the store to a site's agents; goes on when the store is dead", prx.declare, prx.add)
	var aut authorityStage
	addOffline(run, "authority", "on a host: answers DNS from the journal, with nothing else alive", aut.declare, func(n *node) error { return aut.add(n, "") }, func() bool { return aut.HandOver != "" })
	addHost(run)
	var rec recursorStage
	addOffline(run, "recursor", "on a host: drives Unbound, whose cache follows the dataset", rec.declare, rec.add)
	var bea beaconStage
	addOffline(run, "beacon", "measures how far users are from each PoP", bea.declare, bea.add)
	var tin tinydnsStage
	addOffline(run, "tinydns", "on a host: answers by tinydns, in the authority's place", tin.declare, tin.add)
	return run
}

// withPolicy declares the policy beside a stage that decides by it.
func withPolicy(p *policyOptions, declareStage func(*cobra.Command)) func(*cobra.Command) {
	return func(cmd *cobra.Command) {
		declareStage(cmd)
		declare(cmd, "policy", p)
	}
}

// atSites are the services that do with what the proxy of a site serves: they lead nothing.
var atSites = []string{"agent", "monitor", "proxy"}

// addService makes `run name` of a stage that works on the store.
func addService(run *cobra.Command, name, short string, declareStage func(*cobra.Command), add func(*node) error) {
	p := processOptions{LogOptions: defaultLog()}
	so, d := storeOptions{Store: defaultStore}, dirOptions{}
	if name == "agent" {
		so.spread = hostSpread
	}
	cmd := &cobra.Command{Use: name, Short: short, Args: exactArgs()}
	declare(cmd, "", &p)
	declareStore(cmd, &so, &d)
	declareStage(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		if !slices.Contains(atSites, name) {
			if err := so.leads(name); err != nil {
				return misused(cmd, err)
			}
		}
		return runNode(cmd, name, p, func(ctx context.Context, log *slog.Logger) (store.Store, error) {
			return openStore(ctx, so, d.Dir, log)
		}, add)
	}
	run.AddCommand(cmd)
}

// defaultStore is the one that `zonecast run store` is by default.
const defaultStore = "etcd://127.0.0.1:2379"

// runNode runs one stage until the command's context ends; open is nil for a stage
// without a store.
func runNode(cmd *cobra.Command, name string, p processOptions, open func(context.Context, *slog.Logger) (store.Store, error), add func(*node) error) (err error) {
	ctx, end := context.WithCancel(cmd.Context())
	defer end()
	var st store.Store
	n, err := newNode(name, p, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	n.end = end
	if open != nil {
		if st, err = open(ctx, n.log); err != nil {
			return err
		}
		n.closers = append(n.closers, st.Close)
		n.store, n.fetcher = st, nearby(st, n.fetcher, n.log)
	}
	if err := add(n); err != nil {
		return errors.Join(err, n.close())
	}
	return n.run(ctx)
}

// etcdOptions are those of the embedded store.
type etcdOptions struct {
	Dir    string `option:"dir" help:"directory that the store keeps everything in"`
	Listen string `option:"listen" help:"path of a unix socket, or a loopback address:port"`
}

// Validate implements the kit's check.
func (o *etcdOptions) Validate() error {
	if o.Dir == "" {
		return service.Invalid("dir", "a directory: the store keeps everything there")
	}
	return nil
}

func newRunStore() *cobra.Command {
	p := processOptions{LogOptions: defaultLog()}
	o := etcdOptions{Listen: "127.0.0.1:2379"}
	cmd := &cobra.Command{
		Use: "store", Short: "the embedded etcd of one machine", Args: exactArgs(),
		Long: `store runs an embedded etcd of one member. For more than one machine run an etcd cluster or a ZooKeeper ensemble of your own and give its addresses to --store.`,
	}
	declare(cmd, "", &p)
	declare(cmd, "etcd", &o)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		log, err := p.Logger(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		return etcd.Serve(cmd.Context(), etcd.ServerConfig{Dir: o.Dir, Listen: o.Listen, Log: log})
	}
	return cmd
}

func newExample() *cobra.Command {
	return &cobra.Command{
		Use: "example", Short: "print a configuration file with every option and its default", Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error { return service.Example(cmd.OutOrStdout(), cmd.Root()) },
	}
}
