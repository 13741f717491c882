package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"

	"github.com/zonecast/zonecast/snapshot"
)

// point is a state of a dataset without its content: what is needed to tell
// whether a delta follows.
type point struct {
	version uint64
	time    int64
	digest  snapshot.Digest
	chain   snapshot.Chain
}

func pointOf(r snapshot.Ref) point { return point{r.Version, r.Time, r.Digest, r.Chain} }

func (p point) ref() snapshot.Ref {
	return snapshot.Ref{Version: p.version, Time: p.time, Digest: p.digest, Chain: p.chain}
}

// after is the point behind a delta, or why the delta does not follow.
func (p point) after(dataset string, d *snapshot.Delta, encoded []byte) (point, error) {
	switch {
	case d.Dataset != dataset:
		return p, fmt.Errorf("delta is of dataset %s, expected %s", d.Dataset, dataset)
	case d.Version != p.version+1:
		return p, fmt.Errorf("delta makes version %d, expected %d", d.Version, p.version+1)
	case d.Prev != p.chain:
		return p, fmt.Errorf("delta %d has a predecessor of chain %s, expected %s", d.Version, d.Prev, p.chain)
	case !d.Full && d.BaseDigest != p.digest:
		return p, fmt.Errorf("delta %d has a base of digest %s, expected %s", d.Version, d.BaseDigest, p.digest)
	}
	return point{d.Version, d.Time, d.Digest, snapshot.ChainOf(encoded)}, nil
}

// openManifest decodes a manifest, verified unless keys are nil, and checks that
// it covers the point: that it is of that version, or names a snapshot of it.
func openManifest(b []byte, keys Keys, dataset string, p point) (*snapshot.Manifest, error) {
	m, err := keys.verify(b)
	if err != nil {
		return nil, err
	}
	if m.Dataset != dataset {
		return nil, fmt.Errorf("manifest is of dataset %s, expected %s", m.Dataset, dataset)
	}
	if (point{m.Version, m.Time, m.Digest, m.Chain}) == p || !m.Snapshot.ID.IsZero() && pointOf(m.Snapshot) == p {
		return m, nil
	}
	return nil, fmt.Errorf("manifest is of version %d, digest %s, chain %s; expected %d, %s, %s", m.Version, m.Digest, m.Chain, p.version, p.digest, p.chain)
}

// follow checks a group that follows p: every delta, and that the manifest is of
// the last one's version. It returns the points behind each delta.
func (p point) follow(g group, keys Keys, dataset string) ([]*snapshot.Delta, []point, *snapshot.Manifest, error) {
	deltas, points := make([]*snapshot.Delta, len(g.deltas)), make([]point, len(g.deltas))
	for i, b := range g.deltas {
		d, err := snapshot.DecodeDelta(b)
		if err != nil {
			return nil, nil, nil, err
		}
		if p, err = p.after(dataset, d, b); err != nil {
			return nil, nil, nil, err
		}
		deltas[i], points[i] = d, p
	}
	m, err := openManifest(g.manifest, keys, dataset, p)
	if err == nil && m.Version != p.version {
		err = fmt.Errorf("manifest is of version %d, expected %d", m.Version, p.version)
	}
	return deltas, points, m, err
}

// state is what a generation holds up to a moment.
type state struct {
	current  current
	log      *logReader // at the end of the last whole group
	dataset  *snapshot.Dataset
	raw      []byte // the newest manifest; nil when there is none
	manifest *snapshot.Manifest
}

// loadLimit is the end of the log for those who read all of it.
const loadLimit = math.MaxInt64

// load reads a generation: the snapshot, then the groups that end at or before
// limit. It is the caller who closes the log.
func load(fsys FS, dir string, c current, keys Keys, limit int64) (s *state, err error) {
	l, err := openLog(fsys, dir, c)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.file.Close()
		}
	}()
	s = &state{current: c, log: l}
	if s.raw, s.manifest, err = l.checkBase(keys); err != nil {
		return nil, err
	}
	if s.dataset, err = loadBase(fsys, dir, l); err != nil {
		return nil, err
	}
	for l.at < limit {
		at := l.at
		g, err := l.next()
		if errors.Is(err, io.EOF) || errors.Is(err, errTorn) {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := s.apply(g, keys); err != nil {
			return nil, &Error{File: l.path, Offset: at, Found: fmt.Sprintf("group %d does not follow", l.number-1), Err: err}
		}
	}
	return s, nil
}

func (s *state) apply(g group, keys Keys) error {
	deltas, _, m, err := pointOf(s.dataset.Ref()).follow(g, keys, s.dataset.Name())
	if err != nil {
		return err
	}
	for _, d := range deltas {
		if err := s.dataset.Apply(d); err != nil {
			return err
		}
	}
	s.raw, s.manifest = g.manifest, m
	return nil
}

// checkBase checks where the log says it begins.
func (l *logReader) checkBase(keys Keys) ([]byte, *snapshot.Manifest, error) {
	b := l.base
	bad := func(err error) error {
		return &Error{File: l.path, Offset: logFixed, Found: "base contradicts itself", Err: err}
	}
	if err := snapshot.CheckName(b.Dataset); err != nil {
		return nil, nil, bad(err)
	}
	if b.State.ID.IsZero() {
		if pointOf(b.State) != (point{}) || len(b.Manifest) > 0 {
			return nil, nil, bad(fmt.Errorf("state without a snapshot is of version %d, expected the empty dataset", b.State.Version))
		}
		return nil, nil, nil
	}
	m, err := openManifest(b.Manifest, keys, b.Dataset, pointOf(b.State))
	if err != nil {
		return nil, nil, bad(err)
	}
	return b.Manifest, m, nil
}

// loadBase reads the state in which the log begins.
func loadBase(fsys FS, dir string, l *logReader) (*snapshot.Dataset, error) {
	if l.base.State.ID.IsZero() {
		return snapshot.NewDataset(l.base.Dataset), nil
	}
	path := snapshotName(dir, l.generation)
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, readError(path, -1, err)
	}
	defer f.Close()
	d, err := readSnapshot(f, path, l.base.State)
	if err != nil {
		return nil, err
	}
	if d.Name() != l.base.Dataset {
		return nil, &Error{File: path, Offset: -1, Found: fmt.Sprintf("dataset is %s, expected %s", d.Name(), l.base.Dataset)}
	}
	return d, nil
}

// readSnapshot reads a snapshot file that must be what ref says.
func readSnapshot(f File, path string, ref snapshot.Ref) (*snapshot.Dataset, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size != ref.Size {
		return nil, &Error{File: path, Offset: -1, Found: fmt.Sprintf("%d octets, expected %d", size, ref.Size)}
	}
	d, err := snapshot.Read(f, ref)
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return nil, readError(path, -1, err)
	}
	if err != nil {
		return nil, &Error{File: path, Offset: -1, Found: "snapshot is refused", Err: err}
	}
	return d, nil
}
