package journal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Files of a journal. A generation is a log and, unless it begins with the empty
// dataset, the snapshot it begins with.
const (
	currentFile   = "CURRENT"
	currentTemp   = "CURRENT.new"
	lockFile      = "LOCK"
	logPrefix     = "log-"
	snapshotStart = "snapshot-"
)

func logName(dir string, generation uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%s%020d", logPrefix, generation))
}

func snapshotName(dir string, generation uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%s%020d", snapshotStart, generation))
}

// Snapshots are the snapshot files in the directory, one or, while the journal changes over, two:
// what of another snapshot they have need not be fetched. They may go at any time.
func Snapshots(dir string) []string {
	entries, _ := os.ReadDir(dir) // none, when it cannot be read
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), snapshotStart) {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out
}

// current is what the file CURRENT says, in one line:
//
//	zonecast-journal 1 <generation> <id, 16 hexadecimal digits> <CRC-32C of the line before this field, 8 hexadecimal digits>
//
// id is random: a journal made anew in the place of another one is not mistaken
// for it.
type current struct {
	generation uint64
	id         uint64
}

const currentFormat = "zonecast-journal 1 %d %016x "

// castagnoli is the polynomial of every checksum in a journal.
func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func (c current) text() string {
	line := fmt.Sprintf(currentFormat, c.generation, c.id)
	return fmt.Sprintf("%s%08x\n", line, castagnoli([]byte(line)))
}

// readCurrent says which generation holds. The error wraps fs.ErrNotExist when
// there is no journal.
func readCurrent(fsys FS, dir string) (current, error) {
	path := filepath.Join(dir, currentFile)
	b, err := readFile(fsys, path, 256)
	if err != nil {
		return current{}, err
	}
	var c current
	if _, err := fmt.Sscanf(string(b), currentFormat, &c.generation, &c.id); err != nil || c.text() != string(b) {
		return current{}, &Error{File: path, Offset: 0, Found: fmt.Sprintf("found %.80q, expected zonecast-journal 1 GENERATION ID CRC", b)}
	}
	return c, nil
}

// readFile reads a whole file of at most limit octets.
func readFile(fsys FS, path string, limit int64) ([]byte, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, &Error{File: path, Offset: -1, Found: fmt.Sprintf("%d octets, expected at most %d", size, limit)}
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, readError(path, 0, err)
	}
	return b, nil
}

// ReadFile reads a whole file of at most limit octets.
func ReadFile(fsys FS, path string, limit int64) ([]byte, error) { return readFile(fsys, path, limit) }

// WriteFile makes data the content of path, atomically and durably: after a crash or an
// error the old content is there or the new.
func WriteFile(fsys FS, path string, data []byte) error {
	temp := path + ".new"
	if err := removeIfThere(fsys, temp); err != nil {
		return err
	}
	err := writeNew(fsys, temp, data)
	if err == nil {
		err = fsys.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, removeIfThere(fsys, temp))
	}
	return fsys.SyncDir(filepath.Dir(path))
}

// writeCurrent makes c hold: atomically, and durably once the directory is synced.
func writeCurrent(fsys FS, dir string, c current) error {
	temp := filepath.Join(dir, currentTemp)
	if err := removeIfThere(fsys, temp); err != nil {
		return err
	}
	if err := writeNew(fsys, temp, []byte(c.text())); err != nil {
		return err
	}
	return fsys.Rename(temp, filepath.Join(dir, currentFile))
}

// writeNew writes a file that is not there yet, and syncs it.
func writeNew(fsys FS, path string, parts ...[]byte) (err error) {
	f, err := fsys.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, b := range parts {
		if _, err := f.Write(b); err != nil {
			return err
		}
	}
	return f.Sync()
}

func removeIfThere(fsys FS, path string) error {
	if err := fsys.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// isOurs tells whether a file of this name in the directory was made by a Writer
// and may be removed when no generation needs it.
func isOurs(name string) bool {
	return name == currentTemp || strings.HasPrefix(name, logPrefix) || strings.HasPrefix(name, snapshotStart)
}
