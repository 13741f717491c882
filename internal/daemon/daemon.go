package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/zonecast/zonecast/internal/atomicfile"
)

const (
	// The pause before a program is started again: the first, doubled up to the most
	// while it lives shorter than lived.
	pauseFirst = 100 * time.Millisecond
	pauseMost  = 10 * time.Second
	lived      = 10 * time.Second
	// stopGrace is between SIGTERM and SIGKILL when Config.Grace is zero.
	stopGrace = 5 * time.Second
	// look is how often a process that is not our child is looked at.
	look = 100 * time.Millisecond
	// tailLines are kept to tell why a program ended, of at most maxLine octets each.
	tailLines = 5
	maxLine   = 4096
)

// Config says what to run.
type Config struct {
	// Path is the program's file, Args what follows it on the command line.
	Path string
	Args []string
	// Dir is its working directory; empty is this process's.
	Dir string
	// Env is added to the environment, from which what service managers tell this
	// process is taken away.
	Env []string
	// Stdin is what it reads; nil is nothing.
	Stdin []byte
	// PidFile is where the process is noted for the next life.
	PidFile string
	// Grace is how long it may take to end after SIGTERM. Zero means 5s.
	Grace time.Duration
	// Leave: the process goes on when Run ends, and the next Run takes it over.
	Leave bool
	// Line judges what the program says: how bad it is, and whether it is worth a line.
	// Nil logs all as information.
	Line func(line string) (level slog.Level, text string, ok bool)
	// Out gets what the program says as it is, one Write a line, in the place of Log: for
	// one that logs as this process does. Nil: Log.
	Out io.Writer
	// HandsOver: a second process of the program takes over from the first, which then
	// ends by itself; see Replace.
	HandsOver bool
	Log       *slog.Logger
}

// State is how it stands with the process.
type State struct {
	Pid     int // 0: none runs
	Adopted bool
	Starts  int    // of this life, takings over not counted
	Since   int64  // unix milliseconds of the start or the taking over
	Ended   string // how the last one ended, with its last words; "" when none has
}

// Daemon is a process and its successors.
type Daemon struct {
	cfg      Config
	replaces chan *replacement

	mu    sync.Mutex // guards below
	args  []string   // of the next start
	state State
	tail  []string
	news  chan struct{} // closed and replaced when the state changes
}

// New makes a Daemon; Run runs it.
func New(cfg Config) *Daemon {
	if cfg.Grace <= 0 {
		cfg.Grace = stopGrace
	}
	return &Daemon{cfg: cfg, args: cfg.Args, replaces: make(chan *replacement), news: make(chan struct{})}
}

// State is how it stands, and a channel that is closed when that changes.
func (d *Daemon) State() (State, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state, d.news
}

// setArgs sets those of the next start, and gives those that were.
func (d *Daemon) setArgs(args []string) (before []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before, d.args = d.args, args
	return before
}

func (d *Daemon) set(change func(*State)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(&d.state)
	close(d.news)
	d.news = make(chan struct{})
}

// Find looks for the program in PATH and where system programs are.
func Find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil || strings.Contains(name, "/") {
		return path, err
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} { // not in everybody's PATH
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}

// Run takes over the process of an earlier life or starts one, and starts it again as
// often as it ends, until ctx ends; then it ends the process, unless it is to be left.
func (d *Daemon) Run(ctx context.Context) error {
	pause := pauseFirst
	for {
		began := time.Now()
		err := d.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errReplaced) {
			pause = pauseFirst
			continue
		}
		if time.Since(began) > lived {
			pause = pauseFirst
		}
		d.cfg.Log.Error("program ended, starting it again", "file", d.cfg.Path, "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, pauseMost)
	}
}

