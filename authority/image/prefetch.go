//go:build amd64 || arm64

package image

import "unsafe"

// prefetch asks for the cache line of p, and prefetch96 for those of the 96 octets at p,
// without waiting: a load would keep its place among the instructions in flight until it
// is there, so that of a batch a few overlap instead of all.
//
//go:noescape
func prefetch(p unsafe.Pointer)

//go:noescape
func prefetch96(p unsafe.Pointer)
