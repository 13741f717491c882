// Package fill makes the round-trip times of a table whole and plausible: it strikes out what
// light forbids, and estimates what was not measured.
//
// A time that is missing is taken from the first of these that knows it: the closest prefix
// around it that was measured, its autonomous system, its country, its continent, the distance,
// all prefixes. What a group knows is a median, of three prefixes at least. Clients have lines of
// their own, faster or slower than the median, so an estimate is the group's median for the PoP
// and how much slower than the group's medians the prefix is to the PoPs that it was measured
// to: what is compared in the end is one PoP with another from the same prefix.
//
// Invariant: afterwards every cell has a time of 0 to assign.MaxRTT; one that was measured
// and not struck out has what was measured. The outcome depends on the table and the
// places alone.
//
// In: a table.Table, and where its prefixes are. Out: the same table without gaps, and what
// was done to it.
package fill
