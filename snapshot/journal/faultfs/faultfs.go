package faultfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/zonecast/zonecast/snapshot/journal"
)

// ErrCrashed is what every call returns from the crash on.
var ErrCrashed = errors.New("machine has crashed")

// Loss says what a crash does to what was not synced.
type Loss int

// What can happen, all of which real file systems do.
const (
	Kept      Loss = iota // everything was written out in time
	Lost                  // nothing was: neither data nor names
	LostNames             // the data was, the names were not
	Torn                  // names were, of appended data the first half
	Zeroed                // names and sizes were, appended data reads as zeros
	Reordered             // renames over another file were, files made before them were not
)

// AllLosses is every Loss.
func AllLosses() []Loss { return []Loss{Kept, Lost, LostNames, Torn, Zeroed, Reordered} }

// FS is a file system. Only calls that change something count.
type FS struct {
	mu      sync.Mutex // guards below
	names   map[string]*inode
	durable map[string]*inode // names as of the last SyncDir of each directory
	dirs    map[string]bool
	locks   map[string]bool

	calls   int
	crashAt int // the call that is cut short; 0 is none
	crashed bool
	failAt  int // the call from which on calls fail with failErr; 0 is none
	failFor int
	failErr error
	refuse  error // calls fail with it; nil: they do not
	lies    bool  // what is synced is not made durable
	watches map[string]map[chan struct{}]bool
}

// inode is a file. Data and durable share what is the same in both: octets are only appended,
// and what is cut off is cloned.
type inode struct{ data, durable []byte }

// New is an empty file system that never fails.
func New() *FS {
	return &FS{names: map[string]*inode{}, durable: map[string]*inode{}, dirs: map[string]bool{"/": true}, locks: map[string]bool{}, watches: map[string]map[chan struct{}]bool{}}
}

// Crash is CrashAt without waiting for a call.
func (f *FS) Crash() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashed = true
}

// Refuse makes calls fail with err until Refuse(nil). With ENOSPC, a full disk, those go on that
// need no room. A Write that fails has written half.
func (f *FS) Refuse(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = err
}

// Lie makes a disk that says that it synced what it did not, as some do.
func (f *FS) Lie(lies bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lies = lies
}

// Watch is journal.Watcher.Watch.
func (f *FS) Watch(dir string) (changes <-chan struct{}, stop func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ch := make(chan struct{}, 1)
	if f.watches[dir] == nil {
		f.watches[dir] = map[chan struct{}]bool{}
	}
	f.watches[dir][ch] = true
	return ch, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watches[dir], ch)
	}
}

// changed tells those who watch the directory of a name, and of a directory itself. It is called
// with mu held.
func (f *FS) changed(name string) {
	for _, dir := range []string{filepath.Dir(name), name} {
		for ch := range f.watches[dir] {
			select {
			case ch <- struct{}{}:
			default:
			}
		}
	}
}

// CrashAt makes the n-th call from now on the last one: a Write is cut in half,
// any other call still happens. It returns ErrCrashed as all calls after it do.
func (f *FS) CrashAt(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashAt = f.calls + n
}

// FailAt makes count calls from the n-th on fail with err. A Write that fails has
// written half.
func (f *FS) FailAt(n, count int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failAt, f.failFor, f.failErr = f.calls+n, count, err
}

// Calls counts the calls so far.
func (f *FS) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// Reboot is the file system as it is found after the crash, without faults.
func (f *FS) Reboot(loss Loss) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	names := f.names
	if loss == Lost || loss == LostNames {
		names = f.durable
	}
	if loss == Reordered {
		names = maps.Clone(f.durable)
		for name := range names {
			if now := f.names[name]; now != nil {
				names[name] = now
			}
		}
	}
	after := New()
	after.dirs = maps.Clone(f.dirs)
	made := map[*inode]*inode{} // a file may have several names
	for name, old := range names {
		if made[old] == nil {
			data := old.after(loss)
			made[old] = &inode{data: data, durable: bytes.Clone(data)}
		}
		after.names[name] = made[old]
	}
	after.durable = maps.Clone(after.names)
	return after
}

