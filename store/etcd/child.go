package etcd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// Restart waits: a child that died is started again after the first wait, which
	// doubles up to the most while children die young, and starts anew after one that
	// lived for childLived.
	restartFirst = 100 * time.Millisecond
	restartMost  = 5 * time.Second
	childLived   = 10 * time.Second
	// stopGrace is how long a child has to end after SIGTERM before SIGKILL, which
	// loses nothing either. It needs well under a second.
	stopGrace = 10 * time.Second
	// childStart bounds StartChild when its ctx does not.
	childStart = time.Minute
	// lastLines is how many lines of a child's stderr an error quotes.
	lastLines = 5
	// maxLine bounds a line of a child's stderr, in bytes; what is longer is cut.
	maxLine = 4096
)

// ChildConfig says how to run a server as a child process.
type ChildConfig struct {
	// Command is the argument vector of a program that calls Serve, ends gracefully
	// on SIGTERM and writes Serve's error to its stderr.
	Command []string
	// Dir is the data directory: the same as in Command.
	Dir string
	// Socket is where the child listens: the same as in Command. See SocketPath.
	Socket string
	// Log is told of starts, ends and what the child writes to stderr. Nil discards.
	Log *slog.Logger
}

// Child is a server process that is started again when it dies, and that ends with
// this process, however that ends.
type Child struct {
	cfg    ChildConfig
	log    *slog.Logger
	cancel context.CancelFunc
	done   chan struct{} // closed when run has returned

	mu    sync.Mutex // guards below
	pid   int        // 0 while none runs
	tail  []string   // last lines of the present or last child's stderr
	ended chan struct{}
	last  error  // how the last one ended
	words string // of the last one that ended
}

// StartChild starts the child and waits until it answers. When the first child
// ends before it answers, StartChild returns its last words: at the start a person
// is there to read them. Later ends are met with restarts, for ever. ctx bounds
// the start only; Close ends the child.
func StartChild(ctx context.Context, cfg ChildConfig) (*Child, error) {
	if len(cfg.Command) == 0 || cfg.Dir == "" || cfg.Socket == "" {
		return nil, errors.New("start store: the child's command, directory or socket is missing")
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	rctx, cancel := context.WithCancel(context.Background())
	c := &Child{cfg: cfg, log: log, cancel: cancel, done: make(chan struct{}), ended: make(chan struct{}, 1)}
	go c.run(rctx)
	ctx, stop := context.WithTimeout(ctx, childStart)
	defer stop()
	if err := c.await(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Endpoint is what Config.Endpoints takes.
func (c *Child) Endpoint() string { return endpoint(c.cfg.Socket) }

func endpoint(listen string) string {
	if strings.HasPrefix(listen, "/") {
		return "unix://" + listen
	}
	return listen
}

// Pid is the present child's process id, 0 while none runs.
func (c *Child) Pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pid
}

// Close ends the child. Clients are closed before, so that they can say goodbye.
func (c *Child) Close() error {
	c.cancel()
	<-c.done
	return nil
}

// await waits until the child answers a read, or ends.
func (c *Child) await(ctx context.Context) error {
	s, err := Open(ctx, Config{Endpoints: []string{c.Endpoint()}})
	if err != nil {
		return err
	}
	defer s.Close()
	answered := make(chan error, 1)
	actx, cancel := context.WithCancel(ctx)
	go func() {
		for {
			rctx, stop := context.WithTimeout(actx, time.Second)
			_, err := s.client.Get(rctx, "/", clientv3.WithCountOnly())
			stop()
			// Somebody else's server may answer there: the child says when it serves.
			if pid, ready := owner(c.cfg.Dir); err == nil && ready && pid == c.Pid() {
				answered <- nil
				return
			}
			if actx.Err() != nil {
				answered <- actx.Err()
				return
			}
			pause(actx, 10*time.Millisecond)
		}
	}()
	defer func() { cancel(); <-answered }()
	select {
	case err := <-answered:
		answered <- nil // for the deferred receive
		if err != nil {
			return fmt.Errorf("start store in %s: no answer at %s%s: %w", c.cfg.Dir, c.cfg.Socket, c.quote(), ctx.Err())
		}
		return nil
	case <-c.ended:
		c.mu.Lock()
		last := c.last
		c.mu.Unlock()
		return fmt.Errorf("start store in %s: the child process ended (%w)%s", c.cfg.Dir, last, c.quote())
	}
}

// quote is the child's last words, for an error.
func (c *Child) quote() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.tail) == 0 {
		return ""
	}
	return ": " + strings.Join(plain(c.tail), "; ")
}

