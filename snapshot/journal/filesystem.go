package journal

import (
	"io"
	"io/fs"
)

// FS is the file-system calls a journal makes, so that tests can fail each one.
// Paths are those of package os, errors its *fs.PathError.
type FS interface {
	// OpenFile is os.OpenFile.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// ReadDir gives the names in a directory, sorted.
	ReadDir(name string) ([]string, error)
	MkdirAll(name string, perm fs.FileMode) error
	Rename(from, to string) error
	// Link makes a hard link; an error means that the caller copies.
	Link(from, to string) error
	Remove(name string) error
	// SyncDir makes creations, renames and removals in a directory durable.
	SyncDir(name string) error
	// Lock takes an exclusive lock on the file until it is closed. It does not
	// wait: the error wraps ErrLocked when somebody else has it.
	Lock(name string) (io.Closer, error)
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.Writer // at the end
	io.Closer
	Sync() error
	Truncate(size int64) error
	Size() (int64, error)
}
