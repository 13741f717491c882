package repo

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Kinds of objects, as a pack numbers them.
const (
	commitObject = 1
	treeObject   = 2
	blobObject   = 3
	tagObject    = 4
)

var kindNames = map[int]string{commitObject: "commit", treeObject: "tree", blobObject: "blob", tagObject: "tag"}

// object is one that is not written yet.
type object struct {
	kind    int
	content []byte
}

// hashOf is the name that git gives an object: the SHA-1 of kind, length, a zero octet
// and content.
func hashOf(kind int, content []byte) Hash {
	h := sha1.New()
	fmt.Fprintf(h, "%s %d\x00", kindNames[kind], len(content))
	h.Write(content)
	return Hash(h.Sum(nil))
}

// writePack writes objects as git hands them over:
//
//	"PACK" | version 2 (4) | number of objects (4) |
//	  each: kind and length (3 bits of kind and 4 of length in the first octet, 7 of
//	  length in each that follows, least first; the top bit says that one follows),
//	  zlib of the content |
//	SHA-1 of all before (20)
//
// z is reused: a new one costs more than packing a small change does.
func writePack(w io.Writer, z *zlib.Writer, objects []object) error {
	sum := sha1.New()
	out := io.MultiWriter(w, sum)
	head := []byte("PACK\x00\x00\x00\x02")
	if _, err := out.Write(binary.BigEndian.AppendUint32(head, uint32(len(objects)))); err != nil {
		return err
	}
	for _, o := range objects {
		n := len(o.content)
		first := byte(o.kind<<4 | n&15)
		n >>= 4
		var b []byte
		for n > 0 {
			b = append(b, first|0x80)
			first = byte(n & 127)
			n >>= 7
		}
		if _, err := out.Write(append(b, first)); err != nil {
			return err
		}
		z.Reset(out)
		if _, err := z.Write(o.content); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
	}
	_, err := w.Write(sum.Sum(nil))
	return err
}

// Batch is objects that are written together.
type Batch struct {
	repo    *Repo
	objects []object
	has     map[Hash]bool
	roots   []*node
}

// Batch gives an empty one.
func (r *Repo) Batch() *Batch { return &Batch{repo: r, has: map[Hash]bool{}} }

func (b *Batch) add(kind int, content []byte) Hash {
	h := hashOf(kind, content)
	if !b.has[h] {
		b.has[h] = true
		b.objects = append(b.objects, object{kind, content})
	}
	return h
}

// NewCommit is a commit to make.
type NewCommit struct {
	Tree      *Tree
	Parents   []Hash
	Author    string // a name; who
	Committer string // a name; "": the author
	When      time.Time
	Message   string
}

// Commit adds a commit, and of its tree what is not in the repository yet.
func (b *Batch) Commit(c NewCommit) Hash {
	for _, o := range c.Tree.staged {
		b.add(o.kind, o.content)
	}
	if c.Tree.root.hash == emptyNode.hash { // nobody stages it
		b.add(treeObject, nil)
	}
	b.roots = append(b.roots, c.Tree.root)
	if c.Committer == "" {
		c.Committer = c.Author
	}
	var w bytes.Buffer
	fmt.Fprintf(&w, "tree %s\n", c.Tree.root.hash)
	for _, p := range c.Parents {
		fmt.Fprintf(&w, "parent %s\n", p)
	}
	fmt.Fprintf(&w, "author %s\n", signature(c.Author, c.When))
	fmt.Fprintf(&w, "committer %s\n\n%s\n", signature(c.Committer, c.When), cleanMessage(c.Message))
	return b.add(commitObject, w.Bytes())
}

// packFrom is the number of objects from which a batch becomes a pack of the repository
// instead of files, each with an fsync of its own: where receive.unpackLimit has it.
const packFrom = 100

// Write writes all of the batch. Nothing refers to its objects before a reference does,
// so that a batch cut short is without effect.
func (b *Batch) Write(ctx context.Context) error {
	if len(b.objects) == 0 {
		return nil
	}
	var pack bytes.Buffer
	z, _ := b.repo.packers.Get().(*zlib.Writer)
	if z == nil {
		z = zlib.NewWriter(nil)
	}
	err := writePack(&pack, z, b.objects)
	b.repo.packers.Put(z)
	if err != nil {
		return err
	}
	args := []string{"unpack-objects", "-q"}
	if len(b.objects) >= packFrom {
		args = []string{"index-pack", "--stdin"}
	}
	if err := b.repo.git(ctx, Command{Args: args, Stdin: &pack}); err != nil {
		return fmt.Errorf("write %d objects: %w", len(b.objects), err)
	}
	b.objects = nil
	for _, n := range b.roots {
		b.repo.nodes.addAll(n)
	}
	return nil
}

