package rtt

import (
	"errors"
	"fmt"
	"io"
)

// Imported tells what became of what was read.
type Imported struct {
	// Measurements were added.
	Measurements int
	// Lost had no answer: they are no error, and nothing to learn a time from.
	Lost int
	// Elsewhere went to no PoP.
	Elsewhere int
}

// maxLine is how many octets a line or an element may have: our choice.
const maxLine = 1 << 20

// LineError says in which line of a source something is wrong.
type LineError struct {
	Line int // from 1
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap gives what is wrong.
func (e *LineError) Unwrap() error { return e.Err }

var errLong = errors.New("an element of more than 1 MiB")

// bounded bounds what is read before it is used.
type bounded struct {
	r          io.Reader
	read, used int64
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if b.read-b.used > maxLine {
		return 0, errLong
	}
	n, err := b.r.Read(p[:min(len(p), 64<<10)])
	b.read += int64(n)
	return n, err
}
