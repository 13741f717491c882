// Package monitor watches the fleet of DNS hosts: how old what each host answers is,
// and whether all that answer the same version answer the same data.
//
// It asks every host with plain DNS for the freshness record (DESIGN §8), which was
// stamped at the start of the way, so that its age is the age of the whole way, and
// compares the digests that hosts report.
//
// Invariant: it changes nothing; a host that does not answer is counted as such and
// never as fresh; what it knows about hosts that are gone goes with them.
//
// In: /hosts/ and the head of the dataset, answers of hosts, both untrusted. Out:
// metrics, a status, and a log line at each change of a host's state.
package monitor
