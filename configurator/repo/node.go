package repo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// mode is what git says an entry of a folder is.
type mode string

const (
	modeFile   mode = "100644"
	modeExec   mode = "100755"
	modeFolder mode = "40000"
)

// entry is one of a folder's.
type entry struct {
	name string
	mode mode
	hash Hash
	size int64 // of a file, in octets
	dir  *node // of a folder
}

func (e *entry) folder() bool { return e != nil && e.mode == modeFolder }

// key is what git sorts by: a folder as if its name ended in a slash.
func (e *entry) key() string {
	if e.mode == modeFolder {
		return e.name + "/"
	}
	return e.name
}

// node is a folder that was checked, with all that is below. It never changes.
type node struct {
	hash    Hash
	entries []entry // by key
	// What is below, together.
	files  int64
	octets int64
	depth  int // folders above the deepest file, this one included
	path   int // length of the longest path
}

var emptyNode = newNode(nil)

// newNode gives the folder with these entries, sorted by key.
func newNode(entries []entry) *node {
	n := &node{entries: entries, depth: 1}
	n.hash = hashOf(treeObject, n.encode())
	n.sum()
	return n
}

// sum adds up what is below. Sums stop at half of what fits, so that a folder that
// contains itself many times over is big, and not negative.
func (n *node) sum() {
	add := func(to *int64, v int64) { *to = min(*to+v, math.MaxInt64/2) }
	for i := range n.entries {
		e := &n.entries[i]
		length := len(e.name)
		if d := e.dir; d != nil {
			add(&n.files, d.files)
			add(&n.octets, d.octets)
			n.depth = max(n.depth, d.depth+1)
			length += 1 + d.path
		} else {
			add(&n.files, 1)
			add(&n.octets, e.size)
		}
		n.path = max(n.path, length)
	}
}

// encode is the folder as git has it: mode " " name NUL hash, each.
func (n *node) encode() []byte {
	var b bytes.Buffer
	for _, e := range n.entries {
		b.WriteString(string(e.mode))
		b.WriteByte(' ')
		b.WriteString(e.name)
		b.WriteByte(0)
		b.Write(e.hash[:])
	}
	return b.Bytes()
}

// entry finds one by name; nil if there is none.
func (n *node) entry(name string) *entry {
	for _, key := range [2]string{name, name + "/"} {
		i, ok := slices.BinarySearchFunc(n.entries, key, func(e entry, key string) int { return cmp.Compare(e.key(), key) })
		if ok && n.entries[i].name == name {
			return &n.entries[i]
		}
	}
	return nil
}

// parseFolder reads what encode writes, and refuses what is not a file or a folder with
// a name that every file system can have.
func parseFolder(b []byte, maxEntries int) ([]entry, error) {
	var entries []entry
	names := map[string]bool{}
	for len(b) > 0 {
		head, rest, ok := bytes.Cut(b, []byte{0})
		m, name, ok2 := strings.Cut(string(head), " ")
		if !ok || !ok2 || len(rest) < len(Hash{}) {
			return nil, errors.New("the folder is damaged")
		}
		e := entry{name: name, mode: mode(m), hash: Hash(rest[:len(Hash{})])}
		b = rest[len(Hash{}):]
		if err := checkName(name); err != nil {
			return nil, err
		}
		switch e.mode {
		case modeFile, modeExec, modeFolder:
		case "120000":
			return nil, fmt.Errorf("%s: is a symbolic link, which is not followed: put the file there", name)
		case "160000":
			return nil, fmt.Errorf("%s: is a submodule, which is not followed: put the files there", name)
		default:
			return nil, fmt.Errorf("%s: has mode %.10s, expected a file (100644, 100755) or a folder", name, m)
		}
		if len(entries) == maxEntries {
			return nil, fmt.Errorf("has more than %d entries", maxEntries)
		}
		if names[name] || len(entries) > 0 && entries[len(entries)-1].key() >= e.key() {
			return nil, fmt.Errorf("the folder is damaged: %s is in it twice or not in its place", name)
		}
		names[name] = true
		entries = append(entries, e)
	}
	return entries, nil
}

// maxName is the longest name of a file or folder, in octets: what file systems allow.
const maxName = 255

// checkName says what is wrong with the name of one file or folder.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == ".." || strings.EqualFold(name, ".git"):
		return fmt.Errorf("name %q: not allowed", name)
	case len(name) > maxName:
		return fmt.Errorf("name %.40q…: has %d octets, expected at most %d", name, len(name), maxName)
	case !utf8.ValidString(name):
		return fmt.Errorf("name %q: is not UTF-8", name)
	}
	for _, c := range name {
		// What cannot be seen, or turns the direction of what can, has no place in a
		// name that somebody approves.
		if c < ' ' || c >= 0x7f && c < 0xa0 || c == '/' || c == '\\' || c == utf8.RuneError ||
			c >= 0x200b && c <= 0x200f || c >= 0x2028 && c <= 0x202e || c >= 0x2060 && c <= 0x206f || c == 0xfeff {
			return fmt.Errorf("name %q: character %q is not allowed", name, c)
		}
	}
	return nil
}

