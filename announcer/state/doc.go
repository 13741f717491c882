// Package state decides what a host does with a service address (VIP): a machine of five
// states, pure.
//
// Invariant: a route that is announced is taken back for a failed check only with a lease
// from the floor, unless the daemon is really dead; stale data never takes it back; what
// the store does not say changes nothing. TestExhaustive tries every state with every input.
//
//	              good                       stale
//	down ──────────────────► up ◄──────────────────────► degraded
//	 ▲  ▲                     │ ▲                         │ ▲
//	 │  │          bad        │ │ good         bad        │ │ stale
//	 │  │                     ▼ │                         ▼ │
//	 │  └──── lease ──────── held ◄───────────────────────┘─┘
//	 │                        │
//	 │ lease, grace over      │ drain
//	 └──────────────────── draining ◄── drain ── up, degraded
//
// From every state: dead leads to down, and so does a person's order "down"; a person's order
// "up" announces whatever checks say; "hold" leaves what is announced announced.
//
// As others have it: ExaBGP's healthcheck has up, down and disabled, and lets go of the
// last host. The floor and the state held are here because of 4 October 2021.
//
// In: verdicts of checks, orders of people, answers of the floor. Out: the next state, and
// whether a lease is wanted.
package state
