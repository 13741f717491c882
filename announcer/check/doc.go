// Package check asks the daemons of this host real questions, over UDP and TCP, and judges
// them.
//
// Invariant: one lost answer changes no verdict, and a verdict depends on this process's
// monotonic clock alone: what is stale is what does not move on, whatever the clocks say. Dead
// is only what the kernel says, that nobody listens, for both UDP and TCP.
//
// As others have it: ExaBGP's healthcheck (interval 5 s, fast interval 1 s, rise 3, fall 3) runs
// a command; here the questions are built in, and hundreds of milliseconds are enough.
//
// In: answers of daemons, untrusted. Out: verdicts, with the reason in words.
package check
