package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// FS is the file-system calls a journal makes, so that tests can fail each one.
// Paths are those of package os, errors wrap those of package io/fs.
type FS interface {
	// OpenFile is os.OpenFile. What is written is always opened with O_APPEND.
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
	// Lock takes an exclusive lock on the file, made where there is none, until it
	// is closed. It does not wait: the error wraps ErrLocked when somebody else
	// has it.
	Lock(name string) (io.Closer, error)
}

// Watcher is an FS that tells of changes itself. Of the operating system's a follower
// hears by inotify; any other is looked at now and then.
type Watcher interface {
	// Watch tells, until stop, that something changed in a directory, which need not be
	// there yet. No change is missed; several may be told as one.
	Watch(dir string) (changes <-chan struct{}, stop func())
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

// System is the operating system's file system.
func System() FS { return systemFS{} }

type systemFS struct{}

type systemFile struct{ *os.File }

func (f systemFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (systemFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return systemFile{f}, nil
}

func (systemFS) ReadDir(name string) ([]string, error) {
	entries, err := os.ReadDir(name)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

func (systemFS) MkdirAll(name string, perm fs.FileMode) error { return os.MkdirAll(name, perm) }
func (systemFS) Rename(from, to string) error                 { return os.Rename(from, to) }
func (systemFS) Link(from, to string) error                   { return os.Link(from, to) }
func (systemFS) Remove(name string) error                     { return os.Remove(name) }

func (systemFS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (systemFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s: another process has it", ErrLocked, name)
		}
		return nil, &fs.PathError{Op: "flock", Path: name, Err: err}
	}
	return f, nil
}
