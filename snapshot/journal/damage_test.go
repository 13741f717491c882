package journal_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zonecast/zonecast/snapshot/journal"
	"github.com/zonecast/zonecast/snapshot/journal/faultfs"
)

// TestBitFlips flips every octet of every file of a journal. It is refused, or -
// within the last group, where damage looks like a crash - cut off.
func TestBitFlips(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 6)
	fsys := prepared(t, h)
	w, _, err := journal.OpenWriter(dir, options(h, fsys))
	must(t, err)
	must(t, w.Reset(incoming, h.manifest(3, 3)))
	must(t, w.Append(h.deltas[4:5], h.manifest(4, 3)))
	must(t, w.Append(h.deltas[5:6], h.manifest(5, 3)))
	log := filepath.Join(dir, "log-00000000000000000002")
	lastGroup := len(fsys.Bytes(log))
	must(t, w.Append(h.deltas[6:7], h.manifest(6, 3)))
	must(t, w.Close())

	refused, cut := 0, 0
	for _, name := range fsys.Names() {
		if name == incoming {
			continue
		}
		size, step := len(fsys.Bytes(name)), 1
		if size > 1000 {
			step = 7 // coprime to the sizes of fields: all kinds are met
		}
		for at := 0; at < size; at += step {
			damaged := fsys.Reboot(faultfs.Kept)
			damaged.Flip(name, at, 1<<(at%8))
			w, d, err := journal.OpenWriter(dir, options(h, damaged))
			switch {
			case err == nil && name == log && at >= lastGroup && d.Version() == 5:
				h.same(d)
				must(t, w.Append(h.deltas[6:7], h.manifest(6, 3)))
				must(t, w.Close())
				cut++
			case err == nil:
				t.Fatalf("%s: a flip at %d of %d gave version %d", name, at, size, d.Version())
			case !errors.Is(err, journal.ErrCorrupt):
				t.Fatalf("%s: a flip at %d: %v, want ErrCorrupt", name, at, err)
			default:
				var e *journal.Error
				if !errors.As(err, &e) || !strings.HasPrefix(e.File, dir) {
					t.Fatalf("%s: a flip at %d: %v names no file", name, at, err)
				}
				refused++
			}
		}
	}
	if refused < 200 || cut < 50 {
		t.Errorf("%d refused, %d cut off: too few to believe", refused, cut)
	}
}

// TestCutOff shortens the log to every length.
func TestCutOff(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 2)
	fsys := faultfs.New()
	w, _, err := journal.OpenWriter(dir, options(h, fsys))
	must(t, err)
	log := filepath.Join(dir, "log-00000000000000000001")
	sizes := []int{len(fsys.Bytes(log))} // by version
	for v := 1; v <= 2; v++ {
		must(t, w.Append(h.deltas[v:v+1], h.manifest(v, 0)))
		sizes = append(sizes, len(fsys.Bytes(log)))
	}
	must(t, w.Close())
	for size := sizes[2]; size >= 0; size-- {
		short := fsys.Reboot(faultfs.Kept)
		f, err := short.OpenFile(log, os.O_WRONLY, 0)
		must(t, err)
		must(t, f.Truncate(int64(size)))
		_, d, err := journal.OpenWriter(dir, options(h, short))
		if size < sizes[0] {
			if !errors.Is(err, journal.ErrCorrupt) {
				t.Fatalf("log of %d octets: %v, want ErrCorrupt", size, err)
			}
			continue
		}
		must(t, err)
		want := 0
		for v, s := range sizes {
			if size >= s {
				want = v
			}
		}
		if int(d.Version()) != want {
			t.Fatalf("log of %d octets: version %d, want %d", size, d.Version(), want)
		}
	}
}

func TestMissingFiles(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 4)
	fsys := prepared(t, h)
	w, _, err := journal.OpenWriter(dir, options(h, fsys))
	must(t, err)
	must(t, w.Reset(incoming, h.manifest(3, 3)))
	must(t, w.Close())
	for _, name := range fsys.Names() {
		if name == incoming {
			continue
		}
		without := fsys.Reboot(faultfs.Kept)
		must(t, without.Remove(name))
		if _, _, err := journal.OpenWriter(dir, options(h, without)); !errors.Is(err, journal.ErrCorrupt) {
			t.Errorf("without %s: %v, want ErrCorrupt", name, err)
		}
	}
}

// FuzzLog opens a journal whose log is foreign. Whatever opens must be readable
// again, and must go on.
func FuzzLog(f *testing.F) {
	h := newHistory(f, 3)
	fsys := faultfs.New()
	w, _, err := journal.OpenWriter(dir, options(h, fsys))
	must(f, err)
	log := filepath.Join(dir, "log-00000000000000000001")
	start := len(fsys.Bytes(log))
	must(f, w.Append(h.deltas[1:2], h.manifest(1, 0)))
	must(f, w.Append(h.deltas[2:3], h.manifest(2, 0)))
	must(f, w.Close())
	good := fsys.Bytes(log)
	f.Add(good[start:])
	f.Add(good[start : len(good)-5])
	f.Add([]byte("zcgr"))
	f.Add(append(bytes.Repeat([]byte("zcgr"), 20), good[start:]...))
	f.Fuzz(func(t *testing.T, tail []byte) {
		h := h.with(t)
		fsys := fsys.Reboot(faultfs.Kept)
		file, err := fsys.OpenFile(log, os.O_WRONLY|os.O_APPEND, 0)
		must(t, err)
		must(t, file.Truncate(int64(start)))
		_, err = file.Write(tail)
		must(t, err)
		w, d, err := journal.OpenWriter(dir, options(h, fsys))
		if err != nil {
			if !errors.Is(err, journal.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		h.same(d)
		v := int(d.Version())
		must(t, w.Append(h.deltas[v+1:v+2], h.manifest(v+1, 0)))
		must(t, w.Close())
		w, d, err = journal.OpenWriter(dir, options(h, fsys))
		must(t, err)
		h.same(d)
		must(t, w.Close())
	})
}
