package operator

import (
	"fmt"
	"os"
	"sync"
)

// File is a file of operators that is read anew when it changes. One that cannot be read
// leaves those that were read last. The zero value is ready, its methods may be called
// concurrently.
type File struct {
	mu   sync.Mutex  // guards below
	info os.FileInfo // of the file when last was read
	last *Operators  // nil: none were ever read
	err  error       // that Now gave last
}

// Now gives the operators of the file at path, which is always the same. An error says why
// that cannot be read; then the operators are those that were read last, nil when there are
// none. News tells that the error is another than the time before, or that it is gone.
func (f *File) Now(path string) (all *Operators, news bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err = f.read(path)
	news = (err == nil) != (f.err == nil) || err != nil && err.Error() != f.err.Error()
	f.err = err
	return f.last, news, err
}

func (f *File) read(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read operators: %w", err)
	}
	if f.last != nil && f.err == nil && os.SameFile(info, f.info) && info.ModTime().Equal(f.info.ModTime()) && info.Size() == f.info.Size() {
		return nil
	}
	all, err := Load(path)
	if err != nil {
		return err
	}
	f.last, f.info = all, info
	return nil
}
