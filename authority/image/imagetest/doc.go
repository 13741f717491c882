// Package imagetest makes images for tests.
//
// Invariant: what it gives is an open image of the RRsets it was given, whatever their
// order.
//
// In: RRsets. Out: *image.Image.
package imagetest
