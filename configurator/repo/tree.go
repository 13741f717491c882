package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// Tree is all files of a commit, or of one that could be made. It never changes, and may
// be used by many at once for as long as the Repo is open.
type Tree struct {
	repo   *Repo
	root   *node
	staged map[Hash]object // objects below root that may not be in the repository yet
}

var (
	_ fs.ReadDirFS  = (*Tree)(nil)
	_ fs.ReadFileFS = (*Tree)(nil)
	_ fs.StatFS     = (*Tree)(nil)
)

// Tree gives the files of a commit. An error says which file of it is not allowed.
func (r *Repo) Tree(ctx context.Context, commit Hash) (*Tree, error) {
	c, err := r.Commit(ctx, commit)
	if err != nil {
		return nil, err
	}
	n, err := r.load(ctx, c.Tree, "", 1)
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", commit.Short(), err)
	}
	return &Tree{repo: r, root: n}, nil
}

// File gives one file of a commit, of at most max octets; nil if it is not there. It reads
// nothing else of the commit.
func (r *Repo) File(ctx context.Context, commit Hash, path string, max int64) ([]byte, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	h, b, err := r.cat.content(ctx, commit.String()+":"+path, max)
	switch {
	case errors.Is(err, ErrMissing):
		return nil, nil
	case err != nil:
		return nil, err
	case h.kind != "blob":
		return nil, fmt.Errorf("%s of commit %s: is a %s, expected a file", path, commit.Short(), h.kind)
	}
	return b, nil
}

// Empty gives the tree without files.
func (r *Repo) Empty() *Tree { return &Tree{repo: r, root: emptyNode} }

// Hash names the tree: equal files, equal hashes.
func (t *Tree) Hash() Hash { return t.root.hash }

// Files is the number of files.
func (t *Tree) Files() int { return int(t.root.files) }

// find gives the entry at name.
func (t *Tree) find(op, name string) (*entry, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	e := &entry{name: ".", mode: modeFolder, dir: t.root}
	if name == "." {
		return e, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if e == nil || e.dir == nil {
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
		e = e.dir.entry(part)
	}
	if e == nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return e, nil
}

// blob gives the content of a file.
func (t *Tree) blob(e *entry) ([]byte, error) {
	if o, ok := t.staged[e.hash]; ok {
		return bytes.Clone(o.content), nil
	}
	// fs.FS has no context; a question to git is bounded by the time that commands have.
	ctx, cancel := context.WithTimeout(context.Background(), t.repo.cfg.Timeout)
	defer cancel()
	_, b, err := t.repo.cat.content(ctx, e.hash.String(), t.repo.cfg.Limits.FileSize)
	return b, err
}

// ReadFile gives the content of a file.
func (t *Tree) ReadFile(name string) ([]byte, error) {
	e, err := t.find("read", name)
	if err != nil {
		return nil, err
	}
	if e.dir != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrInvalid}
	}
	b, err := t.blob(e)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return b, nil
}

// ReadDir lists a folder by name.
func (t *Tree) ReadDir(name string) ([]fs.DirEntry, error) {
	e, err := t.find("readdir", name)
	if err != nil {
		return nil, err
	}
	if e.dir == nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrInvalid}
	}
	list := make([]fs.DirEntry, len(e.dir.entries))
	for i := range e.dir.entries {
		list[i] = info{&e.dir.entries[i]}
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

// Stat says what is at name.
func (t *Tree) Stat(name string) (fs.FileInfo, error) {
	e, err := t.find("stat", name)
	if err != nil {
		return nil, err
	}
	return info{e}, nil
}

// Open opens a file or a folder.
func (t *Tree) Open(name string) (fs.File, error) {
	e, err := t.find("open", name)
	if err != nil {
		return nil, err
	}
	if e.dir != nil {
		list, err := t.ReadDir(name)
		return &openFolder{info{e}, list}, err
	}
	b, err := t.blob(e)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &openFile{bytes.NewReader(b), info{e}}, nil
}

// info is an entry as io/fs sees it. Commits keep no times of files.
type info struct{ e *entry }

func (i info) Name() string               { return i.e.name }
func (i info) Size() int64                { return i.e.size }
func (i info) IsDir() bool                { return i.e.dir != nil }
func (i info) Type() fs.FileMode          { return i.Mode().Type() }
func (i info) ModTime() time.Time         { return time.Time{} }
func (i info) Sys() any                   { return nil }
func (i info) Info() (fs.FileInfo, error) { return i, nil }

func (i info) Mode() fs.FileMode {
	switch i.e.mode {
	case modeFolder:
		return fs.ModeDir | 0o555
	case modeExec:
		return 0o555
	default:
		return 0o444
	}
}

type openFile struct {
	*bytes.Reader
	i info
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.i, nil }
func (f *openFile) Close() error               { return nil }

type openFolder struct {
	i    info
	rest []fs.DirEntry
}

func (f *openFolder) Stat() (fs.FileInfo, error) { return f.i, nil }
func (f *openFolder) Close() error               { return nil }

func (f *openFolder) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: f.i.Name(), Err: fs.ErrInvalid}
}

