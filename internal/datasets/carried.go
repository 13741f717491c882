package datasets

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/zonecast/zonecast/internal/atomicfile"
	"github.com/zonecast/zonecast/snapshot"
)

// A host's first dataset is that of its options, and lies where they say. Those that it carries
// beside lie in <journal>.datasets, and the file "list" there says which it carries at all, in
// the order in which they answer for a zone that is in two. Without the file it is the first one.

// dir is what is beside a journal of other datasets.
func dir(journal string) string { return filepath.Clean(journal) + ".datasets" }

// Journal is where the journal of a dataset is, on a host whose first one has it at journal.
func Journal(journal, first, dataset string) string {
	if dataset == first {
		return journal
	}
	return filepath.Join(dir(journal), dataset)
}

// Beside is a directory for a dataset beside the one for the first: of images, of what is
// answered. Empty for an empty one.
func Beside(of, first, dataset string) string {
	if dataset == first || of == "" {
		return of
	}
	return filepath.Join(of, "datasets", dataset)
}

// Aside is where a journal goes that is carried no more; unix is seconds.
func Aside(journal, dataset string, unix int64) string {
	return filepath.Join(dir(journal), "aside", fmt.Sprintf("%s-%d", dataset, unix))
}

// AsideGlob matches what Aside gave.
func AsideGlob(journal string) string { return filepath.Join(dir(journal), "aside", "*") }

const listFile = "list"

type list struct {
	Datasets []string `json:"datasets"`
}

// ReadCarried gives what a host carries, at least one dataset.
func ReadCarried(journal, first string) ([]string, error) {
	path := filepath.Join(dir(journal), listFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return []string{first}, nil
	}
	var l list
	if err == nil {
		err = json.Unmarshal(b, &l)
	}
	if err == nil {
		err = CheckCarried(l.Datasets)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return l.Datasets, nil
}

// WriteCarried says what a host carries.
func WriteCarried(journal string, datasets []string) error {
	if err := os.MkdirAll(dir(journal), 0o755); err != nil {
		return err
	}
	b, err := json.Marshal(list{datasets})
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir(journal), listFile), 0o644, append(b, '\n'))
}

// CheckCarried tells why datasets are none that a host can carry, or nil.
func CheckCarried(datasets []string) error {
	if len(datasets) == 0 || len(datasets) > maxDatasets {
		return fmt.Errorf("%d datasets, expected 1 to %d", len(datasets), maxDatasets)
	}
	for i, d := range datasets {
		if err := snapshot.CheckName(d); err != nil {
			return err
		}
		if d == listFile || d == "aside" {
			return fmt.Errorf("dataset is %q, expected another name: a host has files called so", d)
		}
		if slices.Contains(datasets[:i], d) {
			return fmt.Errorf("dataset %s is there twice, expected it once", d)
		}
	}
	return nil
}
