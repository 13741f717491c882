// Package tinydns has a host's answers given by D. J. Bernstein's tinydns: the datasets
// become tinydns-data, that data.cdb by the real tinydns-data, and tinydns answers it.
// It stands where the authority stands.
//
// Invariant: data.cdb is always that of one version of each dataset, whole, replaced by a rename; what
// tinydns-data refuses leaves the one before. What the format or the server cannot say
// as the dataset says it is in the file unsaid.txt, with a reason, and counted; nothing
// is left out in silence.
//
// In: the journals of the datasets that the host carries, the publisher's public keys. Out: data.cdb, a tinydns that
// runs, unsaid.txt, and the file "serving", by which the agent reports what is answered.
//
// As others have it: the fleets that ran tinydns pushed a data.cdb of everything every
// few minutes by rsync or BitTorrent; here each host compiles its own from deltas.
package tinydns
