package repo

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestMergeConflicts(t *testing.T) {
	r := openTemp(t)
	numbers := []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"}
	with := func(line int, what string) []byte {
		n := slices.Clone(numbers)
		n[line-1] = what
		return text(n...)
	}
	base := change(t, r, tipOf(t, r), map[string][]byte{"f": text(numbers...), "g": text("g"), "d/e": text("e"), "bin": []byte("a\x00b")})
	for _, c := range []struct {
		name         string
		onto, theirs map[string][]byte
		want         string // "": merges
	}{
		{"different files", map[string][]byte{"f": nil}, map[string][]byte{"g": nil}, ""},
		{"different lines", map[string][]byte{"f": with(2, "two")}, map[string][]byte{"f": with(8, "eight")}, ""},
		{"same change", map[string][]byte{"f": with(2, "two"), "new": {}}, map[string][]byte{"f": with(2, "two"), "new": {}}, ""},
		{"same removal", map[string][]byte{"d/e": nil}, map[string][]byte{"d/e": nil}, ""},
		{"file for folder", map[string][]byte{"d/e": nil}, map[string][]byte{"d/e": nil, "d": {}}, ""},
		{"same line", map[string][]byte{"f": with(2, "two")}, map[string][]byte{"f": with(2, "zwei")}, "f line 2: both change it"},
		{"lines side by side", map[string][]byte{"f": with(2, "two")}, map[string][]byte{"f": with(3, "drei")}, "f line 2: both change it"},
		{"line shifted", map[string][]byte{"f": text(append([]string{"0", "00"}, append(slices.Clone(numbers[:7]), "acht", "9")...)...)}, map[string][]byte{"f": with(8, "eight")}, "f line 10: both change it"},
		{"lines removed", map[string][]byte{"f": text(numbers[:6]...)}, map[string][]byte{"f": with(8, "eight")}, "f after line 6: both change it"},
		{"folder for file", map[string][]byte{"g": nil}, map[string][]byte{"g": nil, "g/h": {}}, ""},
		{"removed, changed", map[string][]byte{"f": nil}, map[string][]byte{"f": with(8, "eight")}, "f: one changes it, which the other removed"},
		{"changed, removed", map[string][]byte{"d/e": text("E")}, map[string][]byte{"d/e": nil}, "d/e: one changes it, which the other removed"},
		{"both add", map[string][]byte{"new": text("a")}, map[string][]byte{"new": text("b")}, "new: both add it"},
		{"file and folder", map[string][]byte{"new": text("a")}, map[string][]byte{"new/b": text("b")}, "new: one has a file where the other has a folder"},
		{"no text", map[string][]byte{"bin": []byte("a\x00c")}, map[string][]byte{"bin": []byte("a\x00d")}, "bin: both change it, no text"},
		{"two", map[string][]byte{"f": nil, "g": nil}, map[string][]byte{"f": with(1, "x"), "g": text("x")}, "f: one changes it, which the other removed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// What is landed in between touches other things.
			before := change(t, r, base, map[string][]byte{"other": text("1")})
			culprit := change(t, r, before, c.onto)
			onto := change(t, r, culprit, map[string][]byte{"other": text("2")})
			theirs := change(t, r, base, c.theirs)
			tree, err := r.Merge(t.Context(), base, onto, theirs)
			var conflict *Conflict
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				got := commit(t, r, tree, onto)
				if b, err := treeOf(t, r, got).ReadFile("other"); err != nil || string(b) != "2\n" {
					t.Errorf("other is %q, %v", b, err)
				}
				return
			}
			if !errors.As(err, &conflict) || conflict.Files[0].String() != c.want {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			for _, f := range conflict.Files {
				if f.By != culprit {
					t.Errorf("%s: conflict begins with %s, want %s", f, f.By.Short(), culprit.Short())
				}
			}
			for _, name := range []string{culprit.Short(), theirs.Short(), c.want} {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("%q does not name %s", err, name)
				}
			}
		})
	}
	fsck(t, r.cfg.Dir)
}

