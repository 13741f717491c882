//go:build !linux

package background

// Run runs work and waits for it.
func Run(work func()) { work() }
