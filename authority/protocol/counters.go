package protocol

import (
	"sync/atomic"

	"github.com/zonecast/zonecast/authority/cookie"
)

// Transport is how a query came.
type Transport uint8

// The transports. Over UDP a response must fit the smaller of what the client
// offers and our limit.
const (
	UDP Transport = iota
	TCP
	transports
)

// Counters counts what one Worker did. The worker adds after each batch, anybody may
// read.
type Counters struct {
	Queries   [transports]atomic.Uint64      // messages that came, by transport
	Responses [rcodes]atomic.Uint64          // by Rcode
	Outcomes  [Outcomes]atomic.Uint64        // of the queries that asked for data
	Truncated atomic.Uint64                  // responses with TC
	Cookies   [cookie.Verdicts]atomic.Uint64 // COOKIE options, by what they were worth
	Dropped   atomic.Uint64                  // messages without an answer: too short, or responses
	// LastResort are answers with records of a PoP that is not up, since no other PoP that the
	// client may be sent to has any.
	LastResort atomic.Uint64
}

// tally is Counters of one batch.
type tally struct {
	responses [rcodes]uint32
	outcomes  [Outcomes]uint32
	cookies   [cookie.Verdicts]uint32
	truncated uint32
	dropped   uint32

	lastResort uint32
}

// flush adds a batch of n messages.
func (c *Counters) flush(t *tally, transport Transport, n int) {
	c.Queries[transport].Add(uint64(n))
	for i, v := range t.responses {
		if v > 0 {
			c.Responses[i].Add(uint64(v))
		}
	}
	for i, v := range t.outcomes {
		if v > 0 {
			c.Outcomes[i].Add(uint64(v))
		}
	}
	for i, v := range t.cookies {
		if v > 0 {
			c.Cookies[i].Add(uint64(v))
		}
	}
	if t.truncated > 0 {
		c.Truncated.Add(uint64(t.truncated))
	}
	if t.lastResort > 0 {
		c.LastResort.Add(uint64(t.lastResort))
	}
	if t.dropped > 0 {
		c.Dropped.Add(uint64(t.dropped))
	}
}
