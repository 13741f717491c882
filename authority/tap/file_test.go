package tap

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	dnstap "github.com/dnstap/golang-dnstap"
)

// messages gives the length of each message in a file that has an end.
func messages(t *testing.T, path string) (lengths []int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := dnstap.NewReader(f, nil)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	got, err := frames(r)
	if err == nil || err.Error() != "EOF" {
		t.Errorf("%s ends with %v, want the stop frame", path, err)
	}
	for _, d := range got {
		lengths = append(lengths, len(d.Message.ResponseMessage))
	}
	return lengths
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// TestRotateBySize fills more files than are kept: none is larger than it may be, each is
// whole, and the newest messages are there in order.
func TestRotateBySize(t *testing.T) {
	for _, c := range []struct {
		keep int
		want []string
	}{
		{2, []string{"tap", "tap.1", "tap.2"}},
		{KeepNone, []string{"tap"}},
	} {
		t.Run(fmt.Sprint("keep ", c.keep), func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "tap")
			r := run(t, Config{File: path, Every: 1, FileSize: minFileSize, FileKeep: c.keep})
			w := r.NewWorker()
			const count = 300
			for n := range count {
				w.Record(answer(3000 + n))
			}
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			if got := r.Counters(); got != (Counters{Written: count}) {
				t.Errorf("counters %+v", got)
			}
			if got := names(t, dir); !slices.Equal(got, c.want) {
				t.Errorf("files %v, want %v", got, c.want)
			}
			next := 3000 + count - 1
			for i, name := range c.want {
				info, err := os.Stat(filepath.Join(dir, name))
				if err != nil {
					t.Fatal(err)
				}
				got := messages(t, filepath.Join(dir, name))
				if info.Size() > minFileSize || i > 0 && info.Size() < minFileSize-4096 {
					t.Errorf("%s has %d octets, want little less than %d", name, info.Size(), minFileSize)
				}
				for _, n := range slices.Backward(got) {
					if n != next {
						t.Fatalf("%s: a message of %d octets, want %d", name, n, next)
					}
					next--
				}
			}
		})
	}
}

// TestRotateByAge waits: a file that is old is put aside, one without a message is not.
func TestRotateByAge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "tap")
	r := run(t, Config{File: path, Every: 1, FileAge: time.Second})
	w := r.NewWorker()
	time.Sleep(2500 * time.Millisecond)
	if got := names(t, dir); !slices.Equal(got, []string{"tap"}) {
		t.Errorf("without a message: %v", got)
	}
	w.Record(answer(10))
	eventually(t, "put aside", func() bool { return slices.Contains(names(t, dir), "tap.1") })
	if got := messages(t, path+".1"); !slices.Equal(got, []int{10}) {
		t.Errorf("messages %v", got)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if got := messages(t, path); len(got) > 0 {
		t.Errorf("messages %v in the file that was begun", got)
	}
}

// TestReopen: by it the file is put aside, or begun anew where somebody has moved it.
func TestReopen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "tap")
	r := run(t, Config{File: path, Every: 1})
	w := r.NewWorker()
	w.Record(answer(1))
	eventually(t, "written", func() bool { return r.Counters().Written == 1 })
	r.Reopen()
	w.Record(answer(2))
	eventually(t, "written", func() bool { return r.Counters().Written == 2 })
	if err := os.Rename(path, filepath.Join(dir, "moved")); err != nil {
		t.Fatal(err)
	}
	w.Record(answer(3)) // goes where the file is
	eventually(t, "written", func() bool { return r.Counters().Written == 3 })
	r.Reopen()
	w.Record(answer(4))
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]int{"tap.1": {1}, "moved": {2, 3}, "tap": {4}} {
		if got := messages(t, filepath.Join(dir, name)); !slices.Equal(got, want) {
			t.Errorf("%s has %v, want %v", name, got, want)
		}
	}
	if got := names(t, dir); len(got) != 3 {
		t.Errorf("files %v", got)
	}
}

