package snapshot

import (
	"errors"

	"github.com/zonecast/zonecast/record"
)

// MaxDelta bounds an encoded delta, in octets: 256 MiB, about three million
// RRsets. A full delta of a larger dataset cannot be made.
const MaxDelta = 256 << 20

// Delta leads from version Version-1 of a dataset to Version. It is treated as
// immutable.
type Delta struct {
	Dataset string
	Version uint64
	Time    int64 // unix milliseconds when it was made
	// Full means that Put is the whole dataset and that the base's RRsets are
	// void. BaseDigest is then zero and Remove empty.
	Full       bool
	BaseDigest Digest // before
	Digest     Digest // after
	Prev       Chain  // of the delta that made Version-1
	// Put has the RRsets that are new or replaced, Remove the keys that go; each
	// in canonical order without duplicates, and no key in both.
	Put    []record.RRset
	Remove []record.Key
}

// Encode gives the octets of docs/format/delta.md. It fails when the delta breaks
// a rule of the format, so that what is encoded can be decoded.
func (d *Delta) Encode() ([]byte, error) { return nil, errors.New("not yet") }

// DecodeDelta reads what Encode wrote. The result passes Check and encodes to
// the same octets; it keeps no reference to b.
func DecodeDelta(b []byte) (*Delta, error) { return nil, errors.New("not yet") }

// Check tells why the delta breaks a rule of the format, or nil.
func (d *Delta) Check() error { return nil }

// Chain is SHA-256 of the encoded delta. A signature on it signs all deltas up to
// this one. The delta must pass Check.
func (d *Delta) Chain() Chain { return Chain{} }

// ChainOf is the Chain of an encoded delta.
func ChainOf(encoded []byte) Chain { return Chain{} }
