// Package replay says how much of the live traffic a change of the dataset would have
// answered otherwise: questions that authorities drew are asked before and after.
//
// Invariant: the verdict is the one that two hosts would give of which one has all of the
// dataset before and the other all after; the cost is in the questions, the names that
// they lead to and the change, not in the dataset. A share comes with the number of
// questions that it is told from and with its bounds; without questions nothing is said.
//
// Questions whose name has all that matters to it alike before and after, and without aliases
// and cuts, are not asked (see scope). What answers the others is the hosts' own code (see Server). It is given the part of the dataset that
// can matter: of each question's name and of each name that its answer leads to, what is at
// the name, at all names above and at the wildcards below those, and whether anything is
// below. So the part is never asked for a name of which it does not know all.
//
// Not otherwise is: the serial of a SOA, the SOA of a negative answer but for its TTL, and
// addresses in the additional section but for those of a referral. Clients have no location
// here, as with hosts that have no map.
//
// In: samples (tree.Sample, untrusted), a Reader of the dataset before and after, a Server.
// Out: Effect.
package replay
