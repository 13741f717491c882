// Package refused keeps what a host did not believe, for people who want to see it.
//
// Invariant: it costs the host a bounded place on its disk and nothing else: the oldest
// goes first, a full or read-only disk keeps nothing and stops nothing, and when the
// host needs the room Clear gives it back. Who keeps something does not wait for a disk.
//
// In: what was refused, why, and its octets. Out: one file each in a directory.
package refused

// A file is one line of JSON (Entry) and then the octets as they came. They are written
// without a sync: after a crash the last ones may be missing or cut off, which List says.