// once has one process from its start to its end, which is the error.
func (d *Daemon) once(ctx context.Context) error {
	if p, ok := readPid(d.cfg.PidFile); ok && p.runs(d.cfg.Path) {
		d.cfg.Log.Info("program of an earlier life taken over", "file", d.cfg.Path, "pid", p.pid)
		d.set(func(s *State) { s.Pid, s.Adopted, s.Since = p.pid, true, time.Now().UnixMilli() })
		ended := make(chan error, 1)
		watching, stop := context.WithCancel(context.Background())
		defer stop()
		go func() { ended <- p.await(watching, d.cfg.Path) }()
		return d.until(ctx, ended, p.pid)
	}
	c, err := d.start()
	if err != nil {
		d.set(func(s *State) { s.Pid, s.Ended = 0, err.Error() })
		return err
	}
	d.took(c)
	return d.until(ctx, c.ended, c.pid)
}

// child is a process that this one started.
type child struct {
	pid   int
	ended <-chan error // gets one: how it ended
}

// took makes c the process of d.
func (d *Daemon) took(c child) {
	if err := writePid(d.cfg.PidFile, c.pid); err != nil {
		d.cfg.Log.Warn("pid file not written; were this process killed, the program would be in the way of the next", "file", d.cfg.PidFile, "error", err)
	}
	d.set(func(s *State) {
		s.Pid, s.Adopted, s.Since = c.pid, false, time.Now().UnixMilli()
		s.Starts++
	})
}

// until waits for the end of the process, or ends it when ctx ends.
func (d *Daemon) until(ctx context.Context, ended <-chan error, pid int) (err error) {
	defer func() {
		d.set(func(s *State) {
			s.Pid, s.Adopted = 0, false
			s.Ended = fmt.Sprint(err)
		})
	}()
	for ctx.Err() == nil {
		select {
		case err = <-ended:
			return d.lastWords(err)
		case <-ctx.Done():
		case r := <-d.replaces:
			next, err := d.replace(ctx, r, ended, pid)
			if err == nil && next.pid != 0 {
				ended, pid = next.ended, next.pid
				d.took(next)
			}
			r.done <- err
			switch {
			case err == nil && next.pid == 0:
				return errReplaced
			case err != nil && next.pid != 0: // nothing runs any more, and that was no wish
				return err
			}
		}
	}
	if d.cfg.Leave {
		d.cfg.Log.Info("program goes on; the next life takes it over", "file", d.cfg.Path, "pid", pid)
		return ctx.Err()
	}
	d.end(ended, pid, d.cfg.Grace)
	if err := os.Remove(d.cfg.PidFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.cfg.Log.Debug("pid file not removed", "file", d.cfg.PidFile, "error", err)
	}
	return ctx.Err()
}

// lastWords adds to the end of a process what it said last.
func (d *Daemon) lastWords(err error) error {
	if err == nil {
		err = errors.New("ended without an error")
	}
	d.mu.Lock()
	said := strings.Join(d.tail, "; ")
	d.mu.Unlock()
	if said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return err
}

// end ends a process, by force when it does not listen.
func (d *Daemon) end(ended <-chan error, pid int, grace time.Duration) {
	_ = syscall.Kill(pid, syscall.SIGTERM) // an error: it is gone
	select {
	case <-ended:
	case <-time.After(grace):
		d.cfg.Log.Warn("program does not end by SIGTERM: killed", "file", d.cfg.Path, "pid", pid)
		_ = syscall.Kill(pid, syscall.SIGKILL)
		<-ended
	}
}

// ofManager are variables by which a service manager speaks to this process alone.
var ofManager = []string{"NOTIFY_SOCKET=", "WATCHDOG_USEC=", "WATCHDOG_PID=", "LISTEN_FDS=", "LISTEN_PID=", "LISTEN_FDNAMES="}

