package repo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Lines is a range of lines of a file, from 1, both ends included. To < From: between
// To and From, where nothing is.
type Lines struct{ From, To int }

func (l Lines) String() string {
	switch {
	case l.To < l.From:
		return fmt.Sprintf("after line %d", l.To)
	case l.To == l.From:
		return fmt.Sprintf("line %d", l.From)
	default:
		return fmt.Sprintf("lines %d-%d", l.From, l.To)
	}
}

// Clash is what two changes do to one file.
type Clash string

const (
	BothChange   Clash = "both change it"          // in the same lines
	BothAdd      Clash = "both add it"             // with different contents
	BothBinary   Clash = "both change it, no text" // octets are not merged
	BothMode     Clash = "both change its mode"
	Removed      Clash = "one changes it, which the other removed"
	FileOrFolder Clash = "one has a file where the other has a folder"
)

// FileConflict is one file that two changes cannot both have.
type FileConflict struct {
	Path  string
	Clash Clash
	Lines []Lines // of the file in Onto; none when all of it is meant
	// By is the commit behind Base and up to Onto with which the conflict begins.
	By Hash
}

func (f FileConflict) String() string {
	s := f.Path
	for i, l := range f.Lines {
		if i == 0 {
			s += " "
		} else {
			s += ", "
		}
		s += l.String()
	}
	return s + ": " + string(f.Clash)
}

// Conflict is a change that does not go on top of what has happened since its base.
type Conflict struct {
	Base, Onto, Theirs Hash
	Files              []FileConflict // by path, the first ones
	More               int            // that are not in Files
}

// maxConflicts is how many files a Conflict names.
const maxConflicts = 20

func (c *Conflict) Error() string {
	var files []string
	for _, f := range c.Files {
		s := f.String()
		if !f.By.IsZero() {
			s += " (" + f.By.Short() + ")"
		}
		files = append(files, s)
	}
	if c.More > 0 {
		files = append(files, fmt.Sprintf("and %d more files", c.More))
	}
	return fmt.Sprintf("change %s conflicts with what %s has since %s: %s", c.Theirs.Short(), c.Onto.Short(), c.Base.Short(), strings.Join(files, "; "))
}

// Merge gives the files of onto with what theirs changes since base on top, or a
// *Conflict. Files are merged by lines. Nothing is written: a Batch writes what a commit
// is made of. That both changes together make sense is for the caller to find out.
func (r *Repo) Merge(ctx context.Context, base, onto, theirs Hash) (*Tree, error) {
	t, err := r.Tree(ctx, theirs)
	if err != nil {
		return nil, err
	}
	return r.merge(ctx, base, onto, theirs, t)
}

// MergeTree is Merge of a tree that may be in no commit yet.
func (r *Repo) MergeTree(ctx context.Context, base, onto Hash, theirs *Tree) (*Tree, error) {
	return r.merge(ctx, base, onto, Hash{}, theirs)
}

// merge is Merge; tree has the files of theirs, which is zero if it is in no commit.
func (r *Repo) merge(ctx context.Context, base, onto, theirs Hash, tree *Tree) (*Tree, error) {
	var trees [3]*Tree
	for i, h := range []Hash{base, onto} {
		var err error
		if trees[i], err = r.Tree(ctx, h); err != nil {
			return nil, err
		}
	}
	trees[2] = tree
	m := newMerge(ctx, r, tree)
	root, err := m.folders(trees[0].root, trees[1].root, trees[2].root, "")
	if err != nil {
		return nil, err
	}
	if len(m.found) == 0 {
		m.out.root = root
		m.out.keep(root)
		if err := r.cfg.Limits.check(root); err != nil {
			return nil, fmt.Errorf("on top of %s: %w", onto.Short(), err)
		}
		return m.out, nil
	}
	c := &Conflict{Base: base, Onto: onto, Theirs: theirs, Files: m.found}
	slices.SortFunc(c.Files, func(a, b FileConflict) int { return strings.Compare(a.Path, b.Path) })
	if len(c.Files) > maxConflicts {
		c.More = len(c.Files) - maxConflicts
		c.Files = slices.Clone(c.Files[:maxConflicts])
	}
	for i := range c.Files {
		f := &c.Files[i]
		if f.By, err = r.culprit(ctx, trees[0], trees[2], c, f.Path); err != nil {
			return nil, err
		}
	}
	return nil, c
}

// maxSuspects is how many commits are tried to find the one that a change conflicts
// with. Of more the newest is named.
const maxSuspects = 64

// culprit gives the first commit between base and onto with which theirs conflicts in
// the file at path.
func (r *Repo) culprit(ctx context.Context, base, theirs *Tree, c *Conflict, path string) (Hash, error) {
	out, err := r.output(ctx, maxSuspects*41, nil, "rev-list", "--first-parent", "-n", strconv.Itoa(maxSuspects), c.Base.String()+".."+c.Onto.String(), "--", path)
	if err != nil {
		return Hash{}, err
	}
	suspects := strings.Fields(string(out))
	for _, s := range slices.Backward(suspects) {
		h, err := ParseHash(s)
		if err != nil {
			return Hash{}, err
		}
		onto, err := r.Tree(ctx, h)
		if err != nil {
			continue // not one that anything could land on
		}
		m := newMerge(ctx, r, theirs)
		if _, err := m.folders(only(base.root, path), only(onto.root, path), only(theirs.root, path), ""); err != nil {
			return Hash{}, err
		}
		if len(m.found) > 0 {
			return h, nil
		}
	}
	if len(suspects) > 0 {
		return ParseHash(suspects[0])
	}
	return c.Onto, nil
}

