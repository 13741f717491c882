package journal_test

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/zonecast/zonecast/snapshot/journal"
	"github.com/zonecast/zonecast/snapshot/journal/faultfs"
)

const (
	dir      = "/var/internal"
	incoming = "/incoming/snapshot"
)

// options has no keys: thousands of runs would mostly check signatures, which the
// tests of Follow do.
func options(_ *history, fsys journal.FS) journal.Options {
	return journal.Options{Dataset: "internal", FS: fsys, FoldSize: -1}
}

// step is one operation of the scenario; to is the version it leads to.
type step struct {
	what string
	to   int
	do   func(w *journal.Writer) error
}

// scenario has every operation that changes a journal.
func scenario(h *history) []step {
	appends := func(from, to int) step {
		return step{fmt.Sprintf("append %d to %d", from, to), to, func(w *journal.Writer) error {
			return w.Append(h.deltas[from:to+1], h.manifest(to, 0))
		}}
	}
	fold := func(at int) step { return step{"fold", at, (*journal.Writer).Fold} }
	return []step{
		appends(1, 1),
		{"reset", 3, func(w *journal.Writer) error { return w.Reset(incoming, h.manifest(5, 3)) }},
		appends(4, 5), appends(6, 6), fold(6), appends(7, 7), appends(8, 9),
		{"reset to dataset", 11, func(w *journal.Writer) error { return w.ResetDataset(h.states[11], h.manifest(11, 0)) }},
		appends(12, 12), fold(12),
		{"manifest", 12, func(w *journal.Writer) error { return w.Append(nil, h.manifest(12, 11)) }},
		appends(13, 13),
	}
}

// prepared is a file system with the file for Reset in it.
func prepared(t *testing.T, h *history) *faultfs.FS {
	t.Helper()
	fsys := faultfs.New()
	if err := errors.Join(fsys.MkdirAll("/incoming", 0o755), fsys.MkdirAll("/var", 0o755)); err != nil {
		t.Fatal(err)
	}
	f, err := fsys.OpenFile(incoming, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := h.file(3)
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), fsys.SyncDir("/incoming")); err != nil {
		t.Fatal(err)
	}
	return fsys
}

// run does the scenario until an error: the version acknowledged last, the one
// that was tried, and how many steps were done.
func run(h *history, fsys journal.FS) (acked, tried, done int, err error) {
	w, _, err := journal.OpenWriter(dir, options(h, fsys))
	if err != nil {
		return 0, 0, 0, err
	}
	for i, s := range scenario(h) {
		if err := s.do(w); err != nil {
			return acked, s.to, i, errors.Join(err, w.Close())
		}
		acked = s.to
	}
	return acked, acked, len(scenario(h)), w.Close()
}

// reopen opens the journal and wants version acked or tried, exactly.
func reopen(t *testing.T, what string, h *history, fsys journal.FS, acked, tried int) (*journal.Writer, int) {
	t.Helper()
	w, d, err := journal.OpenWriter(dir, options(h, fsys))
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	v := int(d.Version())
	if v != acked && v != tried {
		t.Fatalf("%s: version %d, want %d or %d", what, v, acked, tried)
	}
	h.same(d)
	if got := int(w.State().Version); got != v {
		t.Fatalf("%s: State is version %d, the dataset %d", what, got, v)
	}
	return w, v
}

