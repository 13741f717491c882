package repo

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCrash kills git, or whoever called it, at each step of a move of the branch and at
// many places of what it is handed. The next process finds the branch at the old or at
// the new commit, and can go on.
func TestCrash(t *testing.T) {
	landed, not := 0, 0
	for step := 1; step <= 3; step++ {
		for how := notStarted; how <= killed; how++ {
			cuts := []int{0}
			if how == cutInput {
				for c := 0; c < 1300; c += 41 {
					cuts = append(cuts, c)
				}
			}
			for _, cut := range cuts {
				dir := filepath.Join(t.TempDir(), "config.git")
				f := newFaulty(t, dir)
				r := openAt(t, Config{Dir: dir, Runner: f})
				old := tipOf(t, r)
				f.at, f.how, f.cut = step, how, cut
				tree, err := treeOf(t, r, old).With(map[string][]byte{"a/b": text("x")})
				if err != nil {
					t.Fatal(err)
				}
				b := r.Batch()
				next := b.Commit(NewCommit{Tree: tree, Parents: []Hash{old}, Author: "alice", When: r.cfg.Now(), Message: "m"})
				move := Move{Ref: "refs/proposals/1/head", To: next}
				err = b.Write(t.Context())
				said := false
				var advanceErr error
				if err == nil {
					said, advanceErr = r.Advance(t.Context(), old, next, move)
				}
				f.mu.Lock()
				hit := f.dead
				f.mu.Unlock()
				if hit && err == nil && advanceErr == nil && !said {
					t.Fatalf("step %d: git died and nobody says so", step)
				}
				r.Close()

				r = openAt(t, Config{Dir: dir})
				tip := tipOf(t, r)
				at, err := r.Resolve(t.Context(), move.Ref)
				if err != nil {
					t.Fatal(err)
				}
				switch tip {
				case old:
					not++
					if said || !at.IsZero() {
						t.Errorf("step %d, %v, cut %d: said that it landed (%v), or moved what goes with it (%s)", step, how, cut, said, at)
					}
				case next:
					landed++
					if said && advanceErr == nil && at != next {
						t.Errorf("step %d, %v, cut %d: said that all is done, and what goes with it is at %s", step, how, cut, at)
					}
				default:
					t.Fatalf("step %d, %v, cut %d: tip %s is neither old nor new", step, how, cut, tip)
				}
				if b, err := treeOf(t, r, tip).ReadFile("a/b"); (tip == next) != (err == nil) || err == nil && string(b) != "x\n" {
					t.Errorf("step %d, %v, cut %d: read %q, %v", step, how, cut, b, err)
				}
				after := change(t, r, tip, map[string][]byte{"c": {}})
				advance(t, r, tip, after)
				if how != cutInput || cut%3 == 0 {
					fsck(t, dir)
				}
				r.Close()
			}
		}
	}
	t.Logf("landed %d, not %d", landed, not)
	if landed == 0 || not == 0 {
		t.Error("the test does not see both")
	}
}

// TestCrashAtFirst kills what makes the repository.
func TestCrashAtFirst(t *testing.T) {
	for step := 1; step <= 3; step++ {
		for how := notStarted; how <= killed; how++ {
			dir := filepath.Join(t.TempDir(), "config.git")
			f := newFaulty(t, dir)
			f.at, f.how, f.cut = step, how, 70
			if r, err := Open(t.Context(), Config{Dir: dir, Runner: f}); err == nil {
				r.Close()
			}
			r := openAt(t, Config{Dir: dir})
			advance(t, r, tipOf(t, r), change(t, r, tipOf(t, r), map[string][]byte{"c": {}}))
			r.Close()
			fsck(t, dir)
		}
	}
	// git init was killed in the middle.
	dir := filepath.Join(t.TempDir(), "config.git")
	if err := os.MkdirAll(dir+".new/objects", 0o755); err != nil {
		t.Fatal(err)
	}
	openAt(t, Config{Dir: dir}).Close()
}

