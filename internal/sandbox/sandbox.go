package sandbox

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// argv0 is the name under which a binary is started as a child.
const argv0 = "zonecast-sandbox"

// Limits of a child.
type Limits struct {
	// Memory is what the child may allocate, in octets, beyond what its process has at the
	// start. Not less than 64 MiB are useful: the run-time system takes so much at once.
	Memory int64
	// Time is for each call.
	Time time.Duration
	// Answer is how many octets an answer or a note may have.
	Answer int
}

// Handler answers requests, one at a time, in a child. note tells the parent something
// meanwhile; it may be called concurrently.
type Handler func(request []byte, note func([]byte)) []byte

// What ends a child.
var (
	ErrMemory = errors.New("needs more memory than it may have")
	ErrTime   = errors.New("takes more time than it may")
)

// Frames: kind, length as u32 big endian, octets.
const (
	kindRequest = 'q'
	kindNote    = 'n'
	kindAnswer  = 'a'

	// maxFrame bounds frames in both directions, whatever Limits say: 1 GiB.
	maxFrame = 1 << 30
)

func writeFrame(w io.Writer, kind byte, b []byte) error {
	if len(b) > maxFrame {
		return fmt.Errorf("message of %d octets, at most %d", len(b), maxFrame)
	}
	head := make([]byte, 5, 5+len(b))
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(b)))
	_, err := w.Write(append(head, b...))
	return err
}

// readFrame reads a frame of at most `most` octets. Memory is taken as octets arrive.
func readFrame(r io.Reader, most int) (kind byte, b []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int64(binary.BigEndian.Uint32(head[1:]))
	if n > int64(most) {
		return 0, nil, fmt.Errorf("message of %d octets, at most %d", n, most)
	}
	var buf bytes.Buffer
	if _, err := io.CopyN(&buf, r, n); err != nil {
		return 0, nil, err
	}
	return head[0], buf.Bytes(), nil
}

// IsChild tells whether this process was started as a child.
func IsChild() bool { return len(os.Args) > 0 && os.Args[0] == argv0 }

