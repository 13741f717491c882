package configtree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// Landing is a set of configurations that become visible together.
type Landing struct {
	// Revision is that of the source repository up to which everything is there then.
	Revision string
	Put      []Config
	Delete   []string
	// All removes what is not in Put.
	All bool
	// Time is now; the zero time means the clock's.
	Time time.Time
}

// Room is what a caller wants to add to the transaction that makes a landing visible.
type Room struct {
	Ops   int // conditions and operations
	Bytes int // of paths and values
}

// Writer lands configurations. There may be one at a time, or the fence of each must hold
// for one only. It belongs to one goroutine.
//
// A landing is a chain of commits under the fence, and under the condition that the head is
// the one this Writer saw last:
//
//	Prepare: marks, parts, chunks ──► the caller: entries or head.Staged ──► Finish: chunks into
//	         0 or more commits        the one that counts                    place, sweep; 0 or more
type Writer struct {
	st      store.Store
	fence   []store.Cond
	head    tree.ConfigHead
	headRev store.Revision
	floor   uint64 // the greatest version seen
	entries map[string]*Entry
	refs    map[string]int // configurations that have a large value, by its SHA-256
	marks   map[string]int // octets, by SHA-256
	strange []string       // configurations whose nodes cannot be read
	prep    *Prepared
	broken  error
}

// Prepared is a landing that is one transaction away from being visible.
type Prepared struct {
	// Txn makes it visible. The caller may add as much to it as Room said.
	Txn store.Txn
	// Head is as the transaction leaves it.
	Head tree.ConfigHead
	// Changed are the paths that the landing changes, sorted; empty when only the
	// repository's revision does.
	Changed []string

	changes []change
}

// Open reads what is in force, finishes what the last Writer left and takes away what it
// did not bring to an end.
func Open(ctx context.Context, st store.Store, fence ...store.Cond) (*Writer, error) {
	w := &Writer{st: st, fence: fence, entries: map[string]*Entry{}, refs: map[string]int{}, marks: map[string]int{}}
	if err := w.load(ctx); err != nil {
		return nil, fmt.Errorf("open configurations: %w", err)
	}
	return w, nil
}

func (w *Writer) load(ctx context.Context) error {
	nodes, rev, err := w.st.List(ctx, tree.Config)
	if err != nil {
		return err
	}
	f := NewFold(nil)
	for _, path := range f.Apply(store.Batch{Revision: rev, Reset: true, Puts: nodes}) {
		w.set(path, f.Get(path))
	}
	w.head, w.headRev = f.Head()
	w.floor = max(w.floor, w.head.Version)
	var orphans []store.Op
	for _, n := range nodes {
		version, _, staged := splitStaged(n.Path)
		switch {
		case staged && (f.blocking != nil || version != w.head.Version || w.head.Staged == 0):
			orphans = append(orphans, store.Op{Path: n.Path, Delete: true})
		case f.unread[n.Path] != nil:
			if path := n.Path[len(tree.Config):]; CheckPath(path) == nil {
				w.strange = append(w.strange, path)
			} else {
				orphans = append(orphans, store.Op{Path: n.Path, Delete: true})
			}
		}
		if staged {
			w.floor = max(w.floor, version)
		}
	}
	if f.blocking != nil {
		// What the last landing was cannot be known any more; what is in the nodes is a
		// landing, or on the way from one to the next. The next landing mends it.
		for _, path := range slices.Sorted(maps.Keys(f.nodes)) {
			w.set(path, f.nodes[path])
		}
		w.head.Staged = 0
	} else if w.head.Staged > 0 {
		var changes []change
		for _, path := range slices.Sorted(maps.Keys(f.overlay)) {
			changes = append(changes, change{path, f.overlay[path]})
		}
		if err := w.place(ctx, changes); err != nil {
			return err
		}
	}
	if err := w.batches(ctx, orphans); err != nil {
		return err
	}
	marks, _, err := w.st.List(ctx, tree.ConfigMarks)
	if err != nil {
		return err
	}
	for _, n := range marks {
		sum := n.Path[len(tree.ConfigMarks):]
		var m tree.ConfigMark
		if tree.Decode(n, &m) != nil || checkSum(sum) != nil || m.Size < 0 || m.Size > MaxValue {
			if err := w.batches(ctx, []store.Op{{Path: n.Path, Delete: true}}); err != nil {
				return err
			}
			continue
		}
		w.marks[sum] = m.Size
	}
	return w.sweep(ctx)
}

// set makes e what is in force at path; nil: nothing.
func (w *Writer) set(path string, e *Entry) {
	if old := w.entries[path]; old != nil && old.large() {
		if w.refs[old.SHA256]--; w.refs[old.SHA256] == 0 {
			delete(w.refs, old.SHA256)
		}
	}
	if e == nil {
		delete(w.entries, path)
		return
	}
	w.entries[path] = e
	w.floor = max(w.floor, e.Version)
	if e.large() {
		w.refs[e.SHA256]++
	}
}

// Head is the newest landing.
func (w *Writer) Head() tree.ConfigHead { return w.head }

