package tree

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
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
	Datasets = "/datasets/"
	Hosts    = "/hosts/"
	Services = "/services/"

	Overrides = "/overrides/"
	Audit     = "/audit/"
	Pins      = "/pins/"
	Admitted  = "/admitted/"
	Holds     = "/holds/"
	Freezes   = "/freezes/"
)

// Elections.
const (
	ElectPresenter = "/elect/presenter" // followed by /<dataset>
	ElectPublisher = "/elect/publisher" // followed by /<dataset>
	ElectMutator   = "/elect/mutator"
	ElectRegistry  = "/elect/registry" // who lets leases run out
	ElectFleetFile = "/elect/fleetfile"
	ElectZoneFiles = "/elect/zonefiles"
)

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

// DatasetPrefix is the prefix of everything of one dataset, with a final slash.
func DatasetPrefix(dataset string) string { return Datasets + dataset + "/" }

// HeadPath, ManifestPath and LogPrefix are the parts of a dataset.
func HeadPath(dataset string) string     { return DatasetPrefix(dataset) + "head" }
func ManifestPath(dataset string) string { return DatasetPrefix(dataset) + "manifest" }
func LogPrefix(dataset string) string    { return DatasetPrefix(dataset) + "log/" }

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

// HoldPath and FreezePath are the paths of a Hold and a Freeze.
func HoldPath(id string) string   { return Holds + id }
func FreezePath(id string) string { return Freezes + id }

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
}

// Host says what one DNS host has, verified, and answers.
type Host struct {
	Name     string                 `json:"name"`
	DNS      string                 `json:"dns"`  // address:port it answers on
	HTTP     string                 `json:"http"` // metrics and status; may be empty
	Datasets map[string]HostDataset `json:"datasets"`
	Refused  string                 `json:"refused,omitempty"` // last thing it refused, and why
}

// HostDataset is a host's state of one dataset. The numbers are those the
// authority serves, not what is still on the way to it.
type HostDataset struct {
	Version uint64 `json:"version"`
	Digest  string `json:"digest"`
	Time    int64  `json:"time_ms"`  // Delta.Time of that version
	Since   int64  `json:"since_ms"` // when the host began to answer it
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
	// Sources are those whose claims changed, at most 16 of them; Others counts the rest.
	Sources []record.Source `json:"sources"`
	Others  int             `json:"others,omitempty"`
	// Pinned is the version at whose content it was held; zero: at none.
	Pinned uint64 `json:"pinned,omitempty"`
	Pieces int    `json:"pieces"` // of the undo; zero: there is no way back
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
}

// AuditOps notes an entry in the transaction of what it tells of.
func AuditOps(e AuditEntry) (store.Cond, store.Op) {
	var b [4]byte
	rand.Read(b[:]) // does not fail
	path := AuditPath(e.Time, hex.EncodeToString(b[:]))
	return store.Cond{Path: path}, store.Op{Path: path, Value: Encode(e)}
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
