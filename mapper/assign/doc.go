// Package assign gives each group of clients one point of presence (PoP).
//
// A Problem is groups with a demand, PoPs with a capacity, and the round-trip time of
// every group to every PoP; an Optimiser gives an Assignment. There are three, and
// docs/mapper.md says which is for what:
//
//   - argmin takes the nearest PoP, whatever its capacity;
//   - stable is deferred acceptance (Gale and Shapley) with capacities, as in Maggs and
//     Sitaraman, "Algorithmic Nuggets in Content Delivery", CCR 2015;
//   - price solves the transportation problem exactly by shortest paths on the graph of
//     PoPs and then makes whole the few groups that its solution divides.
//
// Invariant: equal problems give equal assignments. A PoP without capacity gets nothing.
// When the demand is more than all capacities together, each is taken as larger by the
// same factor, so that no PoP is overloaded more than another by decision. Bound is
// never more than the cost of any assignment within the capacities, divided groups included.
//
// In: numbers. Out: numbers. No clock, no file, no goroutine that outlives a call.
package assign
