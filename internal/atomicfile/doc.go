// Package atomicfile writes files that are there whole or not at all.
//
// Invariant: at every moment, a crash of the machine included, the path holds the
// old content or the new, never a part of either and never a mixture; once Write
// or WriteFunc has returned nil, it is the new one that survives.
//
// In: a path and bytes. Out: a durable file.
package atomicfile
