// Package hosttest tests what runs on a DNS host together: a journal, the authority that
// follows it, and the servers of others beside it.
//
// Invariant: what a test starts ends with it and is spoken to over loopback only.
//
// In: RRsets. Out: answers.
package hosttest
