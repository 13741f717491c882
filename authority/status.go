package authority

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/zonecast/zonecast/internal/tree"
)

// unsay removes the files "serving" and "sample".
func (s *Server) unsay() error {
	if s.config.StatusDir == "" {
		return nil
	}
	var errs []error
	for _, file := range []string{"serving", sampleFile} {
		if err := os.Remove(filepath.Join(s.config.StatusDir, file)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// writeServing replaces the file "serving" atomically. It is not synced to the
// disk: after a crash of the machine it says nothing true anyway.
func writeServing(dir string, h tree.HostDataset) error {
	if dir == "" {
		return nil
	}
	b, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	path := filepath.Join(dir, "serving")
	if err := os.WriteFile(path+".tmp", b, 0o644); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}
