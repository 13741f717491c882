package repo

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestFollow(t *testing.T) {
	up := openTemp(t)
	first := tipOf(t, up)
	dir := filepath.Join(t.TempDir(), "follows.git")
	cfg := Config{Dir: dir, Remote: &Remote{URL: up.cfg.Dir}}
	r := openAt(t, cfg)
	defer func() { r.Close() }()
	if _, err := r.Tip(t.Context()); !errors.Is(err, ErrNoCommit) {
		t.Errorf("before the first fetch: %v", err)
	}
	fetch := func(want Hash) {
		t.Helper()
		if got, err := r.Fetch(t.Context()); err != nil || got != want {
			t.Fatalf("fetched %s, %v; want %s", got, err, want)
		}
		if tipOf(t, r) != want {
			t.Fatalf("tip is %s, want %s", tipOf(t, r), want)
		}
	}
	fetch(first)
	at := first
	for i := range 3 {
		for j := range 2 {
			next := change(t, up, at, map[string][]byte{"f": text(strings.Repeat("x", 2*i+j))})
			advance(t, up, at, next)
			at = next
		}
		fetch(at)
		fetch(at)
	}
	if _, err := r.Advance(t.Context(), at, first); err == nil || !strings.Contains(err.Error(), "follows") {
		t.Errorf("landed in a repository that follows: %v", err)
	}

	// The remote branch is rewritten.
	other := change(t, up, first, map[string][]byte{"f": text("other")})
	for _, to := range []Hash{other, first} {
		userGit(t, up.cfg.Dir, "update-ref", "refs/heads/main", to.String())
		got, err := r.Fetch(t.Context())
		var rewritten *Rewritten
		if got != at || !errors.As(err, &rewritten) || rewritten.Known != at || rewritten.Found != to || !strings.Contains(err.Error(), at.String()) || !strings.Contains(err.Error(), to.String()) {
			t.Fatalf("fetched %s, %v", got, err)
		}
		if tipOf(t, r) != at {
			t.Fatalf("tip is %s, want %s", tipOf(t, r), at)
		}
		r.Close()
		r = openAt(t, cfg)
		if tipOf(t, r) != at {
			t.Fatalf("opened again: tip is %s, want %s", tipOf(t, r), at)
		}
	}
	if err := r.Accept(t.Context(), other, "bob", "not this"); err == nil {
		t.Error("accepted what the branch no longer is")
	}
	userGit(t, up.cfg.Dir, "update-ref", "refs/heads/main", other.String())
	if _, err := r.Fetch(t.Context()); err == nil {
		t.Error("no complaint")
	}
	if err := r.Accept(t.Context(), other, "bob", "meant"); err != nil {
		t.Fatal(err)
	}
	fetch(other)
	fsck(t, dir)

	// What must not be read is not followed.
	work := filepath.Join(t.TempDir(), "work")
	userGit(t, "/", "clone", "-q", up.cfg.Dir, work)
	if err := os.Symlink("/etc/passwd", filepath.Join(work, "link")); err != nil {
		t.Fatal(err)
	}
	userGit(t, work, "add", "link")
	userGit(t, work, "commit", "-q", "-m", "bad")
	userGit(t, up.cfg.Dir, "config", "--unset-all", "receive.hideRefs")
	userGit(t, work, "push", "-q", "origin", "HEAD:main")
	if got, err := r.Fetch(t.Context()); got != other || err == nil || !strings.Contains(err.Error(), "link: is a symbolic link") {
		t.Errorf("fetched %s, %v", got, err)
	}
	userGit(t, up.cfg.Dir, "update-ref", "-d", "refs/heads/main")
	if _, err := r.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "couldn't find remote ref") {
		t.Errorf("the branch is gone: %v", err)
	}
}

// Somebody asks to fetch while the repository is fetching by itself.
func TestFetchAtOnce(t *testing.T) {
	up := openTemp(t)
	r := openAt(t, Config{Dir: filepath.Join(t.TempDir(), "follows.git"), Remote: &Remote{URL: up.cfg.Dir}})
	defer r.Close()
	at := tipOf(t, up)
	for i := range 5 {
		next := change(t, up, at, map[string][]byte{"f": text(strings.Repeat("x", i))})
		advance(t, up, at, next)
		at = next
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if got, err := r.Fetch(t.Context()); err != nil || got != next {
					t.Errorf("fetched %s, %v; want %s", got, err, next)
				}
			})
		}
		wg.Wait()
	}
}

func TestFetchIsBounded(t *testing.T) {
	up := openTemp(t)
	big := make([]byte, 3<<20)
	for i := range big {
		big[i] = byte(i * i >> 7 * 31)
	}
	next := change(t, up, tipOf(t, up), map[string][]byte{"big": big})
	advance(t, up, tipOf(t, up), next)
	r := openAt(t, Config{Dir: filepath.Join(t.TempDir(), "f.git"), Remote: &Remote{URL: "file://" + up.cfg.Dir, MaxPack: 2 << 10}})
	defer r.Close()
	if _, err := r.Fetch(t.Context()); err == nil {
		t.Error("fetched more than the bound")
	}
	if _, err := r.Tip(t.Context()); !errors.Is(err, ErrNoCommit) {
		t.Errorf("tip: %v", err)
	}
}

func TestBadRemotes(t *testing.T) {
	for _, u := range []string{"", "--upload-pack=x", "ext::sh -c true", "https://user:secret@example.net/x", "a b"} {
		_, err := Open(t.Context(), Config{Dir: filepath.Join(t.TempDir(), "r"), Remote: &Remote{URL: u}})
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("remote %q: %v", u, err)
		}
	}
	for _, b := range []string{"a..b", "-x", "a b", "x.lock", "/x", "x/", "@{", "x/.y"} {
		if _, err := Open(t.Context(), Config{Dir: filepath.Join(t.TempDir(), "r"), Branch: b}); err == nil {
			t.Errorf("branch %q is taken", b)
		}
	}
}
