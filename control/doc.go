// Package control is the side of zonecast that people talk to: what is published,
// why, which claims conflict, how every host is, whether a change has arrived, and
// the import of zone files.
//
// It reads the same claims as the presenter, and which of them are admitted, and
// reconciles them by itself, so that it can explain while no presenter runs; and it
// follows the published dataset, so that what it calls published is what hosts were
// given.
//
// Invariant: it changes nothing but the claims of an import; an answer names the
// version it speaks of; every answer is bounded and paged.
//
// In: the store; calls from the network, untrusted. Out: answers of the Control
// service (api/control.thrift).
package control
