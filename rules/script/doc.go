// Package script makes rules of what users write in Starlark.
//
// A file NAME.star is one rule, the source rule/NAME. It defines one or more of
//
//	server(s)    what is claimed for one server
//	cluster(c)   for all servers of one cluster: c.name, c.servers
//	group(g)     for all servers of a group that groups(s) names: g.name, g.servers
//	fleet(f)     for all servers: f.servers
//
// each of which returns records, in lists as deep as it likes; None is nothing. A server,
// a cluster and a group are a shard each, so that what one server's change costs does not
// depend on how many there are; fleet is one shard, made anew by every change.
//
// Invariant: the claims of a shard are a function of its members, the files and the
// parameters: no clock, no randomness, no input or output, no state from one call to the
// next. A call ends after a bounded number of steps. An error says file:line:column and
// what the rule was called for. Memory is not bounded here: who evaluates what he does not
// trust does it in a process that is.
//
// In: files, parameters, fleet.Server. Out: record.Claim, of which Place is the line of
// the rule that made it.
package script
