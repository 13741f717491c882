package follow_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/snapshot"
)

// small is a file system of its own with little room.
func small(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount a small file system")
	}
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=200k"); err != nil {
		t.Skipf("no file system can be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return disk
}

// fill takes all the room that is left.
func fill(t *testing.T, disk string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(disk, "filler"), make([]byte, 1<<20), 0o644); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}
}

// TestFetchLeavesRoom holds that a fetch for which there is no room is not begun, and that one which
// takes the last of it gives that back: a journal, or a store, lies on the same disk.
func TestFetchLeavesRoom(t *testing.T) {
	file := make([]byte, 100<<10)
	for i := range file {
		file[i] = byte(i * i >> 3)
	}
	ref := snapshot.Ref{ID: sha256.Sum256(file), Size: int64(len(file)), Version: 1}
	for name, late := range map[string]bool{"full before": false, "full meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			disk := small(t)
			asked := 0
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if asked++; late { // but for some octets
					fill(t, disk)
					if err := os.Truncate(filepath.Join(disk, "filler"), 128<<10); err != nil {
						t.Error(err)
					}
				}
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file))
			})
			if !late {
				fill(t, disk)
			}
			ref.URLs = []string{url}
			dir := filepath.Join(disk, "fetch")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if _, err := (follow.HTTP{}).Fetch(t.Context(), ref, dir, nil); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("error is %v, expected that there is no room", err)
			}
			if late != (asked > 0) {
				t.Errorf("%d requests were made", asked)
			}
			if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || late && len(left) > 0 {
				t.Errorf("%q is left, %v", left, err)
			}
			if err := os.Remove(filepath.Join(disk, "filler")); err != nil {
				t.Fatal(err)
			}
			late = false
			if _, err := (follow.HTTP{}).Fetch(t.Context(), ref, dir, nil); err != nil {
				t.Errorf("when there is room again: %v", err)
			}
		})
	}
}
