// Package standin answers questions as a host would, from RRsets in memory and without
// sockets: for who wants to know beforehand what hosts will say.
//
// Invariant: it answers by the code that hosts answer by (authority/data,
// authority/protocol), as over TCP to a client without EDNS and without a location; a SOA
// has the serial of its RRset.
//
// In: RRsets, questions. Out: responses in wire form.
package standin
