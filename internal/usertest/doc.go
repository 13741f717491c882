// Package usertest is outside users in network namespaces: browsers and scripted clients behind
// resolvers, PoPs at distances that the test sets, and what measures and steers them.
//
// Invariant: distances are those of the test's own proxies, in the users' namespaces; names go the
// way of the DNS, from real resolvers to a real authority.
//
// In: the zonecast binary, Unbound, Chromium. Out: what a test finds.
package usertest
