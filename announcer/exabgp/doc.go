// Package exabgp announces routes through ExaBGP, which runs this process and reads its
// standard output (the process API of ExaBGP 4, encoder text).
//
// Invariant: one line is under way at a time, and the next is written after ExaBGP has
// acknowledged it (exabgp.api.ack=true): a full pipe or a hung ExaBGP blocks nobody, and orders
// never overtake each other.
//
// As others have it: ExaBGP's own healthcheck.py, which does not look at what it is answered.
//
// In: routes; acknowledgements, untrusted. Out: lines.
package exabgp
