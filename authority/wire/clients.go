package wire

import (
	"net/netip"
	"sync"
)

// clients counts the connections of each client.
type clients struct {
	mu   sync.Mutex         // guards below
	open map[netip.Addr]int // by clientOf; none is zero
}

// enter counts one more, unless there are most already.
func (c *clients) enter(a netip.Addr, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	client := clientOf(a)
	if c.open[client] >= most {
		return false
	}
	c.open[client]++
	return true
}

func (c *clients) leave(a netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	client := clientOf(a)
	if c.open[client]--; c.open[client] == 0 {
		delete(c.open, client)
	}
}

// clientOf is what counts as one client: an IPv6 host owns at least a /64.
func clientOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return a
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}
