package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestNewRepository(t *testing.T) {
	r := openTemp(t)
	tip := tipOf(t, r)
	if n := treeOf(t, r, tip).Files(); n != 0 {
		t.Errorf("a new repository has %d files, want none", n)
	}
	if len(r.ID()) < 20 {
		t.Errorf("ID %q is not one", r.ID())
	}
	fsck(t, r.cfg.Dir)

	_, err := Open(context.Background(), Config{Dir: r.cfg.Dir})
	if err == nil || !strings.Contains(err.Error(), "another process has it open") {
		t.Errorf("opened twice: %v", err)
	}
	id := r.ID()
	r.Close()
	again := openAt(t, Config{Dir: r.cfg.Dir})
	defer again.Close()
	if again.ID() != id || tipOf(t, again) != tip {
		t.Errorf("opened again: ID %q, tip %s; want %q, %s", again.ID(), tipOf(t, again), id, tip)
	}
}

func TestNotARepository(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "notes"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "is no bare git repository") {
		t.Errorf("opened a folder of something else: %v", err)
	}
	work := filepath.Join(t.TempDir(), "work")
	userGit(t, "/", "init", "-q", work)
	if _, err := Open(context.Background(), Config{Dir: filepath.Join(work, ".git")}); err == nil || !strings.Contains(err.Error(), "expected a bare repository") {
		t.Errorf("opened a repository with a work tree: %v", err)
	}
	if _, err := Open(context.Background(), Config{Dir: filepath.Join(dir, "r"), Git: "no-such-git"}); err == nil || !strings.Contains(err.Error(), "install git") {
		t.Errorf("opened without git: %v", err)
	}
}

