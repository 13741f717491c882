package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// fatal is what *testing.T and *rapid.T have in common.
type fatal interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func openAt(t fatal, cfg Config) *Repo {
	t.Helper()
	r, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func openTemp(t *testing.T) *Repo {
	t.Helper()
	r := openAt(t, Config{Dir: filepath.Join(t.TempDir(), "config.git")})
	t.Cleanup(func() { r.Close() })
	return r
}

func tipOf(t fatal, r *Repo) Hash {
	t.Helper()
	h, err := r.Tip(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func treeOf(t fatal, r *Repo, h Hash) *Tree {
	t.Helper()
	tree, err := r.Tree(context.Background(), h)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// change writes a commit with changes on top of parent.
func change(t fatal, r *Repo, parent Hash, changes map[string][]byte) Hash {
	t.Helper()
	tree, err := treeOf(t, r, parent).With(changes)
	if err != nil {
		t.Fatal(err)
	}
	return commit(t, r, tree, parent)
}

func commit(t fatal, r *Repo, tree *Tree, parents ...Hash) Hash {
	t.Helper()
	b := r.Batch()
	h := b.Commit(NewCommit{Tree: tree, Parents: parents, Author: "alice", When: time.Unix(1_800_000_000, 0), Message: "a change"})
	if err := b.Write(context.Background()); err != nil {
		t.Fatal(err)
	}
	return h
}

func advance(t fatal, r *Repo, from, to Hash) {
	t.Helper()
	if landed, err := r.Advance(context.Background(), from, to); err != nil || !landed {
		t.Fatalf("advance: landed=%v, %v", landed, err)
	}
}

// userGit runs git as a user would, with that user's own settings, in dir.
func userGit(t fatal, dir string, args ...string) string {
	t.Helper()
	out, err := gitOutput(dir, args...)
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func gitOutput(dir string, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=dave", "GIT_AUTHOR_EMAIL=dave@example.net", "GIT_COMMITTER_NAME=dave", "GIT_COMMITTER_EMAIL=dave@example.net",
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// fsck fails when git finds anything wrong in a repository.
func fsck(t fatal, dir string) {
	t.Helper()
	out := userGit(t, dir, "fsck", "--strict", "--no-dangling")
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "notice: ") {
			t.Fatalf("git fsck: %s", out)
		}
	}
}

func text(lines ...string) []byte { return []byte(strings.Join(lines, "\n") + "\n") }

// failure is how a git dies.
type failure int

const (
	never      failure = iota
	notStarted         // before it did anything
	cutInput           // it was handed the beginning of its input
	killed             // it did its work, and whoever called it died before knowing
)

var errInjected = errors.New("killed by the test")

// faulty is a Runner that fails at the nth command that writes.
type faulty struct {
	real Runner
	mu   sync.Mutex // guards below
	at   int        // counts down; the command at which it reaches 0 fails
	how  failure
	cut  int // octets of input, for cutInput
	dead bool
}

func (f *faulty) Run(ctx context.Context, c Command) error {
	writes := c.Args[0] == "unpack-objects" || c.Args[0] == "index-pack" || c.Args[0] == "update-ref"
	f.mu.Lock()
	if f.dead && writes {
		f.mu.Unlock()
		return &GitError{Command: c.Args[0], Err: errInjected}
	}
	hit := false
	if writes && f.how != never {
		f.at--
		hit = f.at == 0
		f.dead = hit
	}
	how, cut := f.how, f.cut
	f.mu.Unlock()
	if !hit {
		return f.real.Run(ctx, c)
	}
	switch how {
	case cutInput:
		in, err := io.ReadAll(c.Stdin)
		if err != nil {
			return err
		}
		c.Stdin = bytes.NewReader(in[:min(cut, len(in))])
		_ = f.real.Run(ctx, c)
	case killed:
		_ = f.real.Run(ctx, c)
	}
	return &GitError{Command: c.Args[0], Err: errInjected}
}

func newFaulty(t fatal, dir string) *faulty {
	t.Helper()
	real, err := NewRunner(context.Background(), "git", dir)
	if err != nil {
		t.Fatal(err)
	}
	return &faulty{real: real}
}

// contents generates files of numbered lines, each there or not, in one of two forms, so
// that changes meet. No line is there twice: algorithms differ in what they then take for
// changed. Lines name their file: git must not take one for another that was renamed.
func contents(name string) *rapid.Generator[[]byte] {
	return rapid.Custom(func(t *rapid.T) []byte {
		b := []byte{}
		for i, form := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "a", "a", "b", ""}), 0, 12).Draw(t, "lines") {
			if form != "" {
				b = fmt.Appendf(b, "%s %d %s\n", name, i, form)
			}
		}
		return b
	})
}
