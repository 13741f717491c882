package refused

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/zonecast/zonecast/snapshot/journal"
)

// Dir is where what a journal's agent refused is kept.
func Dir(journal string) string { return filepath.Clean(journal) + ".refused" }

// Entry is one thing that was refused.
type Entry struct {
	Time    int64  `json:"time_ms"` // unix milliseconds
	Dataset string `json:"dataset"`
	Kind    string `json:"kind"`
	Way     string `json:"way"`               // where it came from: store, peers or disk
	Version uint64 `json:"version,omitempty"` // it is about; 0 when that cannot be told
	Why     string `json:"why"`
	// Size is how many octets of it are kept here.
	Size int `json:"size"`
	// Evidence is what was refused, or its beginning. Not in the JSON.
	Evidence []byte `json:"-"`
	// File is where it lies, set by List; Damaged tells that the file is not whole.
	File    string `json:"file,omitempty"`
	Damaged bool   `json:"damaged,omitempty"`
}

// Limits of a Keeper. An attacker fills them in no time, so that they are small; the newest
// are what helps.
const (
	MaxFiles  = 64
	MaxOctets = 16 << 20
	// maxWhy bounds Entry.Why, maxWaiting the entries that wait for the disk.
	maxWhy     = 4 << 10
	maxWaiting = 16
	// maxFile bounds what is read of a file.
	maxFile = 1 << 20
)

// Keeper keeps entries in one directory.
type Keeper struct {
	fsys    journal.FS
	dir     string
	log     *slog.Logger
	waiting chan Entry
	clear   chan struct{}

	files []file // in the directory, oldest first; of the goroutine of Run
	next  int    // number of the next file of this life
	told  string // error that was logged last
}

type file struct {
	name string
	size int64
}

// New makes a Keeper. The directory is made when there is something to keep.
func New(fsys journal.FS, dir string, log *slog.Logger) *Keeper {
	return &Keeper{fsys: fsys, dir: dir, log: log, waiting: make(chan Entry, maxWaiting), clear: make(chan struct{}, 1)}
}

// Keep keeps an entry, soon. It does not wait: when many come faster than the disk takes them
// those beyond maxWaiting are not kept.
func (k *Keeper) Keep(e Entry) {
	select {
	case k.waiting <- e:
	default:
	}
}

// Clear removes everything, soon: the host needs the room for what it serves.
func (k *Keeper) Clear() {
	select {
	case k.clear <- struct{}{}:
	default:
	}
}

// Run keeps until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	k.files = nil
	names, err := k.fsys.ReadDir(k.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		k.say(err) // what is there is not counted in this life
	}
	for _, name := range names {
		if b, err := journal.ReadFile(k.fsys, filepath.Join(k.dir, name), maxFile); err == nil {
			k.files = append(k.files, file{name, int64(len(b))})
		} else {
			k.files = append(k.files, file{name, maxFile})
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.clear:
			k.say(k.shrink(0, 0))
		case e := <-k.waiting:
			k.say(k.keep(e))
		}
	}
}

// say logs an error once.
func (k *Keeper) say(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != k.told {
		k.log.Warn("what was refused is not kept for inspection; the host serves on", "dir", k.dir, "error", err)
	}
	k.told = text
}

func (k *Keeper) keep(e Entry) error {
	e.Why, e.Size = e.Why[:min(len(e.Why), maxWhy)], len(e.Evidence)
	head, err := json.Marshal(e)
	if err != nil {
		return err
	}
	b := append(append(head, '\n'), e.Evidence...)
	if err := k.shrink(MaxFiles-1, MaxOctets-int64(len(b))); err != nil {
		return err
	}
	if err := k.fsys.MkdirAll(k.dir, 0o755); err != nil {
		return err
	}
	k.next++
	name := fmt.Sprintf("%020d-%06d-%s", e.Time, k.next, e.Kind)
	path := filepath.Join(k.dir, name)
	f, err := k.fsys.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err != nil {
		if also := k.fsys.Remove(path); also != nil {
			k.files = append(k.files, file{name, int64(len(b))}) // it counts, and is tried again
			err = errors.Join(err, also)
		}
		return err
	}
	k.files = append(k.files, file{name, int64(len(b))})
	return nil
}

// shrink removes the oldest until no more than some are left.
func (k *Keeper) shrink(files int, octets int64) error {
	var all int64
	for _, f := range k.files {
		all += f.size
	}
	for len(k.files) > 0 && (len(k.files) > files || all > octets) {
		if err := k.fsys.Remove(filepath.Join(k.dir, k.files[0].name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		all -= k.files[0].size
		k.files = k.files[1:]
	}
	return nil
}

// List gives what is kept in a directory, oldest first; nothing when it is not there.
func List(fsys journal.FS, dir string) ([]Entry, error) {
	names, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list what was refused: %w", err)
	}
	var all []Entry
	for _, name := range names {
		path := filepath.Join(dir, name)
		e := Entry{Damaged: true}
		b, err := journal.ReadFile(fsys, path, maxFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the oldest goes
		}
		if head, evidence, whole := bytes.Cut(b, []byte("\n")); err == nil && whole && json.Unmarshal(head, &e) == nil {
			e.Evidence, e.Damaged = evidence, len(evidence) != e.Size
		}
		if e.Kind == "" { // its name says when and what
			if at, rest, ok := strings.Cut(name, "-"); ok {
				fmt.Sscanf(at, "%d", &e.Time)
				_, e.Kind, _ = strings.Cut(rest, "-")
			}
		}
		e.File = path
		all = append(all, e)
	}
	slices.SortStableFunc(all, func(a, b Entry) int { return cmp.Compare(a.Time, b.Time) })
	return all, nil
}

// When is Time.
func (e Entry) When() time.Time { return time.UnixMilli(e.Time) }
