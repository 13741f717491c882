package tree

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
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

// ConfigHeadPath is the path of the ConfigHead. Names that start with "@" belong to
// the tree itself; no configuration has one.
const ConfigHeadPath = Config + "@head"

// ConfigStagedPrefix is the prefix of what of a large landing is not copied yet.
const ConfigStagedPrefix = Config + "@staged/"

// ConfigPath is the path of a configuration.
func ConfigPath(path string) string { return Config + path }

// ConfigStagedPath is the path of a chunk of the landing called version.
func ConfigStagedPath(version uint64, n int) string {
	return fmt.Sprintf("%s%020d/%06d", ConfigStagedPrefix, version, n)
}

// ConfigPartPath is the path of a part of the value with this SHA-256. Parts are not
// below Config: who follows configurations is not sent values, but gets those it needs.
func ConfigPartPath(sha256 string, n int) string {
	return fmt.Sprintf("/configparts/%s/%06d", sha256, n)
}

// ConfigMarkPath is the path of the ConfigMark of a value.
func ConfigMarkPath(sha256 string) string { return ConfigMarks + sha256 }

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

// SwarmSitePrefix is the prefix of a site's peers, with a final slash; SwarmSites that of all
// sites.
func SwarmSitePrefix(dataset, site string) string { return SwarmSites(dataset) + site + "/" }

// SwarmSites: see SwarmSitePrefix.
func SwarmSites(dataset string) string { return Swarm + dataset + "/sites/" }

// SwarmSeeds is the prefix of the publishers among the peers, with a final slash.
func SwarmSeeds(dataset string) string { return Swarm + dataset + "/seeds/" }

// SwarmBuckets is how many parts the peers of all sites are spread over, evenly: who looks for
// some of them reads one part.
const SwarmBuckets = 64

// SwarmBucketPrefix is the prefix of one of these parts, with a final slash.
func SwarmBucketPrefix(dataset string, bucket int) string {
	return fmt.Sprintf("%s%s/any/%02d/", Swarm, dataset, bucket)
}

// SwarmBucket is the part that a peer is in.
func SwarmBucket(name string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // does not fail
	return int(h.Sum32() % SwarmBuckets)
}

// TorrentPrefix is the prefix of the parts of a snapshot's metainfo, with a final slash: in their
// order, and joined, they are a BEP 3 file.
func TorrentPrefix(dataset, id string) string { return Torrents + dataset + "/" + id + "/" }

// TorrentPath is the path of a part.
func TorrentPath(dataset, id string, n int) string {
	return fmt.Sprintf("%s%06d", TorrentPrefix(dataset, id), n)
}

// MaxTorrent bounds a metainfo, in octets: with a manifest it goes into one transaction.
const MaxTorrent = 10 * store.MaxValue

// TorrentOps puts a metainfo. The values alias it.
func TorrentOps(dataset, id string, metainfo []byte) (ops []store.Op) {
	for part := range slices.Chunk(metainfo, store.MaxValue) {
		ops = append(ops, store.Op{Path: TorrentPath(dataset, id, len(ops)), Value: part})
	}
	return ops
}

// MutatorProgress is the path of Progress.
const MutatorProgress = "/progress/mutator"

// ServerPath is the path of a server's node. cluster and name are as in fleet.Server.
func ServerPath(cluster, name string) string { return Servers + cluster + "/" + name }

// LeasePath is the path of a server's lease.
func LeasePath(name string) string { return Leases + name }

// NameIndexPath is the path that says where the server called name is.
func NameIndexPath(name string) string { return "/index/name/" + name }

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

// DatasetPrefix is the prefix of everything of one dataset, with a final slash.
func DatasetPrefix(dataset string) string { return Datasets + dataset + "/" }

// OutPrefix is the prefix of what hosts follow of a dataset: of the rest a new version brings
// them nothing.
func OutPrefix(dataset string) string { return DatasetPrefix(dataset) + "out/" }

// HeadPath, ManifestPath, FilesPath and LogPrefix are the parts of a dataset.
func HeadPath(dataset string) string     { return DatasetPrefix(dataset) + "head" }
func ManifestPath(dataset string) string { return OutPrefix(dataset) + "manifest" }
func FilesPath(dataset string) string    { return OutPrefix(dataset) + "files" }
func LogPrefix(dataset string) string    { return OutPrefix(dataset) + "log/" }

