// Package update takes in what people write outside zonecast: zone files in a
// directory, watched, each a source of claims.
//
// Invariant: what is claimed for a zone file is exactly one content that the file
// had, read and checked whole; a file that cannot be read leaves its last good
// claims, and the error with its line is in the source's state. A directory that
// vanishes removes nothing.
//
// A zone file is every file directly in the directory, but for hidden files, what
// editors leave behind, and files that another zone file includes. Its name is its
// source (zone/<file>) and, without ".zone", ".db" or "db.", its origin. A file
// removed is its claims removed; but when the last one goes, or the directory, the
// claims stay and the state of the source "zone" says so: more often than not the
// directory is not mounted. A file .allow-empty in it says that it is meant.
// Symbolic links are followed inside the directory only. An RRset that a new content
// leaves as it was keeps the author, time and revision that brought it.
//
// In: files of a directory. Out: claims and tree.Source nodes, to the store.
package update
