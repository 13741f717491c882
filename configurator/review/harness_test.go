package review

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonecast/zonecast/configurator/repo"
	"github.com/zonecast/zonecast/record"
)

type fatal interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// planner stands in for the compiler. Files of zones/ are zones; a plan is what changes
// in files, and what is in zones/common as soon as any zone changes. A tree in which two
// files have the same line "name X", or any has BROKEN, does not compile.
type planner struct {
	mu     sync.Mutex
	others string // what else there is, which is in every digest
	slow   time.Duration
	ill    error // not the sources' fault
}

func (p *planner) Plan(ctx context.Context, base, result *repo.Tree, changed []string) (Plan, error) {
	p.mu.Lock()
	slow, ill, others := p.slow, p.ill, p.others
	p.mu.Unlock()
	if ill != nil {
		return Plan{}, ill
	}
	time.Sleep(slow)
	var plan Plan
	h := sha256.New()
	h.Write([]byte(others))
	names := map[string]string{}
	err := fs.WalkDir(result, ".", func(name string, e fs.DirEntry, err error) error {
		if name == "bulk" {
			return fs.SkipDir
		}
		if err != nil || e.IsDir() {
			return err
		}
		b, err := result.ReadFile(name)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(b)) {
			line = strings.TrimSpace(line)
			if line == "BROKEN" {
				return &SourceError{fmt.Errorf("%s: is broken", name)}
			}
			if strings.HasPrefix(line, "name ") {
				if other := names[line]; other != "" {
					return &SourceError{fmt.Errorf("%s: %s is in %s, too", name, line, other)}
				}
				names[line] = name
			}
		}
		return nil
	})
	if err != nil {
		return plan, err
	}
	common := false
	for _, name := range changed {
		a, _ := base.ReadFile(name)
		b, _ := result.ReadFile(name)
		fmt.Fprintf(h, "%q %q\n", name, difference(string(a), string(b)))
		if zone, ok := strings.CutPrefix(name, "zones/"); ok {
			common = true
			if z, err := record.ParseName(strings.TrimSuffix(zone, ".star")); err == nil {
				plan.Zones = append(plan.Zones, z)
			}
		}
	}
	if common {
		b, _ := result.ReadFile("zones/common")
		h.Write(b)
	}
	plan.Digest = fmt.Sprintf("%x", h.Sum(nil)[:8])
	return plan, nil
}

// difference gives the lines that are in one of both alone, as a plan says which records
// come and go, and not where in a file they are.
func difference(a, b string) []string {
	count := map[string]int{}
	for line := range strings.Lines(a) {
		count[line]--
	}
	for line := range strings.Lines(b) {
		count[line]++
	}
	var d []string
	for _, line := range slices.Sorted(maps.Keys(count)) {
		if n := count[line]; n != 0 {
			d = append(d, fmt.Sprint(n, line))
		}
	}
	return d
}

// clock is one that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// bench is a Review on a repository of its own.
type bench struct {
	*Review
	t       fatal
	dir     string
	clock   *clock
	planner *planner
	cfg     Config
}

func newBench(t *testing.T, owners string, change ...func(*Config)) *bench {
	t.Helper()
	b := &bench{t: t, dir: filepath.Join(t.TempDir(), "config.git"), clock: &clock{now: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)}, planner: &planner{}}
	b.cfg = Config{Planner: b.planner, Now: b.clock.Now, DefaultOwners: owners}
	for _, f := range change {
		f(&b.cfg)
	}
	b.open(nil)
	t.Cleanup(func() { b.repo.Close() })
	return b
}

// open opens the repository, again if it was open.
func (b *bench) open(runner repo.Runner) {
	b.t.Helper()
	if b.Review != nil {
		b.repo.Close()
	}
	r, err := repo.Open(context.Background(), repo.Config{Dir: b.dir, Now: b.clock.Now, Runner: runner})
	if err != nil {
		b.t.Fatal(err)
	}
	b.cfg.Repo = r
	if b.Review, err = New(context.Background(), b.cfg); err != nil {
		r.Close()
		b.t.Fatal(err)
	}
}

func (b *bench) propose(who string, files map[string]string) int {
	b.t.Helper()
	p, err := b.Propose(context.Background(), Act{Who: who}, draft(files))
	if err != nil {
		b.t.Fatal(err)
	}
	return p.Number
}

