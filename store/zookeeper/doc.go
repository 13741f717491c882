// Package zookeeper is the store on ZooKeeper 3.8 or later.
//
// Invariant: what package store promises. A Revision is a zxid. Every commit is one
// multi, which also appends an entry to a log below the root; whoever watches reads
// that log entry by entry, so a watch costs what changes and not what there is, sees
// commits whole and in order, and has no gaps. docs/format/zookeeper.md draws the
// znodes.
//
// In: transactions from the stages; the servers' addresses. Out: a store.Store;
// errors that say where and what to do.
package zookeeper

/*
How the contract is kept, and why not more simply.

Watches. ZooKeeper's own are one-shot and per znode, so that a commit of two nodes
can be seen apart and a tree of 100,000 nodes needs 100,000 of them. Here a client
watches one znode, head, which every commit sets, and reads what was appended. An
entry's czxid is its commit's revision. Entries are numbered by ZooKeeper (sequential
znodes), which numbers in the order of commits. What a write by foreign hands does to
the tree is not in the log and is not seen by watches.

A list at one revision. Nodes are read one by one, while others commit. The state
that they are read in is between the end of the log before and the end after; the
entries in between are folded over what was read.

Conditions. A multi can check a znode's data version, not its mzxid, and a znode that
was deleted and made again starts at version 0 anew. So the guards: each deletion sets
the guard of the path's bucket, and whoever relies on what he has read of a znode
checks the guard's version, read before, as well. Equal versions of both mean that it
is the same znode in the same state. A guard that changed for another path's sake
costs one more try. That a path does not exist is checked by creating and deleting it
in the multi.

Ephemeral nodes. ZooKeeper deletes its own when a session ends, with no entry in the
log. So a session's nodes are lasting znodes that say whose they are; the session is
one ephemeral znode, which every commit of the session checks; and when that is gone,
the janitor, or whoever waits in an election, deletes the nodes in a commit like any
other. Hence a fence holds until that commit, and nobody else is elected before it.

Sizes. A transaction of store.MaxTxnBytes fills a packet (jute.maxbuffer, 1 MiB - 1),
so its values cannot stand in the same multi twice. An entry that is too large is
written ahead, below bulk, where nobody looks before the log names it.

The janitor. One client, elected by an ephemeral znode, trims the log, ends dead
sessions, and starts a new generation of the log before its numbers run out. Two at
once do no harm: all it does is a conditional commit or the deletion of what is dead.

The library (github.com/go-zookeeper/zk) has no contexts, no answer's zxid, and waits
long for servers that accept and say nothing; link.go makes up for these.
*/
