package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// The binary is built before the tests begin: that takes minutes on a machine that has
// built nothing yet, and the first test would have to do with what is left of its time.
func TestMain(m *testing.M) {
	path, err := build()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if os.Getenv("ZONECAST_BINARY") == "" {
		_ = os.RemoveAll(filepath.Dir(path)) // a temporary directory
	}
	os.Exit(code)
}