// Main answers requests and does not return when this process was started as a child;
// otherwise it does nothing. handlers makes the handler of a name.
func Main(handlers map[string]func() (Handler, error)) {
	if !IsChild() {
		return
	}
	if err := serve(handlers); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serve(handlers map[string]func() (Handler, error)) error {
	if len(os.Args) != 3 {
		return fmt.Errorf("child has %d arguments, expected name and memory", len(os.Args)-1)
	}
	memory, err := strconv.ParseInt(os.Args[2], 10, 64)
	if err != nil {
		return err
	}
	makeHandler := handlers[os.Args[1]]
	if makeHandler == nil {
		return fmt.Errorf("no handler is called %q", os.Args[1])
	}
	if err := confine(memory); err != nil {
		return err
	}
	h, err := makeHandler()
	if err != nil {
		return err
	}
	// Another goroutine reads, so that the child ends with its parent also in the
	// middle of an answer.
	requests := make(chan []byte)
	go func() {
		for {
			kind, b, err := readFrame(os.Stdin, maxFrame)
			if err != nil || kind != kindRequest {
				os.Exit(0)
			}
			requests <- b
		}
	}()
	var mu sync.Mutex // guards standard output
	send := func(kind byte, b []byte) {
		mu.Lock()
		defer mu.Unlock()
		if err := writeFrame(os.Stdout, kind, b); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	for b := range requests {
		send(kindAnswer, h(b, func(n []byte) { send(kindNote, n) }))
	}
	return nil
}

// Child is a running child process. It is not safe for concurrent use.
type Child struct {
	limits Limits
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    io.ReadCloser
	said   *tail // on standard error
	dead   error
}

// Start starts a child that answers with the handler of a name.
func Start(name string, l Limits) (*Child, error) {
	c := &Child{limits: l, said: &tail{}}
	c.cmd = exec.Command("/proc/self/exe") // also when its file has been replaced meanwhile
	c.cmd.Args = []string{argv0, name, strconv.FormatInt(l.Memory, 10)}
	c.cmd.Env = []string{"GOTRACEBACK=single"}
	c.cmd.Dir = "/"
	c.cmd.Stderr = c.said
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start sandbox: %w", err)
	}
	if c.out, err = c.cmd.StdoutPipe(); err != nil {
		return nil, fmt.Errorf("start sandbox: %w", err)
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start sandbox: %w", err)
	}
	return c, nil
}

// Dead tells why the child is dead, or nil.
func (c *Child) Dead() error { return c.dead }

// Call asks the child. note, which may be nil, gets the notes before Call returns. When
// the child dies of a limit the error is ErrMemory or ErrTime.
func (c *Child) Call(ctx context.Context, request []byte, note func([]byte)) ([]byte, error) {
	if c.dead != nil {
		return nil, fmt.Errorf("sandbox: %w", c.dead)
	}
	type result struct {
		answer []byte
		err    error
	}
	done := make(chan result, 1)
	go func() {
		answer, err := c.exchange(request, note)
		done <- result{answer, err}
	}()
	timer := time.NewTimer(c.limits.Time)
	defer timer.Stop()
	var ended error
	select {
	case r := <-done:
		if r.err == nil {
			return r.answer, nil
		}
		ended = c.end()
		switch {
		case c.said.isOutOfMemory():
			ended = ErrMemory
		case errors.Is(r.err, io.EOF), errors.Is(r.err, io.ErrUnexpectedEOF):
			ended = fmt.Errorf("child ended: %w%s", ended, c.said)
		default:
			ended = r.err
		}
	case <-timer.C:
		c.end()
		<-done
		ended = ErrTime
	case <-ctx.Done():
		c.end()
		<-done
		ended = ctx.Err()
	}
	c.dead = ended
	return nil, fmt.Errorf("sandbox: %w", ended)
}

func (c *Child) exchange(request []byte, note func([]byte)) ([]byte, error) {
	if err := writeFrame(c.in, kindRequest, request); err != nil {
		// The child is gone, and reading says so as well.
		if _, _, rerr := readFrame(c.out, 0); rerr != nil {
			return nil, io.ErrUnexpectedEOF
		}
		return nil, err
	}
	for {
		kind, b, err := readFrame(c.out, c.limits.Answer)
		if err != nil {
			return nil, err
		}
		switch kind {
		case kindAnswer:
			return b, nil
		case kindNote:
			if note != nil {
				note(b)
			}
		default:
			return nil, fmt.Errorf("message of kind 0x%02x", kind)
		}
	}
}

// end kills the child and waits for it.
func (c *Child) end() error {
	c.cmd.Process.Kill()
	err := c.cmd.Wait()
	c.in.Close()
	if err == nil {
		err = errors.New("exit status 0")
	}
	return err
}

// Close ends the child.
func (c *Child) Close() error {
	if c.dead == nil {
		c.end()
		c.dead = errors.New("closed")
	}
	return nil
}

// tail keeps the beginning and the end of what a child says on standard error.
type tail struct {
	mu         sync.Mutex // guards below
	head, last []byte
}

const maxTail = 4096

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if room := maxTail - len(t.head); room > 0 {
		t.head = append(t.head, b[:min(room, len(b))]...)
	}
	t.last = append(t.last, b...)
	if over := len(t.last) - maxTail; over > 0 {
		t.last = append(t.last[:0], t.last[over:]...)
	}
	return len(b), nil
}

// String gives ": " and the first line, or "".
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	line, _, _ := strings.Cut(strings.TrimSpace(string(t.head)), "\n")
	if line == "" {
		return ""
	}
	return ": " + strings.ToValidUTF8(line, "?")
}

func (t *tail) isOutOfMemory() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	// The collector of Go 1.26 does not look whether it got memory for its own queues,
	// and dies of that on a stack that is no program's.
	if bytes.Contains(t.head, []byte("SIGSEGV")) && bytes.Contains(t.head, []byte("\ngoroutine 0 ")) {
		return true
	}
	for _, b := range [][]byte{t.head, t.last} {
		for _, sign := range []string{"out of memory", "cannot allocate memory", "pthread_create failed", "failed to create new OS thread", "failed to allocate", "goroutine stack exceeds"} {
			if bytes.Contains(b, []byte(sign)) {
				return true
			}
		}
	}
	return false
}