// draft changes files; "-" removes one.
func draft(files map[string]string) Draft {
	d := Draft{Title: "Change " + strings.Join(slices.Sorted(maps.Keys(files)), " "), Reason: "It is time.", Files: map[string][]byte{}}
	d.Title = shorten(d.Title, maxTitle)
	for name, s := range files {
		if d.Files[name] = []byte(s); s == "-" {
			d.Files[name] = nil
		}
	}
	return d
}

// approve approves what would land now.
func (b *bench) approve(n int, who string) error {
	l, err := b.Examine(context.Background(), n)
	if err != nil {
		return err
	}
	if l.Problem != nil {
		return l.Problem
	}
	_, err = b.Approve(context.Background(), n, Act{Who: who}, l.Plan.Digest)
	return err
}

func (b *bench) mustApprove(n int, who ...string) {
	b.t.Helper()
	for _, w := range who {
		if err := b.approve(n, w); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *bench) land(n int) *Landing {
	b.t.Helper()
	l, err := b.Land(context.Background(), n, Act{Who: "lander"})
	if err != nil {
		b.t.Fatal(err)
	}
	return l
}

// do proposes, approves and lands.
func (b *bench) do(who string, files map[string]string) int {
	b.t.Helper()
	n := b.propose(who, files)
	b.mustApprove(n, "bob")
	b.land(n)
	return n
}

func (b *bench) refused(err error, want ...string) {
	b.t.Helper()
	if err == nil {
		b.t.Fatalf("nothing was refused, want %q", want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			b.t.Errorf("got %v, want %q", err, w)
		}
	}
}

func (b *bench) state(n int, want State, why ...string) *Proposal {
	b.t.Helper()
	p, err := b.Show(context.Background(), n)
	if err != nil {
		b.t.Fatal(err)
	}
	if p.State != want {
		b.t.Fatalf("proposal %d is %s (%s), want %s", n, p.State, p.Why, want)
	}
	for _, w := range why {
		if !strings.Contains(p.Why, w) {
			b.t.Errorf("proposal %d is %s because %q, want %q", n, p.State, p.Why, w)
		}
	}
	return p
}

// files gives what is on the branch.
func (b *bench) files() map[string]string {
	b.t.Helper()
	tip, err := b.repo.Tip(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	tree, err := b.repo.Tree(context.Background(), tip)
	if err != nil {
		b.t.Fatal(err)
	}
	files := map[string]string{}
	err = fs.WalkDir(tree, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		c, err := tree.ReadFile(name)
		files[name] = string(c)
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return files
}

func (b *bench) git(args ...string) string {
	b.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (b *bench) fsck() {
	b.t.Helper()
	if out := b.git("fsck", "--strict", "--no-dangling"); out != "" && !strings.HasPrefix(out, "notice: ") {
		b.t.Fatalf("git fsck: %s", out)
	}
}

var errInjected = errors.New("killed by the test")

// failing is a Runner that dies, for good, at a chosen command that writes.
type failing struct {
	real repo.Runner
	mu   sync.Mutex
	left int    // commands that write until it dies; below 0: never
	how  string // "before", "after", or "within": with the first half of its input
	died bool
}

func newFailing(t fatal, dir string) *failing {
	real, err := repo.NewRunner(context.Background(), "git", dir)
	if err != nil {
		t.Fatal(err)
	}
	return &failing{real: real, left: -1}
}

func (f *failing) Run(ctx context.Context, c repo.Command) error {
	if c.Args[0] != "unpack-objects" && c.Args[0] != "index-pack" && c.Args[0] != "update-ref" {
		return f.real.Run(ctx, c)
	}
	f.mu.Lock()
	now := f.left == 0
	f.left = max(f.left-1, -1)
	dead := f.died
	f.died = f.died || now
	f.mu.Unlock()
	if !now && !dead {
		return f.real.Run(ctx, c)
	}
	if !dead && f.how != "before" {
		if f.how == "within" {
			in, err := io.ReadAll(c.Stdin)
			if err != nil {
				return err
			}
			c.Stdin = bytes.NewReader(in[:len(in)/2])
		}
		_ = f.real.Run(ctx, c)
	}
	return &repo.GitError{Command: c.Args[0], Err: errInjected}
}
