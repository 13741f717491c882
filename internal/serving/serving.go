package serving

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/zonecast/zonecast/internal/tree"
)

// File is its name in the status directory: tree.HostDataset as JSON, replaced
// atomically.
const File = "serving"

// maxSize bounds the file in octets; it has about 200, and as many for each direct
// override.
const maxSize = 256 << 10

// Read reads what is answered; the error wraps fs.ErrNotExist when nothing is.
func Read(dir string) (tree.HostDataset, error) {
	var s tree.HostDataset
	f, err := os.Open(filepath.Join(dir, File))
	if err != nil {
		return s, err
	}
	defer func() { _ = f.Close() }() // read only
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return s, err
	}
	if len(b) > maxSize {
		return s, fmt.Errorf("%s has more than %d octets", f.Name(), maxSize)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return s, nil
}

// Write replaces the file atomically. It is not synced to the disk: after a crash of
// the machine it says nothing true anyway. An empty dir writes none.
func Write(dir string, h tree.HostDataset) error {
	if dir == "" {
		return nil
	}
	b, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	path := filepath.Join(dir, File)
	if err := os.WriteFile(path+".tmp", b, 0o644); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}

// Remove takes the file away; that there is none is no error.
func Remove(dir string) error {
	if err := os.Remove(filepath.Join(dir, File)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