// goOn finishes the scenario from where it is and wants its end.
func goOn(t *testing.T, what string, h *history, w *journal.Writer, fsys journal.FS, done int) {
	t.Helper()
	steps := scenario(h)[done:]
	for _, s := range steps {
		err := s.do(w)
		if err != nil && int(w.State().Version) != s.to { // the step that was cut short may be done
			t.Fatalf("%s, then %s: %v", what, s.what, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	w, _ = reopen(t, what+", at the end", h, fsys, 13, 13)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// files fails when a journal has more than one generation on disk.
func files(t *testing.T, what string, fsys *faultfs.FS) {
	t.Helper()
	n := 0
	for _, name := range fsys.Names() {
		if name != incoming {
			n++
		}
	}
	if n > 3 { // CURRENT, log, snapshot
		t.Fatalf("%s: files are left over: %q", what, fsys.Names())
	}
}

func TestCrashAtEveryCall(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 13)
	whole := prepared(t, h)
	before := whole.Calls()
	if acked, _, _, err := run(h, whole); err != nil || acked != 13 {
		t.Fatalf("version %d, %v", acked, err)
	}
	calls := whole.Calls() - before
	t.Logf("%d calls", calls)
	if calls < 60 {
		t.Fatalf("the scenario makes %d calls, expected more: does it run?", calls)
	}
	for n := 1; n <= calls; n++ {
		fsys := prepared(t, h)
		fsys.CrashAt(n)
		acked, tried, done, err := run(h, fsys)
		if !errors.Is(err, faultfs.ErrCrashed) {
			t.Fatalf("call %d: %v, want a crash", n, err)
		}
		for _, loss := range faultfs.AllLosses() {
			what := fmt.Sprintf("crash at call %d (loss %d) in step %d", n, loss, done)
			after := fsys.Reboot(loss)
			w, _ := reopen(t, what, h, after, acked, tried)
			files(t, what, after)
			if loss == faultfs.Lost || loss == faultfs.Torn { // the others leave what these do, or less to mend
				goOn(t, what, h, w, after, done)
			} else if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestCrashInRecovery crashes a second time, while the first crash is recovered from.
func TestCrashInRecovery(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 13)
	for n := 1; ; n++ {
		fsys := prepared(t, h)
		fsys.CrashAt(n)
		acked, tried, _, err := run(h, fsys)
		if err == nil {
			break
		}
		for _, loss := range []faultfs.Loss{faultfs.Lost, faultfs.Torn} {
			for m := 1; ; m++ {
				after := fsys.Reboot(loss)
				after.CrashAt(m)
				w, d, err := journal.OpenWriter(dir, options(h, after))
				if err == nil {
					h.same(d)
					if err := w.Close(); err != nil {
						t.Fatal(err)
					}
					break
				}
				if !errors.Is(err, faultfs.ErrCrashed) {
					t.Fatalf("crash at %d, then at %d of opening: %v", n, m, err)
				}
				for _, again := range []faultfs.Loss{faultfs.Lost, faultfs.Torn} {
					w, _ := reopen(t, fmt.Sprintf("crash at call %d, then at %d of opening", n, m), h, after.Reboot(again), acked, tried)
					if err := w.Close(); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
}

func TestDiskFullAtEveryCall(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 13)
	const forEver = 1 << 30
	failures := 0
	for _, count := range []int{1, forEver} {
		for n := 1; ; n++ {
			what := fmt.Sprintf("disk full at call %d, for %d", n, count)
			fsys := prepared(t, h)
			before := fsys.Calls()
			fsys.FailAt(n, count, syscall.ENOSPC)
			w, _, err := journal.OpenWriter(dir, options(h, fsys))
			if err != nil {
				if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, journal.ErrCorrupt) {
					t.Fatalf("%s: %v, want ENOSPC", what, err)
				}
				fsys.FailAt(1, 0, nil)
				w, _ = reopen(t, what, h, fsys, 0, 0)
				goOn(t, what, h, w, fsys, 0)
				continue
			}
			acked, failed := 0, false
			for i, s := range scenario(h) {
				err := s.do(w)
				if err == nil {
					acked = s.to
					continue
				}
				failed = true
				if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, journal.ErrCorrupt) {
					t.Fatalf("%s, %s: %v, want ENOSPC", what, s.what, err)
				}
				// What is on the disk meanwhile can be read, as if after a crash.
				for _, loss := range []faultfs.Loss{faultfs.Kept, faultfs.Lost} {
					other, _ := reopen(t, what+", "+s.what, h, fsys.Reboot(loss), acked, s.to)
					if err := other.Close(); err != nil {
						t.Fatal(err)
					}
				}
				fsys.FailAt(1, 0, nil) // there is room again: the same writer goes on
				goOn(t, what+", "+s.what, h, w, fsys, i)
				break
			}
			if failed {
				failures++
				continue
			}
			// Not every failure stops something: a link that fails is made a copy, an
			// old file that stays is removed at the next opening.
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			calls := fsys.Calls() - before
			fsys.FailAt(1, 0, nil)
			w, _ = reopen(t, what, h, fsys, 13, 13)
			files(t, what, fsys)
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if n > calls {
				break
			}
		}
	}
	if failures < 60 {
		t.Fatalf("%d failures, expected more: does the scenario run?", failures)
	}
}
