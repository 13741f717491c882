// Package image is one version of a dataset as a file that is mapped into memory
// and answered from as it lies there: names in a hash table, RRsets precompiled,
// nothing decoded and nothing allocated at a query.
//
// Invariant: an Image never changes. What Get gives was checked against the
// checksum of its block before it was first believed, so that a flipped bit is a
// Damage and never a wrong answer. Equal sets, terms, atlas, seed and label give
// equal files.
//
// Opening is mapping: it costs the same for any size (header and block sums are
// read, blocks are checked when they are first touched, or by Scrub beforehand).
// The file may be shared by any number of processes.
//
// In: record.Sets in canonical order (Builder), image files, untrusted (Open).
// Out: Node and Set, views of the file's octets, valid while the Image is reachable.
package image
