// Package e2e runs the built zonecast as its users do, for tests: the whole of it in
// one process (`up`), or every stage in its own.
//
// Invariant: what it starts ends with the test, is spoken to over loopback only, and
// leaves nothing behind but what the test asked for.
//
// In: the zonecast binary, directories of a test. Out: its answers, and its
// processes to stop or kill.
package e2e
