// Package modeltest runs presenters and a control together over a store in memory and
// holds them against a model: claims, freezes, holds and what is decided of them,
// overrides, pins, and the dataset that they come to. It has tests only.
//
// Invariant: the model shares no code with what it judges but the nouns of package
// record. It has maps and plain loops, and computes everything anew.
//
// In: a sequence of changes, of people's actions and of accidents, drawn by rapid. Out:
// passed, or the shortest sequence after which the dataset, or what people are told, is
// not what docs/control.md says.
package modeltest
