// Package dnswire is where DNS text and messages meet record's vocabulary: RDATA,
// zone files and a small client. It is the only package that imports
// github.com/miekg/dns outside tests, so that the library can be swapped.
//
// Invariant: RDATA that leaves the package is canonical (names uncompressed, and
// in lower case in the types of RFC 4034 §6.2 as updated by RFC 6840 §5.1), and
// FormatRdata∘ParseRdata gives it back octet for octet. A zone file is read whole
// or refused with file:line:column; no record of it is dropped silently.
//
// In: text, zone files and messages, all untrusted and bounded. Out: record.Name,
// record.Rdata, record.RRset.
package dnswire
