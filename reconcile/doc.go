// Package reconcile turns claims into one dataset.
//
// Invariant: equal sets of claims give equal datasets, equal conflicts and equal
// explanations, in whatever order and in however many steps they came. No claim
// is dropped without a Conflict naming both claims, except a Fallback claim that
// yields. The package is pure: no clock, no goroutine, no input or output.
//
// The rules. Each Conflict names the one that decided.
//
//  1. A claim must be valid by itself: its source is known, the RRset passes
//     RRset.Check, the TTL lies within the policy's bounds, the RDATA of the types
//     the rules read is well-formed and canonical, SOA, CNAME and DNAME have one
//     record, SOA, NS, DS and DNAME have no location, an NS stands at no wildcard,
//     RRsets of maps and PoPs are well-formed as a whole (geo.CheckRRset) and no
//     rule's or update's.
//  2. Zones: an apex is the owner of a valid SOA claim. A Fallback claim yields,
//     without conflict, when a SOA that is not Fallback stands at its name or
//     above it.
//  3. Of the claims of one key (owner, type, location) the first in order wins: by
//     precedence of the source's kind; then the source of the zone's own SOA before
//     others; then by the source's name; then the lower TTL; then by the data. Equal
//     data is no conflict: the first gives the TTL. Claims that the policy merges
//     are united, the first gives the TTL.
//  4. A CNAME stands alone at its name, whatever the location, but for RRSIG and
//     NSEC (RFC 2181 §10.1, RFC 4034 §2.5). CNAME and other types are decided as a
//     whole: the side with the higher precedence wins; at equal precedence the
//     CNAME loses; at an apex it always loses. Names below a DNAME are not there
//     (RFC 6672 §2.4).
//  5. An owner must lie in a zone.
//  6. An NS at a name that is no apex is a zone cut. At the cut only NS, DS, NSEC,
//     RRSIG and glue stand, below it only glue: A and AAAA of names that an NS of
//     the same zone, at its apex or at any of its cuts, points to.
//  7. An address that a rule made should have a PTR, when its reverse zone is in the
//     dataset, that points to a name with the address. Otherwise there is a warning,
//     and nothing is dropped.
//
// Rules 4 (DNAME), 5 and 6 judge whole names by what is above them, so they are
// applied to a name before rule 3 compares claims on it: the dataset is the same,
// and the conflict names what really keeps the claim out.
//
// In: record.Claim by source and shard. Out: changes of the dataset, conflicts,
// explanations.
package reconcile
