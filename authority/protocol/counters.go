package protocol

import "sync/atomic"

// Transport is how a query came.
type Transport uint8

// The transports. Over UDP a response must fit the smaller of what the client
// offers and our limit.
const (
	UDP Transport = iota
	TCP
	transports
)

// Counters counts what one Worker did. The worker adds, anybody may read.
type Counters struct {
	Queries   [transports]atomic.Uint64 // messages that came, by transport
	Responses [17]atomic.Uint64         // by Rcode
	Truncated atomic.Uint64             // responses with TC
	Dropped   atomic.Uint64             // messages without an answer: too short, or responses
}