// plain leaves out of a child's last lines those of its log, if it said anything
// else: the reason for which it ends is not logged but said.
func plain(lines []string) []string {
	var said []string
	for _, l := range lines {
		if !strings.HasPrefix(l, "{") {
			said = append(said, strings.TrimPrefix(l, "zonecast: "))
		}
	}
	if said == nil {
		return lines
	}
	return said
}

// Trouble is why no child serves now, in the last words of the one before; "" when
// one does.
func (c *Child) Trouble() string {
	pid, ready := owner(c.cfg.Dir)
	c.mu.Lock()
	defer c.mu.Unlock()
	if ready && pid == c.pid {
		return ""
	}
	return c.words
}

// run starts children until ctx ends.
func (c *Child) run(ctx context.Context) {
	defer close(c.done)
	// The kernel ends the child when the *thread* that started it ends (prctl(2),
	// PR_SET_PDEATHSIG): keep this one for as long as there are children.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	wait := restartFirst
	for ctx.Err() == nil {
		began := time.Now()
		err := c.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > childLived {
			wait = restartFirst
		}
		c.log.Error("store process ended, starting it again", "error", err, "took", time.Since(began).Round(time.Millisecond),
			"wait", wait, "dir", c.cfg.Dir, "said", strings.TrimPrefix(c.quote(), ": "))
		words := strings.TrimPrefix(c.quote(), ": ")
		c.mu.Lock()
		c.last, c.words = err, words
		c.mu.Unlock()
		select {
		case c.ended <- struct{}{}:
		default:
		}
		pause(ctx, wait)
		wait = min(2*wait, restartMost)
	}
}

// once runs one child to its end.
func (c *Child) once(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, c.cfg.Command[0], c.cfg.Command[1:]...)
	cmd.SysProcAttr = processAttributes()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.tail = nil
	c.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	c.mu.Lock()
	c.pid = cmd.Process.Pid
	c.mu.Unlock()
	c.log.Info("store process started", "pid", cmd.Process.Pid, "dir", c.cfg.Dir)
	read := make(chan struct{})
	go func() {
		defer close(read)
		c.listen(stderr)
	}()
	// Wait closes the pipe, so what was said must be read before; the pipe ends when
	// the child does.
	select {
	case <-read:
	case <-ctx.Done():
	}
	err = cmd.Wait()
	<-read
	c.mu.Lock()
	c.pid = 0
	c.mu.Unlock()
	if err == nil {
		err = errors.New("exit status 0")
	}
	return err
}

// listen relays the child's stderr line by line and keeps the last lines. The
// stacks of a Go panic are relayed but not kept: they would push out the reason.
func (c *Child) listen(r io.Reader) {
	br := bufio.NewReaderSize(r, maxLine)
	stacks := false
	for {
		line, err := br.ReadSlice('\n')
		text := strings.TrimRight(string(line), "\r\n")
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = br.ReadSlice('\n') // the rest of a line that is too long
		}
		if text != "" {
			c.log.Debug("store process says", "line", text)
			stacks = stacks || strings.HasPrefix(text, "goroutine ")
			if !stacks {
				c.mu.Lock()
				c.tail = append(c.tail, text)
				c.tail = c.tail[max(0, len(c.tail)-lastLines):]
				c.mu.Unlock()
			}
		}
		if err != nil {
			return
		}
	}
}

// SocketPath is where a server with its data in dir should listen: in dir, or,
// when that path would be too long for a socket, in a new directory of its own
// under os.TempDir. remove deletes what SocketPath made.
func SocketPath(dir string) (path string, remove func() error, err error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", nil, fmt.Errorf("find store directory: %w", err)
	}
	if path = filepath.Join(abs, "socket"); len(path) <= maxSocketPath {
		return path, func() error { return nil }, nil
	}
	short, err := os.MkdirTemp("", "zonecast-") // mode 0700
	if err != nil {
		return "", nil, fmt.Errorf("make directory for the store's socket: %w", err)
	}
	if path = filepath.Join(short, "socket"); len(path) > maxSocketPath {
		os.Remove(short)
		return "", nil, fmt.Errorf("store socket %s has a path of %d octets, at most %d: set TMPDIR to a shorter one", path, len(path), maxSocketPath)
	}
	return path, func() error { return os.RemoveAll(short) }, nil
}
