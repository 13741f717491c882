// Package dnsload asks a DNS server many questions and measures how it answers:
// on a fixed schedule whatever the answers do (open loop), or with a fixed number
// of queries outstanding (closed loop).
//
// Invariant: every query sent is either answered in time or lost, and nothing else
// is counted as an answer; in the open loop latency counts from the time at which a
// query was due, not from that at which it left. Where the generator itself was the
// limit - its schedule, its query ids, its receive queues - the Result says so. A
// run ends within Config.Time + 100 ms + Config.Timeout, and no target is loaded
// that is neither on this machine's loopback nor named by the caller as one that
// may be.
//
// In: query files, expectations, responses; all untrusted and bounded. Out: Result,
// Finding.
package dnsload

// Why threads and raw system calls: what is measured costs about a microsecond a
// query. The runtime's poller and a Read a packet would cost the generator more
// than the server, so that a fast server could not be told from a very fast one.
// Each thread has its own sockets, tables and counters; nothing is shared while it
// runs but a flag to stop.
