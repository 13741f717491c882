package rtt

import (
	"math"
	"math/bits"
)

// Clients estimates of how many clients something came: linear counting (Whang et al.,
// TODS 1990) in 64 bits, one of which is set for each client by its hash. A client's bit
// tells nothing of its address. The zero Clients is none.
type Clients uint64

// ManyClients is the least that a full Clients stands for: 64 bits are full after 304
// clients in the mean (64 × the 64th harmonic number).
const ManyClients = 304

// Add notes a client by a hash of its address. The hash is keyed, or a user could choose
// addresses that count as many, and the same for all that is merged.
func (c *Clients) Add(hash uint64) { *c |= 1 << (hash & 63) }

// Merge adds those of o; who is in both counts once.
func (c *Clients) Merge(o Clients) { *c |= o }

// Count is the estimate: within 15 % of the truth up to 100, ManyClients at most.
func (c Clients) Count() int {
	free := 64 - bits.OnesCount64(uint64(c))
	if free == 0 {
		return ManyClients
	}
	return int(math.Round(64 * math.Log(64/float64(free))))
}
