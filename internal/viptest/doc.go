// Package viptest has whole hosts behind one service address, for tests: announcers and
// authorities in network namespaces, a real router (BIRD, FRR) with ECMP in its kernel, and a
// client that counts every query that is lost.
//
// Invariant: nothing outside the test's namespaces and directory is touched, and all that is
// started ends with the test.
//
// In: the zonecast binary, Debian's routers. Out: tests, and the times they took.
package viptest
