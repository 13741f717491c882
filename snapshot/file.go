package snapshot

import (
	"errors"
	"io"
)

// Ref points at a snapshot file and says what is not in it. A manifest's
// signature covers it.
type Ref struct {
	ID      ID       `json:"id"`   // SHA-256 of the file; zero means that there is none
	Size    int64    `json:"size"` // octets
	Version uint64   `json:"version"`
	Digest  Digest   `json:"digest"`
	Chain   Chain    `json:"chain"`
	Time    int64    `json:"time_ms"` // Delta.Time of that version
	URLs    []string `json:"urls,omitempty"`
}

// Write writes the dataset as a snapshot file (docs/format/snapshot.md) and
// returns what points at it, without URLs. It needs memory for one block.
func Write(w io.Writer, d *Dataset) (Ref, error) { return Ref{}, errors.New("not yet") }

// Read reads the snapshot file of ref.Size octets that ref points at and checks
// everything: id, order, bounds, counts, digest. The file has neither version,
// time nor chain (equal content gives equal bytes): they are taken from ref.
func Read(r io.ReaderAt, ref Ref) (*Dataset, error) { return nil, errors.New("not yet") }

// Report is what Check found out about a snapshot file.
type Report struct {
	Path    string
	ID      ID
	Size    int64 // octets
	Dataset string
	Content uint64 // last version that changed more than freshness records
	RRsets  int
	Zones   int
	Blocks  int
	Raw     int64 // octets of the blocks, decompressed
	Digest  Digest
}

// Check reads the whole snapshot file at path as Read does, but for what only a
// Ref can tell, and reports. The error names offset, expected and found.
func Check(path string) (Report, error) { return Report{}, errors.New("not yet") }

// String is the report for people, several lines.
func (r Report) String() string { return "" }
