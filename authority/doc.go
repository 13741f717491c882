// Package authority is the authoritative DNS server of a host: it follows the
// verified journal the agent writes and answers queries from it over UDP and TCP.
//
// Three layers lie below, each usable without the ones above: authority/data (one
// immutable View of one version), authority/protocol (one query message in, one
// response out) and authority/wire (sockets). This package joins them.
//
// Invariant: a query sees exactly one version of the dataset; versions are swapped
// whole and only after the journal verified them; whatever happens to the journal,
// the agent or the store, what was answered last goes on being answered. Before
// the first version every query gets SERVFAIL: the server cannot yet know whether
// a name is its business, and SERVFAIL says "ask another server now, me later",
// while REFUSED would say that this server never will.
//
// In: a journal directory, the publisher's public keys, DNS queries. Out: DNS
// responses, metrics, and in the status directory the file "serving" (tree.HostDataset
// as JSON), by which the agent reports what is really answered, and the file "sample"
// (tree.Sample), by which it reports what is asked, without who asks.
package authority
