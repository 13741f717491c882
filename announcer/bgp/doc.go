// Package bgp announces routes to routers: a BGP speaker (GoBGP as a library) that learns
// nothing and forwards nothing.
//
// Invariant: what a router is told is what was set last, also after a session came back; no
// route of a router is taken, and nothing listens unless asked to.
//
// As others have it: ExaBGP, BIRD and FRR beside a health check; here it is the same process, so
// that the check's last word and the route cannot differ.
//
// In: routes; sessions with routers, untrusted. Out: BGP (RFC 4271), IPv4 and IPv6 unicast.
package bgp
