// Package trial is what a version tried by rings of hosts is made of: the policy that says
// which changes go that way, the trial that the presenter offers, the signed offer that a host
// takes, the judgement of the canary stage, and what people say.
//
// Invariant: a host puts nothing on top of its dataset but what a key that it knows has signed
// for it, for this dataset, in its time, and only where the RRsets that are touched come out at
// the digest before and, put, at the one after.
//
// In: the store, a file beside a journal; both untrusted by hosts. Out: the types below.
package trial
