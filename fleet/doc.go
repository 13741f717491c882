// Package fleet is the noun "server": what a machine of the fleet registers, and
// the clusters that servers form.
//
// Invariant: a Server that passed Check has a valid name, at least one address,
// no address twice, and options that are known; its JSON form is canonical (equal
// servers give equal bytes).
//
// In: registrations from the network and lines of a fleet file, untrusted.
// Out: Server, for registry (which keeps them) and rules (which read them).
package fleet
