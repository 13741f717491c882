// Package steering writes into the store what steers clients: PoPs, and maps as claims.
//
// Invariant: the node of a PoP, the claim of its state and the entry in the audit are one
// transaction, so that the three never contradict one another. No drain leaves no PoP up,
// whoever drains another one at the same time.
//
// In: what people and programs say; the store. Out: nodes and claims in it.
package steering
