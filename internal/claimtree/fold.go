package claimtree

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// Change is a shard's new content: all its claims, or nil when it is gone. For a
// headed source the shard's name is its node's, and a shard's content never
// changes: it comes, and it goes.
type Change struct {
	Source record.Source
	Shard  string
	Claims []record.Claim
}

// Fold turns batches of a watch of tree.Claims into changes. It belongs to one
// goroutine. Its work is in proportion to the batch, plus the heads in it.
type Fold struct {
	sources map[record.Source]*folded
	// gate is what tree.ClaimsGate said last; between are the sources whose heads have two
	// states.
	gate    uint64
	between map[record.Source]bool
	// unread has why nodes cannot be read now: by path, of a headed source by its head's.
	unread map[string]error
}

// folded is what is known of one source.
type folded struct {
	independent map[string]independent

	stored map[id][]byte // values of headed shards, live or not
	live   map[id]bool   // those whose claims are out
	head   []byte        // newest value of the head, applied or not; nil when there is none
}

// independent is a node that is live by itself.
type independent struct {
	modified store.Revision
	live     bool  // a value of it decoded, and its claims are out
	err      error // why the newest value did not decode
}

// NewFold makes a fold that knows nothing: its first batch must be a Reset.
func NewFold() *Fold {
	return &Fold{sources: map[record.Source]*folded{}, between: map[record.Source]bool{}, unread: map[string]error{}}
}

// Unread is why claims cannot be read as of the last Apply, joined in order of path;
// nil when all can.
func (f *Fold) Unread() error {
	var errs []error
	for _, path := range slices.Sorted(maps.Keys(f.unread)) {
		errs = append(errs, f.unread[path])
	}
	return errors.Join(errs...)
}

// read notes whether what is at path could be read, and gives err.
func (f *Fold) read(path string, err error) error {
	if err == nil {
		delete(f.unread, path)
	} else {
		f.unread[path] = err
	}
	return err
}

// Apply takes the next batch and returns what it changes, ordered by source and
// shard; all of it must be applied together. An error names the shards that could
// not be read, of which the last good state stays in force; the changes hold
// beside it.
func (f *Fold) Apply(b store.Batch) ([]Change, error) {
	var changes []Change
	var errs []error
	out := func(s record.Source, shard string, claims []record.Claim) {
		changes = append(changes, Change{s, shard, claims})
	}
	heads := map[record.Source]bool{}   // headed sources of which something changed
	touched := map[record.Source]bool{} // all of which something changed
	gone := func(path string) {
		delete(f.unread, path)
		s, name, ok := tree.SplitClaim(path)
		src := f.sources[s]
		if !ok || src == nil {
			return
		}
		touched[s] = true
		if i, ok := parseName(name); ok {
			delete(src.stored, i)
			heads[s] = true
		} else if name == headName {
			src.head = nil
			heads[s] = true
		} else if old, ok := src.independent[name]; ok {
			delete(src.independent, name)
			if old.live {
				out(s, name, nil)
			}
		}
	}
	if b.Reset {
		for _, path := range f.missing(b.Puts) {
			gone(path)
		}
		// What never was a shard is in no list of its own. Settling a head says
		// again what is wrong with its source.
		clear(f.unread)
		for s, src := range f.sources {
			for name, i := range src.independent {
				if i.err != nil {
					f.unread[Path(s, name)] = i.err
				}
			}
		}
	}
	for _, path := range b.Deletes {
		gone(path)
	}
	for _, n := range b.Puts {
		if n.Path == tree.ClaimsGate {
			gate, err := decodeGate(n)
			if f.read(n.Path, err) != nil {
				errs = append(errs, err)
				continue
			}
			f.gate = gate
			maps.Copy(heads, f.between)
			continue
		}
		s, name, ok := tree.SplitClaim(n.Path)
		if err := s.Check(); !ok || err != nil {
			errs = append(errs, f.read(n.Path, fmt.Errorf("node %s: is no claim shard: %w", n.Path, err)))
			continue
		}
		src := f.sources[s]
		if src == nil {
			src = &folded{independent: map[string]independent{}, stored: map[id][]byte{}, live: map[id]bool{}}
			f.sources[s] = src
		}
		if i, ok := parseName(name); ok {
			src.stored[i] = n.Value
			heads[s] = true
			continue
		}
		if name == headName {
			src.head = n.Value
			heads[s] = true
			continue
		}
		old, known := src.independent[name]
		if known && old.modified == n.Modified {
			continue // a Reset repeats it
		}
		claims, err := decode(n.Path, s, n.Value)
		if f.read(n.Path, err) != nil {
			src.independent[name] = independent{n.Modified, old.live, err}
			errs = append(errs, err)
			continue
		}
		src.independent[name] = independent{n.Modified, true, nil}
		out(s, name, claims)
	}
	for _, s := range slices.Sorted(maps.Keys(heads)) {
		if err := f.read(tree.ClaimsPrefix(s)+headName, f.settle(s, out)); err != nil {
			errs = append(errs, err)
		}
	}
	for s := range touched {
		src := f.sources[s]
		if len(src.independent) == 0 && len(src.stored) == 0 && src.head == nil && len(src.live) == 0 {
			delete(f.sources, s)
		}
	}
	slices.SortStableFunc(changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Shard, b.Shard))
	})
	return changes, errors.Join(errs...)
}