// only gives a folder that has nothing but what is at path.
func only(n *node, path string) *node {
	name, rest, deeper := strings.Cut(path, "/")
	e := n.entry(name)
	if e == nil {
		return emptyNode
	}
	one := *e
	if deeper && e.dir != nil {
		one.dir = only(e.dir, rest)
		one.hash = one.dir.hash
	}
	return newNode([]entry{one})
}

// merge is one merge of three trees.
type merge struct {
	ctx   context.Context
	repo  *Repo
	out   *Tree
	found []FileConflict
}

// newMerge begins a merge of theirs, whose new objects are read as those of the result are.
func newMerge(ctx context.Context, r *Repo, theirs *Tree) *merge {
	m := &merge{ctx: ctx, repo: r, out: &Tree{repo: r, staged: maps.Clone(theirs.staged)}}
	if m.out.staged == nil {
		m.out.staged = map[Hash]object{}
	}
	return m
}

func (m *merge) clash(path string, why Clash, lines ...Lines) {
	m.found = append(m.found, FileConflict{Path: path, Clash: why, Lines: lines})
}

func same(a, b *entry) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.hash == b.hash && a.mode == b.mode
}

// below gives a folder's content; that of no folder is empty.
func below(e *entry) *node {
	if e == nil || e.dir == nil {
		return emptyNode
	}
	return e.dir
}

func (m *merge) folders(base, onto, theirs *node, prefix string) (*node, error) {
	if base.hash == theirs.hash || onto.hash == theirs.hash {
		return onto, nil
	}
	if base.hash == onto.hash {
		return theirs, nil
	}
	names := pairs(base, theirs) // what theirs leaves as it was stays as it is in onto
	entries := make([]entry, 0, len(onto.entries)+len(names))
	for i := range onto.entries {
		if _, touched := names[onto.entries[i].name]; !touched {
			entries = append(entries, onto.entries[i])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		e, err := m.entry(names[name][0], onto.entry(name), names[name][1], prefix+name)
		if err != nil {
			return nil, err
		}
		if e != nil {
			entries = append(entries, *e)
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.key(), b.key()) })
	n := newNode(entries)
	m.out.keep(n)
	return n, nil
}

// entry merges what is at one name: the files that are there, the folders that are
// there, each as if the other were not, and then there must be one of both at most.
func (m *merge) entry(base, onto, theirs *entry, path string) (*entry, error) {
	switch {
	case same(onto, theirs) || same(base, theirs):
		return onto, nil
	case same(base, onto):
		return theirs, nil
	}
	file, err := m.file(asFile(base), asFile(onto), asFile(theirs), path)
	if err != nil {
		return nil, err
	}
	found := len(m.found)
	n, err := m.folders(below(base), below(onto), below(theirs), path+"/")
	switch {
	case err != nil:
		return nil, err
	case len(n.entries) == 0:
		return file, nil
	case file != nil && len(m.found) == found:
		m.clash(path, FileOrFolder)
		return file, nil
	}
	return &entry{name: path[strings.LastIndexByte(path, '/')+1:], mode: modeFolder, hash: n.hash, dir: n}, nil
}

// asFile gives e if it is a file.
func asFile(e *entry) *entry {
	if e.folder() {
		return nil
	}
	return e
}

func (m *merge) file(base, onto, theirs *entry, path string) (*entry, error) {
	switch {
	case same(onto, theirs) || same(base, theirs):
		return onto, nil
	case same(base, onto):
		return theirs, nil
	case onto == nil || theirs == nil:
		m.clash(path, Removed)
		return onto, nil
	case base == nil:
		m.clash(path, BothAdd)
		return onto, nil
	}
	merged := *onto
	if merged.mode == base.mode {
		merged.mode = theirs.mode
	} else if theirs.mode != base.mode && theirs.mode != onto.mode {
		m.clash(path, BothMode)
		return onto, nil
	}
	switch {
	case onto.hash == theirs.hash || base.hash == theirs.hash:
		return &merged, nil
	case base.hash == onto.hash:
		merged.hash, merged.size = theirs.hash, theirs.size
		return &merged, nil
	}
	content, lines, clash, err := m.lines(base, onto, theirs)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if clash != "" {
		m.clash(path, clash, lines...)
		return onto, nil
	}
	if int64(len(content)) > m.repo.cfg.Limits.FileSize {
		return nil, fmt.Errorf("%s: has %d octets when merged, expected at most %d", path, len(content), m.repo.cfg.Limits.FileSize)
	}
	merged.hash, merged.size = hashOf(blobObject, content), int64(len(content))
	m.out.staged[merged.hash] = object{blobObject, content}
	return &merged, nil
}
