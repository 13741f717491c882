package update

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watcher says that something happened in directories. It may say so too often,
// and where the file system announces nothing it never does: the rescan is what
// is relied on, this makes it fast.
type watcher struct {
	log  *slog.Logger
	fs   *fsnotify.Watcher // nil: could not be had
	dirs map[string]os.FileInfo
}

func newWatcher(log *slog.Logger) *watcher {
	w := &watcher{log: log, dirs: map[string]os.FileInfo{}}
	var err error
	if w.fs, err = fsnotify.NewWatcher(); err != nil {
		log.Warn("file system events not to be had, zone files are only rescanned", "error", err)
		w.fs = nil
	}
	return w
}

// watch adds directories. One that was replaced by another is watched anew.
func (w *watcher) watch(dirs ...string) {
	if w.fs == nil {
		return
	}
	slices.Sort(dirs)
	for _, d := range slices.Compact(dirs) {
		info, err := os.Stat(d)
		if err != nil {
			delete(w.dirs, d) // it may come back
			continue
		}
		if old, ok := w.dirs[d]; ok && os.SameFile(old, info) {
			continue
		}
		if _, ok := w.dirs[d]; ok {
			_ = w.fs.Remove(d) // gone with the old directory, mostly
		}
		if err := w.fs.Add(d); err != nil {
			w.log.Warn("directory not watched, it is only rescanned", "dir", d, "error", err)
			continue
		}
		w.dirs[d] = info
	}
}

// wait returns when something happened or d is over; false when ctx ended.
func (w *watcher) wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	var events chan fsnotify.Event
	var errs chan error
	if w.fs != nil {
		events, errs = w.fs.Events, w.fs.Errors
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case e := <-events:
			if !w.take(e) {
				continue
			}
			pause(ctx, coalesce)
			w.drain()
			return ctx.Err() == nil
		case err := <-errs:
			w.log.Warn("file system events lost, looking through all", "error", err)
			return true
		}
	}
}

// take tells whether an event can mean a change.
func (w *watcher) take(e fsnotify.Event) bool {
	if e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename) {
		delete(w.dirs, e.Name) // if it was a directory, its watch is over
	}
	return e.Op != fsnotify.Chmod // touch and chmod: a rescan is early enough
}

// coalesce is how long further events are waited for: a program that writes all
// the time must not make a scan of every write.
const coalesce = time.Millisecond

// drain takes what is there already: one scan is for all of it.
func (w *watcher) drain() {
	for {
		select {
		case e := <-w.fs.Events:
			w.take(e)
		default:
			return
		}
	}
}

func (w *watcher) close() {
	if w.fs != nil {
		_ = w.fs.Close() // nothing to lose
	}
}
