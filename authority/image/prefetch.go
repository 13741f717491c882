//go:build amd64 || arm64

package image

import "unsafe"

// prefetch asks for the cache line of p, and prefetch2 for it and the next one, without
// waiting: a load would keep its place among the instructions in flight until it is
// there, so that of a batch a few overlap instead of all.
//
//go:noescape
func prefetch(p unsafe.Pointer)

//go:noescape
func prefetch2(p unsafe.Pointer)
