package sandbox

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// confine bounds this process. RLIMIT_DATA counts what can be written and is private,
// which is what Go's heap is; RLIMIT_AS would count the address space that it
// reserves, too.
func confine(memory int64) error {
	have, err := dataSize()
	if err != nil {
		return err
	}
	for what, most := range map[int]uint64{
		unix.RLIMIT_DATA:  uint64(have + memory),
		unix.RLIMIT_CORE:  0,
		unix.RLIMIT_FSIZE: 0,
	} {
		if err := unix.Setrlimit(what, &unix.Rlimit{Cur: most, Max: most}); err != nil {
			return fmt.Errorf("set limit %d to %d: %w", what, most, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("forgo privileges: %w", err)
	}
	// Near the limit garbage is collected more often: what is no longer used should not
	// end the process.
	debug.SetMemoryLimit(memory * 9 / 10)
	return nil
}

// dataSize is how much RLIMIT_DATA counts now. With the race detector it is
// terabytes.
func dataSize() (int64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		var kb int64
		if n, _ := fmt.Sscanf(line, "VmData: %d kB", &kb); n == 1 {
			return kb << 10, nil
		}
	}
	return 0, fmt.Errorf("/proc/self/status has no VmData")
}