func (i *inode) after(loss Loss) []byte {
	synced := len(i.durable)
	appended := len(i.data) > synced && bytes.HasPrefix(i.data, i.durable)
	switch {
	case loss == Kept || loss == LostNames:
		return bytes.Clone(i.data)
	case loss == Torn && appended:
		return bytes.Clone(i.data[:synced+(len(i.data)-synced)/2])
	case loss == Zeroed && appended:
		return append(bytes.Clone(i.durable), make([]byte, len(i.data)-synced)...)
	}
	return bytes.Clone(i.durable)
}

// Flip changes bits of a file on the disk.
func (f *FS) Flip(name string, offset int, bits byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.names[name].data[offset] ^= bits
}

// Bytes is what a file holds; nil when there is none.
func (f *FS) Bytes(name string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := f.names[name]; i != nil {
		return bytes.Clone(i.data)
	}
	return nil
}

// Names are all files, sorted.
func (f *FS) Names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.names))
}

// change counts a call and says how it ends: cut means that it is the last one.
// It is called with mu held.
func (f *FS) change(op string) (cut bool, err error) {
	if f.crashed {
		return false, ErrCrashed
	}
	f.calls++
	if f.refuse != nil && (!errors.Is(f.refuse, syscall.ENOSPC) || slices.Contains([]string{"open", "write", "mkdir", "link"}, op)) {
		return false, f.refuse
	}
	if f.failAt > 0 && f.calls >= f.failAt && f.calls < f.failAt+f.failFor {
		return false, f.failErr
	}
	if f.calls == f.crashAt {
		f.crashed = true
		return true, nil
	}
	return false, nil
}

