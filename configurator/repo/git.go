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
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command is one run of git.
type Command struct {
	Args   []string  // after those that name the repository
	Stdin  io.Reader // nil: empty
	Stdout io.Writer // nil: thrown away
	Env    []string  // beside the environment that every git here has
	// MaxFile bounds every file that the command and its children write, in octets.
	// Zero means no bound.
	MaxFile int64
}

// Runner runs git. Tests give one that fails at a chosen step.
type Runner interface {
	Run(ctx context.Context, c Command) error
}

// GitError is a git command that failed.
type GitError struct {
	Command string // the first of its arguments
	Stderr  string // the beginning, in one line
	Err     error
}

func (e *GitError) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("git %s: %v", e.Command, e.Err)
	}
	return fmt.Sprintf("git %s: %v: %s", e.Command, e.Err, e.Stderr)
}

func (e *GitError) Unwrap() error { return e.Err }

const (
	// maxStderr is how much of what git complains about is kept, in octets.
	maxStderr = 4 << 10
	// waitDelay is how long a git that was killed may keep its pipes open: children of
	// its own that have not noticed yet.
	waitDelay = 2 * time.Second
)

// execRunner runs the real git.
type execRunner struct {
	path string
	dir  string // of the repository
}

// NewRunner gives the Runner of the git command git for the repository dir, an absolute
// path.
func NewRunner(ctx context.Context, git, dir string) (Runner, error) {
	path, err := findGit(ctx, git)
	if err != nil {
		return nil, err
	}
	return execRunner{path: path, dir: dir}, nil
}

// environment is everything that a git here sees of the world: nobody's configuration,
// no prompts, plain English, and no object replaced by another.
func environment() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "XDG_CONFIG_HOME=/nonexistent", "LC_ALL=C", "TZ=UTC",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS=", "GIT_PAGER=cat",
		"GIT_NO_REPLACE_OBJECTS=1", "GIT_LITERAL_PATHSPECS=1", "GIT_ALLOW_PROTOCOL=file:git:ssh:http:https",
	}
}

// options stand before the command: durable, no hooks, no background work.
var options = []string{
	"-c", "core.hooksPath=/dev/null", "-c", "core.attributesFile=/dev/null", "-c", "core.fsync=all",
	"-c", "core.fsmonitor=false", "-c", "gc.auto=0", "-c", "maintenance.auto=false",
	"-c", "core.askPass=", "-c", "transfer.fsckObjects=true",
}

func (r execRunner) Run(ctx context.Context, c Command) error {
	// The kernel kills a child with Pdeathsig when the thread that started it ends; a
	// locked thread does not end before the child has.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	args := append([]string{"--git-dir=" + r.dir}, options...)
	cmd := exec.CommandContext(ctx, r.path, append(args, c.Args...)...)
	cmd.Env = append(environment(), c.Env...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = waitDelay
	var stderr bytes.Buffer
	cmd.Stderr = &bounded{w: &stderr, left: maxStderr}
	cmd.Stdout = c.Stdout
	started := make(chan struct{})
	switch in := c.Stdin.(type) {
	case nil, *os.File:
		cmd.Stdin = in
	default:
		cmd.Stdin = &gate{r: in, open: started}
	}
	err := cmd.Start()
	if err == nil {
		if c.MaxFile > 0 {
			limit := &unix.Rlimit{Cur: uint64(c.MaxFile), Max: uint64(c.MaxFile)}
			err = unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_FSIZE, limit, nil)
			if err != nil {
				_ = cmd.Cancel()
			}
		}
		close(started)
		err = errors.Join(err, cmd.Wait())
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return &GitError{Command: c.Args[0], Stderr: oneLine(stderr.String()), Err: err}
}

// gate is a reader that gives nothing before open is closed: git waits for its first
// line until its limits are set.
type gate struct {
	r    io.Reader
	open chan struct{}
}

func (g *gate) Read(p []byte) (int, error) {
	<-g.open
	return g.r.Read(p)
}

// bounded passes the first octets on and swallows the rest.
type bounded struct {
	w    io.Writer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(b.left, len(p))
	b.left -= n
	if n > 0 {
		if _, err := b.w.Write(p[:n]); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// errTooLong ends a git that says more than it was expected to.
var errTooLong = errors.New("more output than expected")

// atMost is a buffer that refuses more than max octets. It embeds no bytes.Buffer, whose
// ReadFrom would take any number.
type atMost struct {
	b   []byte
	max int
}

func (b *atMost) Write(p []byte) (int, error) {
	n := min(len(p), b.max-len(b.b))
	b.b = append(b.b, p[:n]...)
	if n < len(p) {
		return n, errTooLong
	}
	return n, nil
}

// oneLine makes git's complaint fit for an error: without control characters, lines
// joined by "; ".
func oneLine(s string) string {
	var out []string
	for line := range strings.Lines(s) {
		line = strings.Map(func(c rune) rune {
			if c < ' ' || c == 0x7f {
				return -1
			}
			return c
		}, strings.TrimSpace(line))
		if line != "" {
			out = append(out, line)
		}
	}
	return strings.Join(out, "; ")
}

// git runs one command within the time that commands have.
func (r *Repo) git(ctx context.Context, c Command) error {
	return r.within(ctx, r.cfg.Timeout, c)
}

func (r *Repo) within(ctx context.Context, timeout time.Duration, c Command) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not done after %v", timeout))
	defer cancel()
	return r.cfg.Runner.Run(ctx, c)
}

// output runs one command and gives what it printed, at most max octets.
func (r *Repo) output(ctx context.Context, max int, stdin io.Reader, args ...string) ([]byte, error) {
	out := &atMost{max: max}
	err := r.git(ctx, Command{Args: args, Stdin: stdin, Stdout: out})
	return out.b, err
}

// exitStatus is the status with which a git ended by itself; -1 if it did not.
func exitStatus(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// findGit gives the path of the git command and checks that it is new enough.
func findGit(ctx context.Context, name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("the git command %q is not there: install git (2.36 or newer) on the machine that keeps the repository: %w", name, err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "version")
	cmd.Env = environment()
	out := &atMost{max: 1 << 10}
	cmd.Stdout = out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s version: %w", path, err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(out.b), "git version %d.%d", &major, &minor); err != nil || major < 2 || major == 2 && minor < 36 {
		return "", fmt.Errorf("%s: is %q, expected git version 2.36 or newer: install a newer git", path, strings.TrimSpace(string(out.b)))
	}
	return path, nil
}
