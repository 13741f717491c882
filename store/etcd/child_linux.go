package etcd

import "syscall"

// processAttributes: the child gets SIGTERM when this process dies, and a process
// group of its own, so that Ctrl-C on a terminal reaches only the parent, which
// ends its clients first.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
