package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
)

// ErrCorrupt is wrapped when the content of a journal is damaged: it cannot be
// used, and is to be moved aside (Quarantine) and fetched anew.
var ErrCorrupt = errors.New("journal is damaged")

// ErrLocked is wrapped when another process has the journal open for writing.
var ErrLocked = errors.New("journal is locked")

// Error says what is damaged. It wraps ErrCorrupt.
type Error struct {
	File   string // path
	Offset int64  // octets from the start of File; -1 when the whole file is meant
	Found  string // and what was expected
	Err    error  // the cause, or nil
}

// Error is for people: where, what, and what to do.
func (e *Error) Error() string {
	where, cause := e.File, ""
	if e.Offset >= 0 {
		where = fmt.Sprintf("%s: offset %d", e.File, e.Offset)
	}
	if e.Err != nil {
		cause = ": " + e.Err.Error()
	}
	return fmt.Sprintf("%v: %s: %s%s (move the directory aside and fetch the dataset anew)", ErrCorrupt, where, e.Found, cause)
}

// Unwrap gives ErrCorrupt and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrCorrupt}
	}
	return []error{ErrCorrupt, e.Err}
}

// readError sorts the errors of reading a file that CURRENT needs: a file that is
// missing, ends early or cannot be read from the disk is damage; too many open
// files or a missing permission are not.
func readError(path string, offset int64, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EIO) {
		return &Error{File: path, Offset: offset, Found: "cannot be read", Err: err}
	}
	return fmt.Errorf("read %s: %w", path, err)
}
