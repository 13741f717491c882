// Package tinydns reads and writes the data of two other servers: the text of
// tinydns-data (djbdns 1.05) and its data.cdb in both directions, and the text of
// dnsrocks.
//
// Invariant: what is read is all that the file says, or there is an error with its
// place, or a Note with its place where the file says something that the rest of the
// system cannot say exactly. What is written says nothing that the sets do not say,
// and everything that is left out or said differently is in the Report. Sets are in
// canonical order, each key is there once, and each passes record.RRset.Check.
//
// In: files of others, untrusted and bounded. Out: record.Set and Atlas; text and
// data.cdb, octet for octet what Debian's tinydns-data makes of that text.
package tinydns

// A file of three million lines is an ordinary one, so reading is made for that: a
// name is looked up in one table of all names, where each knows its parent; names are
// put in order by sorting the children of each parent and walking down, which compares
// single labels and not names; records go to their owners by counting. RDATA lies in
// large blocks, and nothing is allocated for a single line.
