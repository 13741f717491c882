package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/internal/ports"
)

// Build builds the binary once a test process, as `make build` does, and returns
// its path.
func Build(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var build = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("ZONECAST_BINARY"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "zonecast-e2e-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "zonecast")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/zonecast")
	cmd.Dir = Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// Root is the root of the checkout.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Process is one running zonecast.
type Process struct {
	t      testing.TB
	cmd    *exec.Cmd
	name   string
	tee    io.Writer     // gets standard error, too; may be nil
	exited chan struct{} // closed when the process has ended
	err    error         // of Wait; set before exited is closed

	mu    sync.Mutex // guards below
	lines []string   // of standard output
	log   bytes.Buffer
	grown chan struct{} // closed and replaced when a line comes
}

// Start starts the binary with args and ends it with the test.
func Start(t testing.TB, name string, args ...string) *Process {
	t.Helper()
	return StartCommand(t, name, append([]string{Build(t)}, args...)...)
}

// StartCommand starts any program and ends it with the test.
func StartCommand(t testing.TB, name string, argv ...string) *Process {
	t.Helper()
	p, err := launch(t, argv[0], name, nil, argv[1:])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("log of %s (its end):\n%s", name, p.Log())
		}
	})
	return p
}

// launch starts the binary; its owner ends it. What it writes to standard error goes
// to tee as well, unless that is nil.
func launch(t testing.TB, binary, name string, tee io.Writer, args []string) (*Process, error) {
	p := &Process{t: t, name: name, cmd: exec.Command(binary, args...), tee: tee, exited: make(chan struct{}), grown: make(chan struct{})}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stderr = logWriter{p}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// Pdeathsig is about the thread that forks: it must live as long as the process.
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := p.cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.read(stdout)
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, <-started
}

func (p *Process) read(r io.Reader) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		p.mu.Lock()
		p.lines = append(p.lines, s.Text())
		close(p.grown)
		p.grown = make(chan struct{})
		p.mu.Unlock()
	}
}

// logWriter keeps the last part of standard error.
type logWriter struct{ *Process }

func (w logWriter) Write(b []byte) (int, error) {
	const most = 256 << 10
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log.Write(b)
	if w.tee != nil {
		if _, err := w.tee.Write(b); err != nil {
			return 0, err
		}
	}
	if w.log.Len() > most {
		w.log.Next(w.log.Len() - most/2)
	}
	return len(b), nil
}

// Log is what the process wrote to standard error, its end.
func (p *Process) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// Output is what the process wrote to standard output.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n") + "\n"
}

// WaitLine waits until a line of standard output starts with prefix.
func (p *Process) WaitLine(prefix string, timeout time.Duration) (string, error) {
	deadline := time.After(timeout)
	for {
		p.mu.Lock()
		for _, l := range p.lines {
			if strings.HasPrefix(l, prefix) {
				p.mu.Unlock()
				return l, nil
			}
		}
		grown := p.grown
		p.mu.Unlock()
		select {
		case <-grown:
		case <-p.exited:
			return "", fmt.Errorf("%s ended (%v) before it said %q:\n%s", p.name, p.err, prefix, p.Log())
		case <-deadline:
			return "", fmt.Errorf("%s did not say %q within %v:\n%s", p.name, prefix, timeout, p.Log())
		}
	}
}

// Running tells whether the process lives.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Exit waits for the end of the process and gives its exit status.
func (p *Process) Exit(timeout time.Duration) (int, error) {
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-time.After(timeout):
		return 0, fmt.Errorf("%s did not end within %v:\n%s", p.name, timeout, p.Log())
	}
}

// Signal sends a signal to the process, if it lives.
func (p *Process) Signal(s syscall.Signal) {
	if p.Running() {
		p.cmd.Process.Signal(s)
	}
}

// Stop ends the process as an operator does, and by force after 30 s.
func (p *Process) Stop() {
	p.Signal(syscall.SIGTERM)
	if _, err := p.Exit(30 * time.Second); err != nil {
		p.t.Errorf("stop: %v", err)
		p.Kill()
	}
}

// Kill ends the process by SIGKILL and waits for its end.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.exited
}

// Up is a running `zonecast up`.
type Up struct {
	*Process
	Dir   string
	API   string
	HTTP  string
	Hosts []netip.AddrPort
	Ready string // the line
	Took  time.Duration
}

// UpOptions say what is started; empty fields are left out.
type UpOptions struct {
	Dir   string // default: a new directory of the test
	Hosts int    // default 3
	Zones string
	Fleet string
	Args  []string
	// Guarded leaves the guards on. Most tests are in a hurry: what changes in a year, or
	// the whole fleet, changes in seconds.
	Guarded bool
	Line    string // with which the line of readiness starts; default: ready
}

// StartUp starts `zonecast up` on free ports and waits until it is ready.
func StartUp(t testing.TB, o UpOptions) *Up {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "zonecast")
	}
	if o.Hosts == 0 {
		o.Hosts = 3
	}
	base := FreePorts(t, o.Hosts+2)
	u := &Up{
		Dir:  o.Dir,
		API:  fmt.Sprintf("127.0.0.1:%d", base+o.Hosts),
		HTTP: fmt.Sprintf("127.0.0.1:%d", base+o.Hosts+1),
	}
	args := []string{"up", "--dir", o.Dir, "--hosts", fmt.Sprint(o.Hosts), "--dns", fmt.Sprintf("127.0.0.1:%d", base), "--api", u.API, "--http", u.HTTP}
	if o.Zones != "" {
		args = append(args, "--zones", o.Zones)
	}
	if o.Fleet != "" {
		args = append(args, "--fleet", o.Fleet)
	}
	if !o.Guarded {
		args = append(args, "--presenter-guards=false")
	}
	began := time.Now()
	u.Process = Start(t, "zonecast up", append(args, o.Args...)...)
	var err error
	if u.Ready, err = u.WaitLine(cmp.Or(o.Line, "ready"), 2*time.Minute); err != nil {
		t.Fatal(err)
	}
	u.Took = time.Since(began)
	for i := range o.Hosts {
		u.Hosts = append(u.Hosts, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(base+i)))
	}
	return u
}

// Client connects to the API.
func (u *Up) Client() *api.Client { return Client(u.t, u.API) }

// Client connects to an API and closes the connection with the test.
func Client(t testing.TB, address string) *api.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := api.Dial(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Run runs a command of the binary against this API.
func (u *Up) Run(args ...string) (stdout, stderr string, status int) {
	u.t.Helper()
	return Run(u.t, append(args, "--api", u.API)...)
}

// JSON runs a command with --json and decodes what it prints.
func (u *Up) JSON(v any, args ...string) {
	u.t.Helper()
	stdout, stderr, status := u.Run(append(args, "--json")...)
	if status != 0 {
		u.t.Fatalf("zonecast %s: exit status %d\n%s", strings.Join(args, " "), status, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), v); err != nil {
		u.t.Fatalf("zonecast %s: %v in\n%s", strings.Join(args, " "), err, stdout)
	}
}

// Run runs the binary to its end.
func Run(t testing.TB, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(Build(t), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if _, ok := err.(*exec.ExitError); !ok {
			t.Fatal(err)
		}
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// FreePorts is ports.Free, in the words of this package.
func FreePorts(t testing.TB, n int) int {
	t.Helper()
	return ports.Free(t, n)
}

// lockedBuffer is a bytes.Buffer for a process to write and a test to read.
type lockedBuffer struct {
	mu  sync.Mutex // guards below
	buf bytes.Buffer
}

// Write implements io.Writer.
func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