func TestTreeIsAFileSystem(t *testing.T) {
	r := openTemp(t)
	files := map[string][]byte{
		"zones/example.net.star": text("zone()"), "zones/example.org.star": text("zone()", "zone()"), "zones.star": {}, "zones-old/x": text("x"),
		"deep/er/and/deeper/file": text("y"), "OWNERS": text("approvals 1"),
	}
	h := change(t, r, tipOf(t, r), files)
	tree := treeOf(t, r, h)
	if err := fstest.TestFS(tree, slices.Collect(maps.Keys(files))...); err != nil {
		t.Error(err)
	}
	for name, want := range files {
		if got, err := fs.ReadFile(tree, name); err != nil || string(got) != string(want) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	// Before it is written a tree reads the same.
	staged, err := treeOf(t, r, tipOf(t, r)).With(files)
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(staged, slices.Collect(maps.Keys(files))...); err != nil {
		t.Error(err)
	}
	if staged.Hash() != tree.Hash() {
		t.Errorf("staged tree is %s, written one %s", staged.Hash(), tree.Hash())
	}
}

// TestTreesAreThoseOfGit builds random trees, and lets git say what is in them.
func TestTreesAreThoseOfGit(t *testing.T) {
	r := openTemp(t)
	empty := tipOf(t, r)
	names := []string{"a", "a.b", "a-b", "b", "B", "a0", "ü"}
	rapid.Check(t, func(t *rapid.T) {
		files := map[string][]byte{}
		at := empty
		for range rapid.IntRange(1, 4).Draw(t, "commits") {
			changes := map[string][]byte{}
			for range rapid.IntRange(0, 4).Draw(t, "changes") {
				name := strings.Join(rapid.SliceOfN(rapid.SampledFrom(names), 1, 3).Draw(t, "path"), "/")
				if _, there := files[name]; there && rapid.Bool().Draw(t, "remove") {
					changes[name] = nil
					continue
				}
				changes[name] = contents(name).Draw(t, "content")
			}
			tree, err := treeOf(t, r, at).With(changes)
			next := maps.Clone(files)
			for _, set := range []bool{false, true} {
				for name, b := range changes {
					if b == nil && !set {
						delete(next, name)
					} else if b != nil && set {
						next[name] = b
					}
				}
			}
			if possible := consistent(next); possible != (err == nil) {
				t.Fatalf("With(%q) on %q: %v, want possible: %v", changes, files, err, possible)
			}
			if err != nil {
				continue
			}
			before := treeOf(t, r, at)
			files, at = next, commit(t, r, tree, at)
			want := strings.Fields(userGit(t, r.cfg.Dir, "-c", "core.quotePath=false", "diff-tree", "-r", "--name-only", "--no-renames", before.Hash().String(), tree.Hash().String()))
			slices.Sort(want)
			if got := before.Changed(tree); !slices.Equal(got, want) {
				t.Fatalf("changed %q, git says %q", got, want)
			}
		}
		r.nodes = nodes{} // read all of it again
		tree := treeOf(t, r, at)
		got := map[string]string{}
		err := fs.WalkDir(tree, ".", func(name string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			b, err := fs.ReadFile(tree, name)
			got[name] = string(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{}
		for name, b := range files {
			want[name] = string(b)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("files (-want +got):\n%s", diff)
		}
		if listed := strings.Fields(userGit(t, r.cfg.Dir, "-c", "core.quotePath=false", "ls-tree", "-r", "--name-only", at.String())); len(listed) != len(want) {
			t.Fatalf("git lists %q, want %q", listed, slices.Sorted(maps.Keys(want)))
		}
		sorted := slices.Sorted(maps.Keys(want))
		for _, after := range append([]string{"", "a/", "b!", "\xff"}, sorted...) {
			var list []string
			tree.List(after, func(path string, f File) bool {
				if b := want[path]; f.Size != int64(len(b)) || f.Hash != hashOf(blobObject, []byte(b)) || f.Executable {
					t.Fatalf("%s is listed as %+v", path, f)
				}
				list = append(list, path)
				return len(list) < 3
			})
			i, found := slices.BinarySearch(sorted, after)
			if found {
				i++
			}
			if rest := sorted[i:]; !slices.Equal(list, rest[:min(len(rest), 3)]) {
				t.Fatalf("behind %q are listed %q, want the first of %q", after, list, rest)
			}
		}
		if tree.Files() != len(want) {
			t.Fatalf("Files() = %d, want %d", tree.Files(), len(want))
		}
	})
	fsck(t, r.cfg.Dir)
}

// consistent reports whether no file is where another needs a folder.
func consistent(files map[string][]byte) bool {
	for name := range files {
		for i := range name {
			if name[i] == '/' && files[name[:i]] != nil {
				return false
			}
		}
	}
	return true
}

// TestUnsafeTrees lets git make commits with what must not be read.
func TestUnsafeTrees(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "config.git")
	r := openAt(t, Config{Dir: dir, Limits: Limits{Files: 20, FileSize: 100, Octets: 500, Depth: 4, Path: 40}})
	defer r.Close()
	work := filepath.Join(t.TempDir(), "work")
	userGit(t, "/", "clone", "-q", dir, work)
	write := func(name string, n int) {
		t.Helper()
		path := filepath.Join(work, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(strings.Repeat("x", n)), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		make func()
		want string
	}{
		{"symbolic link", func() {
			if err := os.Symlink("/etc/passwd", filepath.Join(work, "link")); err != nil {
				t.Fatal(err)
			}
		}, "link: is a symbolic link"},
		{"submodule", func() {
			userGit(t, work, "update-index", "--add", "--cacheinfo", "160000,"+tipOf(t, r).String()+",sub/module")
		}, "sub: module: is a submodule"},
		{"too big", func() { write("big", 101) }, "big: has 101 octets, expected at most 100"},
		{"too big together", func() {
			for i := range 6 {
				write(fmt.Sprint("f", i), 90)
			}
		}, "has 540 octets in its files, expected at most 500"},
		{"too many", func() {
			for i := range 21 {
				write(fmt.Sprint("f", i), 1)
			}
		}, "more than 20 entries"},
		{"too many together", func() {
			for i := range 21 {
				write(fmt.Sprint("d", i%3, "/f", i), 1)
			}
		}, "has 21 files, expected at most 20"},
		{"too deep", func() { write("a/b/c/d/e", 1) }, "more than 4 folders deep"},
		{"too long", func() { write(strings.Repeat("n", 30)+"/"+strings.Repeat("m", 20), 1) }, "path of 51 octets, expected at most 40"},
		{"hidden characters", func() { write("zone\u202estar", 1) }, "is not allowed"},
		{"backslash", func() { write(`a\b`, 1) }, "is not allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			userGit(t, work, "checkout", "-q", "-B", "bad", "origin/main")
			userGit(t, work, "clean", "-qfdx")
			c.make()
			userGit(t, work, "add", "--", ".")
			if c.name == "submodule" { // add takes it out again
				c.make()
			}
			userGit(t, work, "commit", "-q", "-m", "bad")
			userGit(t, work, "push", "-q", "-f", "origin", "bad")
			h, err := r.Resolve(t.Context(), "refs/heads/bad")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Tree(t.Context(), h); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestUnsafeChanges(t *testing.T) {
	r := openTemp(t)
	tree := treeOf(t, r, change(t, r, tipOf(t, r), map[string][]byte{"a": text("x"), "d/f": text("y")}))
	for _, c := range []struct {
		changes map[string][]byte
		want    string
	}{
		{map[string][]byte{"../x": {}}, `name ".."`},
		{map[string][]byte{"/etc/passwd": {}}, `name ""`},
		{map[string][]byte{"x/.git/config": {}}, `name ".git"`},
		{map[string][]byte{"x/.GIT": {}}, `name ".GIT"`},
		{map[string][]byte{"": {}}, `name ""`},
		{map[string][]byte{"x\x00": {}}, "not allowed"},
		{map[string][]byte{"x\n": {}}, "not allowed"},
		{map[string][]byte{"\xff": {}}, "not UTF-8"},
		{map[string][]byte{strings.Repeat("x", 256): {}}, "expected at most 255"},
		{map[string][]byte{"a/b": {}}, "a is a file"},
		{map[string][]byte{"d": {}}, "is a folder"},
		{map[string][]byte{"d": nil}, "is a folder"},
		{map[string][]byte{"b": nil}, "it is not there"},
		{map[string][]byte{"d/g": nil}, "it is not there"},
		{map[string][]byte{"e/g": nil}, "it is not there"},
		{map[string][]byte{"big": make([]byte, 16<<20+1)}, "expected at most 16777216"},
	} {
		if _, err := tree.With(c.changes); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("With(%.40q): got %v, want %q", slices.Collect(maps.Keys(c.changes)), err, c.want)
		}
	}
	// A file where a folder was, and the other way round, in one change.
	if _, err := tree.With(map[string][]byte{"a": nil, "a/b": {}, "d/f": nil, "d": {}}); err != nil {
		t.Error(err)
	}
}

func TestUserClonesAndPushes(t *testing.T) {
	r := openTemp(t)
	tip := change(t, r, tipOf(t, r), map[string][]byte{"zones/example.net.star": text("zone()")})
	advance(t, r, tipOf(t, r), tip)

	work := filepath.Join(t.TempDir(), "work")
	userGit(t, "/", "clone", "-q", r.cfg.Dir, work)
	if got := userGit(t, work, "rev-parse", "HEAD"); got != tip.String() {
		t.Errorf("a clone is at %s, want %s", got, tip)
	}
	if b, err := os.ReadFile(filepath.Join(work, "zones/example.net.star")); err != nil || string(b) != "zone()\n" {
		t.Errorf("the clone's file is %q, %v", b, err)
	}
	userGit(t, work, "commit", "-q", "--allow-empty", "-m", "mine")
	userGit(t, work, "push", "-q", "origin", "HEAD:refs/heads/dave/mine")
	if h, err := r.Resolve(t.Context(), "refs/heads/dave/mine"); err != nil || h.IsZero() {
		t.Errorf("the pushed branch is at %v, %v", h, err)
	}
	// The branch itself is not for pushing.
	func() {
		defer func() { _ = recover() }()
		userGit(panics{t}, work, "push", "-q", "origin", "HEAD:refs/heads/main")
		t.Error("somebody pushed to main")
	}()
	if tipOf(t, r) != tip {
		t.Error("the branch moved")
	}
}

// panics turns a failure into a panic, for what is meant to fail.
type panics struct{ *testing.T }

func (panics) Fatalf(string, ...any) { panic("failed") }

func TestRewrittenByForce(t *testing.T) {
	r := openTemp(t)
	first := tipOf(t, r)
	second := change(t, r, first, map[string][]byte{"a": text("1")})
	advance(t, r, first, second)
	third := change(t, r, second, map[string][]byte{"a": text("2")})
	advance(t, r, second, third)
	other := change(t, r, first, map[string][]byte{"a": text("evil")})
	past := change(t, r, third, map[string][]byte{"a": text("past")})

	for _, c := range []struct {
		name string
		to   Hash
		want string
	}{
		{"back", second, "was rewritten by force"},
		{"back to the beginning", first, "was rewritten by force"},
		{"other history", other, "was rewritten by force"},
		{"past the review", past, "was moved past the review"},
		{"gone", Hash{}, "is gone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.to.IsZero() {
				userGit(t, r.cfg.Dir, "update-ref", "-d", "refs/heads/main")
			} else {
				userGit(t, r.cfg.Dir, "update-ref", "refs/heads/main", c.to.String())
			}
			tip, err := r.Tip(t.Context())
			var rewritten *Rewritten
			if !errors.As(err, &rewritten) || tip != third || rewritten.Known != third || rewritten.Found != c.to || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("tip %s, %v; want %s and %q", tip, err, third, c.want)
			}
			if landed, err := r.Advance(t.Context(), third, past); landed || !errors.As(err, &rewritten) {
				t.Errorf("something landed: %v, %v", landed, err)
			}
			// It is seen by the next process, too.
			r.Close()
			*r = *openAt(t, r.cfg)
			if tip, err := r.Tip(t.Context()); !errors.As(err, &rewritten) || tip != third {
				t.Errorf("opened again: tip %s, %v", tip, err)
			}
			if err := r.Accept(t.Context(), change(t, r, first, map[string][]byte{"b": {}}), "bob", "no"); err == nil {
				t.Error("accepted a commit at which the branch is not")
			}
			if err := r.Restore(t.Context(), "bob", "not meant"); err != nil {
				t.Fatal(err)
			}
			if tipOf(t, r) != third {
				t.Errorf("restored to %s, want %s", tipOf(t, r), third)
			}
		})
	}

	userGit(t, r.cfg.Dir, "update-ref", "refs/heads/main", other.String())
	if err := r.Accept(t.Context(), other, "bob", "history was cleaned"); err != nil {
		t.Fatal(err)
	}
	if tipOf(t, r) != other {
		t.Errorf("accepted: at %s, want %s", tipOf(t, r), other)
	}
	// What was landed last is no longer what the branch may be moved to.
	userGit(t, r.cfg.Dir, "update-ref", "refs/heads/main", third.String())
	if _, err := r.Tip(t.Context()); err == nil {
		t.Error("the branch went back to what was replaced, and nobody says so")
	}
	if err := r.Restore(t.Context(), "bob", "no"); err != nil {
		t.Fatal(err)
	}
	notes := userGit(t, r.cfg.Dir, "for-each-ref", "--format=%(refname:lstrip=4) %(taggername) %(contents:subject)", "refs/zonecast/rewrites/*/accepted")
	if notes != "accepted bob history was cleaned" {
		t.Errorf("noted %q", notes)
	}
	fsck(t, r.cfg.Dir)
}

func TestWait(t *testing.T) {
	r := openTemp(t)
	first := tipOf(t, r)
	second := change(t, r, first, map[string][]byte{"a": {}})
	got := make(chan Hash)
	go func() {
		h, _ := r.Wait(t.Context(), first)
		got <- h
	}()
	time.Sleep(10 * time.Millisecond)
	advance(t, r, first, second)
	if h := <-got; h != second {
		t.Errorf("waited for %s, want %s", h, second)
	}
	if h, err := r.Wait(t.Context(), first); err != nil || h != second {
		t.Errorf("%s, %v", h, err)
	}
}

func TestMaintain(t *testing.T) {
	r := openTemp(t)
	at := tipOf(t, r)
	for i := range 20 {
		next := change(t, r, at, map[string][]byte{fmt.Sprintf("d%d/f", i%3): text(fmt.Sprint(i))})
		advance(t, r, at, next)
		if err := r.Update(t.Context(), Move{Ref: fmt.Sprintf("refs/proposals/%d/head", i), To: next}); err != nil {
			t.Fatal(err)
		}
		at = next
		if i%7 == 6 {
			if err := r.Maintain(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := r.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.nodes = nodes{}
	commits, more, err := r.Log(t.Context(), at, "", 100)
	if err != nil || len(commits) != 21 || !more.IsZero() {
		t.Errorf("%d commits, more %v, %v", len(commits), more, err)
	}
	if b, err := treeOf(t, r, at).ReadFile("d1/f"); err != nil || string(b) != "19\n" {
		t.Errorf("read %q, %v", b, err)
	}
	if loose := userGit(t, r.cfg.Dir, "count-objects"); !strings.HasPrefix(loose, "0 objects") {
		t.Errorf("not packed: %s", loose)
	}
	fsck(t, r.cfg.Dir)
}

func TestLogPages(t *testing.T) {
	r := openTemp(t)
	at := tipOf(t, r)
	for i := range 10 {
		next := change(t, r, at, map[string][]byte{fmt.Sprintf("f%d", i%2): text(fmt.Sprint(i))})
		advance(t, r, at, next)
		at = next
	}
	n, from := 0, at
	for !from.IsZero() {
		commits, next, err := r.Log(t.Context(), from, "f1", 2)
		if err != nil {
			t.Fatal(err)
		}
		n, from = n+len(commits), next
	}
	if n != 5 {
		t.Errorf("%d commits change f1, want 5", n)
	}
	c, err := r.Commit(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	diff, cut, err := r.Diff(t.Context(), c.Parent(), at, 1000)
	if err != nil || cut || !strings.Contains(diff, "-7\n+9\n") {
		t.Errorf("diff %q, cut %v, %v", diff, cut, err)
	}
	diff, cut, err = r.Diff(t.Context(), c.Parent(), at, 20)
	if err != nil || !cut || len(diff) != 20 {
		t.Errorf("diff %q, cut %v, %v", diff, cut, err)
	}
}

// TestGitIsAlone runs with a user's configuration that would change everything.
func TestGitIsAlone(t *testing.T) {
	home := t.TempDir()
	evil := filepath.Join(home, "evil")
	if err := os.WriteFile(evil, []byte("#!/bin/sh\ntouch "+home+"/ran\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf("[core]\n\thooksPath = %s\n\tfsmonitor = %s\n[user]\n\tname = mallory\n[init]\n\tdefaultBranch = trunk\n[commit]\n\tgpgSign = true\n", home, evil)
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(evil, filepath.Join(home, "reference-transaction")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	t.Setenv("GIT_DIR", "/nonexistent")
	t.Setenv("GIT_INDEX_FILE", "/nonexistent")
	t.Setenv("GIT_OBJECT_DIRECTORY", "/nonexistent")
	r := openTemp(t)
	advance(t, r, tipOf(t, r), change(t, r, tipOf(t, r), map[string][]byte{"a": {}}))
	if _, err := os.Stat(filepath.Join(home, "ran")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a hook ran: %v", err)
	}
}

func TestTimeBound(t *testing.T) {
	dir := t.TempDir()
	slow := filepath.Join(dir, "slow")
	if err := os.WriteFile(slow, []byte("#!/bin/sh\nsleep 60 &\nsleep 60\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := &Repo{cfg: Config{Dir: dir, Timeout: 100 * time.Millisecond, Runner: execRunner{path: slow, dir: dir}}}
	start := time.Now()
	_, err := r.output(t.Context(), 10, nil, "version")
	if err == nil || !strings.Contains(err.Error(), "not done after 100ms") {
		t.Errorf("got %v", err)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
}
