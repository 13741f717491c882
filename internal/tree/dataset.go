package tree

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

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

// Admitting tells that all of what is staged is in the version, and takes its place now.
type Admitting struct {
	Version uint64 `json:"version"`
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

// Counted is what counts of a source's change in a zone, or of a map.
type Counted struct {
	Source    record.Source `json:"source"`
	Zone      string        `json:"zone,omitempty"`
	Removed   int           `json:"removed,omitempty"` // RRsets
	Replaced  int           `json:"replaced,omitempty"`
	Repointed int           `json:"repointed,omitempty"`
	Created   int           `json:"created,omitempty"`
	Lowered   int           `json:"lowered,omitempty"`
	// Moved is prefixes of Map that got another order of PoPs; such a one has nothing else.
	Map   string `json:"map,omitempty"`
	Moved int    `json:"moved,omitempty"`
}

// Versions are some that can no longer be gone back to, the oldest first: how they came
// about is still told.
type Versions struct {
	Versions []History `json:"versions"`
}
