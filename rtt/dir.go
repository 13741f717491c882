package rtt

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Suffix ends the names of files with a table each, which lie together in a directory.
const Suffix = ".rtt"

// MaxTables is how many tables are read of one place: our choice, a day of five-minute slots of ten
// servers, and as many again that restarts may have made.
const MaxTables = 2 * 2880

// ReadDir reads the tables of a directory whose End is not before since, the newest first. What cannot be read
// is left out, and said in the error beside the others; so is what is older when all together are over
// limit.Octets. limit.Rows is of each table.
func ReadDir(dir string, limit Limit, since time.Time) ([]*Table, error) {
	names, err := filepath.Glob(filepath.Join(escape(dir), "*"+Suffix))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		if _, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("read tables of round-trip times: %w", err)
		}
	}
	if len(names) > MaxTables {
		return nil, fmt.Errorf("read tables of round-trip times: %d files in %s, expected at most %d", len(names), dir, MaxTables)
	}
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(slotOf(b), slotOf(a)) })
	var tables []*Table
	var errs []error
	octets := 0
	for i, name := range names {
		if limit.Octets > 0 && octets > limit.Octets {
			errs = append(errs, fmt.Errorf("read tables of round-trip times: the newest %d of %d files in %s have %d octets of memory, expected at most %d: the others are left out", i, len(names), dir, octets, limit.Octets))
			break
		}
		t, err := readFile(name, limit)
		if err == nil {
			octets += t.Octets()
		}
		switch {
		case errors.Is(err, fs.ErrNotExist): // it aged out meanwhile
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		case !t.Empty() && !t.End.Before(since):
			tables = append(tables, t)
		}
	}
	return tables, errors.Join(errs...)
}

// slotOf is when the slot of a file began, in Unix seconds, as its name has it behind an @: 0 when it has none.
func slotOf(name string) int64 {
	_, text, _ := strings.Cut(strings.TrimSuffix(filepath.Base(name), Suffix), "@")
	unix, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return unix
}

func readFile(name string, limit Limit) (*Table, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t, err := Read(f, limit)
	if err != nil {
		return nil, fmt.Errorf("%w (it is left out)", err)
	}
	return t, nil
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
