// Package etcd is the store on etcd: a client for any etcd, and the etcd that
// zonecast runs itself as a child process on one machine.
//
// Invariant: what package store promises. A node at path is the etcd key
// prefix+path; Modified and Created are etcd's revisions of it; a session is a
// lease. Nothing else is kept in etcd, so that etcdctl shows all there is.
//
// Serve runs the server inside the calling process. It may end that process: etcd
// exits when it can no longer write, since going on could lose what it has
// acknowledged. So daemons do not call Serve beside other work; they start
// themselves again with StartChild, which restarts the child until the cause (a
// full disk) has gone.
//
// In: transactions from the stages; a data directory; an address. Out: a
// store.Store; errors that say where and what to do.
package etcd