// signature is the line of a commit that says who and when. Names that are no mail
// address get one that cannot exist.
func signature(who string, when time.Time) string {
	who = strings.Map(func(c rune) rune {
		if c < ' ' || c == '<' || c == '>' || c == 0x7f || c == utf8.RuneError {
			return -1
		}
		return c
	}, who)
	// git takes dots and the like off both ends; fsck wants something to be left.
	if who = strings.Trim(who, " .,:;\"'\\"); who == "" {
		who = "unknown"
	}
	mail := who
	if !strings.Contains(who, "@") {
		mail = strings.ReplaceAll(who, " ", "-") + "@zonecast.invalid"
	}
	return fmt.Sprintf("%s <%s> %d +0000", who, mail, max(when.Unix(), 0))
}

// cleanMessage takes out what a commit message cannot have.
func cleanMessage(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' && c != '\n' && c != '\t' || c == 0x7f || c == utf8.RuneError {
			return -1
		}
		return c
	}, strings.ReplaceAll(s, "\r\n", "\n"))
	return strings.TrimRight(s, "\n\t ")
}

// Commit is a commit that was read.
type Commit struct {
	Hash      Hash
	Tree      Hash
	Parents   []Hash
	Author    string // the name alone
	Committer string
	When      time.Time // of the committer
	Message   string
}

// Parent is the first parent; zero for the first commit of a repository.
func (c *Commit) Parent() Hash {
	if len(c.Parents) == 0 {
		return Hash{}
	}
	return c.Parents[0]
}

// maxCommit bounds a commit's own text, in octets: the longest message that is written
// here is far below.
const maxCommit = 1 << 20

// Commit reads a commit.
func (r *Repo) Commit(ctx context.Context, h Hash) (*Commit, error) {
	head, b, err := r.cat.content(ctx, h.String(), maxCommit)
	if err != nil {
		return nil, err
	}
	if head.kind != "commit" {
		return nil, fmt.Errorf("object %s: is a %s, expected a commit", h, head.kind)
	}
	c, err := parseCommit(b)
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", h, err)
	}
	c.Hash = h
	return c, nil
}

// parseCommit reads
//
//	"tree " hash LF ("parent " hash LF)* "author " name " <" mail "> " unix " " zone LF
//	"committer " … LF (other headers, those that go on begin with a space)* LF message
func parseCommit(b []byte) (*Commit, error) {
	c := &Commit{}
	head, message, ok := bytes.Cut(b, []byte("\n\n"))
	if !ok {
		// A commit without a message ends behind its headers.
		head = bytes.TrimSuffix(b, []byte("\n"))
	}
	c.Message = strings.ToValidUTF8(string(message), "?")
	seen := map[string]bool{}
	for line := range strings.SplitSeq(string(head), "\n") {
		key, value, _ := strings.Cut(line, " ")
		var err error
		switch key {
		case "tree":
			if seen[key] {
				return nil, fmt.Errorf("has two trees")
			}
			c.Tree, err = ParseHash(value)
		case "parent":
			var p Hash
			if len(c.Parents) == 1000 {
				return nil, fmt.Errorf("has more than 1000 parents")
			}
			if p, err = ParseHash(value); err == nil {
				c.Parents = append(c.Parents, p)
			}
		case "author":
			c.Author, _, err = parseSignature(value)
		case "committer":
			c.Committer, c.When, err = parseSignature(value)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		seen[key] = true
	}
	for _, key := range []string{"tree", "author", "committer"} {
		if !seen[key] {
			return nil, fmt.Errorf("no line %q", key)
		}
	}
	return c, nil
}

func parseSignature(s string) (name string, when time.Time, err error) {
	name, rest, ok := strings.Cut(s, "<")
	_, rest, ok2 := strings.Cut(rest, "> ")
	if !ok || !ok2 {
		return "", time.Time{}, fmt.Errorf("%.100q: expected name <mail> time zone", s)
	}
	unix, _, _ := strings.Cut(rest, " ")
	n, err := strconv.ParseInt(unix, 10, 64)
	if err != nil || n < 0 || n > 1<<40 {
		return "", time.Time{}, fmt.Errorf("time %.30q: expected seconds since 1970", unix)
	}
	return strings.ToValidUTF8(strings.TrimSpace(name), "?"), time.Unix(n, 0).UTC(), nil
}