// do is a call that changes something, all at once.
func (f *FS) do(op, name string, act func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	cut, err := f.change(op)
	if err == nil {
		err = act()
	}
	if err == nil && op != "fsync" && op != "mkdir" {
		f.changed(name)
	}
	if err == nil && cut {
		err = ErrCrashed
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

// OpenFile opens a file, as os.OpenFile; only making one counts.
func (f *FS) OpenFile(name string, flag int, _ fs.FileMode) (journal.File, error) {
	open := func() error {
		i := f.names[name]
		switch {
		case i == nil && flag&os.O_CREATE == 0:
			return fs.ErrNotExist
		case i != nil && flag&os.O_EXCL != 0:
			return fs.ErrExist
		case i == nil:
			f.names[name] = &inode{}
		}
		return nil
	}
	var err error
	if flag&os.O_CREATE != 0 {
		err = f.do("open", name, open)
	} else {
		f.mu.Lock()
		if err = open(); f.crashed {
			err = ErrCrashed
		}
		f.mu.Unlock()
		if err != nil {
			err = &fs.PathError{Op: "open", Path: name, Err: err}
		}
	}
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return &file{fs: f, name: name, inode: f.names[name]}, nil
}

// ReadDir gives the names in a directory.
func (f *FS) ReadDir(dir string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return nil, &fs.PathError{Op: "readdir", Path: dir, Err: ErrCrashed}
	}
	if !f.dirs[dir] {
		return nil, &fs.PathError{Op: "readdir", Path: dir, Err: fs.ErrNotExist}
	}
	var names []string
	for name := range f.names {
		if filepath.Dir(name) == dir {
			names = append(names, filepath.Base(name))
		}
	}
	for name := range f.dirs {
		if name != dir && filepath.Dir(name) == dir {
			names = append(names, filepath.Base(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

// MkdirAll makes directories; they are durable at once.
func (f *FS) MkdirAll(dir string, _ fs.FileMode) error {
	return f.do("mkdir", dir, func() error {
		for ; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
			f.dirs[dir] = true
		}
		return nil
	})
}

// Rename renames a file over another one, or a directory.
func (f *FS) Rename(from, to string) error {
	return f.do("rename", from, func() error {
		if f.dirs[from] {
			for _, names := range []map[string]*inode{f.names, f.durable} {
				for name, i := range maps.Clone(names) {
					if strings.HasPrefix(name, from+"/") {
						delete(names, name)
						names[to+name[len(from):]] = i
					}
				}
			}
			delete(f.dirs, from)
			f.dirs[to] = true
			return nil
		}
		if f.names[from] == nil {
			return fs.ErrNotExist
		}
		f.names[to] = f.names[from]
		delete(f.names, from)
		f.changed(to)
		return nil
	})
}

// Link gives a file a second name.
func (f *FS) Link(from, to string) error {
	return f.do("link", from, func() error {
		switch {
		case f.names[from] == nil:
			return fs.ErrNotExist
		case f.names[to] != nil:
			return fs.ErrExist
		}
		f.names[to] = f.names[from]
		f.changed(to)
		return nil
	})
}

// Remove removes a file, or an empty directory.
func (f *FS) Remove(name string) error {
	return f.do("remove", name, func() error {
		if f.dirs[name] {
			for other := range f.names {
				if filepath.Dir(other) == name {
					return fmt.Errorf("directory has %s", other)
				}
			}
			delete(f.dirs, name)
			return nil
		}
		if f.names[name] == nil {
			return fs.ErrNotExist
		}
		delete(f.names, name)
		return nil
	})
}

// SyncDir makes the names in a directory durable.
func (f *FS) SyncDir(dir string) error {
	return f.do("fsync", dir, func() error {
		if f.lies {
			return nil
		}
		maps.DeleteFunc(f.durable, func(name string, _ *inode) bool { return filepath.Dir(name) == dir })
		for name, i := range f.names {
			if filepath.Dir(name) == dir {
				f.durable[name] = i
			}
		}
		return nil
	})
}

// Lock locks; a reboot gives up all locks.
func (f *FS) Lock(name string) (io.Closer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return nil, ErrCrashed
	}
	if f.locks[name] {
		return nil, fmt.Errorf("%w: %s", journal.ErrLocked, name)
	}
	f.locks[name] = true
	return unlocker{f, name}, nil
}

type unlocker struct {
	fs   *FS
	name string
}

func (u unlocker) Close() error {
	u.fs.mu.Lock()
	defer u.fs.mu.Unlock()
	delete(u.fs.locks, u.name)
	return nil
}

type file struct {
	fs    *FS
	name  string
	inode *inode
}

func (f *file) ReadAt(b []byte, at int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.crashed {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: ErrCrashed}
	}
	return bytes.NewReader(f.inode.data).ReadAt(b, at)
}

func (f *file) Write(b []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	cut, err := f.fs.change("write")
	if err == ErrCrashed {
		return 0, &fs.PathError{Op: "write", Path: f.name, Err: err}
	}
	n := len(b)
	if cut || err != nil {
		n /= 2
	}
	f.inode.data = append(f.inode.data, b[:n]...)
	f.fs.changed(f.name)
	if cut {
		err = ErrCrashed
	}
	if err != nil {
		return n, &fs.PathError{Op: "write", Path: f.name, Err: err}
	}
	return n, nil
}

func (f *file) Sync() error {
	return f.fs.do("fsync", f.name, func() error {
		if !f.fs.lies {
			f.inode.durable = f.inode.data
		}
		return nil
	})
}

func (f *file) Truncate(size int64) error {
	return f.fs.do("truncate", f.name, func() error {
		f.inode.data = bytes.Clone(f.inode.data[:size])
		return nil
	})
}

func (f *file) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.crashed {
		return 0, &fs.PathError{Op: "stat", Path: f.name, Err: ErrCrashed}
	}
	return int64(len(f.inode.data)), nil
}

func (f *file) Close() error { return nil }
