// Package doctor looks at a DNS host and says what is wrong, and what to do about it.
//
// Invariant: it changes nothing, needs no service of zonecast to be alive, and ends within
// a bounded time. A check that cannot be made says why, and is never taken for a good one.
//
// In: what the host is configured to be; the machine as it is. Out: findings.
package doctor
