package publisher

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/zonecast/zonecast/internal/atomicfile"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/snapshot"
)

// maxOffered is how many snapshots are offered: while the newer one is taken up, the
// older one can still be fetched to the end, and the log leads on from it.
const maxOffered = 2

// Files in the directory.
const (
	offeredFile  = "offered.json" // []snapshot.Ref, newest first, without URLs
	buildingFile = "building"     // a snapshot that is not yet checked
)

// maxOfferedFile bounds offered.json in octets; two references have less than 1,000.
const maxOfferedFile = 64 << 10

// shelf is the snapshots that are offered, and the directory they are in.
type shelf struct {
	dir     string
	dataset string

	// files is held while one comes to be offered and others go: what is offered has its file.
	files sync.Mutex

	mu   sync.Mutex // guards below; taken after files
	refs []snapshot.Ref
	// deltas are large ones as files, the newest first; those of an earlier life are not known.
	deltas []snapshot.DeltaRef
}

// openShelf reads and checks what is in dir, and gives the newest snapshot's
// dataset, or nil. What is damaged is no longer offered.
func openShelf(dir, dataset string, log *slog.Logger) (*shelf, *snapshot.Dataset, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	s := &shelf{dir: dir, dataset: dataset}
	refs, err := readOffered(filepath.Join(dir, offeredFile))
	if err != nil {
		log.Warn("list of offered snapshots is damaged, starting without", "file", filepath.Join(dir, offeredFile), "error", err)
	}
	var newest *snapshot.Dataset
	for _, ref := range refs {
		d, err := s.read(follow.SnapshotFile(dir, ref.ID), ref)
		if err != nil {
			log.Warn("snapshot is damaged, no longer offered", "dataset", dataset, "version", ref.Version, "error", err)
			continue
		}
		if newest == nil {
			newest = d
		}
		s.refs = append(s.refs, ref)
	}
	if err := errors.Join(s.clean(), s.sweep()); err != nil { // it only takes room, and signing needs none
		log.Warn("what is no longer offered cannot be removed", "dataset", dataset, "error", err)
	}
	return s, newest, nil
}

func readOffered(path string) ([]snapshot.Ref, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	b, err := io.ReadAll(io.LimitReader(f, maxOfferedFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxOfferedFile {
		return nil, fmt.Errorf("it has more than %d octets", maxOfferedFile)
	}
	var refs []snapshot.Ref
	if err := json.Unmarshal(b, &refs); err != nil {
		return nil, err
	}
	slices.SortFunc(refs, func(a, b snapshot.Ref) int {
		if a.Version < b.Version {
			return 1
		}
		return -1
	})
	return refs[:min(len(refs), maxOffered)], nil
}

// read reads a snapshot file whole, as a host does.
func (s *shelf) read(path string, ref snapshot.Ref) (*snapshot.Dataset, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	d, err := snapshot.Read(f, ref)
	if err != nil {
		return nil, err
	}
	if d.Name() != s.dataset {
		return nil, fmt.Errorf("it is of dataset %s, expected %s", d.Name(), s.dataset)
	}
	return d, nil
}

// offered is the references, newest first.
func (s *shelf) offered() []snapshot.Ref {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.refs)
}

// newest is the newest reference; its ID is zero when there is none.
func (s *shelf) newest() snapshot.Ref {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.refs) == 0 {
		return snapshot.Ref{}
	}
	return s.refs[0]
}

// has tells whether a snapshot is offered, and its reference.
func (s *shelf) has(id snapshot.ID) (snapshot.Ref, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.refs, func(r snapshot.Ref) bool { return r.ID == id })
	if i >= 0 {
		return s.refs[i], true
	}
	for _, d := range s.deltas {
		if snapshot.ID(d.Chain) == id {
			return d.File(), true
		}
	}
	return snapshot.Ref{}, false
}

// large are the deltas that are had as files, the newest first, without where.
func (s *shelf) large() []snapshot.DeltaRef {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.deltas)
}

// addDelta makes an encoded delta a file that is offered. On an error hosts read its parts from
// the store.
func (s *shelf) addDelta(version uint64, encoded []byte) error {
	ref := snapshot.DeltaRef{Version: version, Chain: snapshot.ChainOf(encoded), Size: int64(len(encoded))}
	s.files.Lock()
	defer s.files.Unlock()
	if err := atomicfile.Write(follow.SnapshotFile(s.dir, snapshot.ID(ref.Chain)), 0o644, encoded); err != nil {
		return fmt.Errorf("make a file of delta %d of %s: %w", version, s.dataset, err)
	}
	s.mu.Lock()
	s.deltas = slices.Insert(slices.DeleteFunc(s.deltas, func(d snapshot.DeltaRef) bool { return d.Version >= version }), 0, ref)
	s.deltas = s.deltas[:min(len(s.deltas), snapshot.MaxDeltaRefs)]
	s.mu.Unlock()
	return s.clean()
}

// add writes d as a snapshot, reads it back from disk, and offers it. On an error
// what was offered still is.
func (s *shelf) add(d *snapshot.Dataset) (snapshot.Ref, error) {
	fail := func(err error) (snapshot.Ref, error) {
		return snapshot.Ref{}, fmt.Errorf("make snapshot of %s at version %d: %w", s.dataset, d.Version(), err)
	}
	if err := follow.Room(s.dir, s.newest().Size); err != nil { // about as large as the last one
		return fail(err)
	}
	building := filepath.Join(s.dir, buildingFile)
	var ref snapshot.Ref
	err := atomicfile.WriteFunc(building, 0o644, func(w io.Writer) (err error) {
		ref, err = snapshot.Write(w, d)
		return err
	})
	if err != nil {
		return fail(err)
	}
	again, err := s.read(building, ref)
	if err == nil && (again.Digest() != d.Digest() || again.Len() != d.Len() || again.Version() != d.Version() || again.Chain() != d.Chain()) {
		err = fmt.Errorf("read back it has %d RRsets and digest %s, written were %d and %s", again.Len(), again.Digest(), d.Len(), d.Digest())
	}
	if err != nil {
		return fail(errors.Join(err, os.Remove(building)))
	}
	s.files.Lock()
	defer s.files.Unlock()
	if err := os.Rename(building, follow.SnapshotFile(s.dir, ref.ID)); err != nil {
		return fail(err)
	}
	refs := append([]snapshot.Ref{ref}, s.offered()...)
	refs = refs[:min(len(refs), maxOffered)]
	b, err := json.MarshalIndent(refs, "", "  ")
	if err == nil {
		err = atomicfile.SyncDir(s.dir) // the file is there before the list says so
	}
	if err == nil {
		err = atomicfile.Write(filepath.Join(s.dir, offeredFile), 0o644, append(b, '\n'))
	}
	if err != nil {
		return fail(errors.Join(err, s.clean())) // it only takes room that may be what is missing
	}
	s.mu.Lock()
	s.refs = refs
	s.mu.Unlock()
	return ref, s.clean()
}

// clean removes snapshot files that are not offered. The caller holds files, or nobody else has
// the shelf yet.
func (s *shelf) clean() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		text, isSnapshot := strings.CutSuffix(e.Name(), ".snapshot")
		id, err := snapshot.ParseID(text)
		if !isSnapshot || err != nil {
			continue // not ours
		}
		if _, ok := s.has(id); !ok {
			errs = append(errs, os.Remove(filepath.Join(s.dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// sweep removes what an earlier life left half done. Nobody may be writing.
func (s *shelf) sweep() error {
	err := os.Remove(filepath.Join(s.dir, buildingFile))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, atomicfile.Sweep(s.dir))
}
