package fleettest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zonecast/zonecast/agent"
	"github.com/zonecast/zonecast/publisher"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot/journal"
)

// A disk that is full is no damage: what is there stays readable, the host says what
// the matter is, and goes on by itself when there is room again.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount a small file system")
	}
	f := newFleet(t)
	disk := filepath.Join(f.dir, "disk")
	if err := os.Mkdir(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("no file system can be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	f.publisherAt("p")
	h := f.host("host0", func(c *agent.Config) { c.Journal = filepath.Join(disk, "journal") })
	f.some(3)
	h.reaches()
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o644); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}
	eventually(t, "trouble", func() bool {
		f.some(5) // a page of the log has room for a few more
		return h.a.Status().Trouble != ""
	})
	if d := h.look(); d.Version() < 3 || d.Version() >= f.d.Version() {
		t.Errorf("journal is at version %d, expected 3 or more and less than %d", d.Version(), f.d.Version())
	}
	eventually(t, "report", func() bool {
		r, _ := h.report()
		return strings.Contains(r.Refused, "no space left")
	})
	h.restart() // neither does it forget in a restart
	if d := h.look(); d.Version() < 3 {
		t.Errorf("journal is at version %d after a restart", d.Version())
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	h.reaches()
	if s := h.a.Status(); s.Quarantined != "" {
		t.Errorf("moved aside to %s, a full disk is no damage", s.Quarantined)
	}
}

// Who comes when all places for downloads are taken is told to come again, and finds a
// place when one is free.
func TestMaxDownloads(t *testing.T) {
	f := newFleet(t)
	p, _ := f.publisherAt("p", func(c *publisher.Config) { c.MaxDownloads = 1 })
	var large []record.RRset // more than a socket's buffers take, and hard to compress
	for i := range 40_000 {
		text := fmt.Sprintf("%x", [32]byte{byte(i), byte(i >> 8), byte(i * 7), byte(i * 13), byte(i * 29), byte(i * 31)})
		large = append(large, rrset(t, fmt.Sprintf("n%d.example.net", i), record.TypeTXT, string([]byte{byte(len(text))})+text))
	}
	f.publish(large...)
	eventually(t, "snapshot", func() bool { return len(p.Status().Snapshots) > 0 })
	server := httptest.NewServer(p.Handler())
	defer server.Close()
	path := "/snapshots/internal/" + p.Status().Snapshots[0].ID.String()
	slow, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := slow.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	// Many requests in a row on one connection whose answers nobody reads.
	if _, err := io.WriteString(slow, strings.Repeat("GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n", 200)); err != nil {
		t.Fatal(err)
	}
	status := func() (int, string) {
		resp, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header.Get("Retry-After")
	}
	eventually(t, "503 with Retry-After", func() bool {
		code, after := status()
		return code == http.StatusServiceUnavailable && after == "2"
	})
	if err := slow.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a free place", func() bool { code, _ := status(); return code == http.StatusOK })
}

// readerUser is nobody, who owns nothing of a journal.
const readerUser = 65534

// An authority needs no more than to read the journal: one that runs as another user
// follows it.
func TestReaderWithoutRights(t *testing.T) {
	if dir := os.Getenv("ZONECAST_TEST_READER"); dir != "" {
		d, _, err := journal.Load(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		err = journal.Follow(t.Context(), dir, nil, func(e journal.Event) error {
			switch seen++; {
			case e.Problem != nil:
				return e.Problem
			case e.Reset != nil:
				fmt.Println("version", e.Reset.Version(), d.Version())
			case e.Delta != nil:
				fmt.Println("version", e.Delta.Version)
				return io.EOF
			}
			return nil
		})
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if _, err := os.OpenFile(filepath.Join(dir, "CURRENT"), os.O_WRONLY, 0); !errors.Is(err, os.ErrPermission) {
			t.Fatalf("the reader may write: %v", err)
		}
		return
	}
	if os.Getuid() != 0 {
		t.Skip("needs root, to become another user")
	}
	f := newFleet(t)
	f.publisherAt("p")
	h := f.host("host0")
	f.some(3)
	h.reaches()
	for dir := filepath.Dir(h.cfg.Journal); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { // t.TempDir is private
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(f.dir, "reader") // the test's own may lie where only root gets
	if err := os.WriteFile(binary, image, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "-test.run=^TestReaderWithoutRights$", "-test.timeout=20s")
	cmd.Dir = f.dir
	cmd.Env = append(os.Environ(), "ZONECAST_TEST_READER="+h.cfg.Journal)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: readerUser, Gid: readerUser}}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("%v: %s", err, out.String())
			}
			return
		case <-tick.C:
			f.some(1)
		}
	}
}
