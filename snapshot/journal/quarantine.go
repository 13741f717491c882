package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maxQuarantined is how many damaged journals are kept: enough to see whether
// the disk or the program is at fault, too few to fill the disk.
const maxQuarantined = 3

// Quarantine moves a damaged journal aside, to dir.corrupt-<n>, and returns where
// it is now. The newest three are kept, older ones removed. No writer may be open.
func Quarantine(dir string) (string, error) { return QuarantineIn(systemFS{}, dir) }

// QuarantineIn is Quarantine in a file system.
func QuarantineIn(fsys FS, dir string) (string, error) {
	to, err := quarantine(fsys, filepath.Clean(dir))
	if err != nil {
		return "", fmt.Errorf("quarantine journal %s: %w", dir, err)
	}
	return to, nil
}

func quarantine(fsys FS, dir string) (to string, err error) {
	lock, err := fsys.Lock(filepath.Join(dir, lockFile))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	parent, prefix := filepath.Dir(dir), filepath.Base(dir)+".corrupt-"
	names, err := fsys.ReadDir(parent)
	if err != nil {
		return "", err
	}
	var kept []int
	for _, name := range names {
		if n, err := strconv.Atoi(strings.TrimPrefix(name, prefix)); err == nil && strings.HasPrefix(name, prefix) {
			kept = append(kept, n)
		}
	}
	slices.Sort(kept)
	n := 1
	if len(kept) > 0 {
		n = kept[len(kept)-1] + 1
	}
	to = filepath.Join(parent, prefix+strconv.Itoa(n))
	if err := fsys.Rename(dir, to); err != nil {
		return "", err
	}
	if err := fsys.SyncDir(parent); err != nil {
		return "", err
	}
	for len(kept) >= maxQuarantined {
		if err := removeFlat(fsys, filepath.Join(parent, prefix+strconv.Itoa(kept[0]))); err != nil {
			return to, fmt.Errorf("remove an older one: %w", err)
		}
		kept = kept[1:]
	}
	return to, nil
}

// removeFlat removes a directory of files. A directory within is an error: it is
// not of a journal.
func removeFlat(fsys FS, dir string) error {
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := fsys.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return fsys.Remove(dir)
}