// Adopt tells whether a shard is in the store, or named by a head there, and cannot be
// read. Its claims then count as out: somebody has them from before.
func (f *Fold) Adopt(s record.Source, shard string) bool {
	src := f.sources[s]
	if src == nil {
		return false
	}
	if i, ok := parseName(shard); ok {
		if f.unread[tree.ClaimsPrefix(s)+headName] == nil || src.live[i] {
			return false
		}
		src.live[i] = true
		return true
	}
	old, ok := src.independent[shard]
	if !ok || old.err == nil || old.live {
		return false
	}
	old.live = true
	src.independent[shard] = old
	return true
}

// missing lists the paths that are known but not among puts.
func (f *Fold) missing(puts []store.Node) []string {
	have := make(map[string]bool, len(puts))
	for _, n := range puts {
		have[n.Path] = true
	}
	var paths []string
	add := func(path string) {
		if !have[path] {
			paths = append(paths, path)
		}
	}
	for s, src := range f.sources {
		for name := range src.independent {
			add(Path(s, name))
		}
		for i := range src.stored {
			add(i.path(s))
		}
		if src.head != nil {
			add(tree.ClaimsPrefix(s) + headName)
		}
	}
	return paths
}

// settle brings what is live of a headed source in line with its head: all of it,
// or on an error nothing.
func (f *Fold) settle(s record.Source, out func(record.Source, string, []record.Claim)) error {
	src := f.sources[s]
	if src == nil {
		return nil
	}
	var ids []id
	delete(f.between, s)
	if src.head != nil {
		h, err := decodeHead(src.head)
		if err != nil {
			return fmt.Errorf("node %s%s: %w", tree.ClaimsPrefix(s), headName, err)
		}
		if h.number > 0 {
			f.between[s] = true
		}
		ids = h.at(f.gate)
	}
	fresh := map[id][]record.Claim{}
	want := make(map[id]bool, len(ids))
	for _, i := range ids {
		want[i] = true
		if src.live[i] {
			continue
		}
		value, ok := src.stored[i]
		if !ok {
			return fmt.Errorf("node %s: is missing, the head of %s names it; its last good state stays", i.path(s), s)
		}
		if idOf(value) != i {
			return fmt.Errorf("node %s: content is not what the name says; the last good state of %s stays", i.path(s), s)
		}
		claims, err := decode(i.path(s), s, value)
		if err != nil {
			return err
		}
		fresh[i] = claims
	}
	for i := range src.live {
		if !want[i] {
			delete(src.live, i)
			out(s, i.name(), nil)
		}
	}
	for i, claims := range fresh {
		src.live[i] = true
		out(s, i.name(), claims)
	}
	return nil
}

func decode(path string, s record.Source, value []byte) ([]record.Claim, error) {
	claims, err := record.DecodeShard(value)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", path, err)
	}
	if len(claims) == 0 {
		return nil, nil
	}
	if claims[0].Source != s {
		return nil, fmt.Errorf("node %s: has claims of source %s", path, claims[0].Source)
	}
	return claims, nil
}
