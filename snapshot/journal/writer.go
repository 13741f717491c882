package journal

import (
	"crypto/ed25519"
	"errors"
	"log/slog"

	"github.com/zonecast/zonecast/snapshot"
)

// Options are how a journal is written.
type Options struct {
	// Dataset is the dataset's name. A journal of another one is refused.
	Dataset string
	// Keys verify the manifests, those read at opening too. Empty means that
	// manifests are checked against the deltas but not their signatures.
	Keys []ed25519.PublicKey
	// FoldSize is how large the log becomes, in octets, before it is folded into a
	// new snapshot; it is at least as large as the snapshot. A larger log makes
	// opening slower, a smaller one writes more. Zero means 1 MiB; negative
	// folds only when Fold is called.
	FoldSize int64
	// Log is told of recovery and folding. Nil discards.
	Log *slog.Logger
	// FS is where the directory is. Nil means the operating system's.
	FS FS
}

// Writer is the one writer of a journal. Its methods may be called from several
// goroutines.
type Writer struct{}

// OpenWriter opens the journal in dir for writing, making the directory when
// there is none, and cuts off the torn tail that a crash in an append left. The
// dataset is the journal's state and belongs to the caller; that of a new journal
// is at version 0. An error that wraps ErrLocked means that another process
// writes; an *Error with ErrCorrupt that the content is damaged: Quarantine it.
func OpenWriter(dir string, opts Options) (*Writer, *snapshot.Dataset, error) {
	return nil, nil, errors.New("not yet")
}

// Append adds encoded deltas and the signed manifest of the last one's version,
// durably and as one group. The deltas must follow the journal's state by
// version, base digest and chain, and the caller must have applied them: what
// Append cannot see is whether their digests come out. On an error nothing is
// added, and the same group can be appended again.
func (w *Writer) Append(deltas [][]byte, manifest []byte) error { return errors.New("not yet") }

// Reset makes a snapshot file the journal's state. The manifest must name the
// file (Manifest.Snapshot). The file is linked into the directory, copied where
// that cannot be, and read whole before anything changes; the caller's file stays.
func (w *Writer) Reset(snapshotFile string, manifest []byte) error { return errors.New("not yet") }

// ResetDataset makes d the journal's state, for those who have no file of it. The
// manifest must be of d's version, or name a snapshot of it.
func (w *Writer) ResetDataset(d *snapshot.Dataset, manifest []byte) error {
	return errors.New("not yet")
}

// Fold writes the state as a new snapshot and begins an empty log. Appends go on
// meanwhile.
func (w *Writer) Fold() error { return errors.New("not yet") }

// State is what the journal holds, durably. ID and Size are those of its
// snapshot file; zero when there is none.
func (w *Writer) State() snapshot.Ref { return snapshot.Ref{} }

// Manifest is the newest manifest in the journal, signed; nil in a new one.
func (w *Writer) Manifest() []byte { return nil }

// Close waits for a fold that is under way and gives up the lock.
func (w *Writer) Close() error { return errors.New("not yet") }

// Quarantine moves a damaged journal aside, to dir.corrupt-<n>, and returns where
// it is now. The newest three are kept, older ones removed. No writer may be open.
func Quarantine(dir string) (string, error) { return "", errors.New("not yet") }
