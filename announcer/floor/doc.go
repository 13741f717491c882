// Package floor lets hosts withdraw a VIP as long as enough others announce it.
//
// Invariant: leases are given one after another, by a comparison with the one before, so that
// two hosts never count on each other: of the hosts that say they announce and have no lease, at
// least Keep and at least KeepPercent of all are left by a lease that is asked for. A host
// that cannot reach the store gets none. TestNeverBelow has many hosts at once.
//
// As others have it: BGP announcers decide alone, and on 4 October 2021 all of them decided
// alike. Akamai's name servers have a bound on how many may suspend themselves (SIGCOMM 2020).
//
// In: what the hosts of a VIP say in the store. Out: leases, there.
package floor
