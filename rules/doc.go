// Package rules turns servers into claims: addresses, reverse names, reverse
// zones, service names and SRV records.
//
// A rule divides what it claims into shards and says of each server which shards
// it is a member of; the claims of a shard depend on its members and nothing else.
// So a change to one server concerns the shards of its old and new state only.
//
// Invariant: pure. The claims of a shard are a function of the set of its members,
// whatever the order in which they came, and of Params; they hold their server's
// registration time, never the time of now.
//
// In: fleet.Server. Out: record.Claim.
package rules