// TestReopenMends: what cannot be written is written again once it can be.
func TestReopenMends(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := run(t, Config{File: filepath.Join(dir, "tap"), Every: 1})
	eventually(t, "start", func() bool { return r.Counters().Connected })
	if err := os.Mkdir(filepath.Join(dir, "tap.1"), 0o755); err != nil { // which no file can replace
		t.Fatal(err)
	}
	w := r.NewWorker()
	w.Record(answer(1))
	eventually(t, "written", func() bool { return r.Counters().Written == 1 })
	r.Reopen()
	eventually(t, "noticed", func() bool { return !r.Counters().Connected })
	w.Record(answer(2))
	eventually(t, "lost", func() bool { return r.Counters() == Counters{Written: 1, Lost: 1} })
	if n := r.log.count("cannot be written"); n != 1 {
		t.Errorf("logged %d times, want once: %s", n, r.log.b.String())
	}
	if err := os.Remove(filepath.Join(dir, "tap.1")); err != nil {
		t.Fatal(err)
	}
	r.Reopen()
	eventually(t, "mended", func() bool { return r.Counters().Connected })
	w.Record(answer(3))
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]int{"tap.1": {1}, "tap": {3}} {
		if got := messages(t, filepath.Join(dir, name)); !slices.Equal(got, want) {
			t.Errorf("%s has %v, want %v", name, got, want)
		}
	}
}

// TestEarlierFiles are put aside at the start, and those beyond the number that is kept
// go; what is no file of ours stays.
func TestEarlierFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"tap", "tap.1", "tap.2", "tap.3", "tap.4", "tap.old", "tap.9"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := run(t, Config{File: filepath.Join(dir, "tap"), FileKeep: 2})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	want := []string{"tap", "tap.1", "tap.2", "tap.9", "tap.old"}
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
	for name, text := range map[string]string{"tap.1": "tap", "tap.2": "tap.1"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != text {
			t.Errorf("%s has %q, %v, want %q", name, b, err, text)
		}
	}
}

// TestTwoWriters: one that finds another's file in the place of its own leaves it alone.
func TestTwoWriters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "tap")
	first := run(t, Config{File: path, Every: 1})
	w := first.NewWorker()
	w.Record(answer(1))
	eventually(t, "written", func() bool { return first.Counters().Written == 1 })
	second := run(t, Config{File: path, Every: 1})
	second.NewWorker().Record(answer(2))
	eventually(t, "written", func() bool { return second.Counters().Written == 1 })
	w.Record(answer(3)) // goes into the file that was put aside
	eventually(t, "written", func() bool { return first.Counters().Written == 2 })
	first.Reopen()
	eventually(t, "noticed", func() bool { return !first.Counters().Connected })
	if n := first.log.count("another process"); n != 1 {
		t.Errorf("logged %d times, want once: %s", n, first.log.b.String())
	}
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]int{"tap.1": {1, 3}, "tap": {2}} {
		if got := messages(t, filepath.Join(dir, name)); !slices.Equal(got, want) {
			t.Errorf("%s has %v, want %v", name, got, want)
		}
	}
}

// TestLinkedFile: the files are where the link leads.
func TestLinkedFile(t *testing.T) {
	there, dir := t.TempDir(), t.TempDir()
	link := filepath.Join(dir, "tap")
	if err := os.WriteFile(filepath.Join(there, "real"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(there, "real"), link); err != nil {
		t.Fatal(err)
	}
	if err := run(t, Config{File: link}).stop(); err != nil {
		t.Fatal(err)
	}
	if got := names(t, there); !slices.Equal(got, []string{"real", "real.1"}) {
		t.Errorf("files %v", got)
	}
	if got := strings.Join(names(t, dir), " "); got != "tap" {
		t.Errorf("files beside the link: %v", got)
	}
}
