package refused_test

import (
	"bytes"
	"context"
	"io/fs"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/refused"
	"github.com/zonecast/zonecast/snapshot/journal"
	"github.com/zonecast/zonecast/snapshot/journal/faultfs"
)

// keeper runs one until the test ends.
func keeper(t *testing.T, fsys journal.FS, dir string) *refused.Keeper {
	t.Helper()
	k := refused.New(fsys, dir, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); k.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return k
}

func list(t *testing.T, fsys journal.FS, dir string) []refused.Entry {
	t.Helper()
	all, err := refused.List(fsys, dir)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func entry(n int, size int) refused.Entry {
	return refused.Entry{
		Time: int64(1000 + n), Dataset: "internal", Kind: "signature", Way: "store", Version: uint64(n), Why: "signed by nobody",
		Size: size, Evidence: bytes.Repeat([]byte{byte(n)}, size),
	}
}

// TestKept: what is kept is what was given, the newest, and no more than fits; also by the
// next process.
func TestKept(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		dir := "/host/journal.refused"
		fsys := faultfs.New()
		if err := fsys.MkdirAll("/host", 0o755); err != nil {
			t.Fatal(err)
		}
		if all := list(t, fsys, dir); len(all) != 0 {
			t.Fatalf("%v", all)
		}
		k := keeper(t, fsys, dir)
		want := entry(1, 100)
		k.Keep(want)
		synctest.Wait()
		if diff := cmp.Diff([]refused.Entry{want}, list(t, fsys, dir), cmpopts.IgnoreFields(refused.Entry{}, "File")); diff != "" {
			t.Error(diff)
		}
		for n := range 200 {
			keeperOf := k
			if n >= 100 {
				if n == 100 {
					k = keeper(t, fsys, dir)
				}
				keeperOf = k
			}
			keeperOf.Keep(entry(n+2, 10))
			synctest.Wait()
		}
		all := list(t, fsys, dir)
		if len(all) != refused.MaxFiles || all[len(all)-1].Version != 201 || all[0].Version != 201-refused.MaxFiles+1 {
			t.Errorf("%d are kept, from version %d to %d", len(all), all[0].Version, all[len(all)-1].Version)
		}
		const large = 1 << 19
		for n := range 100 {
			k.Keep(entry(300+n, large))
			synctest.Wait()
		}
		octets := 0
		for _, e := range list(t, fsys, dir) {
			octets += e.Size
		}
		if octets > refused.MaxOctets || octets < refused.MaxOctets-2*large {
			t.Errorf("%d octets are kept, expected at most %d and nearly as many", octets, refused.MaxOctets)
		}
		k.Clear()
		synctest.Wait()
		if all := list(t, fsys, dir); len(all) != 0 {
			t.Errorf("%d are left", len(all))
		}
	})
}

// TestDiskFullKeepsNothing: nothing is kept, nothing is left over, nobody waits, and it goes on
// when there is room.
func TestDiskFullKeepsNothing(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		dir := "/host/journal.refused"
		fsys := faultfs.New()
		if err := fsys.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		k := keeper(t, fsys, dir)
		synctest.Wait()
		for call := range 4 {
			fsys.FailAt(call+1, 1, syscall.ENOSPC)
			k.Keep(entry(call, 100))
			synctest.Wait()
			fsys.FailAt(0, 0, nil)
		}
		for _, e := range list(t, fsys, dir) {
			if e.Damaged {
				t.Errorf("a piece is left: %+v", e)
			}
		}
		k.Keep(entry(9, 100))
		synctest.Wait()
		if all := list(t, fsys, dir); all[len(all)-1].Version != 9 {
			t.Errorf("%+v", all)
		}
		// Faster than the disk: who keeps does not wait.
		stuck := refused.New(fsys, dir, slog.New(slog.DiscardHandler))
		for n := range 1000 {
			stuck.Keep(entry(n, 1))
		}
	})
}

// TestReadOnlyFiles: what cannot be removed counts; a disk that comes and goes is not filled.
func TestReadOnlyFiles(t *testing.T) {
	bubbletest.Run(t, func(t *testing.T) {
		dir := "/host/journal.refused"
		fsys := faultfs.New()
		if err := fsys.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		k := keeper(t, stuck{fsys}, dir)
		for n := range 3 * refused.MaxFiles {
			k.Keep(entry(n, 10))
			synctest.Wait()
		}
		if n := len(list(t, fsys, dir)); n > refused.MaxFiles {
			t.Errorf("%d files, expected %d at most", n, refused.MaxFiles)
		}
	})
}

// stuck is a file system in which nothing can be written to the end or removed.
type stuck struct{ journal.FS }

func (stuck) Remove(string) error { return syscall.EROFS }

func (s stuck) OpenFile(name string, flag int, perm fs.FileMode) (journal.File, error) {
	f, err := s.FS.OpenFile(name, flag, perm)
	return stuckFile{f}, err
}

type stuckFile struct{ journal.File }

func (stuckFile) Write([]byte) (int, error) { return 0, syscall.EROFS }

// TestTornEntry: what a crash left is said to be damaged.
func TestTornEntry(t *testing.T) {
	fsys := faultfs.New()
	if err := journalWrite(fsys, "/r/00000000000000001000-000001-chain", `{"time_ms":1000,"dataset":"internal","kind":"chain","way":"store","why":"x","size":7}`+"\nabc"); err != nil {
		t.Fatal(err)
	}
	if err := journalWrite(fsys, "/r/00000000000000002000-000002-digest", `{"time_ms":20`); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range list(t, fsys, "/r") {
		if !e.Damaged {
			t.Errorf("%+v is not said to be damaged", e)
		}
		got = append(got, e.Kind)
	}
	if strings.Join(got, " ") != "chain digest" {
		t.Errorf("kinds %q", got)
	}
}

func journalWrite(fsys journal.FS, path, text string) error {
	if err := fsys.MkdirAll("/r", 0o755); err != nil {
		return err
	}
	return journal.WriteFile(fsys, path, []byte(text))
}
