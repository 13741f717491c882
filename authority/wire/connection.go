package wire

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"
)

// connection is one that is open.
type connection struct {
	conn   *net.TCPConn
	client netip.AddrPort
	local  netip.Addr
	silent *list.Element // of connections.silent; nil while it has a message
	gone   bool          // was evicted
}

func newConnection(c *net.TCPConn) *connection {
	remote := c.RemoteAddr().(*net.TCPAddr).AddrPort()
	return &connection{
		conn: c, client: netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port()),
		local: c.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(),
	}
}

// connections knows what is open.
type connections struct {
	mu      sync.Mutex // guards below, and what changes in a connection
	open    map[*connection]struct{}
	clients map[netip.Addr]int
	silent  *list.List // of *connection, the longest silent first
	stopped bool
	end     time.Time // of silence, once the sockets were handed over; zero: they were not
}

func (c *connections) init() {
	c.open, c.clients, c.silent = map[*connection]struct{}{}, map[netip.Addr]int{}, list.New()
}

// add enters a connection unless a bound is reached. When there are too many, the one
// that has been silent longest goes for it.
func (c *connections) add(k *connection, most, mostPerClient int) (evicted, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	client := clientOf(k.client.Addr())
	if c.stopped || c.clients[client] >= mostPerClient {
		return false, false
	}
	if len(c.open) >= most {
		first := c.silent.Front()
		if first == nil {
			return false, false
		}
		c.drop(first.Value.(*connection))
		evicted = true
	}
	c.open[k] = struct{}{}
	c.clients[client]++
	k.silent = c.silent.PushBack(k)
	return evicted, true
}

// drop evicts a connection; its goroutine finds out.
func (c *connections) drop(k *connection) {
	k.gone = true
	k.conn.SetReadDeadline(time.Unix(1, 0))
	c.forget(k)
}

// forget takes a connection out.
func (c *connections) forget(k *connection) {
	if _, there := c.open[k]; !there {
		return
	}
	delete(c.open, k)
	client := clientOf(k.client.Addr())
	if c.clients[client]--; c.clients[client] == 0 {
		delete(c.clients, client)
	}
	if k.silent != nil {
		c.silent.Remove(k.silent)
		k.silent = nil
	}
}

func (c *connections) remove(k *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(k)
}

// busy notes that a message has begun to arrive; false: it was evicted.
func (c *connections) busy(k *connection) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.silent != nil {
		c.silent.Remove(k.silent)
		k.silent = nil
	}
	return !k.gone
}

// idle notes that nothing is under way, after the deadline for reading was set; false:
// it was evicted, or the server stops.
func (c *connections) idle(k *connection) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped || k.gone {
		return false
	}
	if k.silent == nil {
		k.silent = c.silent.PushBack(k)
	}
	if !c.end.IsZero() { // the deadline that was set may be later than this one
		return k.conn.SetReadDeadline(c.end) == nil
	}
	return true
}

// stopping tells whether the server stops. Like idle it is asked after a deadline was
// set, since stop sets another one.
func (c *connections) stopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopped
}

// drain lets connections be silent until end at most, lets new ones in until then,
// and returns when none is open or when it is told to stop.
func (c *connections) drain(end time.Time, stop <-chan struct{}) {
	c.mu.Lock()
	c.end = end
	for k := range c.open {
		if k.silent != nil {
			k.conn.SetReadDeadline(end)
		}
	}
	c.mu.Unlock()
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
		}
		c.mu.Lock()
		none := len(c.open) == 0 && time.Now().After(end)
		c.mu.Unlock()
		if none {
			return
		}
	}
}

// stop wakes all readers and lets no new connection in.
func (c *connections) stop(past time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	for k := range c.open {
		k.conn.SetReadDeadline(past)
	}
}
