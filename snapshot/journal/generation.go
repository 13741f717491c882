package journal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/zonecast/zonecast/snapshot"
)

// A new generation is made beside the old one - snapshot, log, both synced - and
// then CURRENT is switched by a rename. Until the rename nothing has changed;
// after it, the old files stay until the directory is synced.

// foldRatio is how many times as large as its snapshot, which is compressed, a log may
// become: a fold costs what the snapshot has RRsets.
const foldRatio = 4

// setFoldAt is called with mu held. Every host of a fleet appends the same groups;
// so that they do not all fold at the same moment, which on a machine with several
// of them is felt in what they answer, each generation has up to as much again by
// its random id.
func (w *Writer) setFoldAt() {
	size := max(w.opts.FoldSize, foldRatio*w.file.Size)
	w.foldAt = size + int64(float64(size)*float64(w.now.id>>32)/(1<<32))
}

// foldBeside is the fold that Append begins by itself.
func (w *Writer) foldBeside() {
	err := w.Fold()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.folding = false
	if err != nil && !errors.Is(err, fs.ErrClosed) {
		// The log works on. It is tried again when the log has grown as much again.
		w.foldAt = w.end - w.start + max(w.opts.FoldSize, foldRatio*w.file.Size)
		if errors.Is(err, ErrCorrupt) {
			w.damage = err
		}
		w.opts.Log.Error("journal was not folded", "dir", w.dir, "error", err)
	}
}

// Fold writes the state as a new snapshot and begins an empty log. Appends go on
// meanwhile. It reads the old generation from disk, so that damage is found while
// the dataset can still be fetched; it needs memory for the dataset once.
func (w *Writer) Fold() error {
	w.shape.Lock()
	defer w.shape.Unlock()
	if err := w.fold(); err != nil {
		return fmt.Errorf("fold journal %s: %w", w.dir, err)
	}
	return nil
}

func (w *Writer) fold() error {
	w.mu.Lock()
	now, end, empty, closed, err := w.now, w.end, w.end == w.start, w.closed, error(nil)
	if !closed {
		err = w.settle()
	}
	w.mu.Unlock()
	if closed {
		return fs.ErrClosed
	}
	if err != nil || empty {
		return err
	}
	s, err := load(w.opts.FS, w.dir, now, w.opts.Keys, end)
	if err != nil {
		return err
	}
	defer s.log.file.Close()
	if s.log.at != end {
		return &Error{File: s.log.path, Offset: s.log.at, Found: fmt.Sprintf("whole groups end here, expected at %d", end)}
	}
	next := current{now.generation + 1, newID()}
	path := snapshotName(w.dir, next.generation)
	ref, err := w.writeSnapshot(path, s.dataset)
	if err != nil {
		return err
	}
	return w.begin(next, base{Dataset: w.opts.Dataset, State: ref, Manifest: s.raw}, s.log)
}

// writeSnapshot writes d to a file that replaces what is left of a failed try.
func (w *Writer) writeSnapshot(path string, d *snapshot.Dataset) (ref snapshot.Ref, err error) {
	fsys := w.opts.FS
	if err := removeIfThere(fsys, path); err != nil {
		return ref, err
	}
	f, err := fsys.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return ref, err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, removeIfThere(fsys, path))
		}
	}()
	buf := bufio.NewWriterSize(f, 256<<10)
	if ref, err = snapshot.Write(buf, d); err != nil {
		return ref, err
	}
	if err := buf.Flush(); err != nil {
		return ref, err
	}
	return ref, f.Sync()
}

// Reset makes a snapshot file the journal's state. The manifest must name the
// file (Manifest.Snapshot). The file is linked into the directory, copied where
// that cannot be, and read whole before anything changes; the caller's file stays
// and must not be written again.
func (w *Writer) Reset(snapshotFile string, manifest []byte) error {
	w.shape.Lock()
	defer w.shape.Unlock()
	if err := w.reset(snapshotFile, manifest); err != nil {
		return fmt.Errorf("reset journal %s to %s: %w", w.dir, snapshotFile, err)
	}
	return nil
}

func (w *Writer) reset(snapshotFile string, manifest []byte) error {
	next, err := w.nextGeneration()
	if err != nil {
		return err
	}
	var ref snapshot.Ref
	if m, err := snapshot.DecodeManifest(manifest); err != nil {
		return err
	} else if ref = m.Snapshot; ref.ID.IsZero() {
		return fmt.Errorf("manifest %d names no snapshot", m.Version)
	}
	ref.URLs = nil
	if _, err := openManifest(manifest, w.opts.Keys, w.opts.Dataset, pointOf(ref)); err != nil {
		return err
	}
	path := snapshotName(w.dir, next.generation)
	if err := w.take(snapshotFile, path, ref); err != nil {
		return errors.Join(err, removeIfThere(w.opts.FS, path))
	}
	return w.begin(next, base{Dataset: w.opts.Dataset, State: ref, Manifest: manifest}, nil)
}