// LogPath is the path of the delta that made version; the number is written with 20
// digits so that paths sort as numbers do.
func LogPath(dataset string, version uint64) string {
	return fmt.Sprintf("%s%020d", LogPrefix(dataset), version)
}

// AllPartsPrefix is the prefix of the parts of all large deltas of a dataset. It is
// not below DatasetPrefix: who watches a dataset is not sent parts, but gets those
// it needs.
func AllPartsPrefix(dataset string) string { return "/parts/" + dataset + "/" }

// PartsPrefix is the prefix of the parts of a large delta.
func PartsPrefix(dataset string, version uint64) string {
	return fmt.Sprintf("%s%020d/", AllPartsPrefix(dataset), version)
}

// PartPath is the path of one part.
func PartPath(dataset string, version uint64, n int) string {
	return fmt.Sprintf("%s%06d", PartsPrefix(dataset, version), n)
}

// LogVersion reads the version out of a path made by LogPath.
func LogVersion(dataset, path string) (uint64, bool) {
	rest, ok := strings.CutPrefix(path, LogPrefix(dataset))
	if !ok {
		return 0, false
	}
	v, err := strconv.ParseUint(rest, 10, 64)
	return v, err == nil
}

// AdmittedPath is the path of what of a shard of claims is in force, of one dataset.
func AdmittedPath(dataset string, s record.Source, shard string) string {
	return AdmittedPrefix(dataset) + string(s) + "/" + shard
}

// AdmittedPrefix is the prefix of what AdmittedPath makes.
func AdmittedPrefix(dataset string) string { return Admitted + dataset + "/" }

// SplitAdmitted takes a path made by AdmittedPath apart.
func SplitAdmitted(dataset, path string) (s record.Source, shard string, ok bool) {
	rest, ok := strings.CutPrefix(path, AdmittedPrefix(dataset))
	i := strings.LastIndexByte(rest, '/')
	if !ok || i <= 0 {
		return "", "", false
	}
	return record.Source(rest[:i]), rest[i+1:], true
}

// AdmittingPrefix is the prefix of what is to take its place below Admitted and Holds.
func AdmittingPrefix(dataset string) string { return "/admitting/" + dataset + "/" }

// AdmittingPath is the path of Admitting.
func AdmittingPath(dataset string) string { return AdmittingPrefix(dataset) + "@whole" }

// staged is what may lie staged: below which prefix it belongs, and what it is called there.
func staged(dataset string) [4][2]string {
	return [...][2]string{{AdmittedPrefix(dataset), "claims/"}, {Holds, "holds/"}, {Expected, "expected/"}, {Audit, "audit/"}}
}

// StagedPath is where what belongs at a path below Admitted, Holds, Expected or Audit lies
// before.
func StagedPath(dataset, path string) string {
	for _, k := range staged(dataset) {
		if rest, ok := strings.CutPrefix(path, k[0]); ok {
			return AdmittingPrefix(dataset) + k[1] + rest
		}
	}
	panic("tree: nothing is staged of " + path) // our own paths only
}

// UnstagedPath is the path that StagedPath was given.
func UnstagedPath(dataset, path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, AdmittingPrefix(dataset))
	if !ok {
		return "", false
	}
	for _, k := range staged(dataset) {
		if name, is := strings.CutPrefix(rest, k[1]); is {
			return k[0] + name, true
		}
	}
	return "", false
}

// HoldPath and FreezePath are the paths of a Hold and a Freeze.
func HoldPath(id string) string   { return Holds + id }
func FreezePath(id string) string { return Freezes + id }

// GuardsPath is where the presenter of a dataset says by what bounds its guards judge
// (guard.Bounds.Encode).
func GuardsPath(dataset string) string { return Guards + dataset }

// TrialPath is the path of the change that is tried (trial.Trial): one at a time. JudgementPath is
// how far it is (trial.Judgement), WordPath what a person said of it (trial.Word).
func TrialPath(dataset string) string     { return Trials + dataset + "/trial" }
func JudgementPath(dataset string) string { return Trials + dataset + "/judgement" }
func WordPath(dataset string) string      { return Trials + dataset + "/word" }

// AnsweredPrefix is the prefix of which hosts have answered a trial (trial.Answered), spread over
// AnsweredBuckets nodes.
func AnsweredPrefix(dataset string) string { return Trials + dataset + "/answered/" }

