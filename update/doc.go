// Package update takes in what people write outside zonecast: zone files in a
// directory, watched, each a source of claims.
//
// Invariant: what is claimed for a zone file is exactly one content that the file
// had, read and checked whole; a file that cannot be read leaves its last good
// claims, and the error with its line is in the source's state. A directory that
// vanishes removes nothing.
//
// In: files of a directory. Out: claims and tree.Source nodes, to the store.
package update
