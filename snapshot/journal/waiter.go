package journal

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// How long a follower waits at most before it looks again.
const (
	// lookEvery is for when the system tells of changes: a change can be missed
	// only when the directory is replaced between two looks.
	lookEvery = time.Second
	// pollEvery is for when it does not, and for a journal that is not there yet.
	pollEvery = 100 * time.Millisecond
	// wholeEvery is for an append that is under way, when no event told its end.
	wholeEvery = 20 * time.Millisecond
	// repairEvery is for a damaged journal, because looking is to load all of it.
	repairEvery = 10 * time.Second
	// watchedEvery is for a Watcher, which misses nothing.
	watchedEvery = time.Hour
)

// waiter waits for changes in a directory, by inotify where it can be had.
type waiter struct {
	dir     string
	watcher *fsnotify.Watcher // nil: polling
	watched os.FileInfo       // the directory that is watched
	// told is of a Watcher, until unwatch; nil: the file system is none.
	told    <-chan struct{}
	unwatch func()
}

func newWaiter(fsys FS, dir string) *waiter {
	w := &waiter{dir: filepath.Clean(dir)}
	if by, ok := fsys.(Watcher); ok {
		w.told, w.unwatch = by.Watch(w.dir)
	}
	return w
}

func (w *waiter) close() {
	if w.unwatch != nil {
		w.unwatch()
		w.unwatch = nil
	}
	if w.watcher != nil {
		w.watcher.Close() // waits for its goroutine; nothing was written
		w.watcher, w.watched = nil, nil
	}
}

// watch sees to it that the directory which has the name now is watched. Where
// that fails (too many watches, no inotify), the waiter polls, and tries again at
// the next look.
func (w *waiter) watch() {
	if w.told != nil {
		return
	}
	info, err := os.Stat(w.dir)
	if err != nil {
		w.close()
		return
	}
	if w.watched != nil && os.SameFile(info, w.watched) {
		return
	}
	w.close()
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return
	}
	if err := watcher.Add(w.dir); err != nil {
		watcher.Close()
		return
	}
	w.watcher, w.watched = watcher, info
}

// wait returns when something may have changed, or ctx's error.
func (w *waiter) wait(ctx context.Context, what waiting) error {
	most := lookEvery
	switch {
	case w.told != nil && what != forWhole && what != forRepair:
		most = watchedEvery
	case what == forWhole:
		most = wholeEvery
	case what == forRepair && (w.watcher != nil || w.told != nil):
		most = repairEvery
	case what == forRepair:
	case what == forJournal, w.watcher == nil:
		most = pollEvery
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	var events <-chan fsnotify.Event
	var errs <-chan error
	if w.watcher != nil {
		events, errs = w.watcher.Events, w.watcher.Errors
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		case <-w.told:
			return nil
		case e, ok := <-events:
			if !ok || e.Op != fsnotify.Chmod {
				w.drain()
				return nil
			}
		case <-errs: // the queue overflowed, or the watcher is closed: look
			return nil
		}
	}
}

// drain takes the events that are there: one look answers all of them.
func (w *waiter) drain() {
	for {
		select {
		case _, ok := <-w.watcher.Events:
			if !ok {
				return
			}
		default:
			return
		}
	}
}