func TestStaleLocks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "config.git")
	stale := Config{Dir: dir, StaleLock: 300 * time.Millisecond}
	r := openAt(t, stale)
	for _, name := range []string{"refs/heads/main.lock", "refs/zonecast/next.lock", "refs/zonecast/tip.lock"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		tip := tipOf(t, r)
		advance(t, r, tip, change(t, r, tip, map[string][]byte{"f": text(name)}))
	}
	// Those of now are waited for, not taken away.
	patient := Config{Dir: dir, StaleLock: time.Hour}
	lock := filepath.Join(dir, "refs/heads/main.lock")
	if err := os.WriteFile(lock, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r.Close()
	r = openAt(t, patient)
	defer r.Close()
	if _, err := os.Stat(lock); err != nil {
		t.Errorf("a young lock was removed: %v", err)
	}
	done := make(chan error)
	tip := tipOf(t, r)
	next := change(t, r, tip, map[string][]byte{"f": text("last")})
	go func() {
		_, err := r.Advance(t.Context(), tip, next)
		done <- err
	}()
	select {
	case err := <-done:
		t.Errorf("did not wait for the lock: %v", err)
	case <-time.After(300 * time.Millisecond):
		if err := os.Remove(lock); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestCatIsStartedAgain(t *testing.T) {
	r := openTemp(t)
	h := change(t, r, tipOf(t, r), map[string][]byte{"a": text("x")})
	for range 3 {
		r.cat.mu.Lock()
		r.cat.stop()
		r.cat.mu.Unlock()
		if b, err := treeOf(t, r, h).ReadFile("a"); err != nil || string(b) != "x\n" {
			t.Errorf("%q, %v", b, err)
		}
	}
	if _, _, err := r.cat.content(t.Context(), h.String(), 10); err == nil || !strings.Contains(err.Error(), "expected at most 10") {
		t.Errorf("read a commit of more than 10 octets: %v", err)
	}
	if _, _, err := r.cat.content(t.Context(), Hash{1}.String(), 10); !errors.Is(err, ErrMissing) {
		t.Errorf("read what is not there: %v", err)
	}
	if tipOf(t, r).IsZero() {
		t.Error("no tip")
	}
}

// TestManyObjects writes a batch that becomes a pack, also one that is cut.
func TestManyObjects(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "config.git")
	f := newFaulty(t, dir)
	r := openAt(t, Config{Dir: dir, Runner: f})
	old := tipOf(t, r)
	files := map[string][]byte{}
	for i := range 300 {
		files[fmt.Sprintf("d%d/f%d", i%7, i)] = text(fmt.Sprint(i))
	}
	tree, err := treeOf(t, r, old).With(files)
	if err != nil {
		t.Fatal(err)
	}
	f.at, f.how, f.cut = 1, cutInput, 3000
	b := r.Batch()
	b.Commit(NewCommit{Tree: tree, Parents: []Hash{old}, Author: "alice", When: r.cfg.Now(), Message: "m"})
	if err := b.Write(t.Context()); err == nil {
		t.Error("a pack that was cut is taken")
	}
	r.Close()
	begun := filepath.Join(dir, "objects/pack/tmp_pack_x")
	if err := os.WriteFile(begun, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	yesterday := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(begun, yesterday, yesterday); err != nil {
		t.Fatal(err)
	}
	r = openAt(t, Config{Dir: dir})
	defer r.Close()
	if _, err := os.Stat(begun); err == nil {
		t.Error("what git had begun yesterday is still there")
	}
	advance(t, r, old, change(t, r, old, files))
	if packs, err := filepath.Glob(filepath.Join(dir, "objects/pack/*.pack")); err != nil || len(packs) != 1 {
		t.Errorf("packs %q, %v", packs, err)
	}
	r.nodes = nodes{}
	if n := treeOf(t, r, tipOf(t, r)).Files(); n != 300 {
		t.Errorf("%d files", n)
	}
	fsck(t, dir)
}
