// Package plan computes a map: the PoP of each prefix, and those that take over when it
// is lost.
//
// Order of things: demand and capacities become whole numbers; who is at a PoP that is
// open stays there unless the gain is above a threshold; an optimiser assigns within
// the capacities less the headroom; moves that only gain are put off when they are more
// than the bound on churn. Then, for each PoP, who is there is assigned once more as if it
// were lost, to the room that the others have: second choices, which fit together when
// they can (N-1), because they are chosen together. Hosts go by these orders when a PoP is
// drained or down, without the mapper.
//
// Invariant: equal input gives equal plans. A PoP that is drained or has no capacity is in no
// order. When a PoP is lost, what was at the others stays there, as long as what was lost has
// room. Figures are of the plan as it is, whatever the optimiser says.
//
// In: a table without gaps, the map that is in force, settings. Out: a Plan, and a geo.Map of it.
package plan