// take brings a snapshot file into the directory and reads it.
func (w *Writer) take(from, path string, ref snapshot.Ref) error {
	fsys := w.opts.FS
	if err := removeIfThere(fsys, path); err != nil {
		return err
	}
	if err := fsys.Link(from, path); err != nil {
		if err := w.copy(from, path); err != nil {
			return err
		}
	}
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	d, err := readSnapshot(f, path, ref)
	if err == nil && d.Name() != w.opts.Dataset {
		err = fmt.Errorf("snapshot is of dataset %s, expected %s", d.Name(), w.opts.Dataset)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if damage := (*Error)(nil); errors.As(err, &damage) {
		// The file that was given is bad; the journal is not.
		return fmt.Errorf("snapshot file: %s: %w", damage.Found, errors.Join(damage.Err))
	}
	return err
}

func (w *Writer) copy(from, to string) (err error) {
	in, err := w.opts.FS.OpenFile(from, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	size, err := in.Size()
	if err != nil {
		return err
	}
	out, err := w.opts.FS.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{out}, io.NewSectionReader(in, 0, size), make([]byte, 256<<10))
	return errors.Join(err, out.Close())
}

// ResetDataset makes d the journal's state, for those who have no file of it. The
// manifest must be of d's version, or name a snapshot of it.
func (w *Writer) ResetDataset(d *snapshot.Dataset, manifest []byte) error {
	w.shape.Lock()
	defer w.shape.Unlock()
	if err := w.resetDataset(d, manifest); err != nil {
		return fmt.Errorf("reset journal %s to version %d: %w", w.dir, d.Version(), err)
	}
	return nil
}

func (w *Writer) resetDataset(d *snapshot.Dataset, manifest []byte) error {
	next, err := w.nextGeneration()
	if err != nil {
		return err
	}
	if d.Name() != w.opts.Dataset {
		return fmt.Errorf("dataset is %s, expected %s", d.Name(), w.opts.Dataset)
	}
	if _, err := openManifest(manifest, w.opts.Keys, w.opts.Dataset, pointOf(d.Ref())); err != nil {
		return err
	}
	ref, err := w.writeSnapshot(snapshotName(w.dir, next.generation), d)
	if err != nil {
		return err
	}
	return w.begin(next, base{Dataset: w.opts.Dataset, State: ref, Manifest: manifest}, nil)
}

// nextGeneration settles the current one: the files of at most two are there.
func (w *Writer) nextGeneration() (current, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return current{}, fs.ErrClosed
	}
	return current{w.now.generation + 1, newID()}, w.settle()
}

// begin makes next, whose snapshot is there and synced, the current generation.
// from is the old log at the group up to which b has everything; what was appended
// since is copied. Nil means that the old log is void.
func (w *Writer) begin(next current, b base, from *logReader) (err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fsys := w.opts.FS
	path := logName(w.dir, next.generation)
	switched := false
	defer func() {
		if !switched {
			err = errors.Join(err, removeIfThere(fsys, path), removeIfThere(fsys, snapshotName(w.dir, next.generation)))
		}
	}()
	number, tip, raw, rest := w.next, pointOf(b.State), b.Manifest, []byte(nil)
	if from != nil {
		number, tip, raw = from.number, w.tip, w.raw // of the first group that is copied; w.next stays
		rest = make([]byte, w.end-from.at)
		if n, err := from.file.ReadAt(rest, from.at); n < len(rest) {
			return readError(from.path, from.at, err)
		}
	}
	header, err := encodeLogHeader(next, number, b)
	if err != nil {
		return err
	}
	if err := removeIfThere(fsys, path); err != nil {
		return err
	}
	if err := writeNew(fsys, path, header, rest); err != nil {
		return err
	}
	log, err := fsys.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	err = fsys.SyncDir(w.dir)
	if err == nil {
		if err = writeCurrent(fsys, w.dir, next); err != nil {
			// A network file system may fail a rename that has happened.
			if found, readErr := readCurrent(fsys, w.dir); readErr == nil && found == next {
				err = nil
			}
		}
	}
	if err != nil {
		return errors.Join(err, log.Close())
	}

	switched = true
	err = w.log.Close()
	w.old = append(w.old, logName(w.dir, w.now.generation), snapshotName(w.dir, w.now.generation))
	w.now, w.log, w.dirty, w.unsettled = next, log, false, true
	w.start = int64(len(header))
	w.end = w.start + int64(len(rest))
	w.tip, w.raw, w.file = tip, raw, b.State
	w.damage = nil
	w.setFoldAt()
	w.opts.Log.Info("journal begins a new generation", "dir", w.dir, "generation", next.generation, "version", b.State.Version, "size", b.State.Size)
	return errors.Join(err, w.settle())
}
