package zonecast_test

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

const modulePath = "github.com/zonecast/zonecast"

// arrows is the table of this module (docs/design.md has the reasons). A new package
// needs a row in packages; a new module of others needs one in modules, with the
// packages that may import it and a sentence.
var arrows = table{
	module: modulePath,

	// What a package of each kind may import, besides the standard library. A package
	// may always import those of the same stage (the same first folder, unless that is
	// internal).
	kinds: map[kind]may{
		noun:      {noun, pure},
		pure:      {},
		storeKind: {},
		engine:    {storeKind},
		kit:       {pure},
		rpc:       {},
		mechanism: {noun, pure, mechanism, storeKind},
		stage:     {noun, pure, mechanism, storeKind, kit, rpc},
		command:   {noun, pure, mechanism, storeKind, engine, kit, rpc, stage},
		support:   {noun, pure, mechanism, storeKind, rpc},
		scenario:  {noun, pure, mechanism, storeKind, engine, kit, rpc, command, support},
		root:      {},
	},

	packages: map[string]kind{
		".": root,

		"record":                   noun,
		"geo":                      noun,
		"rtt":                      noun,
		"geo/formats":              mechanism,
		"geo/formats/formatstest":  support,
		"geo/mmdb":                 noun,
		"geo/mmdb/mmdbtest":        support,
		"geo/ortc":                 noun,
		"geo/picture":              noun, // pure
		"fleet":                    noun,
		"rules":                    noun, // pure, as reconcile is: what the mutator runs
		"reconcile":                noun,
		"guard":                    noun, // pure: the presenter asks it
		"snapshot":                 noun,
		"snapshot/journal":         noun,
		"snapshot/journal/faultfs": support,

		"store":           storeKind,
		"store/etcd":      engine,
		"store/fold":      storeKind,
		"store/candidate": storeKind,
		"store/wire":      storeKind,
		"store/proxied":   storeKind, // a client of our own protocol
		"store/zookeeper": engine,
		"store/storetest": support,

		"store/zookeeper/zktest": support,

		"service":        kit,
		"service/landed": kit,

		"api":             rpc,
		"api/answer":      rpc,
		"api/controlapi":  rpc,
		"api/configapi":   rpc,
		"api/registryapi": rpc,

		"internal/addrbits":          pure,
		"internal/atomicfile":        pure,
		"internal/sandbox":           pure,
		"internal/daemon":            mechanism,
		"internal/serving":           mechanism,
		"internal/dnswire":           mechanism,
		"rules/script":               mechanism,
		"internal/tree":              mechanism,
		"internal/claimtree":         mechanism,
		"internal/mapclaims":         mechanism,
		"internal/datasets":          mechanism,
		"internal/configtree":        mechanism,
		"internal/follow":            mechanism,
		"internal/history":           mechanism,
		"internal/trust":             mechanism,
		"internal/refused":           mechanism,
		"internal/plan":              mechanism,
		"internal/storecopy":         mechanism,
		"internal/operator":          pure,
		"internal/direct":            mechanism,
		"internal/replay":            mechanism,
		"internal/zonefile":          mechanism,
		"internal/zoneload":          mechanism,
		"internal/tinydns":           mechanism,
		"internal/tinydns/tinytest":  support,
		"internal/freshness":         mechanism,
		"internal/steering":          mechanism,
		"internal/lead":              mechanism,
		"internal/trial":             mechanism,
		"internal/dnsload":           mechanism,
		"internal/difftest/hardzone": support,
		"internal/difftest":          support,
		"internal/e2e":               command,  // tests only: looks at the store from outside
		"internal/usertest":          scenario, // outside users in namespaces
		"internal/hosttest":          command,  // tests only: the servers of one host together
		"internal/viptest":           scenario, // announcers and routers in namespaces
		"internal/fleettest":         command,  // tests only: publishers and agents together
		"internal/modeltest":         command,  // tests only: presenters and control against a model
		"internal/bubbletest":        support,
		"internal/memstore":          support,
		"internal/nettest":           pure, // tests only: namespaces and shaped lines
		"internal/simstore":          support,
		"internal/ports":             pure,

		"registry":             stage,
		"mutator":              stage,
		"update":               stage,
		"presenter":            stage,
		"publisher":            stage,
		"agent":                stage,
		"swarm":                stage,
		"authority":            stage,
		"authority/cookie":     stage,
		"authority/ratelimit":  stage,
		"authority/tap":        stage,
		"authority/heavy":      stage,
		"authority/sample":     stage,
		"authority/standin":    stage, // the command gives it to control
		"authority/compliance": support,
		"authority/data":       stage,
		"authority/image":      stage,
		"authority/protocol":   stage,

		"authority/image/imagetest": stage, // tests only

		"authority/wire": stage,
		"recursor":       stage,
		"tinydns":        stage,

		"announcer":          stage,
		"announcer/bgp":      stage,
		"announcer/check":    stage,
		"announcer/exabgp":   stage,
		"announcer/floor":    stage,
		"announcer/loopback": stage,
		"announcer/route":    stage,
		"announcer/state":    stage, // pure

		"host":        stage,
		"host/doctor": stage,

		"mapper/assign": stage, // pure, as are the next three
		"mapper/table":  stage,
		"mapper/fill":   stage,
		"mapper/plan":   stage,
		"mapper/places": stage,
		"mapper/pins":   stage,

		"mapper":          stage,
		"mapper/measured": stage,

		"monitor": stage,
		"control": stage,
		"canary":  stage,
		"beacon":  stage,

		"beacon/token":  stage,
		"beacon/dnslog": stage,

		"beacon/dnslog/dnslogtest": stage, // tests only

		"beacon/join": stage, // pure

		"proxy":      stage,
		"proxy/site": stage,

		"configurator/idl":      stage,
		"configurator/star":     stage,
		"configurator/builtin":  stage,
		"configurator/compile":  stage,
		"configurator/fromzone": stage,

		"configurator":        stage,
		"configurator/repo":   stage,
		"configurator/review": stage,
		"configurator/front":  stage,

		"cmd/zonecast": command,
	},

	modules: []module{
		{"github.com/miekg/dns", []string{"internal/dnswire"}, "zone text, and the wire format where speed does not matter; one package, so that it can be replaced"},
		{"github.com/klauspost/compress", []string{"record", "snapshot"}, "zstd: claim shards, deltas and snapshots are bulk"},
		{"github.com/oschwald/maxminddb-golang", []string{"geo/mmdb"}, "databases of places and of autonomous systems as people have them; one package"},
		{"github.com/zeebo/xxh3", []string{"internal/claimtree", "authority/image", "authority/protocol", "geo", "rtt", "mapper"}, "checksums and even distribution; nothing that must resist an attacker"},
		{"github.com/DataDog/sketches-go", []string{"rtt"}, "DDSketch: the mapping of its bins, and its word in tests"},
		{"github.com/dchest/siphash", []string{"authority/cookie", "authority/ratelimit"}, "hashes that clients must not foresee"},
		{"github.com/dnstap/golang-dnstap", []string{"authority/tap", "beacon/dnslog", "beacon/dnslog/dnslogtest"}, "the messages of dnstap"},
		{"github.com/farsightsec/golang-framestream", []string{"authority/tap", "beacon/dnslog", "beacon/dnslog/dnslogtest"}, "the frames that they go in"},
		{"google.golang.org/protobuf", []string{"authority/tap", "beacon/dnslog", "beacon/dnslog/dnslogtest"}, "encodes them"},
		{"github.com/osrg/gobgp", []string{"announcer/bgp"}, "BGP; one package, as its interface changes from release to release"},
		{"github.com/vishvananda/netlink", []string{"announcer/loopback"}, "addresses of the loopback device"},
		{"go.starlark.net", []string{"configurator/star", "configurator/builtin", "configurator/compile", "configurator/fromzone", "rules/script"}, "Starlark, the language of configuration and rules: deterministic, without input and output"},
		{"github.com/apache/thrift", []string{"api", "cmd/zonecast"}, "the RPC of registry and control"},
		{"go.etcd.io/etcd", []string{"store/etcd"}, "the default store"},
		{"github.com/go-zookeeper/zk", []string{"store/zookeeper"}, "the store on ZooKeeper"},
		{"go.uber.org/zap", []string{"store/etcd"}, "etcd logs by it"},
		{"google.golang.org/grpc", []string{"store/etcd"}, "etcd's client takes its options and gives its errors"},
		{"github.com/prometheus/client_golang", []string{"service", "every stage", "cmd/zonecast"}, "metrics"},
		{"github.com/spf13/cobra", []string{"service", "cmd/zonecast"}, "commands, help and completion"},
		{"github.com/spf13/pflag", []string{"service"}, "cobra's flags: an option is the Value of its flag"},
		{"github.com/BurntSushi/toml", []string{"service"}, "the configuration file"},
		{"github.com/fsnotify/fsnotify", []string{"registry", "update", "agent", "snapshot/journal"}, "files that people and agents change"},
		{"github.com/anacrolix/torrent", []string{"swarm"}, "BitTorrent; one package, so that a client of our own could take its place"},
		{"golang.org/x/time", []string{"swarm", "agent"}, "limiters: those that the swarm's library takes, and of log lines"},
		{"golang.org/x/sys", []string{"store/etcd", "authority/wire", "internal/dnsload", "internal/sandbox", "internal/nettest", "snapshot/journal", "configurator/repo"}, "system calls that syscall has not"},
		{"golang.org/x/net", []string{"service"}, "netutil: a bound on connections"},
		{"golang.org/x/sync", []string{"api", "internal/replay", "every stage"}, "errgroup, semaphore: goroutines with an owner, and bounds"},
		{"golang.org/x/term", []string{"service", "cmd/zonecast"}, "is it a terminal?"},
	},

	// Modules that tests may use everywhere.
	testModules: []string{
		"github.com/google/go-cmp",
		"pgregory.net/rapid",
		"go.uber.org/goleak",
		"github.com/rogpeppe/go-internal",
		"github.com/gaissmai/bart", // look-ups are measured beside its
		"github.com/miekg/dns",     // the second opinion on what is on the wire
		"github.com/prometheus/client_golang",
		"github.com/prometheus/client_model",
		"golang.org/x/sync",
		"golang.org/x/sys",
		"github.com/maxmind/mmdbwriter", // makes databases to read
		"gonum.org/v1/gonum",            // the simplex: a second opinion on what is optimal
	},
}