// AnsweredBuckets is how many nodes say who answered: of 10,000 hosts with names of 40 octets each
// has 7 KiB, of 64 that it may have.
const AnsweredBuckets = 64

// AnsweredPath is one of them.
func AnsweredPath(dataset string, bucket int) string {
	return fmt.Sprintf("%s%02d", AnsweredPrefix(dataset), bucket)
}

// AnsweredBucket is the one that a host is in.
func AnsweredBucket(host string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(host)) // does not fail
	return int(h.Sum32() % AnsweredBuckets)
}

// TrialPartsPrefix is the prefix of the parts of a composition of a trial, with a final slash;
// AllTrialParts that of all of a dataset. They are not below Trials: who watches gets those it
// needs.
func TrialPartsPrefix(dataset string, number uint64) string {
	return fmt.Sprintf("%s%020d/", AllTrialParts(dataset), number)
}

// AllTrialParts: see TrialPartsPrefix.
func AllTrialParts(dataset string) string { return "/trialparts/" + dataset + "/" }

// TrialPartPath is the path of a part.
func TrialPartPath(dataset string, number uint64, n int) string {
	return fmt.Sprintf("%s%06d", TrialPartsPrefix(dataset, number), n)
}

// OffersPrefix is the prefix of what hosts are offered to put on top, with a final slash: of what
// they follow anyway. OfferPath is the path of the signed offer of a trial.
func OffersPrefix(dataset string) string { return DatasetPrefix(dataset) + "offers/" }

// OfferPath: see OffersPrefix.
func OfferPath(dataset string) string { return OffersPrefix(dataset) + "trial" }

// GroupPath is the path of a Group.
func GroupPath(name string) string { return Groups + name }