// Get gives the entry in force, nil when there is none. It must not be changed.
func (w *Writer) Get(path string) *Entry { return w.entries[path] }

// Land does a landing whole. Nothing is done when nothing differs, the repository's
// revision included. After an error the Writer is of no more use: what became of the
// landing is seen by opening another.
func (w *Writer) Land(ctx context.Context, l Landing) (tree.ConfigHead, error) {
	p, err := w.Prepare(ctx, l, Room{})
	if err != nil {
		return tree.ConfigHead{}, err
	}
	if len(p.Changed) == 0 && w.headRev != 0 && p.Head.Revision == w.head.Revision {
		return w.head, nil
	}
	rev, err := w.st.Commit(ctx, p.Txn)
	if err != nil {
		w.broken = err
		return tree.ConfigHead{}, fmt.Errorf("land configurations: %w", err)
	}
	return p.Head, w.Finish(ctx, rev)
}

// Prepare does all of a landing but the transaction that makes it visible. A configuration
// whose type and value are as they were keeps its version and revision.
func (w *Writer) Prepare(ctx context.Context, l Landing, room Room) (*Prepared, error) {
	if w.broken != nil {
		return nil, fmt.Errorf("prepare landing: the writer is to be opened again after %w", w.broken)
	}
	if l.Time.IsZero() {
		l.Time = time.Now()
	}
	if len(l.Revision) > maxText {
		return nil, fmt.Errorf("prepare landing: revision of %d octets, at most %d", len(l.Revision), maxText)
	}
	changes, values, err := w.compare(l)
	if err != nil {
		return nil, fmt.Errorf("prepare landing: %w", err)
	}
	p, err := w.prepare(ctx, l, room, changes, values)
	if err != nil {
		w.broken = err
		return nil, fmt.Errorf("prepare landing: %w", err)
	}
	w.prep = p
	return p, nil
}

// version numbers the landing.
func (w *Writer) version(l Landing) uint64 {
	return max(uint64(max(l.Time.UnixMilli(), 0)), w.floor+1)
}

// compare gives what differs, by path, and the large values that are new, by SHA-256.
func (w *Writer) compare(l Landing) ([]change, map[string][]byte, error) {
	version := w.version(l)
	named := map[string]bool{}
	values := map[string][]byte{}
	var changes []change
	for _, c := range l.Put {
		if err := c.check(); err != nil {
			return nil, nil, err
		}
		if named[c.Path] {
			return nil, nil, fmt.Errorf("configuration %s is there twice", c.Path)
		}
		named[c.Path] = true
		e := c.entry(version)
		if old := w.entries[c.Path]; old != nil && old.Type == e.Type && old.SHA256 == e.SHA256 && !slices.Contains(w.strange, c.Path) {
			continue
		}
		if e.large() && w.refs[e.SHA256] == 0 {
			values[e.SHA256] = c.Value
		}
		changes = append(changes, change{c.Path, e})
	}
	for _, path := range l.Delete {
		if named[path] {
			return nil, nil, fmt.Errorf("configuration %s is put and deleted", path)
		}
		if w.entries[path] != nil || slices.Contains(w.strange, path) {
			named[path] = true
			changes = append(changes, change{path, nil})
		}
	}
	if l.All {
		for _, path := range slices.Concat(slices.Collect(maps.Keys(w.entries)), w.strange) {
			if !named[path] {
				named[path] = true
				changes = append(changes, change{path, nil})
			}
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.path, b.path) })
	return changes, values, nil
}

func (w *Writer) prepare(ctx context.Context, l Landing, room Room, changes []change, values map[string][]byte) (*Prepared, error) {
	p := &Prepared{Head: w.head, changes: changes}
	p.Head.Revision, p.Head.Time, p.Head.Staged = l.Revision, l.Time.UnixMilli(), 0
	if len(changes) > 0 || p.Head.Version == 0 {
		p.Head.Version = w.version(l)
	}
	for _, c := range changes {
		p.Changed = append(p.Changed, c.path)
	}
	if err := w.mark(ctx, changes, values); err != nil {
		return nil, err
	}
	for _, sum := range slices.Sorted(maps.Keys(values)) {
		if err := w.upload(ctx, sum, values[sum]); err != nil {
			return nil, err
		}
	}
	head := func() store.Op { return store.Op{Path: tree.ConfigHeadPath, Value: tree.Encode(p.Head)} }
	do := append(placed(changes), head())
	p.Txn = w.txn(do)
	if fits(p.Txn, room) {
		return p, nil
	}
	all, err := chunks(changes)
	if err != nil {
		return nil, err
	}
	ops := make([]store.Op, len(all))
	for i, chunk := range all {
		ops[i] = store.Op{Path: tree.ConfigStagedPath(p.Head.Version, i), Value: chunk}
	}
	if err := w.batches(ctx, ops); err != nil {
		return nil, err
	}
	p.Head.Staged = len(all)
	p.Txn = w.txn([]store.Op{head()})
	if !fits(p.Txn, room) {
		return nil, fmt.Errorf("room for %d operations and %d octets beside the head: more than a transaction takes", room.Ops, room.Bytes)
	}
	return p, nil
}

