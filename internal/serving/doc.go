// Package serving is the file by which what answers on a host - the authority, or what
// stands in for it - says what it answers, and by which the others of the host know.
//
// Invariant: a reader sees one whole statement or none. There is none while nothing is
// answered.
//
// In: tree.HostDataset. Out: the same, in another process.
package serving