func (f *openFolder) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(f.rest)
	} else if len(f.rest) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(f.rest))
	list := f.rest[:n]
	f.rest = f.rest[n:]
	return list, nil
}

// draft is a folder that is being changed.
type draft struct {
	entries map[string]*entry
	folders map[string]*draft // those of entries that are being changed, too
}

func newDraft(n *node) *draft {
	d := &draft{entries: make(map[string]*entry, len(n.entries)), folders: map[string]*draft{}}
	for i := range n.entries {
		d.entries[n.entries[i].name] = &n.entries[i]
	}
	return d
}

// folder gives the draft of the folder name; made if make is set, nil if there is none.
func (d *draft) folder(name string, make bool) (*draft, error) {
	if f := d.folders[name]; f != nil {
		return f, nil
	}
	e := d.entries[name]
	switch {
	case e == nil && !make:
		return nil, nil
	case e == nil:
		d.folders[name] = newDraft(emptyNode)
	case e.dir == nil:
		return nil, fmt.Errorf("%s is a file", name)
	default:
		d.folders[name] = newDraft(e.dir)
	}
	d.entries[name] = nil
	return d.folders[name], nil
}

// freeze gives the folder as it is now. Folders without files go.
func (d *draft) freeze(keep func(*node)) *node {
	var entries []entry
	for name, e := range d.entries {
		if f := d.folders[name]; f != nil {
			if n := f.freeze(keep); len(n.entries) > 0 {
				entries = append(entries, entry{name: name, mode: modeFolder, hash: n.hash, dir: n})
			}
		} else if e != nil {
			entries = append(entries, *e)
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.key(), b.key()) })
	n := newNode(entries)
	keep(n)
	return n
}

// With gives the tree with changes on top: by path, a file's new content, or nil to
// remove it.
func (t *Tree) With(changes map[string][]byte) (*Tree, error) {
	root := newDraft(t.root)
	out := &Tree{repo: t.repo, staged: maps.Clone(t.staged)}
	if out.staged == nil {
		out.staged = map[Hash]object{}
	}
	// Removals first: a file may take the place of a folder.
	for _, removals := range []bool{true, false} {
		for _, name := range slices.Sorted(maps.Keys(changes)) {
			content := changes[name]
			if (content == nil) != removals {
				continue
			}
			if err := checkPath(name); err != nil {
				return nil, err
			}
			if err := root.set(name, content, out.staged, t.repo.cfg.Limits.FileSize); err != nil {
				return nil, err
			}
		}
	}
	out.root = root.freeze(out.keep)
	if err := t.repo.cfg.Limits.check(out.root); err != nil {
		return nil, err
	}
	return out, nil
}

// keep notes a folder that may be new.
func (t *Tree) keep(n *node) {
	if t.repo.nodes.get(n.hash) == nil {
		t.staged[n.hash] = object{treeObject, n.encode()}
	}
}

