package repo

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Config says where the repository is.
type Config struct {
	// Dir is the bare repository; it is made when it does not exist.
	Dir string
	// Branch is the one whose commits count. Empty means main.
	Branch string
	// Remote, if not nil, is the repository whose branch is followed. Nothing is landed
	// here then.
	Remote *Remote
	// Git is the git command. Empty means git.
	Git    string
	Limits Limits
	// Timeout bounds each git command but fetches and repacking. Zero means 30 s.
	Timeout time.Duration
	// StaleLock is the age from which a lock of git's counts as left behind by a process
	// that was killed: git holds one for milliseconds. Zero means 10 s.
	StaleLock time.Duration
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
	// Runner runs git. Nil means the command Git.
	Runner Runner
}

// Remote is a branch of somebody else's repository.
type Remote struct {
	URL    string // https, ssh, git or file; or host:path; or a path
	Branch string // empty means that of Config
	// Every is the time between two fetches. Zero means 10 s.
	Every time.Duration
	// Timeout bounds a fetch. Zero means 5 minutes.
	Timeout time.Duration
	// MaxPack bounds what a fetch may write, in octets. Zero means 2 GiB.
	MaxPack int64
	// SSHCommand is what git runs instead of ssh: `ssh -i KEY -o …`. Empty means ssh that
	// asks nobody.
	SSHCommand string
	// Credentials is a file of git-credential-store, for https. Empty: none.
	Credentials string
}

const (
	tipRef     = "refs/zonecast/tip"     // what was last landed, fetched or accepted
	nextRef    = "refs/zonecast/next"    // what the branch is about to be moved to
	fetchedRef = "refs/zonecast/fetched" // the remote's branch
)

// Repo is an open repository. One process at a time has it open.
type Repo struct {
	cfg    Config
	branch string // the full name
	id     string
	lock   *os.File
	cat    *cat
	nodes  nodes

	packers sync.Pool // of *zlib.Writer

	fetching sync.Mutex    // held by Fetch: two at once would lock each other's reference out
	refs     sync.RWMutex  // held while references move
	moved    chan struct{} // under refs: closed when the branch moves
	trouble  error         // under refs: of the last Fetch
}

// Open opens the repository, makes it if there is none, and brings to an end what was
// cut off when the last process that had it open died.
func Open(ctx context.Context, cfg Config) (_ *Repo, err error) {
	cfg.Branch = cmp.Or(cfg.Branch, "main")
	cfg.Timeout = cmp.Or(cfg.Timeout, 30*time.Second)
	cfg.StaleLock = cmp.Or(cfg.StaleLock, 10*time.Second)
	cfg.Limits = cfg.Limits.withDefaults()
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := checkBranch(cfg.Branch); err != nil {
		return nil, err
	}
	if cfg.Remote != nil {
		remote := *cfg.Remote
		cfg.Remote = &remote
		if err := remote.complete(cfg.Branch); err != nil {
			return nil, err
		}
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, err
	}
	if cfg.Runner == nil {
		if cfg.Runner, err = NewRunner(ctx, cmp.Or(cfg.Git, "git"), cfg.Dir); err != nil {
			return nil, err
		}
	}
	r := &Repo{cfg: cfg, branch: "refs/heads/" + cfg.Branch, cat: &cat{run: cfg.Runner}, moved: make(chan struct{})}
	if r.lock, err = lockDir(cfg.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open repository %s: %w", cfg.Dir, err), r.Close())
		}
	}()
	if err := r.create(ctx); err != nil {
		return nil, err
	}
	if err := r.sweep(); err != nil {
		return nil, err
	}
	if err := r.identify(ctx); err != nil {
		return nil, err
	}
	r.refs.Lock()
	defer r.refs.Unlock()
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	var rewritten *Rewritten
	if _, err := r.settle(ctx); err != nil && !errors.As(err, &rewritten) && !errors.Is(err, ErrNoCommit) {
		return nil, err
	}
	return r, nil
}

// Close ends what runs for the repository. The Repo must not be used afterwards.
func (r *Repo) Close() error {
	r.cat.close()
	if r.lock == nil {
		return nil
	}
	return r.lock.Close()
}

// ID names the repository, and the copies that were made of its folder; it does not
// change.
func (r *Repo) ID() string { return r.id }

// Branch is the branch that counts.
func (r *Repo) Branch() string { return r.cfg.Branch }

// Follows reports whether the repository follows a remote branch: nothing is landed in
// it.
func (r *Repo) Follows() bool { return r.cfg.Remote != nil }

// complete checks a remote and fills in what is not said.
func (m *Remote) complete(branch string) error {
	m.Branch = cmp.Or(m.Branch, branch)
	m.Every = cmp.Or(m.Every, 10*time.Second)
	m.Timeout = cmp.Or(m.Timeout, 5*time.Minute)
	m.MaxPack = cmp.Or(m.MaxPack, 2<<30)
	if err := checkBranch(m.Branch); err != nil {
		return err
	}
	if m.URL == "" || strings.HasPrefix(m.URL, "-") || strings.Contains(m.URL, "::") || strings.ContainsFunc(m.URL, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return fmt.Errorf("remote %.200q: expected https://…, ssh://…, git://…, host:path or a path", m.URL)
	}
	if u, err := url.Parse(m.URL); err == nil && u.User != nil {
		if _, has := u.User.Password(); has {
			return fmt.Errorf("remote %s: has a password in it, which everybody on this machine can read: put it in a credentials file", u.Redacted())
		}
	}
	return nil
}

