// Package announcer is the stage that announces service addresses (VIPs) by BGP while this host
// can answer on them.
//
// Invariant: a route is taken back only because this host cannot answer - and then, unless
// nobody listens at all, only with a lease from the VIP's floor - or because a person said so.
// Losing the store changes nothing; stale data makes a route less preferred. Of the datasets that
// the host carries one counts from its first right answer on. All times are
// of the monotonic clock. The machine is in package state, the floor in package floor.
//
// As others have it: ExaBGP with its healthcheck; bird-lg style scripts; MetalLB's speaker.
//
// In: verdicts of local checks, orders of people and the floor, from the store. Out: routes, to
// routers; what this host does, to the store.
package announcer
