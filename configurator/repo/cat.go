package repo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
)

// ErrMissing is an object or a reference that is not in the repository.
var ErrMissing = errors.New("not in the repository")

// header is what git says of an object before its content.
type header struct {
	hash Hash
	kind string // blob, tree, commit or tag; "" if there is no such object
	size int64
}

// cat asks a `git cat-file --batch-command` that is started when it is first needed and
// again after it died.
type cat struct {
	run Runner

	mu   sync.Mutex // guards below
	in   *os.File
	out  *bufio.Reader
	file *os.File // under out
	stop context.CancelFunc
	done chan struct{} // closed when the process is gone
}

// window is how many questions are asked before the first answer is read. Questions and
// answers of a window (at most 1,100 octets each) fit into the pipes, so that neither
// side waits for the other.
const window = 50

// headers asks for the objects named by names, each a hash or a reference.
func (c *cat) headers(ctx context.Context, names []string) ([]header, error) {
	found := make([]header, 0, len(names))
	err := c.session(ctx, func() error {
		found = found[:0]
		for part := names; len(part) > 0; part = part[min(window, len(part)):] {
			var ask bytes.Buffer
			for _, name := range part[:min(window, len(part))] {
				fmt.Fprintf(&ask, "info %s\n", name)
			}
			ask.WriteString("flush\n")
			if _, err := c.in.Write(ask.Bytes()); err != nil {
				return err
			}
			for _, name := range part[:min(window, len(part))] {
				h, err := c.header(name)
				if err != nil {
					return err
				}
				found = append(found, h)
			}
		}
		return nil
	})
	return found, err
}

// content gives an object's content, of at most max octets.
func (c *cat) content(ctx context.Context, name string, max int64) (h header, b []byte, err error) {
	tooBig := false
	err = c.session(ctx, func() error {
		if _, err := fmt.Fprintf(c.in, "contents %s\nflush\n", name); err != nil {
			return err
		}
		if h, err = c.header(name); err != nil || h.kind == "" {
			return err
		}
		if tooBig = h.size > max; tooBig {
			c.end() // sooner than reading what nobody wants
			return nil
		}
		b = make([]byte, h.size+1)
		if _, err := io.ReadFull(c.out, b); err != nil {
			return err
		}
		b = b[:h.size:h.size]
		return nil
	})
	switch {
	case err != nil:
		return h, nil, err
	case h.kind == "":
		return h, nil, fmt.Errorf("object %s: %w", name, ErrMissing)
	case tooBig:
		return h, nil, fmt.Errorf("object %s: has %d octets, expected at most %d", name, h.size, max)
	}
	return h, b, nil
}

// header reads the line that answers a question for name.
func (c *cat) header(name string) (header, error) {
	line, err := c.out.ReadSlice('\n')
	if err != nil {
		return header{}, err
	}
	f := bytes.Fields(line)
	if n := len(f); n == 2 && (string(f[1]) == "missing" || string(f[1]) == "ambiguous") {
		return header{}, nil
	}
	if len(f) != 3 {
		return header{}, fmt.Errorf("git cat-file says %.100q of %s, expected hash, kind and size", line, name)
	}
	h := header{kind: string(f[1])}
	if h.hash, err = ParseHash(string(f[0])); err != nil {
		return header{}, err
	}
	h.size, err = strconv.ParseInt(string(f[2]), 10, 64)
	return h, err
}

// session runs one exchange with the process. What fails is tried once more with a new
// one: git may have been killed between two questions.
func (c *cat) session(ctx context.Context, exchange func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for try := 0; ; try++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.begin(); err != nil {
			return err
		}
		kill := context.AfterFunc(ctx, c.stop)
		err := exchange()
		kill()
		if err == nil {
			return nil
		}
		c.end()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if try == 1 {
			return fmt.Errorf("git cat-file: %w", err)
		}
	}
}

func (c *cat) begin() error {
	if c.in != nil {
		return nil
	}
	childIn, in, err := os.Pipe()
	if err != nil {
		return err
	}
	out, childOut, err := os.Pipe()
	if err != nil {
		return errors.Join(err, childIn.Close(), in.Close())
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Why it ended is seen by whoever reads, as an early end.
		_ = c.run.Run(ctx, Command{Args: []string{"cat-file", "--batch-command", "--buffer"}, Stdin: childIn, Stdout: childOut})
		childIn.Close()
		childOut.Close()
	}()
	c.in, c.file, c.out, c.stop, c.done = in, out, bufio.NewReaderSize(out, 64<<10), stop, done
	return nil
}

// end ends the process and waits until it is gone.
func (c *cat) end() {
	if c.in == nil {
		return
	}
	c.stop()
	<-c.done
	c.in.Close()
	c.file.Close()
	c.in, c.file, c.out, c.stop, c.done = nil, nil, nil, nil, nil
}

func (c *cat) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end()
}
