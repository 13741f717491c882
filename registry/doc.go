// Package registry keeps the servers of the fleet: the Thrift API through which
// they register, renew and deregister, the leases that run out, and the fleet file.
//
// In the store a server is a node, an entry in the index of names and one in the
// index of addresses each, and a lease if it has one. One transaction changes all of
// them. The rules that keep them one:
//
//   - a server's node says which addresses it owns. An address's entry is taken,
//     given up or handed over only in a transaction that also changes the owner's
//     node on the condition that nobody else did;
//   - a name that is not in the index is registered only on that condition;
//   - an address nobody owns is taken only on the condition that its entry is absent.
//
// Invariant: an address has at most one owner; the indexes say what the nodes say;
// what a call acknowledged is in the store.
//
// In: calls and fleet files, untrusted. Out: tree.Servers, for the mutator.
package registry
