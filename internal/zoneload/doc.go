// Package zoneload reads many zone files at once into what an image is built of:
// RRsets in canonical order, millions of them, without a pointer for each.
//
// Invariant: Load takes a file exactly when zonefile.Parse does, with the same
// RRsets, and refuses it with the same error. Sets are in canonical order of their
// keys over all zones.
//
// In: paths of zone files. Out: record.Set, in order.
package zoneload
