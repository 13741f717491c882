package e2e

import (
	"flag"
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
	flag.Parse()
	if n := flag.Lookup("test.parallel"); n.Value.String() == n.DefValue { // it waits for processes more than it computes
		if err := n.Value.Set("4"); err != nil {
			panic(err) // it is a number
		}
	}
	code := m.Run()
	if os.Getenv("ZONECAST_BINARY") == "" {
		_ = os.RemoveAll(filepath.Dir(path)) // a temporary directory
	}
	os.Exit(code)
}
