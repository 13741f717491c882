package tree

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// Prefixes to watch.
const (
	Servers  = "/servers/"
	Leases   = "/leases/"
	Claims   = "/claims/"
	Sources  = "/sources/"
	Failures = "/failures/"
	Datasets = "/datasets/"
	Hosts    = "/hosts/"
	Groups   = "/groups/" // of hosts, followed by the group's name
	Services = "/services/"

	Overrides = "/overrides/"
	Audit     = "/audit/"
	Pins      = "/pins/"
	Admitted  = "/admitted/"
	Holds     = "/holds/"
	Freezes   = "/freezes/"
	Expects   = "/expects/"
	Expected  = "/expected/"
	Guards    = "/guards/" // followed by <dataset>

	// Trials has what is tried by rings, and how far it is; Rings the policy. They are followed by
	// <dataset>/ and <dataset>.
	Trials = "/trials/"
	Rings  = "/rings/"

	Statements = "/statements/"
	Directs    = "/direct/"
	Samples    = "/samples/" // followed by <dataset>/<host>

	// Revocations has a line of text by which a key revokes itself, by the key's id
	// (docs/format/revocation.md); Trust what keys hosts believe.
	Revocations = "/revocations/"
	Trusts      = "/trust/" // followed by <dataset>/<host>

	// Swarm is where peers of the swarm say where they are, Torrents the metainfo of snapshots.
	Swarm    = "/swarm/"
	Torrents = "/torrents/"

	// VIPs has what hosts do with service addresses, VIPOrders what people want them to do. They are
	// followed by <vip>/.
	VIPs      = "/vips/"
	VIPOrders = "/viporders/"

	Config = "/config/"
	// ConfigMarks has a node for every large value whose parts may belong to no configuration.
	ConfigMarks = "/configmarks/"
)

// Elections.
const (
	ElectPresenter = "/elect/presenter" // followed by /<dataset>
	ElectPublisher = "/elect/publisher" // followed by /<dataset>
	ElectCanary    = "/elect/canary"    // followed by /<dataset>
	ElectMapper    = "/elect/mapper"    // followed by /<map>
	ElectMutator   = "/elect/mutator"
	// ElectConfigurator is of whoever has the configuration repository open.
	ElectConfigurator = "/elect/configurator"
	ElectRegistry     = "/elect/registry" // who lets leases run out
	ElectFleetFile    = "/elect/fleetfile"
	ElectZoneFiles    = "/elect/zonefiles"
)

// MutatorProgress is the path of Progress.
const MutatorProgress = "/progress/mutator"

// ServerPath is the path of a server's node. cluster and name are as in fleet.Server.
func ServerPath(cluster, name string) string { return Servers + cluster + "/" + name }

// LeasePath is the path of a server's lease.
func LeasePath(name string) string { return Leases + name }

// NameIndexPath is the path that says where the server called name is.
func NameIndexPath(name string) string { return "/index/name/" + name }

// NameGuards is the prefix of what NameGuardPath makes.
const NameGuards = "/index/gone/"

// NameGuardPath is the path of the node that is written whenever a server goes whose name is of its
// share, one of 256: a registration that was under way when that happened, of a server that was not
// there, does not hold.
func NameGuardPath(name string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return fmt.Sprintf("%s%02x", NameGuards, byte(h.Sum32()))
}

// AddressIndex is the prefix of what AddressIndexPath makes.
const AddressIndex = "/index/address/"

// AddressIndexPath is the path that says who owns an address.
func AddressIndexPath(address string) string { return AddressIndex + address }

// ClaimsPrefix is the prefix of a source's shards, with a final slash.
func ClaimsPrefix(s record.Source) string { return Claims + string(s) + "/" }

// ClaimsGate is the node of Gate. It is below Claims, so that one watch has it in its order
// among the claims.
const ClaimsGate = Claims + "@gate"

// Gate is the number of the newest replacement of several sources at once that is live
// (claimtree.Joint).
type Gate struct {
	Number uint64 `json:"number"`
}

// SplitClaim takes a path below Claims apart.
func SplitClaim(path string) (s record.Source, shard string, ok bool) {
	rest, ok := strings.CutPrefix(path, Claims)
	i := strings.LastIndexByte(rest, '/')
	if !ok || i <= 0 {
		return "", "", false
	}
	return record.Source(rest[:i]), rest[i+1:], true
}

// SourcePath is the path of a source's Source node.
func SourcePath(s record.Source) string { return Sources + string(s) }

// FailuresPrefix is the prefix of where a rule fails, with a final slash.
func FailuresPrefix(s record.Source) string { return Failures + string(s) + "/" }

// FailurePath is the path of a Failure: of a shard, or, when shard is "", of the server of
// which it is not known which shards it is in.
func FailurePath(s record.Source, shard, server string) string {
	if shard == "" {
		shard = "@groups." + server
	}
	return FailuresPrefix(s) + shard
}

// HoldPath and FreezePath are the paths of a Hold and a Freeze.
func HoldPath(id string) string   { return Holds + id }
func FreezePath(id string) string { return Freezes + id }

