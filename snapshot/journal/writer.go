package journal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/zonecast/zonecast/snapshot"
)

// defaultFoldSize is Options.FoldSize, in octets: with a heartbeat of about 1.5 KiB
// a second a small dataset is folded every twelve minutes.
const defaultFoldSize = 1 << 20

// Options are how a journal is written.
type Options struct {
	// Dataset is the dataset's name. A journal of another one is refused.
	Dataset string
	// Keys verify the manifests, those read at opening too: those that were believed
	// once are enough here. Nil means that manifests are checked against the deltas
	// but not their signatures.
	Keys Keys
	// FoldSize is how large the log becomes, in octets, before it is folded into a
	// new snapshot; it is at least four times as large as the snapshot, and up to as much
	// again so that hosts do not all fold at once. A larger log makes
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
type Writer struct {
	dir  string
	opts Options
	lock io.Closer

	folds sync.WaitGroup // the goroutine of a fold that Append began
	shape sync.Mutex     // held while a new generation is made; taken before mu

	mu     sync.Mutex // guards below
	closed bool
	now    current
	log    File // the current log, for appending
	// end is where the log's last acknowledged group ends. Dirty means that there
	// may be octets behind it, of a group that was not acknowledged.
	end   int64
	dirty bool
	start int64  // where the log's first group begins
	next  uint64 // number of the next group
	tip   point
	file  snapshot.Ref // of the snapshot file: ID and Size count
	raw   []byte       // the newest manifest
	// unsettled means that CURRENT was switched but the directory is not synced:
	// until it is, a crash may bring the old generation back, so its files stay
	// and nothing is acknowledged.
	unsettled bool
	old       []string // files that no generation needs once settled
	folding   bool
	damage    error // of the current generation, found by a fold
	foldAt    int64 // log size, in octets, at which the next fold begins by itself
}

// OpenWriter opens the journal in dir for writing, making the directory when
// there is none, and cuts off the torn tail that a crash in an append left. The
// dataset is the journal's state and belongs to the caller; that of a new journal
// is at version 0. An error that wraps ErrLocked means that another process
// writes; an *Error with ErrCorrupt that the content is damaged: Quarantine it.
func OpenWriter(dir string, opts Options) (*Writer, *snapshot.Dataset, error) {
	if opts.FS == nil {
		opts.FS = systemFS{}
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.FoldSize == 0 {
		opts.FoldSize = defaultFoldSize
	}
	w := &Writer{dir: dir, opts: opts}
	d, err := w.open()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open journal %s: %w", dir, err), w.release())
	}
	return w, d, nil
}

func (w *Writer) release() error {
	var err error
	if w.log != nil {
		err = w.log.Close()
	}
	if w.lock != nil {
		err = errors.Join(err, w.lock.Close())
	}
	w.log, w.lock = nil, nil
	return err
}

func (w *Writer) open() (*snapshot.Dataset, error) {
	if err := snapshot.CheckName(w.opts.Dataset); err != nil {
		return nil, err
	}
	fsys := w.opts.FS
	if err := fsys.MkdirAll(w.dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	if w.lock, err = fsys.Lock(filepath.Join(w.dir, lockFile)); err != nil {
		return nil, err
	}
	now, err := readCurrent(fsys, w.dir)
	if errors.Is(err, fs.ErrNotExist) {
		now, err = w.create()
	}
	if err != nil {
		return nil, err
	}
	s, err := load(fsys, w.dir, now, w.opts.Keys, loadLimit)
	if err != nil {
		return nil, err
	}
	defer s.log.file.Close()
	if name := s.dataset.Name(); name != w.opts.Dataset {
		return nil, fmt.Errorf("it is of dataset %s, expected %s", name, w.opts.Dataset)
	}
	if err := w.adopt(s); err != nil {
		return nil, err
	}
	if err := w.removeOthers(); err != nil {
		return nil, err
	}
	return s.dataset, nil
}

// adopt makes a loaded generation the writer's and its state durable: what a
// crash left in memory caches may not be yet.
func (w *Writer) adopt(s *state) error {
	fsys := w.opts.FS
	size, err := s.log.file.Size()
	if err != nil {
		return err
	}
	if w.log, err = fsys.OpenFile(s.log.path, os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return err
	}
	if size > s.log.at {
		w.opts.Log.Warn("journal had a torn tail", "file", s.log.path, "offset", s.log.at, "size", size-s.log.at)
		if err := w.log.Truncate(s.log.at); err != nil {
			return err
		}
	}
	if err := w.log.Sync(); err != nil {
		return err
	}
	if err := fsys.SyncDir(w.dir); err != nil {
		return err
	}
	w.now, w.end, w.start, w.next = s.current, s.log.at, s.log.start, s.log.number
	w.tip, w.file, w.raw = pointOf(s.dataset.Ref()), s.log.base.State, s.raw
	w.setFoldAt()
	return nil
}

// create makes the first generation: the empty dataset at version 0.
func (w *Writer) create() (current, error) {
	names, err := w.opts.FS.ReadDir(w.dir)
	if err != nil {
		return current{}, err
	}
	// A crash in here leaves files of generation 1 without content. Any other
	// file was once named by CURRENT.
	for _, name := range names {
		path := filepath.Join(w.dir, name)
		if !isOurs(name) || name == currentTemp || path == logName(w.dir, 1) {
			continue
		}
		return current{}, &Error{File: filepath.Join(w.dir, currentFile), Offset: -1, Found: "it is missing beside " + name}
	}
	now := current{1, newID()}
	path := logName(w.dir, 1)
	if err := removeIfThere(w.opts.FS, path); err != nil {
		return current{}, err
	}
	header, err := encodeLogHeader(now, 1, base{Dataset: w.opts.Dataset})
	if err != nil {
		return current{}, err
	}
	if err := writeNew(w.opts.FS, path, header); err != nil {
		return current{}, err
	}
	if err := w.opts.FS.SyncDir(w.dir); err != nil {
		return current{}, err
	}
	if err := writeCurrent(w.opts.FS, w.dir, now); err != nil {
		return current{}, err
	}
	// The directory itself; it is synced again in adopt with what is in it.
	return now, w.opts.FS.SyncDir(filepath.Dir(w.dir))
}

// newID is random; crypto/rand does not fail.
func newID() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}

// removeOthers removes the files of generations that do not hold.
func (w *Writer) removeOthers() error {
	names, err := w.opts.FS.ReadDir(w.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(w.dir, name)
		if !isOurs(name) || path == logName(w.dir, w.now.generation) || path == snapshotName(w.dir, w.now.generation) {
			continue
		}
		if err := removeIfThere(w.opts.FS, path); err != nil {
			return err
		}
	}
	return nil
}

// Append adds encoded deltas and the signed manifest of the last one's version,
// durably and as one group. The deltas must follow the journal's state by
// version, base digest and chain, and the caller must have applied them: what
// Append cannot see is whether their digests come out. No deltas and a newer
// manifest of the same version are a group too. On an error nothing is
// acknowledged, and the same group can be appended again.
func (w *Writer) Append(deltas [][]byte, manifest []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.append(group{deltas, manifest}); err != nil {
		return fmt.Errorf("append to journal %s: %w", w.dir, err)
	}
	if w.opts.FoldSize > 0 && w.end-w.start >= w.foldAt && !w.folding {
		w.folding = true
		w.folds.Go(w.foldBeside)
	}
	return nil
}

func (w *Writer) append(g group) error {
	if w.closed {
		return fs.ErrClosed
	}
	_, points, _, err := w.tip.follow(g, w.opts.Keys, w.opts.Dataset)
	if err != nil {
		return err
	}
	b, err := encodeGroup(w.next, g)
	if err != nil {
		return err
	}
	if err := w.settle(); err != nil {
		return err
	}
	if err := w.clean(); err != nil {
		return err
	}
	w.dirty = true
	_, err = w.log.Write(b)
	if err == nil {
		err = w.log.Sync()
	}
	if err != nil {
		// After a failed sync the kernel may call pages clean that are not on disk:
		// the octets must go, and are written anew when the group comes again.
		return errors.Join(err, w.clean())
	}
	w.dirty = false
	w.end += int64(len(b))
	w.next++
	w.raw = append([]byte(nil), g.manifest...)
	if len(points) > 0 {
		w.tip = points[len(points)-1]
	}
	return nil
}

// clean cuts off what was written and not acknowledged.
func (w *Writer) clean() error {
	if !w.dirty {
		return nil
	}
	if err := w.log.Truncate(w.end); err != nil {
		return fmt.Errorf("cut off what was not acknowledged: %w", err)
	}
	w.dirty = false
	return nil
}

// settle makes the last switch of CURRENT durable and removes what it replaced.
func (w *Writer) settle() error {
	if !w.unsettled {
		return nil
	}
	if err := w.opts.FS.SyncDir(w.dir); err != nil {
		return err
	}
	w.unsettled = false
	for _, path := range w.old {
		if err := removeIfThere(w.opts.FS, path); err != nil {
			w.opts.Log.Warn("journal keeps an old file until it is opened again", "file", path, "error", err)
		}
	}
	w.old = nil
	return nil
}

// State is what the journal holds, durably. ID and Size are those of its
// snapshot file, of whatever version; zero when there is none.
func (w *Writer) State() snapshot.Ref {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.tip.ref()
	r.ID, r.Size = w.file.ID, w.file.Size
	return r
}

// Damage is what a fold found out about the generation that holds: it cannot be read
// any more, although appends work. ResetDataset mends it. Nil when nothing was found.
func (w *Writer) Damage() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.damage
}

// Manifest is the newest manifest in the journal, signed; nil in a new one.
func (w *Writer) Manifest() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]byte(nil), w.raw...)
}

// Close waits for a fold that is under way and gives up the lock.
func (w *Writer) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	w.mu.Unlock()
	w.folds.Wait()
	w.shape.Lock()
	defer w.shape.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.release(); err != nil {
		return fmt.Errorf("close journal %s: %w", w.dir, err)
	}
	return nil
}
