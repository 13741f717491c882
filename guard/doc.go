// Package guard judges one source's change of the dataset before it becomes a
// version, and tells in words what is wrong with it, or nothing.
//
// Invariant: what a source removes, replaces or creates within a window, in one
// change or in a thousand, in whatever order, stays within the Bounds: of each
// zone, of the source, and of the whole dataset. What exceeds them, and whatever
// empties a zone, takes a protected name or every address of a service away,
// trips, and is let through by a person only. To judge changes nothing; what was
// judged counts when it is accepted. The package is pure: no clock, no goroutine,
// no input or output; the cost of a judgement depends on the change alone.
//
// What trips:
//
//  1. Bounds. Removed, replaced, repointed and created RRsets are counted by source
//     and zone, by source, and overall, over a sliding window. A bound is a share of
//     what is there (10 %), but at least a floor, of which a zone's half is the most,
//     and at most a ceiling: the floor keeps the percentage from holding every second
//     change of a small zone, the half keeps the floor from taking most of it, the
//     ceiling keeps the percentage from letting thousands go in a large one. A few
//     RRsets are always let through.
//  2. A zone emptied of all but its SOA and NS, or taken away with its SOA, of
//     whatever size; a rule or map that returned something and returns nothing.
//  3. A protected name that loses an RRset: apex SOA and NS, freshness records, the
//     names that Bounds.Protect lists. All of an apex's NS, or of a protected
//     name's data, replaced at once is lost, too.
//  4. Every address replaced at once, or removed, of an A or AAAA RRset of two or
//     more.
//  5. TTLs that fall to 0, or near it, of more than a few RRsets: these count as
//     replaced, too, but far fewer are enough.
//  6. Prefixes of a map that get another order of PoPs, more than a share of those that
//     it has, within the window. What is only cut otherwise has not moved, so blocks and
//     orders of maps do not count as RRsets; nor do states of PoPs, of which people, and
//     what looks at health, have to be able to change all. A map that has no uses any more
//     moves all of its prefixes.
//  7. A claim of maps, PoPs or terms that is malformed, and was not before: reconcile leaves
//     it out, and what it replaces would go with it, which is a loss that nobody meant
//     however few prefixes it has.
//
// What does not: an override, which is a person's word; freshness records, which are
// stamped every second; an apex's SOA and NS, which rule 3 has; ACME challenges (RFC
// 8555 §8.4) that go or are replaced, because robots take them away all day; and what
// is created in a zone that was empty when the window began, because it takes nothing
// away. An RRset that goes while another owner in the zone comes with the same type
// and data is renamed: it is one RRset replaced, not one removed and one created.
//
// An Expectation lets more through 1, as much as was announced, and nothing through
// 2 to 7, except that a rule may return nothing when all of it was announced.
//
// In: reconcile.Change, by source. Out: Verdict; the presenter holds what trips.
package guard