// Group says which datasets some hosts carry. A host that is of several carries those of all;
// one of none carries what its options say.
type Group struct {
	Datasets []string `json:"datasets"`
	Hosts    []string `json:"hosts"` // selectors, as those of rings
	Set      int64    `json:"set_ms"`
	Author   string   `json:"author,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	From     string   `json:"from,omitempty"`
}

// RingsPath is where the presenter of a dataset says by what policy it tries changes
// (trial.Policy, JSON).
func RingsPath(dataset string) string { return Rings + dataset }

// SamplePath is the path of a host's Sample.
func SamplePath(dataset, host string) string { return Samples + dataset + "/" + host }

// RevocationPath is the path of the line by which a key revokes itself.
func RevocationPath(id string) string { return Revocations + id }

// TrustPath is the path of a host's Trust, TrustPrefix the prefix of all of a dataset.
func TrustPath(dataset, host string) string { return TrustPrefix(dataset) + host }

// TrustPrefix: see TrustPath.
func TrustPrefix(dataset string) string { return Trusts + dataset + "/" }

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

// HistoryPrefix is the prefix of a dataset's History nodes, with a final slash.
func HistoryPrefix(dataset string) string { return "/history/" + dataset + "/" }

// HistoryPath is the path of a version's History, UndoPath that of a piece of its undo.
func HistoryPath(dataset string, version uint64) string {
	return fmt.Sprintf("%s%020d", HistoryPrefix(dataset), version)
}

// UndoPath: see HistoryPath.
func UndoPath(dataset string, version uint64, n int) string {
	return fmt.Sprintf("/undo/%s/%020d/%06d", dataset, version, n)
}

// VersionsPrefix is the prefix of a dataset's Versions, with a final slash; VersionsPath is
// the path of those from first on.
func VersionsPrefix(dataset string) string { return "/versions/" + dataset + "/" }

// VersionsPath: see VersionsPrefix.
func VersionsPath(dataset string, first uint64) string {
	return fmt.Sprintf("%s%020d", VersionsPrefix(dataset), first)
}

// AuditPath is the path of an entry: those of one millisecond are told apart by id.
// Paths sort as their times do.
func AuditPath(timeMs int64, id string) string { return fmt.Sprintf("%s%020d-%s", Audit, timeMs, id) }

// HostPath is the path of a host's node.
func HostPath(name string) string { return Hosts + name }

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

// Head is the newest version of a dataset.
type Head struct {
	Version uint64 `json:"version"`
	Digest  string `json:"digest"`  // hex, see snapshot.Digest
	Chain   string `json:"chain"`   // hex, see snapshot.Chain
	Time    int64  `json:"time_ms"` // unix milliseconds when the presenter made it
	// Claims is the store revision up to which the claims are in this version, also
	// when the newest of them changed nothing.
	Claims store.Revision `json:"claims"`
	// Content is the last version that changed more than the freshness record.
	Content uint64 `json:"content"`
	// Pinned is the version at whose content the dataset is held; zero: at none.
	Pinned uint64 `json:"pinned,omitempty"`
	// Gated tells that what is admitted lies in the store; otherwise all claims are.
	Gated bool `json:"gated,omitempty"`
}

// Host says what one DNS host has, verified, and answers.
type Host struct {
	Name     string                 `json:"name"`
	DNS      string                 `json:"dns"`  // address:port it answers on
	HTTP     string                 `json:"http"` // metrics and status; may be empty
	Datasets map[string]HostDataset `json:"datasets"`
	// Carries are the datasets that it is to answer, in order; none: it does not say, as those
	// that can have only one.
	Carries []string `json:"carries,omitempty"`
	// Labels are KEY=VALUE: rings name hosts by them.
	Labels  []string `json:"labels,omitempty"`
	Refused string   `json:"refused,omitempty"` // last thing it refused, and why
	// Alarms is what a person should look at though the host serves: a manifest past its
	// time, clocks that differ, a key that is revoked and still signs what is served.
	Alarms []string `json:"alarms,omitempty"`
}

// Carry tells whether the host is to answer a dataset.
func (h *Host) Carry(dataset string) bool {
	return len(h.Carries) == 0 || slices.Contains(h.Carries, dataset)
}

// Trust says whom a host believes, and by whose word it has what it has. It is ephemeral.
type Trust struct {
	Host     string       `json:"host"`
	Believed []string     `json:"believed"` // ids of keys
	Revoked  []RevokedKey `json:"revoked,omitempty"`
	// SignedBy are the ids of the keys that signed what its journal has; none: it has nothing.
	SignedBy []string `json:"signed_by,omitempty"`
}

// RevokedKey is a key that a host knows and does not believe any more.
type RevokedKey struct {
	ID   string `json:"id"`
	Void bool   `json:"void,omitempty"` // what it signed before is void as well
	Why  string `json:"why"`
}

// SwarmPeer is where a host or a publisher gives pieces of snapshots to others.
type SwarmPeer struct {
	Name    string `json:"name"`
	Address string `json:"address"` // address:port, as others reach it
	Site    string `json:"site"`
	// Have are the snapshots that it has, whole or in part, at most SwarmMaxHave.
	Have []SwarmHave `json:"have,omitempty"`
	// Door is the id of the newest snapshot that it fetches, or fetched, from other sites.
	Door string `json:"door,omitempty"`
}

// SwarmMaxHave bounds what one peer says that it has.
const SwarmMaxHave = 8

// SwarmHave is how much a peer has of a snapshot.
type SwarmHave struct {
	ID   string `json:"id"`
	Have int64  `json:"have"` // octets, verified
	Size int64  `json:"size"` // octets of the whole
}

// HostDataset is a host's state of one dataset. The numbers are those the
// authority serves, not what is still on the way to it.
type HostDataset struct {
	Version uint64 `json:"version"`
	Digest  string `json:"digest"`
	Time    int64  `json:"time_ms"`  // Delta.Time of that version
	Since   int64  `json:"since_ms"` // when the host began to answer it
	// SignedBy are the ids of the keys that signed it; none: it is not known.
	SignedBy []string `json:"signed_by,omitempty"`
	// Direct are the overrides that operators put on top of it, on this host.
	Direct []DirectState `json:"direct,omitempty"`
	// Trial is what the host tries on top of the dataset; nil: nothing.
	Trial *TrialState `json:"trial,omitempty"`
}

// TrialState is a trial as a host has it.
type TrialState struct {
	ID     string `json:"id"`
	Number uint64 `json:"number"`
	Since  int64  `json:"since_ms"` // the host answers it
	// Refused is why it is not answered; empty when it is.
	Refused string `json:"refused,omitempty"`
	// Before is what the host answered in the minutes before, After since.
	Before Tally `json:"before"`
	After  Tally `json:"after"`
}

// Tally is what a host answered in some time.
type Tally struct {
	Milliseconds int64  `json:"ms"`
	Answers      uint64 `json:"answers"`
	Servfail     uint64 `json:"servfail"`
	NXDomain     uint64 `json:"nxdomain"`
	CPU          int64  `json:"cpu_us"` // processor time of the authority, microseconds
}

// DirectState is an override that an operator handed to a host, as the host has it.
type DirectState struct {
	ID       string `json:"id"`
	Owner    string `json:"owner"`
	Type     string `json:"type"`
	Operator string `json:"operator"`
	Until    int64  `json:"until_ms"`
	// Refused is why it is not answered; empty when it is.
	Refused string `json:"refused,omitempty"`
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

// Admitting tells that all of what is staged is in the version, and takes its place now.
type Admitting struct {
	Version uint64 `json:"version"`
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

// History is a version that changed content.
type History struct {
	Version  uint64 `json:"version"`
	Time     int64  `json:"time_ms"`
	Created  int    `json:"created"` // RRsets
	Replaced int    `json:"replaced"`
	Removed  int    `json:"removed"`
	// Causes are the sources whose claims changed, at most 16 of them; Others counts the rest.
	Causes []Cause `json:"causes"`
	Others int     `json:"others,omitempty"`
	// Keys are some of the RRsets that changed: "www.example.net. A".
	Keys []string `json:"keys"`
	// Pinned is the version at whose content it was held; zero: at none.
	Pinned uint64 `json:"pinned,omitempty"`
	Pieces int    `json:"pieces"` // of the undo; zero: there is no way back
	// Under is how many pieces after those lead on from the version to what lay below
	// overrides; zero: there were none in force.
	Under int `json:"under,omitempty"`
	// Counted is what guards count of it, and of what was admitted since the version before;
	// of many zones some are joined under no zone.
	Counted []Counted `json:"counted,omitempty"`
}

// Cause is a source whose claims changed, and the newest provenance of what it claims there;
// that of a source that took everything away is not known.
type Cause struct {
	Source   record.Source `json:"source"`
	Author   string        `json:"author,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Revision string        `json:"revision,omitempty"`
	// Released is the hold that a person let through, if it was one.
	Released string `json:"released,omitempty"`
}

