package repo

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// tenThousand makes a repository of 10,000 files in 100 folders.
func tenThousand(b *testing.B) (*Repo, Hash) {
	b.Helper()
	r := openAt(b, Config{Dir: filepath.Join(b.TempDir(), "config.git")})
	b.Cleanup(func() { r.Close() })
	files := map[string][]byte{}
	for i := range 10_000 {
		files[fmt.Sprintf("bulk/%d/zone-%d.star", i%100, i)] = []byte(fmt.Sprintf("zone(\"z%d.example.net\")\n", i) + strings.Repeat("record()\n", 40))
	}
	h := change(b, r, tipOf(b, r), files)
	advance(b, r, tipOf(b, r), h)
	return r, h
}

// BenchmarkReadFile reads one file of a commit after the other.
func BenchmarkReadFile(b *testing.B) {
	r, h := tenThousand(b)
	tree := treeOf(b, r, h)
	i := 0
	for b.Loop() {
		if _, err := tree.ReadFile(fmt.Sprintf("bulk/%d/zone-%d.star", i%100, i%10_000)); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// BenchmarkColdTree reads and checks all folders and the sizes of all files.
func BenchmarkColdTree(b *testing.B) {
	r, h := tenThousand(b)
	for b.Loop() {
		r.nodes.young, r.nodes.older = nil, nil
		treeOf(b, r, h)
	}
}

// BenchmarkMerge merges a change of one file on top of another's, without writing it.
func BenchmarkMerge(b *testing.B) {
	r, h := tenThousand(b)
	onto := change(b, r, h, map[string][]byte{"bulk/7/new": text("x")})
	for _, c := range []struct {
		name   string
		theirs map[string][]byte
	}{
		{"other file", map[string][]byte{"bulk/8/new": text("y")}},
		{"same folder", map[string][]byte{"bulk/7/other": text("y")}},
	} {
		theirs := change(b, r, h, c.theirs)
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := r.Merge(b.Context(), h, onto, theirs); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
