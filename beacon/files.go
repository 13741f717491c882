package beacon

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zonecast/zonecast/internal/atomicfile"
	"github.com/zonecast/zonecast/rtt"
)

// files are the slots of a directory: NAME@UNIX.rtt, where UNIX is when the slot began. The newest
// is written anew as it grows, the others stay until they are too old.
type files struct {
	dir, name  string
	slot, keep time.Duration
	limit      rtt.Limit
	log        *slog.Logger

	// Of take alone:
	table *rtt.Table // what is in the newest file, and what could not be written
	began time.Time  // of the slot; zero: there is none
	path  string

	rows, evicted, failures atomic.Uint64
	written                 atomic.Int64 // Unix seconds

	mu   sync.Mutex // guards below
	last error      // of the last write
}

func openFiles(cfg Config, limit rtt.Limit, log *slog.Logger) (*files, error) {
	if err := os.MkdirAll(cfg.Out, 0o755); err != nil {
		return nil, fmt.Errorf("out: %w", err)
	}
	// Of a life before; the directory is this server's alone.
	if err := atomicfile.Sweep(cfg.Out); err != nil {
		return nil, fmt.Errorf("out: %w", err)
	}
	f := &files{dir: cfg.Out, name: cfg.Name, slot: cfg.Slot, keep: cfg.Keep, limit: limit, log: log, table: rtt.New(limit)}
	f.age(time.Now())
	f.resume(time.Now())
	return f, nil
}

// resume goes on with the newest file of a life before, unless its time is over: a server that starts
// again and again makes no more files than another.
func (f *files) resume(now time.Time) {
	paths, began, err := f.list()
	if err != nil {
		return // age has said so
	}
	for i := len(paths) - 1; i >= 0; i-- {
		if !strings.HasPrefix(filepath.Base(paths[i]), f.name+"@") {
			continue
		}
		if age := now.Sub(began[i]); age < 0 || age >= f.slot {
			return
		}
		t, err := readTable(paths[i], f.limit)
		if err != nil {
			f.log.Warn("round-trip times of before stay as they are, others are put beside them", "file", paths[i], "error", err)
			return
		}
		f.table, f.began, f.path = t, began[i], paths[i]
		f.rows.Store(uint64(t.Len()))
		return
	}
}

func readTable(path string, limit rtt.Limit) (*rtt.Table, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return rtt.Read(file, limit)
}

// take merges what is new and writes the newest file. One that cannot be written is gone on
// with until it can.
func (f *files) take(fresh *rtt.Table, now time.Time, last bool) {
	before := f.table.Evicted
	if err := f.table.Merge(fresh); err != nil {
		f.log.Error("measurements are not counted", "error", err)
	}
	f.evicted.Add(f.table.Evicted - before)
	f.rows.Store(uint64(f.table.Len()))
	if f.began.IsZero() {
		f.begin(now)
	}
	over := now.Sub(f.began) >= f.slot || now.Sub(f.began) < 0
	if fresh.Empty() && !over && !last && f.failed() == nil {
		return // the file has all
	}
	failed, err := f.failed() != nil, f.write()
	f.mu.Lock()
	f.last = err
	f.mu.Unlock()
	if err != nil {
		f.failures.Add(1)
		if !failed {
			f.log.Error("round-trip times cannot be written, trying again", "error", err)
		}
		return
	}
	f.written.Store(now.Unix())
	if over {
		f.table, f.began = rtt.New(f.limit), time.Time{}
		f.age(now)
	}
}

// begin names a slot's file: one that is not there, also when the clock went back.
func (f *files) begin(now time.Time) {
	for unix := now.Unix(); ; unix++ {
		f.began, f.path = now, filepath.Join(f.dir, f.name+"@"+strconv.FormatInt(unix, 10)+rtt.Suffix)
		if _, err := os.Lstat(f.path); err != nil {
			return
		}
	}
}

func (f *files) write() error {
	if f.table.Empty() {
		return nil
	}
	return atomicfile.WriteFunc(f.path, 0o644, func(w io.Writer) error {
		_, err := f.table.WriteTo(w)
		return err
	})
}

// list are the files there are, the oldest first, and when their slots began.
func (f *files) list() (paths []string, began []time.Time, err error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, nil, err
	}
	type slot struct {
		path string
		unix int64
	}
	var slots []slot
	for _, e := range entries {
		stem, ok := strings.CutSuffix(e.Name(), rtt.Suffix)
		_, text, at := strings.Cut(stem, "@")
		unix, err := strconv.ParseInt(text, 10, 64)
		if ok && at && err == nil {
			slots = append(slots, slot{filepath.Join(f.dir, e.Name()), unix})
		}
	}
	slices.SortFunc(slots, func(a, b slot) int { return cmp.Compare(a.unix, b.unix) })
	for _, s := range slots {
		paths, began = append(paths, s.path), append(began, time.Unix(s.unix, 0))
	}
	return paths, began, nil
}

// age removes what is too old: by the clock, since files outlive the process.
func (f *files) age(now time.Time) {
	paths, began, err := f.list()
	for i, path := range paths {
		if now.Sub(began[i]) >= f.slot+f.keep {
			if e := os.Remove(path); e != nil {
				err = e
			}
		}
	}
	if err != nil {
		f.log.Error("old round-trip times cannot be removed", "error", err)
	}
}

// serve writes all files, one behind the other.
func (f *files) serve(w io.Writer) error {
	paths, _, err := f.list()
	if err != nil {
		return err
	}
	for _, path := range paths {
		file, err := os.Open(path)
		if os.IsNotExist(err) { // it aged out meanwhile
			continue
		}
		if err != nil {
			return err
		}
		_, err = io.Copy(w, file)
		file.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *files) failed() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

func (f *files) trouble() string {
	if err := f.failed(); err != nil {
		return "round-trip times cannot be written: " + err.Error()
	}
	return ""
}
