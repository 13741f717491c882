// Package recursor drives the Unbound of a host: it writes its configuration, starts it,
// and takes out of its cache what a new version of a dataset of the host changed.
//
// Invariant: what Unbound runs on has passed unbound-checkconf whole; a configuration
// that has not never takes the place of one that has. A name is flushed only when the
// authority beside it says that it answers the version that changed it, so that nobody
// fills the cache with the old answer again. The cache as a whole is never dropped.
// Whatever happens to the journal or to this process, Unbound goes on answering.
//
// In: the journals of the datasets that the host carries, the publisher's public keys, the
// authority's file "serving" of each. Out: unbound.conf, commands of Unbound's remote control, metrics.
//
// As others have it: resolvers that are told of changes at all are told by NOTIFY of
// whole zones (Knot Resolver's and BIND's catalog of stub zones) or purge by a message
// for each zone (PowerDNS's rec_control wipe-cache); here the delta says which names.
package recursor
