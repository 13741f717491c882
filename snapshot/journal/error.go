package journal

import (
	"errors"
	"fmt"
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
	where := e.File
	if e.Offset >= 0 {
		where = fmt.Sprintf("%s: offset %d", e.File, e.Offset)
	}
	if e.Err != nil {
		return fmt.Sprintf("journal is damaged: %s: %s: %v (move the directory aside and fetch the dataset anew)", where, e.Found, e.Err)
	}
	return fmt.Sprintf("journal is damaged: %s: %s (move the directory aside and fetch the dataset anew)", where, e.Found)
}

// Unwrap gives ErrCorrupt and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrCorrupt}
	}
	return []error{ErrCorrupt, e.Err}
}