// start starts the program.
func (d *Daemon) start() (child, error) {
	d.mu.Lock()
	cmd := exec.Command(d.cfg.Path, d.args...)
	d.mu.Unlock()
	cmd.Dir = d.cfg.Dir
	for _, v := range os.Environ() {
		if !slices.ContainsFunc(ofManager, func(name string) bool { return strings.HasPrefix(v, name) }) {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, d.cfg.Env...)
	if d.cfg.Stdin != nil {
		f, err := stdin(d.cfg.Stdin)
		if err != nil {
			return child{}, err
		}
		defer f.Close()
		cmd.Stdin = f
	}
	// The program gets both ends of the pipe into which it speaks: when this process is
	// gone the pipe still has a reader, so that nothing kills the program (SIGPIPE), and
	// writing does not block, so that nothing stops it.
	r, w, err := os.Pipe()
	if err != nil {
		return child{}, fmt.Errorf("start %s: %w", d.cfg.Path, err)
	}
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = w, w, []*os.File{r}
	// A signal to the foreground group is for this process, which knows how to end it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err = cmd.Start(); err == nil {
		err = syscall.SetNonblock(int(w.Fd()), true)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		if cmd.Process != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		return child{}, errors.Join(fmt.Errorf("start %s: %w", d.cfg.Path, err), r.Close())
	}
	d.mu.Lock()
	d.tail = nil
	d.mu.Unlock()
	d.cfg.Log.Info("program started", "file", d.cfg.Path, "pid", cmd.Process.Pid)
	said := make(chan struct{})
	go func() {
		defer close(said)
		d.read(r)
	}()
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		select {
		case <-said:
		case <-time.After(time.Second): // a child of its own has the pipe
		}
		ended <- err
	}()
	return child{cmd.Process.Pid, ended}, nil
}

// stdin gives a file that has b and is nowhere else.
func stdin(b []byte) (*os.File, error) {
	f, err := os.CreateTemp("", "zonecast-stdin-")
	if err != nil {
		return nil, fmt.Errorf("make standard input: %w", err)
	}
	_, err = f.Write(b)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return nil, errors.Join(fmt.Errorf("make standard input: %w", err), f.Close())
	}
	return f, nil
}

// read logs what the program says, to its end.
func (d *Daemon) read(r *os.File) {
	defer r.Close()
	in := bufio.NewReaderSize(r, maxLine)
	for {
		line, long, err := in.ReadLine()
		if err != nil {
			return
		}
		text := strings.TrimSpace(string(line))
		for long && err == nil {
			_, long, err = in.ReadLine()
		}
		if d.cfg.Out != nil && text != "" {
			_, _ = io.WriteString(d.cfg.Out, text+"\n") // as a log line that cannot be written
		}
		level, ok := slog.LevelInfo, text != ""
		if d.cfg.Line != nil && ok {
			level, text, ok = d.cfg.Line(text)
		}
		if !ok {
			continue
		}
		d.mu.Lock()
		if d.tail = append(d.tail, text); len(d.tail) > tailLines {
			d.tail = d.tail[1:]
		}
		d.mu.Unlock()
		if d.cfg.Out == nil {
			d.cfg.Log.Log(context.Background(), level, "program said", "file", d.cfg.Path, "line", text)
		}
	}
}

// process is one, told from others that had its number before or have it later.
type process struct {
	pid   int
	start string // clock ticks after the boot at which it was started
}

// of looks a process up; ok is false when it is not there, or dead and not yet waited for.
func of(pid int) (p process, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return p, false
	}
	// The second field is the name in parentheses, with anything in it; the third is the
	// state, the 22nd the start (proc(5)).
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return p, false
	}
	return process{pid, fields[19]}, true
}

// runs tells whether p is alive and runs the program.
func (p process) runs(path string) bool {
	now, ok := of(p.pid)
	if !ok || now != p {
		return false
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.pid))
	return err == nil && filepath.Base(strings.TrimSuffix(exe, " (deleted)")) == filepath.Base(resolved(path))
}

func resolved(path string) string {
	if to, err := filepath.EvalSymlinks(path); err == nil {
		return to
	}
	return path
}

// await waits until p is gone.
func (p process) await(ctx context.Context, path string) error {
	for p.runs(path) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(look):
		}
	}
	return errors.New("ended; how is not known, it was another life's child")
}

func readPid(file string) (process, bool) {
	b, err := os.ReadFile(file)
	if err != nil {
		return process{}, false
	}
	number, start, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	pid, err := strconv.Atoi(number)
	return process{pid, start}, err == nil && pid > 1
}

func writePid(file string, pid int) error {
	p, ok := of(pid)
	if !ok {
		return nil // it ended already
	}
	return atomicfile.Write(file, 0o644, fmt.Appendf(nil, "%d %s\n", p.pid, p.start))
}
