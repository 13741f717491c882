// Package picture draws maps of the world as SVG: the PoPs with their load and capacity,
// and the countries by the PoP that serves them or by how far they are from it.
//
// Invariant: equal pictures give equal octets. What is told by colour is told by a hatching
// or by words as well, so that it can be read in black and white; every text is escaped. It
// needs nothing of a network: the outlines of countries are in the program.
//
// In: figures, computed elsewhere. Out: an SVG file.
package picture