// checkPath says what is wrong with a path inside a tree.
func checkPath(path string) error {
	for part := range strings.SplitSeq(path, "/") {
		if err := checkName(part); err != nil {
			return fmt.Errorf("path %.200q: %w", path, err)
		}
	}
	return nil
}

// Limits bounds trees. Zero fields mean the defaults.
type Limits struct {
	Files    int64 // default 100,000
	FileSize int64 // of one file, in octets; default 16 MiB
	Octets   int64 // of all files; default 1 GiB
	Depth    int   // folders above a file, the root included; default 32
	Path     int   // octets; default 1,024
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Files: cmp.Or(l.Files, 100_000), FileSize: cmp.Or(l.FileSize, 16<<20), Octets: cmp.Or(l.Octets, 1<<30),
		Depth: cmp.Or(l.Depth, 32), Path: cmp.Or(l.Path, 1024),
	}
}

// check says which limit n exceeds.
func (l Limits) check(n *node) error {
	switch {
	case n.files > l.Files:
		return fmt.Errorf("has %d files, expected at most %d", n.files, l.Files)
	case n.octets > l.Octets:
		return fmt.Errorf("has %d octets in its files, expected at most %d", n.octets, l.Octets)
	case n.depth > l.Depth:
		return fmt.Errorf("has folders %d deep, expected at most %d", n.depth, l.Depth)
	case n.path > l.Path:
		return fmt.Errorf("has a path of %d octets, expected at most %d", n.path, l.Path)
	}
	return nil
}

// nodes keeps folders that are in the repository, by their hash. It has two generations: when the younger is full
// the older one goes, and what is asked for from the older one becomes young again.
type nodes struct {
	mu           sync.Mutex // guards below
	young, older map[Hash]*node
	weight       int // of young, in entries
}

// maxWeight is how many entries a generation of folders has: at some 100 octets each, 50
// MiB.
const maxWeight = 500_000

func (c *nodes) get(h Hash) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.young[h]; n != nil {
		return n
	}
	n := c.older[h]
	if n != nil {
		c.put(n)
	}
	return n
}

// add keeps n.
func (c *nodes) add(n *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(n)
}

// addAll keeps n and what is below, which was just written.
func (c *nodes) addAll(n *node) {
	if c.get(n.hash) != nil {
		return
	}
	for i := range n.entries {
		if d := n.entries[i].dir; d != nil {
			c.addAll(d)
		}
	}
	c.add(n)
}

func (c *nodes) put(n *node) {
	if c.young[n.hash] != nil {
		return
	}
	if c.young == nil || c.weight > maxWeight {
		c.older, c.young, c.weight = c.young, map[Hash]*node{}, 0
	}
	c.young[n.hash] = n
	c.weight += 1 + len(n.entries)
}

// load gives the folder h with all that is below, checked. path names it in errors.
func (r *Repo) load(ctx context.Context, h Hash, path string, depth int) (*node, error) {
	if n := r.nodes.get(h); n != nil {
		return n, nil
	}
	if h == emptyNode.hash {
		return emptyNode, nil
	}
	at := func(err error) error {
		if path == "" {
			return err
		}
		return fmt.Errorf("%s: %w", strings.TrimSuffix(path, "/"), err)
	}
	if depth > r.cfg.Limits.Depth {
		return nil, at(fmt.Errorf("is more than %d folders deep", r.cfg.Limits.Depth))
	}
	// An entry is at most 27 octets and a name.
	head, b, err := r.cat.content(ctx, h.String(), r.cfg.Limits.Files*(27+maxName))
	if err != nil {
		return nil, at(err)
	}
	if head.kind != "tree" {
		return nil, at(fmt.Errorf("object %s: is a %s, expected a folder", h, head.kind))
	}
	entries, err := parseFolder(b, int(r.cfg.Limits.Files))
	if err != nil {
		return nil, at(err)
	}
	var ask []string
	for i := range entries {
		if e := &entries[i]; e.mode != modeFolder {
			ask = append(ask, e.hash.String())
		}
	}
	sizes, err := r.cat.headers(ctx, ask)
	if err != nil {
		return nil, at(err)
	}
	n := &node{hash: h, entries: entries, depth: 1}
	for i := range entries {
		e := &entries[i]
		if e.mode == modeFolder {
			if e.dir, err = r.load(ctx, e.hash, path+e.name+"/", depth+1); err != nil {
				return nil, err
			}
			continue
		}
		if sizes[0].kind != "blob" {
			return nil, at(fmt.Errorf("%s: object %s is not a file in the repository", e.name, e.hash))
		}
		if e.size = sizes[0].size; e.size > r.cfg.Limits.FileSize {
			return nil, at(fmt.Errorf("%s: has %d octets, expected at most %d", e.name, e.size, r.cfg.Limits.FileSize))
		}
		sizes = sizes[1:]
	}
	n.sum()
	// Said here, not at the root alone: what is too big is not read to its end.
	if err := r.cfg.Limits.check(n); err != nil {
		return nil, at(err)
	}
	r.nodes.add(n)
	return n, nil
}
