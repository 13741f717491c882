package follow

import (
	"fmt"
	"io/fs"
	"syscall"
)

// Room tells why a file of so many octets is not to be written to dir, or nil: the disk would be full,
// and what else lies there - a journal, a store - goes on only while it is not. An eighth more is to
// be free. The error wraps syscall.ENOSPC.
func Room(dir string, octets int64) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	free, want := int64(st.Bavail)*int64(st.Bsize), octets+octets/8
	if st.Blocks == 0 || free >= want { // some file systems do not say
		return nil
	}
	return &fs.PathError{Op: "write", Path: dir, Err: fmt.Errorf("%w: there are %d octets, expected %d", syscall.ENOSPC, free, want)}
}
