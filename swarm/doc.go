// Package swarm carries snapshots by BitTorrent between the hosts of a fleet, so that
// the publisher's network does not grow with it.
//
// Invariant: a file that Fetch hands over has the SHA-256 that the signed manifest
// names, whoever sent it; what is offered to others was whole and right when it was
// put there. Peers are found in the store and nowhere else: no tracker, no DHT, no
// exchange of peers, no port mapping. What a peer can cost is bounded: connections,
// octets, disk, and time; who sends what is wrong is named, counted and left alone
// for a while. Where the swarm has nothing, the URLs of the manifest do. A host that carries
// several datasets has one port, and the bounds hold for all of them together.
//
// In: a signed snapshot.Ref, metainfo and peers from the store, pieces from peers, all
// untrusted but the Ref; older snapshots on this disk. Out: snapshot files, pieces for
// peers, and what this host has, for the store.
//
// docs/format/swarm.md draws the nodes and the metainfo.
package swarm
