// Package fromzone writes zone files as programs of configuration, so that a team can
// move over.
//
// Invariant: the program exports a Zone whose claims are the RRsets of the zone file,
// no more and no less. $INCLUDE and $GENERATE are resolved; the order of the file and
// its comments are kept.
//
// In: a zone file and those it includes, untrusted. Out: the text of a program.
package fromzone
