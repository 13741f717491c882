package configtree

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// Fold turns batches of a watch of tree.Config into configurations in force. It belongs to
// one goroutine. Its work is in proportion to the batch, plus the landing that is staged.
type Fold struct {
	keep func(path string) bool

	head     tree.ConfigHead
	headRev  store.Revision // Modified of the head's node; 0: there is none
	nodes    map[string]*Entry
	staged   map[uint64]map[int][]byte // chunks, by landing
	overlay  map[string]*Entry         // of the landing that the head says is staged; nil entry: removed
	over     uint64                    // the landing that overlay is of; 0: none
	inForce  map[string]*Entry
	touched  map[string]bool  // may be otherwise than inForce has them
	unread   map[string]error // by path of the node
	blocking error            // why nothing can be taken: the head or what it names is not readable
}

// NewFold makes a fold that knows nothing: its first batch must be a Reset. It keeps the
// configurations that keep says; nil means all.
func NewFold(keep func(path string) bool) *Fold {
	if keep == nil {
		keep = func(string) bool { return true }
	}
	return &Fold{
		keep: keep, nodes: map[string]*Entry{}, staged: map[uint64]map[int][]byte{}, inForce: map[string]*Entry{},
		touched: map[string]bool{}, unread: map[string]error{},
	}
}

// Head is the newest landing, and the revision of its node; both are zero when there is none.
func (f *Fold) Head() (tree.ConfigHead, store.Revision) { return f.head, f.headRev }

// Get gives the entry in force, nil when there is none. It must not be changed.
func (f *Fold) Get(path string) *Entry { return f.inForce[path] }

// Paths are those of the configurations in force, sorted.
func (f *Fold) Paths() []string { return slices.Sorted(maps.Keys(f.inForce)) }

// Unread is why nodes cannot be read as of the last Apply, in order of path; nil when all
// can. What was in force of them stays.
func (f *Fold) Unread() error {
	var errs []error
	if f.blocking != nil {
		errs = append(errs, f.blocking)
	}
	for _, path := range slices.Sorted(maps.Keys(f.unread)) {
		errs = append(errs, f.unread[path])
	}
	return errors.Join(errs...)
}

// Unreadable is Unread of configurations alone, by their path.
func (f *Fold) Unreadable() map[string]error {
	all := make(map[string]error, len(f.unread))
	for path, err := range f.unread {
		all[strings.TrimPrefix(path, tree.Config)] = err
	}
	return all
}

// Blocked is why nothing at all can be taken now: the head, or what it names, cannot be
// read. Nil when that is not so.
func (f *Fold) Blocked() error { return f.blocking }

// Apply takes the next batch and returns the paths whose entries changed, sorted; all of
// them must be taken together.
func (f *Fold) Apply(b store.Batch) []string {
	restage := false
	if b.Reset {
		have := make(map[string]bool, len(b.Puts))
		for _, n := range b.Puts {
			have[n.Path] = true
		}
		for path := range f.nodes {
			if !have[tree.ConfigPath(path)] {
				f.gone(path)
			}
		}
		for path := range f.unread {
			if !have[path] {
				delete(f.unread, path)
			}
		}
		clear(f.staged)
		f.head, f.headRev = tree.ConfigHead{}, 0
		f.blocking, restage = nil, true
	}
	for _, path := range b.Deletes {
		switch version, n, ok := splitStaged(path); {
		case ok:
			delete(f.staged[version], n)
			if len(f.staged[version]) == 0 {
				delete(f.staged, version)
			}
		case path == tree.ConfigHeadPath:
			f.head, f.headRev, f.blocking, restage = tree.ConfigHead{}, 0, nil, true
		default:
			delete(f.unread, path)
			f.gone(strings.TrimPrefix(path, tree.Config))
		}
	}
	for _, n := range b.Puts {
		restage = f.put(n) || restage
	}
	if restage || f.blocking != nil {
		f.settle()
	}
	if f.blocking != nil {
		return nil
	}
	var changed []string
	for path := range f.touched {
		want, over := f.overlay[path]
		if !over {
			want = f.nodes[path]
			if f.unread[tree.ConfigPath(path)] != nil {
				continue
			}
		}
		if want.same(f.inForce[path]) {
			continue
		}
		if want == nil {
			delete(f.inForce, path)
		} else {
			f.inForce[path] = want
		}
		changed = append(changed, path)
	}
	clear(f.touched)
	slices.Sort(changed)
	return changed
}

func (f *Fold) gone(path string) {
	delete(f.nodes, path)
	if f.keep(path) {
		f.touched[path] = true
	}
}

// put takes a node, and tells whether it is one of those that decide what is staged.
func (f *Fold) put(n store.Node) bool {
	if n.Path == tree.ConfigHeadPath {
		head, err := decodeHead(n.Value)
		f.blocking = nil
		if err != nil {
			f.blocking = fmt.Errorf("node %s: %w", n.Path, err)
		}
		f.head, f.headRev = head, n.Modified
		return true
	}
	if version, i, ok := splitStaged(n.Path); ok {
		if f.staged[version] == nil {
			f.staged[version] = map[int][]byte{}
		}
		f.staged[version][i] = n.Value
		return version == f.head.Version
	}
	path := strings.TrimPrefix(n.Path, tree.Config)
	if strings.HasPrefix(path, "@") {
		return false // of a newer process
	}
	if !f.keep(path) {
		return false
	}
	err := CheckPath(path)
	var e *Entry
	if err == nil {
		e, err = decodeEntry(n.Value)
	}
	if err != nil {
		f.unread[n.Path] = fmt.Errorf("node %s: %w", n.Path, err)
		return false
	}
	delete(f.unread, n.Path)
	f.nodes[path] = e
	f.touched[path] = true
	return false
}

// settle brings overlay in line with the head, or says in blocking why it cannot.
func (f *Fold) settle() {
	want := uint64(0)
	if f.head.Staged > 0 {
		want = f.head.Version
	}
	if f.headRev != 0 && f.head.Version == 0 {
		return // the head could not be read: blocking says why
	}
	f.blocking = nil
	if want == f.over {
		return
	}
	fresh := map[string]*Entry{}
	last := ""
	for i := range f.head.Staged {
		path := tree.ConfigStagedPath(want, i)
		chunk, ok := f.staged[want][i]
		if !ok {
			f.blocking = fmt.Errorf("node %s: is missing, the head names it; the landing before stays", path)
			return
		}
		changes, err := decodeChunk(chunk, last)
		if err != nil {
			f.blocking = fmt.Errorf("node %s: %w; the landing before stays", path, err)
			return
		}
		for _, c := range changes {
			last = c.path
			if f.keep(c.path) {
				fresh[c.path] = c.entry
			}
		}
	}
	for _, layer := range []map[string]*Entry{f.overlay, fresh} {
		for path := range layer {
			f.touched[path] = true
		}
	}
	f.overlay, f.over = fresh, want
}

// decodeHead reads the head's node.
func decodeHead(b []byte) (tree.ConfigHead, error) {
	var h tree.ConfigHead
	if len(b) > maxHeader {
		return h, fmt.Errorf("head of %d octets, at most %d", len(b), maxHeader)
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return tree.ConfigHead{}, err
	}
	if h.Version == 0 || h.Staged < 0 || h.Staged > maxChunks || len(h.Revision) > maxText {
		return tree.ConfigHead{}, fmt.Errorf("version %d, %d chunks, a revision of %d octets: expected a version above 0, at most %d chunks and %d octets", h.Version, h.Staged, len(h.Revision), maxChunks, maxText)
	}
	return h, nil
}
