package tinytest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/daemon"
)

// Serve runs Debian's tinydns-data and tinydns on text until the test ends. tinydns answers on port 53
// alone, so it has an address of 127/8 to itself, ip. The serial of its zones is when the data was
// changed; the zero time is now.
func Serve(t testing.TB, text []byte, changed time.Time, ip string) {
	t.Helper()
	find := func(name string) string {
		path, err := daemon.Find(name)
		if err != nil {
			t.Skipf("%s is not installed: apt-get install tinydns", name)
		}
		return path
	}
	compiler, server := find("tinydns-data"), find("tinydns")
	if os.Getuid() != 0 {
		t.Skip("tinydns takes port 53, which needs root")
	}
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	err := os.WriteFile(data, text, 0o644)
	if err == nil && !changed.IsZero() {
		err = os.Chtimes(data, changed, changed)
	}
	if err != nil {
		t.Fatal(err)
	}
	build := exec.Command(compiler)
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("tinydns-data: %v: %s", err, out)
	}
	cmd := exec.Command(server)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "ROOT="+dir, "IP="+ip, "UID=0", "GID=0")
	cmd.Stdin = bytes.NewReader(make([]byte, 128)) // its seed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}