// checkBranch is stricter than git.
func checkBranch(name string) error {
	bad := func(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune(`~^:?*[\`, c) }
	if err := checkPath(name); err != nil || strings.ContainsFunc(name, bad) || strings.Contains(name, "..") || strings.Contains(name, "@{") ||
		strings.HasPrefix(name, "-") || strings.HasPrefix(name, ".") || strings.Contains(name, "/.") || strings.HasSuffix(name, ".") || strings.HasSuffix(name, ".lock") || len(name) > 200 {
		return fmt.Errorf("branch %.200q: expected a name such as main", name)
	}
	return nil
}

// lockDir makes the folder above dir and sees to it that one process has it open.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("repository %s: another process has it open (%s.lock): %w", dir, dir, err), f.Close())
	}
	return f, nil
}

// ownConfig is what a repository that is made here says beside git's defaults: what
// comes in is checked, and whoever pushes pushes branches of their own.
const ownConfig = `[gc]
	auto = 0
[receive]
	fsckObjects = true
	autogc = false
	hideRefs = refs/heads/%s
	hideRefs = refs/proposals
	hideRefs = refs/zonecast
[zonecast]
	id = %s
`

// create makes the repository if there is none: beside its place, and then moved there.
func (r *Repo) create(ctx context.Context) error {
	dir := r.cfg.Dir
	list, err := os.ReadDir(dir)
	if err == nil && len(list) > 0 {
		if _, err := os.Stat(filepath.Join(dir, "objects")); err != nil {
			return fmt.Errorf("is not empty and is no bare git repository: %w", err)
		}
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	next := dir + ".new"
	if err := os.RemoveAll(next); err != nil {
		return err
	}
	init := []string{"--git-dir=" + next, "init", "-q", "--bare", "--template=", "--object-format=sha1", "--initial-branch=" + r.cfg.Branch}
	if err := r.git(ctx, Command{Args: init}); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(next, "config"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, ownConfig, r.cfg.Branch, rand.Text())
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(next, dir)
}

// identify reads what the repository says about itself.
func (r *Repo) identify(ctx context.Context) error {
	out, err := r.output(ctx, 100, nil, "rev-parse", "--is-bare-repository", "--show-object-format")
	if err != nil {
		return err
	}
	if f := strings.Fields(string(out)); len(f) != 2 || f[0] != "true" || f[1] != "sha1" {
		return fmt.Errorf("says bare and object format %q, expected a bare repository with objects named by sha1", f)
	}
	out, err = r.output(ctx, 1<<10, nil, "config", "--local", "--get", "zonecast.id")
	if exitStatus(err) == 1 { // somebody else's, used for the first time
		r.id = rand.Text()
		return r.git(ctx, Command{Args: []string{"config", "--local", "zonecast.id", r.id}})
	}
	r.id = strings.TrimSpace(string(out))
	return err
}

// temp is where files of a moment are.
func (r *Repo) temp() string { return filepath.Join(r.cfg.Dir, "zonecast-tmp") }

// sweep removes what a killed process left behind: its own files, and git's locks that
// are too old to be anybody's.
func (r *Repo) sweep() error {
	if err := os.RemoveAll(r.temp()); err != nil {
		return err
	}
	if err := os.Mkdir(r.temp(), 0o700); err != nil {
		return err
	}
	for _, name := range []string{"packed-refs.lock", "HEAD.lock", "config.lock"} {
		if err := r.removeStale(filepath.Join(r.cfg.Dir, name)); err != nil {
			return err
		}
	}
	for _, pattern := range []string{"objects/pack/tmp_*", "objects/??/tmp_obj_*"} {
		files, err := filepath.Glob(filepath.Join(r.cfg.Dir, pattern))
		if err != nil {
			return err
		}
		for _, name := range files {
			if err := removeOld(name, leftover); err != nil {
				return err
			}
		}
	}
	return filepath.WalkDir(filepath.Join(r.cfg.Dir, "refs"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".lock") {
			return err
		}
		return r.removeStale(path)
	})
}

// leftover is the age from which a file that git had begun is nobody's: longer than any
// push takes.
const leftover = 24 * time.Hour

// removeStale removes a lock that is older than locks get.
func (r *Repo) removeStale(path string) error { return removeOld(path, r.cfg.StaleLock) }

func removeOld(path string, age time.Duration) error {
	s, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || time.Since(s.ModTime()) < age {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// begin gives a branch without a commit an empty one, and takes a branch that is used
// here for the first time as it is.
func (r *Repo) begin(ctx context.Context) error {
	at, err := r.resolve(ctx, r.branch, tipRef, nextRef)
	if err != nil {
		return err
	}
	branch, tip, next := at[0], at[1], at[2]
	switch {
	case !tip.IsZero():
		return nil
	case !branch.IsZero():
		return r.Update(ctx, Move{tipRef, branch, Hash{}})
	case r.Follows():
		return nil // the first fetch says
	case next.IsZero():
		b := r.Batch()
		next = b.Commit(NewCommit{Tree: r.Empty(), Author: "zonecast", When: r.cfg.Now(), Message: "An empty configuration"})
		if err := b.Write(ctx); err != nil {
			return err
		}
	}
	return r.advance(ctx, Hash{}, next, nil)
}