// TestMergeIsThatOfGit compares merges of random changes with those that git's own
// merge makes, whatever both think of them.
func TestMergeIsThatOfGit(t *testing.T) {
	r := openTemp(t)
	empty := tipOf(t, r)
	names := []string{"a", "d/a", "d/b", "d", "e/x/y"}
	merged, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		// Few files, so that both sides change the same ones.
		draw := func(label string, from map[string][]byte, chance int) map[string][]byte {
			changes := map[string][]byte{}
			for _, name := range names {
				if rapid.IntRange(0, chance).Draw(t, label) > 1 {
					continue
				}
				if _, there := from[name]; there && rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
					changes[name] = nil
				} else {
					changes[name] = contents(name).Draw(t, "content")
				}
			}
			return changes
		}
		files := draw("base", nil, 2)
		tree, err := treeOf(t, r, empty).With(files)
		if err != nil {
			t.Skip("a file in a file")
		}
		base := commit(t, r, tree, empty)
		var sides [2]Hash
		for i := range sides {
			tree, err := tree.With(draw("side", files, 5))
			if err != nil {
				t.Skip("a file in a file")
			}
			sides[i] = commit(t, r, tree, base)
		}
		got, err := r.Merge(t.Context(), base, sides[0], sides[1])
		var conflict *Conflict
		if err != nil && !errors.As(err, &conflict) {
			t.Fatal(err)
		}
		// So does one that is not in the repository.
		loose := &Tree{repo: r, root: treeOf(t, r, base).root}
		side := treeOf(t, r, sides[1])
		changes := map[string][]byte{}
		for _, name := range loose.Changed(side) {
			changes[name] = nil
			if st, err := side.Stat(name); err == nil && !st.IsDir() {
				if changes[name], err = side.ReadFile(name); err != nil {
					t.Fatal(err)
				}
			}
			if len(changes[name]) > 0 { // an object that only the tree has
				changes[name] = append(changes[name], "\nloose\n"...)
			}
		}
		loose, err2 := loose.With(changes)
		if err2 != nil {
			t.Fatal(err2)
		}
		fromTree, err2 := r.MergeTree(t.Context(), base, sides[0], loose)
		fromCommit, err3 := r.Merge(t.Context(), base, sides[0], commit(t, r, loose, base))
		if (err2 == nil) != (err3 == nil) || err2 == nil && fromTree.Hash() != fromCommit.Hash() {
			t.Fatalf("of a tree: %v, of its commit: %v", err2, err3)
		}
		want, clean := gitMerge(t, r.cfg.Dir, sides)
		if err == nil && clean {
			merged++
			if got.Hash().String() != want {
				t.Fatalf("merged to %s, git to %s", got.Hash(), want)
			}
		}
		// git lets a file that is added empty on one side have what the other side adds.
		added := err != nil && conflict.More == 0 && !slices.ContainsFunc(conflict.Files, func(f FileConflict) bool { return f.Clash != BothAdd })
		if clean != (err == nil) && !added {
			t.Fatalf("git merges: %v; here: %v", clean, err)
		}
		if err != nil {
			refused++
		}
		// Both ways round it is the same.
		back, err2 := r.Merge(t.Context(), base, sides[1], sides[0])
		if (err == nil) != (err2 == nil) || err == nil && back.Hash() != got.Hash() {
			t.Fatalf("one way round: %v, the other: %v", err, err2)
		}
	})
	t.Logf("%d merged, %d refused", merged, refused)
	if merged == 0 || refused == 0 {
		t.Error("the test does not see both")
	}
}

// gitMerge gives the tree of git's own merge, and whether it has no conflict.
func gitMerge(t fatal, dir string, sides [2]Hash) (string, bool) {
	t.Helper()
	out, err := gitOutput(dir, "-c", "merge.renames=false", "-c", "merge.directoryRenames=false", "merge-tree", "--write-tree", "--name-only", sides[0].String(), sides[1].String())
	if err != nil && exitStatus(err) != 1 {
		t.Fatalf("git merge-tree: %v: %s", err, out)
	}
	tree, _, _ := strings.Cut(out, "\n")
	return tree, err == nil
}

func TestOverlaps(t *testing.T) {
	for _, c := range []struct {
		a, b []hunk
		want []Lines
	}{
		{nil, nil, nil},
		{[]hunk{{0, 1, 0, 1}}, []hunk{{2, 1, 2, 1}}, nil},
		{[]hunk{{0, 1, 0, 1}}, []hunk{{1, 1, 1, 1}}, []Lines{{1, 1}}},
		{[]hunk{{0, 9, 0, 0}}, []hunk{{1, 1, 1, 1}, {4, 1, 4, 1}}, []Lines{{1, 0}}},
		{[]hunk{{1, 1, 1, 3}, {4, 1, 6, 1}}, []hunk{{0, 9, 0, 9}}, []Lines{{2, 4}, {7, 7}}},
	} {
		if diff := cmp.Diff(c.want, overlaps(c.a, c.b)); diff != "" {
			t.Errorf("overlaps(%v, %v) (-want +got):\n%s", c.a, c.b, diff)
		}
	}
}

func FuzzParseHunks(f *testing.F) {
	f.Add([]byte("--- a\n+++ b\n@@ -1 +1 @@\n-x\n+y\n@@ -4,0 +5,2 @@\n+@@ -x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		hunks, err := parseHunks(b)
		if err != nil {
			return
		}
		for _, h := range hunks {
			if h.from < 0 || h.to < 0 || h.fromLen < 0 || h.toLen < 0 {
				t.Errorf("%v", h)
			}
		}
		overlaps(hunks, hunks)
	})
}

func FuzzParseCommit(f *testing.F) {
	f.Add([]byte("tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nparent 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor a <a@b> 1 +0000\ncommitter c <c@d> 2 +0000\ngpgsig x\n y\n\nhello\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := parseCommit(b); err == nil && (c.Tree.IsZero() && !strings.Contains(string(b), strings.Repeat("0", 40)) || c.When.Unix() < 0) {
			t.Errorf("%q: %+v", b, c)
		}
	})
}

func FuzzParseFolder(f *testing.F) {
	n := newNode([]entry{{name: "a", mode: modeFile}, {name: "b", mode: modeFolder, dir: emptyNode}})
	f.Add(n.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := parseFolder(b, 100)
		if err != nil {
			return
		}
		for i := range entries {
			if entries[i].mode == modeFolder {
				entries[i].dir = emptyNode
			}
			if checkName(entries[i].name) != nil || strings.ContainsAny(entries[i].name, "/\x00") {
				t.Errorf("name %q", entries[i].name)
			}
		}
		if got := (&node{entries: entries}).encode(); string(got) != string(b) {
			t.Errorf("read %q, wrote %q", b, got)
		}
	})
}