type Counted struct {
	Source    record.Source `json:"source"`
	Zone      string        `json:"zone,omitempty"`
	Removed   int           `json:"removed,omitempty"` // RRsets
	Replaced  int           `json:"replaced,omitempty"`
	Repointed int           `json:"repointed,omitempty"`
	Created   int           `json:"created,omitempty"`
	Lowered   int           `json:"lowered,omitempty"`
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

// Versions are some that can no longer be gone back to, the oldest first: how they came
// about is still told.
type Versions struct {
	Versions []History `json:"versions"`
}

// AuditOps notes an entry in the transaction of what it tells of.
func AuditOps(e AuditEntry) (store.Cond, store.Op) {
	var b [4]byte
	rand.Read(b[:]) // does not fail
	path := AuditPath(e.Time, hex.EncodeToString(b[:]))
	return store.Cond{Path: path}, store.Op{Path: path, Value: Encode(e)}
}

// ConfigHead is the newest landing of configurations. It is put by every one of them.
type ConfigHead struct {
	// Version numbers the landing: unix milliseconds of it, or one more than that of the
	// landing before if that is greater.
	Version uint64 `json:"version"`
	// Revision is that of the source repository up to which everything is here.
	Revision string `json:"revision"`
	Time     int64  `json:"time_ms"`
	// Staged is how many chunks below ConfigStagedPrefix stand above the nodes of the
	// configurations: a landing too large for one transaction. Zero: none.
	Staged int `json:"staged,omitempty"`
}

// ConfigEntry is one configuration, without its value.
type ConfigEntry struct {
	Type string `json:"type"` // of the IDL, file.Type
	// Version is the landing that brought this value, Revision that of the source
	// repository at which it was made.
	Version  uint64 `json:"version"`
	Revision string `json:"revision"`
	// Sources are files it was made from; More is how many others there are.
	Sources []string `json:"sources"`
	More    int      `json:"more,omitempty"`
	Size    int      `json:"size"`   // octets of the value
	SHA256  string   `json:"sha256"` // of the value, hex
}

// ConfigMark says that the parts of a value may belong to no configuration.
type ConfigMark struct {
	Size int `json:"size"` // octets of the value
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
