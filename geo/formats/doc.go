// Package formats reads maps of clients as other software has them: gdnsd's geoip plugin
// (geo-maps and resources, with databases of places), the configuration of Knot DNS's
// module geoip, and CSV.
//
// Invariant: what is read gives every address the location that the other software gives
// it, in the fewest prefixes, or there is an error with its file and line, or a Note with
// them where the file says something that a dataset cannot say exactly.
//
// In: files of others, untrusted and bounded. Out: a geo.Map, and the RRsets that its
// names have at each PoP.
package formats

// As others have it: gdnsd and Knot look a client up in the database at each query, or
// build a tree from it at their start, on every host. Here it is done once, and what
// hosts get are the prefixes that come out different: a change of the database is a delta.
