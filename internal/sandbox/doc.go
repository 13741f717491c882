// Package sandbox runs part of a program in a child process of the same binary, with
// bounds on its memory and time: what runs programs of others (configuration, rules)
// may eat memory or never end, and then only the child dies.
//
// The child has nothing but two pipes: no environment, no other files, no files that
// it could write, and it ends when its parent does. A program that uses the package calls Main
// first thing in main (tests: in TestMain).
//
// Invariant: Call gives the handler's whole answer, or an error and the child is dead.
// An answer is octets: whoever asks checks what is in them.
//
// In: a request. Out: an answer, and notes while it is made.
package sandbox
