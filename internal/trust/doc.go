// Package trust is the set of keys that a host believes: those in files, less those
// that were revoked.
//
// Invariant: a revocation only takes trust away, and stays: what a host has seen it
// remembers on its disk, so that a store that hides it later changes nothing. A
// statement is believed when the key that it revokes has signed it, wherever it comes
// from; nobody can revoke a key without having it, but the host's administrator, in a
// file. A file that cannot be read leaves what was known as it is.
//
// In: files of public keys, a file of revocations, /revocations/ of the store, the
// host's memory. Out: journal.Keys, and that memory.
package trust

// Why a key revokes itself, as in RFC 5011 §2.1, and no other key does it: with the word
// of one key, be it stolen, another could be taken away, and hosts would believe nobody.
// Whoever has lost a key has the statement that `zonecast key new` wrote beside it, or
// names the key on the hosts.
