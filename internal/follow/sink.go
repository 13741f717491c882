package follow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zonecast/zonecast/snapshot"
)

// Sink is given what the follower has verified. Its methods are called by one
// goroutine, that of Follower.Run, one at a time.
//
// An error of Reset or Apply means that nothing of it was taken: the same call is
// made again, with growing pauses, until it succeeds or the follower is stopped;
// nothing newer is given before. An error that wraps ErrStop ends Run.
type Sink interface {
	// Reset gives a whole dataset; what was given before is void.
	Reset(ctx context.Context, r Reset) error
	// Apply gives the deltas that follow what was given before, or a newer manifest alone.
	Apply(ctx context.Context, g Group) error
	// Refused says what was not believed, or not to be had, and why. The same thing
	// found again is not told again, and of one kind no more than eight in a minute.
	Refused(r Refusal)
}

// ErrStop is wrapped by a Sink's error that trying again cannot mend.
var ErrStop = errors.New("follower is to stop")

// Reset is a dataset at one version.
type Reset struct {
	// Dataset belongs to the follower: it may be read until Reset returns.
	Dataset *snapshot.Dataset
	// Path is the snapshot file that Dataset was read from, and removed when Reset
	// returns. Empty when there is none: the dataset was made from a full delta, or
	// from a snapshot and deltas.
	Path string
	// Manifest is signed; it names the file at Path, or is of Dataset's version. Nil
	// without keys.
	Manifest []byte
	// Took is how long it took to fetch the file, Size its octets; zero without Path.
	Took time.Duration
	Size int64
}

// Group is one or several deltas that follow each other, to be taken as one. None: the
// version given before is signed anew, by another key or for longer.
type Group struct {
	Deltas  []*snapshot.Delta
	Encoded [][]byte // of each
	// Manifest is signed and of the last delta's version. Nil without keys.
	Manifest []byte
	// Dataset is at the last delta's version. It belongs to the follower: it may be
	// read until Apply returns.
	Dataset *snapshot.Dataset
}

// Kind names what was refused, for counters; the text is for people.
type Kind string

// Kinds of refusals. KindUnreachable is not about trust: what is needed is not to
// be had at the moment.
const (
	KindHead        Kind = "head"        // the head is not readable
	KindManifest    Kind = "manifest"    // the manifest is not readable
	KindSignature   Kind = "signature"   // nobody we trust signed the manifest
	KindRevoked     Kind = "revoked"     // a key signed it that was believed once
	KindDataset     Kind = "dataset"     // it is of another dataset
	KindOlder       Kind = "older"       // an older version than we have: a replay, or a store put back
	KindForked      Kind = "forked"      // our version, with other content or another history
	KindLog         Kind = "log"         // a log node, part or delta is not readable
	KindChain       Kind = "chain"       // a delta is not the one that the chain names
	KindDigest      Kind = "digest"      // a delta does not lead to what it says, or not to what was signed
	KindSnapshot    Kind = "snapshot"    // a snapshot is not what was signed
	KindDelta       Kind = "delta"       // a large delta that was fetched as a file is not what was signed
	KindUnreachable Kind = "unreachable" // neither the log nor a snapshot leads to the newest version
)

// Kinds is all of them, in a fixed order.
func Kinds() []Kind {
	return []Kind{
		KindHead, KindManifest, KindSignature, KindRevoked, KindDataset, KindOlder, KindForked, KindLog, KindChain,
		KindDigest, KindSnapshot, KindDelta, KindUnreachable,
	}
}

// Refusal is one thing that was not believed, or not to be had.
type Refusal struct {
	Kind    Kind
	Version uint64 // it is about; 0 when that cannot be told
	Err     error
	Time    time.Time
	// Evidence is what was refused, or the beginning of it, at most MaxEvidence octets;
	// nil when there is nothing to show. It is not changed afterwards.
	Evidence []byte
}

// MaxEvidence bounds Refusal.Evidence: the largest node of the store and some, and enough of
// a snapshot file to see what it is.
const MaxEvidence = 256 << 10

// String is for people.
func (r Refusal) String() string {
	if r.Version == 0 {
		return fmt.Sprintf("%s: %v", r.Kind, r.Err)
	}
	return fmt.Sprintf("%s: version %d: %v", r.Kind, r.Version, r.Err)
}
