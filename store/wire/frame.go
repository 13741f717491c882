package wire

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/zonecast/zonecast/store"
)

// Path and Protocol are what a client asks for; another version of the protocol has another
// name. SnapshotPath is where the same listener serves snapshots, by their id, over HTTP.
const (
	Path         = "/store"
	Protocol     = "zonecast-store/1"
	SnapshotPath = "/snapshots/"
)

// Bounds.
const (
	// MaxFrame is octets of a frame without its length: a transaction of the largest size,
	// its conditions and lengths, and room.
	MaxFrame = store.MaxTxnBytes + 256<<10
	// PartSize is about how many octets of nodes are put into one frame of a long answer.
	PartSize = 256 << 10
	// MaxAnswer is octets of all parts of an answer or a batch that a client takes.
	MaxAnswer = 512 << 20
	header    = 9 // kind and id
)

// Kind tells what a frame is.
type Kind byte

// Kinds of a client's frames. Each but Unwatch is answered by Answer or Refusal, Watch by
// Batches.
const (
	Get     Kind = 1 // path
	List    Kind = 2 // prefix
	Commit  Kind = 3 // session or nothing, transaction
	Watch   Kind = 4 // prefix, revision
	Unwatch Kind = 5 // nothing; the id is the Watch's
	Open    Kind = 6 // ttl in milliseconds
	Resume  Kind = 7 // session
	End     Kind = 8 // session
	Ping    Kind = 9 // nothing
)

// Kinds of the proxy's frames.
const (
	Answer  Kind = 65 // what was asked for
	Refusal Kind = 66 // code, text
	Part    Kind = 67 // nodes; more of the same Answer or Batch follows
	Batch   Kind = 68 // revision, reset, nodes, paths of deletes
	Lost    Kind = 69 // the session: it is over
)

// Frame is one of either side.
type Frame struct {
	Kind    Kind
	ID      uint64
	Payload []byte
}

// Append appends the frame to b.
func (f Frame) Append(b []byte) []byte {
	b = AppendHeader(b, f.Kind, f.ID, len(f.Payload))
	return append(b, f.Payload...)
}

// AppendHeader appends what stands before a payload of n octets.
func AppendHeader(b []byte, kind Kind, id uint64, n int) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(n+header))
	b = append(b, byte(kind))
	return binary.BigEndian.AppendUint64(b, id)
}

// Read reads a frame. At the end of r before one begins it returns io.EOF.
func Read(r io.Reader) (Frame, error) {
	var h [4 + header]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return Frame{}, err
	}
	n := binary.BigEndian.Uint32(h[:])
	if n < header || n > MaxFrame {
		return Frame{}, fmt.Errorf("frame of %d octets, expected %d to %d", n, header, MaxFrame)
	}
	f := Frame{Kind: Kind(h[4]), ID: binary.BigEndian.Uint64(h[5:])}
	if n > header {
		f.Payload = make([]byte, n-header)
		if _, err := io.ReadFull(r, f.Payload); err != nil {
			return Frame{}, fmt.Errorf("frame of %d octets: %w", n, io.ErrUnexpectedEOF)
		}
	}
	return f, nil
}
