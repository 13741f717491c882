//go:build !linux

package etcd

import "syscall"

// processAttributes: only Linux can end the child when this process is killed;
// elsewhere a killed parent leaves it, and the next start says that the directory
// is in use.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
