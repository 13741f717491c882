// Package hamt is a persistent hash map from octet strings: a hash array mapped
// trie (Bagwell, "Ideal Hash Trees", 2001) with 32-way nodes.
//
// Invariant: a Map never changes after Editor.Map returned it, so any number of
// goroutines may read it without a lock; an edited copy shares with its origin all
// but the nodes on the ways to what was edited. The cost of a Get or an edit is
// O(log32 n) and, for keys whose 64-bit hashes are equal, linear in their number.
//
// The caller hashes: a DNS lookup asks for all suffixes of one name, whose hashes
// are cheap to make together. Hashes should be keyed by something an outsider
// cannot know if outsiders choose keys.
//
// In: hashes, keys, values. Out: values by pointer, to be read only.
package hamt