// set changes one file; nil removes it.
func (d *draft) set(name string, content []byte, staged map[Hash]object, maxSize int64) error {
	at := func(why string) error { return fmt.Errorf("%s: %s", name, why) }
	dir, base := path.Split(name)
	for part := range strings.SplitSeq(strings.TrimSuffix(dir, "/"), "/") {
		if part == "" {
			break
		}
		next, err := d.folder(part, content != nil)
		if err != nil {
			return at("cannot be there: " + err.Error())
		}
		if next == nil {
			return at("cannot be removed: it is not there")
		}
		d = next
	}
	e := d.entries[base]
	if f := d.folders[base]; f != nil && !f.empty() || e.folder() {
		return at("is a folder, expected a file")
	}
	if content == nil {
		if e == nil {
			return at("cannot be removed: it is not there")
		}
		delete(d.entries, base)
		return nil
	}
	if int64(len(content)) > maxSize {
		return at(fmt.Sprintf("has %d octets, expected at most %d", len(content), maxSize))
	}
	file := &entry{name: base, mode: modeFile, hash: hashOf(blobObject, content), size: int64(len(content))}
	if e != nil {
		file.mode = e.mode
	}
	delete(d.folders, base)
	d.entries[base] = file
	staged[file.hash] = object{blobObject, content}
	return nil
}

// empty reports whether freeze would find no file.
func (d *draft) empty() bool {
	for name, e := range d.entries {
		if f := d.folders[name]; f != nil && !f.empty() || f == nil && e != nil {
			return false
		}
	}
	return true
}

// File is one file of a tree.
type File struct {
	Hash       Hash // of its content
	Size       int64
	Executable bool
}

// List calls f with the files behind the path after ("" is before all), in the order of
// their paths as octets, until it returns false.
func (t *Tree) List(after string, f func(path string, file File) bool) { list(t.root, "", after, f) }

func list(n *node, prefix, after string, f func(string, File) bool) bool {
	for i := range n.entries {
		e := &n.entries[i]
		path := prefix + e.name
		switch {
		case e.dir != nil:
			// All that is below begins with path and a slash.
			if path+"/" <= after && !strings.HasPrefix(after, path+"/") {
				continue
			}
			if !list(e.dir, path+"/", after, f) {
				return false
			}
		case path > after && !f(path, File{e.hash, e.size, e.mode == modeExec}):
			return false
		}
	}
	return true
}

// Changed gives the paths of the files that differ between two commits, sorted.
func (r *Repo) Changed(ctx context.Context, from, to Hash) ([]string, error) {
	a, err := r.Tree(ctx, from)
	if err != nil {
		return nil, err
	}
	b, err := r.Tree(ctx, to)
	if err != nil {
		return nil, err
	}
	return a.Changed(b), nil
}

// Changed gives the paths of the files that differ between two trees, sorted.
func (t *Tree) Changed(to *Tree) []string {
	var paths []string
	changed(t.root, to.root, "", &paths)
	slices.Sort(paths)
	return paths
}

func changed(a, b *node, prefix string, paths *[]string) {
	if a.hash == b.hash {
		return
	}
	all := func(e *entry) {
		if e.dir != nil {
			changed(e.dir, emptyNode, prefix+e.name+"/", paths)
		} else {
			*paths = append(*paths, prefix+e.name)
		}
	}
	for name, e := range pairs(a, b) {
		switch {
		case e[0] == nil:
			all(e[1])
		case e[1] == nil:
			all(e[0])
		case e[0].hash == e[1].hash && e[0].mode == e[1].mode:
		case e[0].dir != nil && e[1].dir != nil:
			changed(e[0].dir, e[1].dir, prefix+name+"/", paths)
		case e[0].dir == nil && e[1].dir == nil:
			*paths = append(*paths, prefix+name)
		default:
			all(e[0])
			all(e[1])
		}
	}
}

// pairs gives the entries of two folders by name.
func pairs(a, b *node) map[string][2]*entry {
	names := make(map[string][2]*entry)
	for i := range a.entries {
		e := &a.entries[i]
		if other := b.entry(e.name); other == nil || *other != *e {
			names[e.name] = [2]*entry{e, other}
		}
	}
	for i := range b.entries {
		e := &b.entries[i]
		if a.entry(e.name) == nil {
			names[e.name] = [2]*entry{nil, e}
		}
	}
	return names
}
