// Package site serves the store to the agents of a site over one connection to it, and goes
// on when that is cut.
//
// Invariant: what a watcher is given never goes back while the store does not; a commit is
// never given in parts; the store is asked once for what many ask at the same time, and has one
// watch for each part of the tree, however many agents there are. An agent that is slow or
// sends garbage holds nobody else. With the uplink cut, agents read what was there last, also
// after the proxy's restart, see each other, and report; what they reported is written when the
// store is back. Nothing is believed here that an agent does not check itself.
//
// In: a store; frames of agents (package store/wire), all bounded. Out: nodes and batches;
// nodes of agents, gathered, in one session of the store; snapshots over HTTP, from a directory.
package site

// What is served from memory and disk (Config.Mirror) is followed by a watch each from the
// start; other parts of the tree are followed while somebody watches them. Single reads of them
// go through to the store, those of the same path together, and are remembered for when it is
// away. Only parts of the tree that hosts need are served at all, and fewer are written to.