// GuardsPath is where the presenter of a dataset says by what bounds its guards judge
// (guard.Bounds.Encode).
func GuardsPath(dataset string) string { return Guards + dataset }

// GroupPath is the path of a Group.
func GroupPath(name string) string { return Groups + name }

// Group says which datasets some hosts carry. A host that is of several carries those of all;
// one of none carries what its options say. Who owns it changes it: people by command, or a
// configuration.
type Group struct {
	Datasets []string `json:"datasets"`
	Hosts    []string `json:"hosts"` // selectors, as those of rings
	Set      int64    `json:"set_ms"`
	Author   string   `json:"author,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	From     string   `json:"from,omitempty"` // process, or commit
	// Config is the path of the configuration that owns it; empty: it was set by command.
	Config string `json:"config,omitempty"`
}

// RingsPath is where the presenter of a dataset says by what policy it tries changes
// (trial.Policy, JSON).
func RingsPath(dataset string) string { return Rings + dataset }

// SamplePath is the path of a host's Sample.
func SamplePath(dataset, host string) string { return Samples + dataset + "/" + host }

// RevocationPath is the path of the line by which a key revokes itself.
func RevocationPath(id string) string { return Revocations + id }

// DirectPath is the path of a Direct.
func DirectPath(id string) string { return Directs + id }

// StatementPath is the path of a Statement.
func StatementPath(id string) string { return Statements + id }

// ExpectPath is the path of an Expect, ExpectedPath that of what is left of it.
func ExpectPath(id string) string { return Expects + id }

// ExpectedPath: see ExpectPath.
func ExpectedPath(id string) string { return Expected + id }

// OverridePath is the path of an override; OverrideSource is the source of its claim.
func OverridePath(id string) string { return Overrides + id }

func OverrideSource(id string) record.Source { return record.Source(record.KindOverride + "/" + id) }

// PinPath is the path of a dataset's Pin.
func PinPath(dataset string) string { return Pins + dataset }

// AuditPath is the path of an entry: those of one millisecond are told apart by id.
// Paths sort as their times do.
func AuditPath(timeMs int64, id string) string { return fmt.Sprintf("%s%020d-%s", Audit, timeMs, id) }

// ServicePath is the path of a process's node.
func ServicePath(name, id string) string { return Services + name + "/" + id }

// Progress says how far the mutator has come: everything in /servers up to
// revision Servers is in the claims, and the last commit that changed claims was
// at or before revision Claims.
type Progress struct {
	Servers store.Revision `json:"servers"`
	// Claims is 0 when the claims changed in this very commit: then the node's
	// own Modified is the revision.
	Claims store.Revision `json:"claims"`
}

// Direct is an override that an operator handed to hosts without the store. Its id is that
// of the operator's statement.
type Direct struct {
	ID       string   `json:"id"`
	Owner    string   `json:"owner"`
	Type     string   `json:"type"`
	TTL      uint32   `json:"ttl"`
	Rdata    []string `json:"rdata"` // presentation form
	Whole    bool     `json:"whole_name,omitempty"`
	Set      int64    `json:"set_ms"`
	Until    int64    `json:"until_ms"`
	Operator string   `json:"operator"`
	Reason   string   `json:"reason"`
	Signed   []byte   `json:"signed"`
	// Cleared says who took it away before its time, and why; empty: nobody.
	Cleared string `json:"cleared,omitempty"`
	// Outcome is what became of it when the store was back: empty until then, "taken",
	// "ended" or "dropped", and why.
	Outcome string `json:"outcome,omitempty"`
	Why     string `json:"why,omitempty"`
}

// Source is the state of one source of claims as its stage last saw it.
type Source struct {
	Source   record.Source `json:"source"`
	Where    string        `json:"where"`              // file, key, rule
	Revision string        `json:"revision,omitempty"` // of what is in the claims now
	Records  int           `json:"records"`
	Time     int64         `json:"time_ms"`
	// Error is why the newest state of the source is not in the claims (the last
	// good one is); empty when all is well. It starts with file:line:column when
	// there is one.
	Error string `json:"error,omitempty"`
	// Since is when Error began to be not empty, unix milliseconds; 0: it is empty, or
	// that is not known.
	Since int64 `json:"since_ms,omitempty"`
	// Failing is for how many servers, clusters and groups a rule fails, whose last good
	// claims stay; 0 when it is the rule itself that Error is about.
	Failing int `json:"failing,omitempty"`
}

// Failure is where a rule fails: what it claimed for that before stays.
type Failure struct {
	Shard string `json:"shard,omitempty"` // empty: it is not known which shards Server is in
	// Server is the server that it is about; empty: a cluster, a group or the fleet.
	Server string `json:"server,omitempty"`
	Error  string `json:"error"`    // file:line:column, what it was called for, and what is wrong
	Since  int64  `json:"since_ms"` // when it began to fail there, unix milliseconds
}

// Service says where a process listens.
type Service struct {
	Name string `json:"name"`
	API  string `json:"api,omitempty"`
	HTTP string `json:"http,omitempty"`
}

// Lease says until when a registration holds.
type Lease struct {
	Expires int64 `json:"expires_ms"` // unix milliseconds
	TTL     int64 `json:"ttl_ms"`     // what a renewal adds to the time of renewal
}

// Statement is an act that an operator signed and that was done: it is not done again.
type Statement struct {
	Time int64 `json:"time_ms"` // when it was signed
}

// Outcomes of a Direct.
const (
	DirectTaken   = "taken"   // it is an override in the store now
	DirectEnded   = "ended"   // its time was over, or it was cleared
	DirectDropped = "dropped" // for the reason that is said
)

// DirectReply is what a host says to an operator.
type DirectReply struct {
	Host      string        `json:"host"`
	ID        string        `json:"id,omitempty"`
	Answered  bool          `json:"answered"` // what was asked is what the host answers
	Text      string        `json:"text,omitempty"`
	Error     string        `json:"error,omitempty"`
	Overrides []DirectState `json:"overrides"`
}

// Override is an RRset that a person puts above everything for a time.
type Override struct {
	ID    string   `json:"id"`
	Owner string   `json:"owner"`
	Type  string   `json:"type"`
	TTL   uint32   `json:"ttl"`
	Rdata []string `json:"rdata"` // presentation form
	Set   int64    `json:"set_ms"`
	Until int64    `json:"until_ms"` // when it ends by itself
	// Author and Reason are what the person said; From is where the call came from.
	Author string `json:"author"`
	Reason string `json:"reason"`
	From   string `json:"from"`
}

// Hold is a source's change that waits for a person. Its id is a hash of the source and
// of all that it claims then: the same change is the same hold.
type Hold struct {
	ID      string        `json:"id"`
	Dataset string        `json:"dataset"`
	Source  record.Source `json:"source"`
	Since   int64         `json:"since_ms"`
	// Why are sentences: what the change would do, and which bound it exceeds.
	Why      []string `json:"why"`
	Created  int      `json:"created"` // RRsets
	Replaced int      `json:"replaced"`
	Removed  int      `json:"removed"`
	// Decision is what a person said: empty, "release" or "drop".
	Decision string `json:"decision,omitempty"`
	Author   string `json:"author,omitempty"`
	// Ring is the one in which it was withdrawn, when it was tried; Why has the evidence then.
	Ring string `json:"ring,omitempty"`
}

// Freeze stops the changes of sources until a person thaws it.
type Freeze struct {
	ID string `json:"id"`
	// Source is one source, or a kind with "/*" behind it; empty means every source but
	// overrides.
	Source string `json:"source,omitempty"`
	Since  int64  `json:"since_ms"`
	Author string `json:"author"`
	Reason string `json:"reason"`
	From   string `json:"from"`
}

// Expect is a mass change that a person announced: guards do not count it.
type Expect struct {
	ID      string        `json:"id"`
	Dataset string        `json:"dataset"`
	Zone    string        `json:"zone,omitempty"`   // empty: every zone
	Source  record.Source `json:"source,omitempty"` // empty: every source
	Left                  // as announced
	Set     int64         `json:"set_ms"`
	Until   int64         `json:"until_ms"`
	Author  string        `json:"author"`
	Reason  string        `json:"reason"`
	From    string        `json:"from"`
}

// Left is how many RRsets may still come of what was announced.
type Left struct {
	Removals     int `json:"removals"`
	Replacements int `json:"replacements"`
	Creations    int `json:"creations"`
}

// Pin holds a dataset at the content of an earlier version until a person lets it go.
type Pin struct {
	Version uint64 `json:"version"`
	Set     int64  `json:"set_ms"`
	Author  string `json:"author"`
	Reason  string `json:"reason"`
	From    string `json:"from"`
}

// AuditEntry is one thing that a person did, or that followed from it. It is never
// changed.
type AuditEntry struct {
	Time    int64  `json:"time_ms"`
	Action  string `json:"action"`  // what was done: "override set"
	Subject string `json:"subject"` // to what: an id, a source, a version
	Text    string `json:"text"`    // what it did, in words
	Author  string `json:"author"`
	Reason  string `json:"reason"`
	From    string `json:"from"` // address of the caller, or the process that did it
	// Signed is the id of the operator's statement, when it was one.
	Signed string `json:"signed,omitempty"`
}

// AuditOps notes an entry in the transaction of what it tells of.
func AuditOps(e AuditEntry) (store.Cond, store.Op) {
	var b [4]byte
	rand.Read(b[:]) // does not fail
	path := AuditPath(e.Time, hex.EncodeToString(b[:]))
	return store.Cond{Path: path}, store.Op{Path: path, Value: Encode(e)}
}

// bucketOf spreads names over n nodes.
func bucketOf(name string, n uint32) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // does not fail
	return int(h.Sum32() % n)
}

// Encode gives a small node's value.
func Encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types: cannot fail
	}
	return b
}

// Decode reads a small node's value into v.
func Decode(n store.Node, v any) error {
	if err := json.Unmarshal(n.Value, v); err != nil {
		return fmt.Errorf("node %s: %w", n.Path, err)
	}
	return nil
}
