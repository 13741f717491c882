// Package zktest runs Debian's ZooKeeper for tests.
//
// Invariant: a server ends with the process that started it, and its files are in
// the directory that it was given.
//
// In: a directory. Out: addresses of servers that answer.
package zktest
