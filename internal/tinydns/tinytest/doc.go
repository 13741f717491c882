// Package tinytest makes tinydns data for tests.
//
// Invariant: the same seed and number give the same text, which tinydns-data and
// tinydns.ParseText both take.
//
// In: a seed. Out: text with every kind of line; tinydns itself, answering from a text.
package tinytest
