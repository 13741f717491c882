package main

import (
	"io/fs"
	"syscall"
)

// inodeOf tells a file that was renamed into a place from the one before.
func inodeOf(st fs.FileInfo) uint64 {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return s.Ino
	}
	return 0
}
