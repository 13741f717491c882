package atomicfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// tempPattern names the temporary files, which lie beside the file that they become
// because a rename works within one file system only. The dot hides them from
// whoever lists the directory for content.
const tempPattern = ".atomic-*"

// Write makes data the content of path, with the permissions perm whatever the umask
// is and whatever the old file had.
func Write(path string, perm fs.FileMode, data []byte) error {
	return WriteFunc(path, perm, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// WriteFunc is Write of what write writes. When write fails, or anything else does,
// path is left as it was and the temporary file is removed; one error is different:
// if only the last step fails, fsync of the directory, the new content is in place
// but may not survive a crash.
//
// A path that is a symbolic link is replaced, not followed.
func WriteFunc(path string, perm fs.FileMode, write func(io.Writer) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, tempPattern)
	if err != nil {
		return err
	}
	if err := fill(f, perm, write); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return SyncDir(dir)
}

// fill writes, syncs and closes f.
func fill(f *os.File, perm fs.FileMode, write func(io.Writer) error) error {
	defer f.Close() // for the returns before the one below; a second Close does nothing
	b := bufio.NewWriterSize(f, 64<<10)
	if err := write(b); err != nil {
		return err
	}
	if err := b.Flush(); err != nil {
		return err
	}
	if err := f.Chmod(perm.Perm()); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// SyncDir makes the names in dir durable: without it a crash can undo a rename, a
// creation or a removal (rename(2), fsync(2)).
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Sweep removes what writers that died have left in dir. No writer may be at work
// there.
func Sweep(dir string) error {
	left, err := filepath.Glob(filepath.Join(escape(dir), tempPattern))
	if err != nil {
		return fmt.Errorf("sweep %s: %w", dir, err)
	}
	var errs []error
	for _, path := range left {
		errs = append(errs, os.Remove(path))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("sweep %s: %w", dir, err)
	}
	return nil
}

// escape takes the meaning of the characters that are special to filepath.Glob.
func escape(dir string) string {
	var b []byte
	for i := range len(dir) {
		switch dir[i] {
		case '*', '?', '[', '\\':
			b = append(b, '\\')
		}
		b = append(b, dir[i])
	}
	return string(b)
}
