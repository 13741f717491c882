// Package route is what is announced of a service address: a prefix and its attributes, as
// every speaker takes them.
//
// Invariant: what Parse functions give is written back as it was read, and means the same to
// every speaker.
//
// In: text of people. Out: Route, Peer.
package route
