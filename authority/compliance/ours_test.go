//go:build interop

package compliance

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestInteropZonecast asks the program itself, as a package of tests may not import a
// stage: what is judged is what users run.
func TestInteropZonecast(t *testing.T) {
	program := filepath.Join(t.TempDir(), "zonecast")
	build := exec.Command("go", "build", "-o", program, "github.com/zonecast/zonecast/cmd/zonecast")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build zonecast: %v\n%s", err, out)
	}
	addr := freeAddr(t)
	start(t, addr, program, "serve", "--listen", addr.String(), "--identity", "host", "zones/example.net")
	judge(t, addr, Features{NSID: true, Cookies: true}, nil)
}
