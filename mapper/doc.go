// Package mapper computes the map of users from what was measured and keeps it claimed: who is
// served by which PoP.
//
// Each cycle it reads the PoPs in the store, the round-trip times that beacons wrote, and
// what people say of demand and pins; when something changed it computes a plan (package
// plan) from the map that it claims now, and claims what came out as map/<name>: a claim like
// any other, guarded, versioned, explained and rolled back.
//
// Invariant: inputs that are missing, broken or too old leave the map that is claimed as it is,
// and the state of the source says what is wrong. One transaction takes a map to the next one. Equal
// inputs write nothing.
//
// In: tree.PoPs, files and HTTP of beacons, files of people. Out: claims and tree.Source of
// map/<name>.
package mapper
