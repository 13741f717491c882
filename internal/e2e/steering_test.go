package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestSteeringPage types what docs/steering.md shows, on other ports.
func TestSteeringPage(t *testing.T) {
	t.Parallel() // it waits more than it works
	typePage(t, "steering.md")
}

// TestMapperPage types what docs/mapper.md shows.
func TestMapperPage(t *testing.T) {
	t.Parallel()
	bin := binDir(t)
	typeSession(t, filepath.Join(Root(), "docs", "mapper.md"), t.TempDir(), []string{"PATH=" + bin + ":" + os.Getenv("PATH")})
}

// binDir is a directory with the binary as zonecast.
func binDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Symlink(Build(t), filepath.Join(dir, "zonecast")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// typePage types a page beside `zonecast up`, with ports that are free in place of those that it names.
func typePage(t *testing.T, page string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(Root(), "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	u := StartUp(t, UpOptions{Dir: dir})
	base := FreePorts(t, 4)
	port := func(i int) string { return strconv.Itoa(base + i) }
	text := strings.NewReplacer("5300", strconv.Itoa(int(u.Hosts[0].Port())), "5353", port(0), "7391", port(1), "7392", port(2), "7393", port(3),
		"zonecast run beacon ", "zonecast run beacon --beacon-listen 127.0.0.1:"+port(1)+" ").Replace(string(b))
	copied := filepath.Join(t.TempDir(), page)
	if err := os.WriteFile(copied, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	typeSession(t, copied, t.TempDir(), []string{"PATH=" + binDir(t) + ":" + os.Getenv("PATH"), "ZONECAST_API=" + u.API, "ZONECAST_STORE=embedded", "ZONECAST_DIR=" + dir, "ZONECAST_TIMEOUT=60s"})
}
