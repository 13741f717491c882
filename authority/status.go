package authority

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/zonecast/zonecast/internal/serving"
)

// unsay removes the files "serving" and "sample".
func (s *Server) unsay() error {
	if s.config.StatusDir == "" {
		return nil
	}
	var errs []error
	for _, file := range []string{serving.File, sampleFile} {
		if err := os.Remove(filepath.Join(s.config.StatusDir, file)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
