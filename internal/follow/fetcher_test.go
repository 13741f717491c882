package follow_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/snapshot"
)

// offer is a snapshot of some size to fetch.
func offer(t *testing.T) *origin {
	t.Helper()
	o := newOrigin(t)
	for range 50 {
		o.publish()
	}
	o.snapshot()
	return o
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func whole(o *origin) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"`+o.ref.ID.String()+`"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(o.file))
	}
}

func TestHTTPFetch(t *testing.T) {
	o := offer(t)
	var last atomic.Int64
	progress := func(done, total int64) {
		if total != o.ref.Size || done < last.Load() {
			t.Errorf("progress %d of %d after %d", done, total, last.Load())
		}
		last.Store(done)
	}
	dead := serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "gone", http.StatusNotFound) })
	wrong := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		b := bytes.Clone(o.file)
		b[len(b)/2] ^= 1
		_, _ = w.Write(b)
	})
	long := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush() // no Content-Length
		_, _ = w.Write(append(bytes.Clone(o.file), 0))
	})
	o.ref.URLs = []string{"ftp://192.0.2.1/x", dead, wrong, long, serve(t, whole(o))}
	for range 5 { // the order is random
		dir := t.TempDir()
		last.Store(0)
		path, err := follow.HTTP{}.Fetch(t.Context(), o.ref, dir, func(done, total int64) {
			if done < last.Load() {
				last.Store(0) // another URL began anew
			}
			progress(done, total)
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); !bytes.Equal(got, o.file) {
			t.Fatalf("got %d octets, want %d", len(got), len(o.file))
		}
		if last.Load() != o.ref.Size {
			t.Errorf("progress ended at %d of %d", last.Load(), o.ref.Size)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestHTTPFetchRefuses(t *testing.T) {
	o := offer(t)
	tests := map[string]struct {
		change  func(*snapshot.Ref)
		handler http.HandlerFunc
		content bool
	}{
		"bit": {handler: func(w http.ResponseWriter, _ *http.Request) {
			b := bytes.Clone(o.file)
			b[0] ^= 1
			_, _ = w.Write(b)
		}, content: true},
		"longer without length": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			_, _ = w.Write(append(bytes.Clone(o.file), 0))
		}, content: true},
		"other length": {handler: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(o.file[1:]) }, content: true},
		"cut off": {handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(o.file)))
			_, _ = w.Write(o.file[:100])
		}},
		"error page": {handler: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) }},
		"oversized":  {change: func(r *snapshot.Ref) { r.Size = follow.DefaultMaxSize + 1 }, handler: whole(o), content: true},
		"no URL":     {change: func(r *snapshot.Ref) { r.URLs = nil }, handler: whole(o)},
		"no id":      {change: func(r *snapshot.Ref) { r.ID = snapshot.ID{} }, handler: whole(o)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ref := o.ref
			ref.URLs = []string{serve(t, test.handler)}
			if test.change != nil {
				test.change(&ref)
			}
			_, err := follow.HTTP{}.Fetch(t.Context(), ref, t.TempDir(), nil)
			if err == nil || errors.Is(err, follow.ErrContent) != test.content {
				t.Errorf("error is %v, ErrContent expected: %v", err, test.content)
			}
		})
	}
}

// What one attempt got the next one goes on from, over a restart too.
func TestHTTPFetchResumes(t *testing.T) {
	o := offer(t)
	half := len(o.file) / 2
	var ranges []string
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range"))
		if len(ranges) == 1 {
			w.Header().Set("Content-Length", strconv.Itoa(len(o.file)))
			_, _ = w.Write(o.file[:half])
			return
		}
		whole(o)(w, r)
	})
	o.ref.URLs = []string{url}
	dir := t.TempDir()
	if _, err := (follow.HTTP{}).Fetch(t.Context(), o.ref, dir, nil); err == nil {
		t.Fatal("half a file was taken")
	}
	path, err := follow.HTTP{}.Fetch(t.Context(), o.ref, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, o.file) {
		t.Error("the file is another")
	}
	if want := "bytes=" + strconv.Itoa(half) + "-"; len(ranges) != 2 || ranges[1] != want {
		t.Errorf("ranges asked for: %q, expected %q second", ranges, want)
	}
	// Whole, but the process ended before it was used: nothing is asked.
	if _, err := (follow.HTTP{}).Fetch(t.Context(), o.ref, dir, nil); err != nil || len(ranges) != 2 {
		t.Errorf("error %v after %d requests, expected none and 2", err, len(ranges))
	}
	// Another snapshot is due: what is left of this one goes.
	other := newOrigin(t)
	other.publish()
	other.snapshot()
	other.ref.URLs = []string{serve(t, whole(other))}
	if _, err := (follow.HTTP{}).Fetch(t.Context(), other.ref, dir, nil); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

// What an earlier attempt left is not what was signed - a crash tore it, another URL lied - and
// nobody else is to blame.
func TestHTTPFetchAfterGarbage(t *testing.T) {
	o := offer(t)
	for what, left := range map[string][]byte{
		"torn":      append(bytes.Clone(o.file[:100]), make([]byte, len(o.file)/2)...),
		"all of it": make([]byte, len(o.file)),
		"more":      make([]byte, len(o.file)+1),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, o.ref.ID.String()+".part"), left, 0o644); err != nil {
			t.Fatal(err)
		}
		o.ref.URLs = []string{serve(t, whole(o))}
		path, err := follow.HTTP{}.Fetch(t.Context(), o.ref, dir, nil)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if got, _ := os.ReadFile(path); !bytes.Equal(got, o.file) {
			t.Errorf("%s: the file is another", what)
		}
	}
}

func TestHTTPFetchStalls(t *testing.T) {
	o := offer(t)
	stuck := make(chan struct{})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(o.file)))
		_, _ = w.Write(o.file[:10])
		w.(http.Flusher).Flush()
		<-stuck
	})
	t.Cleanup(func() { close(stuck) }) // before the server's Close, which waits
	o.ref.URLs = []string{url}
	_, err := follow.HTTP{Stall: 200 * time.Millisecond}.Fetch(t.Context(), o.ref, t.TempDir(), nil)
	if err == nil || !strings.Contains(err.Error(), "nothing came for 200ms") {
		t.Errorf("error is %v, expected the stall in it", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err = (follow.HTTP{}).Fetch(ctx, o.ref, t.TempDir(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, expected Canceled", err)
	}
}

func TestLocal(t *testing.T) {
	o := offer(t)
	dir, to := t.TempDir(), t.TempDir()
	f := follow.FirstOf{follow.Local{Dir: dir}, follow.HTTP{}}
	if _, err := f.Fetch(t.Context(), o.ref, to, nil); err == nil {
		t.Fatal("nobody has it, and yet it came")
	}
	file := follow.SnapshotFile(dir, o.ref.ID)
	if err := os.WriteFile(file, o.file, 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		path, err := f.Fetch(t.Context(), o.ref, to, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); !bytes.Equal(got, o.file) {
			t.Error("the file is another")
		}
	}
	if err := os.WriteFile(file+"x", o.file[1:], 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+"x", file); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Fetch(t.Context(), o.ref, to, nil); !errors.Is(err, follow.ErrContent) {
		t.Errorf("error is %v, expected ErrContent", err)
	}
}

// TestReadingEnds: a snapshot that is not wanted any more is not read to its end, and is not
// called bad.
func TestReadingEnds(t *testing.T) {
	o := offer(t)
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, o.file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := follow.ReadFile(t.Context(), path, o.ref, dataset); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := follow.ReadFile(ctx, path, o.ref, dataset); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, expected Canceled", err)
	}
}
