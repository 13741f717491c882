// Package background runs work that nobody waits for: folding a log, building an image.
//
// Invariant: threads that have something to answer are preferred to it by the kernel;
// where that cannot be had, the work is done all the same.
//
// In: work. Out: nothing but its end.
package background