// TestArrows holds the whole module against the table and the house's rules.
func TestArrows(t *testing.T) {
	found, err := arrows.check(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range found {
		t.Error(v)
	}
}

// TestArrowsFindsViolations runs the same checker over a small tree that does
// everything that is forbidden, once each, and beside it things that are allowed.
func TestArrowsFindsViolations(t *testing.T) {
	ar, err := txtar.ParseFile("testdata/arrows.txtar")
	if err != nil {
		t.Fatal(err)
	}
	tree := fstest.MapFS{}
	var want []string
	for _, f := range ar.Files {
		if f.Name == "want" {
			want = strings.Split(strings.TrimSpace(string(f.Data)), "\n")
			continue
		}
		tree[f.Name] = &fstest.MapFile{Data: f.Data}
	}
	small := table{
		module: "example.net/m",
		kinds: map[kind]may{
			noun: {noun}, stage: {noun, mechanism, kit}, mechanism: {noun}, kit: {}, command: {noun, stage, kit}, support: {noun},
		},
		packages: map[string]kind{
			"record": noun, "geo": noun, "observer": stage, "observer/part": stage, "server": stage,
			"internal/wire": mechanism, "internal/fake": support, "cmd/m": command, "gone": noun, "kit": kit,
		},
		modules: []module{
			{"example.org/dns", []string{"internal/wire"}, "the wire format"},
			{"example.org/metrics", []string{"every stage"}, "metrics"},
			{"example.org/unused", []string{"kit"}, "nobody needs it any more"},
			{"example.org/silent", []string{"kit"}, ""},
		},
		testModules: []string{"example.org/compare"},
	}
	got, err := small.check(tree)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}
}
