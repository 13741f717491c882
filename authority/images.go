package authority

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/image"
)

// images is the directory in which a server keeps the image it answers from:
// <number>.image, of which the one with the largest number counts. The zero value
// with a dir is ready for open.
type images struct {
	dir       string // empty: open makes one, and close removes it
	temporary bool

	mu     sync.Mutex // guards below
	number uint64     // of the newest one
}

func (m *images) open() error {
	if m.dir == "" {
		dir, err := os.MkdirTemp("", "zonecast-images-")
		if err != nil {
			return fmt.Errorf("make a directory for images: %w", err)
		}
		m.dir, m.temporary = dir, true
		return nil
	}
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return fmt.Errorf("make the directory for images: %w", err)
	}
	return nil
}

func (m *images) close() {
	if m.temporary {
		os.RemoveAll(m.dir)
	}
}

// numbers gives those of the images that are there, ascending.
func (m *images) numbers() []uint64 {
	entries, _ := os.ReadDir(m.dir)
	var all []uint64
	for _, e := range entries {
		text, ok := strings.CutSuffix(e.Name(), ".image")
		if n, err := strconv.ParseUint(text, 10, 64); ok && err == nil {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all
}

func (m *images) path(n uint64) string {
	return filepath.Join(m.dir, strconv.FormatUint(n, 10)+".image")
}

// last opens the newest image that can be opened; nil when there is none. What an
// earlier life left half done goes.
func (m *images) last(log *slog.Logger) *image.Image {
	m.mu.Lock()
	defer m.mu.Unlock()
	if left, err := filepath.Glob(filepath.Join(m.dir, "*.image.tmp-*")); err == nil {
		for _, path := range left {
			os.Remove(path)
		}
	}
	all := m.numbers()
	for _, n := range slices.Backward(all) {
		m.number = max(m.number, n)
		im, err := image.Open(m.path(n))
		if err == nil {
			return im
		}
		log.Warn("image of an earlier life not used", "error", err)
		os.Remove(m.path(n))
	}
	return nil
}

// build makes an image of what fill adds and opens it.
func (m *images) build(o image.Options, fill func(*image.Builder) error) (*image.Image, error) {
	return m.next(o.Pause, func(path string) error {
		b, err := image.Create(path, o)
		if err != nil {
			return err
		}
		defer b.Abort()
		if err := fill(b); err != nil {
			return err
		}
		return b.Finish()
	})
}

// fold makes an image of a view and opens it.
func (m *images) fold(v *data.View, label image.Label, note []byte, pause func() error) (*image.Image, error) {
	return m.next(pause, func(path string) error { return v.Fold(path, label, note, pause) })
}

// next makes the image with the next number, opens it and checks it.
func (m *images) next(pause func() error, write func(path string) error) (*image.Image, error) {
	var im *image.Image
	err := m.place(func(path string) (err error) {
		if err = write(path); err != nil {
			return err
		}
		if im, err = image.Open(path); err != nil {
			return errors.Join(err, os.Remove(path))
		}
		return im.Scrub(pause)
	})
	return im, err
}

// place has the image with the next number made and removes the ones before, whose
// mappings stay as long as somebody uses them.
func (m *images) place(write func(path string) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.number + 1
	if err := write(m.path(n)); err != nil {
		return err
	}
	m.number = n
	for _, old := range m.numbers() {
		if old < n {
			os.Remove(m.path(old))
		}
	}
	return nil
}