// placed are the operations that put changes into their nodes.
func placed(changes []change) []store.Op {
	ops := make([]store.Op, 0, len(changes)+1)
	for _, c := range changes {
		op := store.Op{Path: tree.ConfigPath(c.path), Delete: c.entry == nil}
		if c.entry != nil {
			op.Value = c.entry.encode()
		}
		ops = append(ops, op)
	}
	return ops
}

// Finish is to be called once Prepared.Txn is committed, with its revision.
func (w *Writer) Finish(ctx context.Context, rev store.Revision) error {
	p := w.prep
	w.prep = nil
	w.head, w.headRev = p.Head, rev
	w.floor = max(w.floor, p.Head.Version)
	for _, c := range p.changes {
		w.set(c.path, c.entry)
	}
	w.strange = slices.DeleteFunc(w.strange, func(path string) bool {
		_, found := slices.BinarySearch(p.Changed, path)
		return found
	})
	var err error
	if p.Head.Staged > 0 {
		err = w.place(ctx, p.changes)
	}
	if err == nil {
		err = w.sweep(ctx)
	}
	if err != nil {
		w.broken = err
		return fmt.Errorf("landing %d is visible, but not finished: %w", p.Head.Version, err)
	}
	return nil
}

// place copies what is staged into its nodes, and then says so in the head.
func (w *Writer) place(ctx context.Context, changes []change) error {
	if err := w.batches(ctx, placed(changes)); err != nil {
		return err
	}
	head := w.head
	head.Staged = 0
	rev, err := w.st.Commit(ctx, w.txn([]store.Op{{Path: tree.ConfigHeadPath, Value: tree.Encode(head)}}))
	if err != nil {
		return err
	}
	staged := w.head.Staged
	w.head, w.headRev = head, rev
	var ops []store.Op
	for i := range staged {
		ops = append(ops, store.Op{Path: tree.ConfigStagedPath(head.Version, i), Delete: true})
	}
	return w.batches(ctx, ops)
}

// mark notes the values that the landing begins and ends to refer to: should it be
// interrupted, the next Writer looks whether their parts are needed.
func (w *Writer) mark(ctx context.Context, changes []change, values map[string][]byte) error {
	sizes := map[string]int{}
	for sum, v := range values {
		sizes[sum] = len(v)
	}
	for _, c := range changes {
		if old := w.entries[c.path]; old != nil && old.large() {
			sizes[old.SHA256] = old.Size
		}
	}
	var ops []store.Op
	for _, sum := range slices.Sorted(maps.Keys(sizes)) {
		ops = append(ops, store.Op{Path: tree.ConfigMarkPath(sum), Value: tree.Encode(tree.ConfigMark{Size: sizes[sum]})})
		w.marks[sum] = sizes[sum]
	}
	return w.batches(ctx, ops)
}

func (w *Writer) upload(ctx context.Context, sum string, value []byte) error {
	var ops []store.Op
	for i := range parts(len(value)) {
		end := min((i+1)*partSize, len(value))
		ops = append(ops, store.Op{Path: tree.ConfigPartPath(sum, i), Value: value[i*partSize : end : end]})
	}
	return w.batches(ctx, ops)
}

// sweep removes the parts of marked values that nothing refers to, then the marks.
func (w *Writer) sweep(ctx context.Context) error {
	var ops, marks []store.Op
	for _, sum := range slices.Sorted(maps.Keys(w.marks)) {
		if w.refs[sum] == 0 {
			for i := range parts(w.marks[sum]) {
				ops = append(ops, store.Op{Path: tree.ConfigPartPath(sum, i), Delete: true})
			}
		}
		marks = append(marks, store.Op{Path: tree.ConfigMarkPath(sum), Delete: true})
	}
	if err := w.batches(ctx, append(ops, marks...)); err != nil {
		return err
	}
	clear(w.marks)
	return nil
}

// batches commits ops in order, in as few transactions as they take.
func (w *Writer) batches(ctx context.Context, ops []store.Op) error {
	for len(ops) > 0 {
		n := 1
		for n < len(ops) && fits(w.txn(ops[:n+1]), Room{}) {
			n++
		}
		if _, err := w.st.Commit(ctx, w.txn(ops[:n])); err != nil {
			if errors.Is(err, store.ErrConflict) {
				return fmt.Errorf("another process lands configurations, or leads now: %w", err)
			}
			return err
		}
		ops = ops[n:]
	}
	return nil
}

func (w *Writer) txn(ops []store.Op) store.Txn {
	return store.Txn{If: append([]store.Cond{{Path: tree.ConfigHeadPath, Modified: w.headRev}}, w.fence...), Do: ops}
}

// fits tells whether a transaction has room beside it.
func fits(t store.Txn, room Room) bool {
	size := room.Bytes
	for _, c := range t.If {
		size += len(c.Path)
	}
	for _, o := range t.Do {
		size += len(o.Path) + len(o.Value)
	}
	return len(t.If)+len(t.Do)+room.Ops <= store.MaxTxnOps && size <= store.MaxTxnBytes
}
