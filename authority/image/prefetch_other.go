//go:build !amd64 && !arm64

package image

import "unsafe"

func prefetch(unsafe.Pointer)   {}
func prefetch96(unsafe.Pointer) {}
