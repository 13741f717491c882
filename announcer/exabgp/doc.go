// Package exabgp announces routes through ExaBGP, which runs this process and reads its
// standard output (the process API of ExaBGP 4, encoder text).
//
// Invariant: lines are written in the order in which they were wanted, each once, and what
// ExaBGP has acknowledged (exabgp.api.ack=true) is all that counts as done. A full pipe, a hung
// ExaBGP or one that acknowledges nothing blocks nobody, and no withdrawal waits for the
// acknowledgement of a line before it. What may be announced is taken back at the end.
//
// As others have it: ExaBGP's own healthcheck.py, which does not look at what it is answered.
//
// In: routes; acknowledgements, untrusted. Out: lines.
package exabgp
