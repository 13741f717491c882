// Package wire is how a store is spoken to over one connection: frames, and what is in them.
//
// Invariant: what is decoded has kept every bound of this package and of package store, or
// is an error; nothing is allocated for a length that the octets at hand do not cover. What
// is encoded and decoded again is the same.
//
// In: octets from a peer that is not trusted. Out: requests, nodes, batches, errors.
package wire

// A connection begins as HTTP/1.1 with an Upgrade (RFC 9110 §7.8) to Protocol at Path. Then
// both sides send frames:
//
//	 0  4  length n of what follows, big endian, 9 to MaxFrame
//	 4  1  Kind
//	 5  8  id, big endian: of the request, chosen by the client and said again in what
//	       answers it; a Watch's id is that of its batches
//	13  n-9  payload
//
// Numbers in payloads are unsigned varints (encoding/binary), strings and values have their
// length before them. docs/format/proxy.md draws the payloads.
