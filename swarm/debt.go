package swarm

import (
	"net/netip"
	"sync"
	"time"

	"github.com/anacrolix/torrent"
)

// debts is what peers owe us: requests that were sent and not yet answered.
type debts struct {
	mu    sync.Mutex // guards below
	peers map[*torrent.Peer]*debt
}

type debt struct {
	requests int
	since    time.Time // of the last answer, or of the first request since there were none
}

func newDebts() *debts { return &debts{peers: map[*torrent.Peer]*debt{}} }

// hook lets the library tell. What it calls holds its locks, and only counts.
func (d *debts) hook(c *torrent.Callbacks) {
	c.SentRequest = append(c.SentRequest, func(e torrent.PeerRequestEvent) { d.owe(e.Peer, time.Now()) })
	c.DeletedRequest = append(c.DeletedRequest, func(e torrent.PeerRequestEvent) { d.settle(e.Peer) })
	c.ReceivedUsefulData = append(c.ReceivedUsefulData, func(e torrent.ReceivedUsefulDataEvent) { d.answered(e.Peer, time.Now()) })
	c.PeerClosed = append(c.PeerClosed, d.gone)
}

func (d *debts) owe(p *torrent.Peer, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	one := d.peers[p]
	if one == nil {
		one = &debt{}
		d.peers[p] = one
	}
	if one.requests == 0 {
		one.since = now
	}
	one.requests++
}

func (d *debts) settle(p *torrent.Peer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if one := d.peers[p]; one != nil && one.requests > 0 {
		one.requests--
	}
}

func (d *debts) answered(p *torrent.Peer, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if one := d.peers[p]; one != nil {
		one.since = now
	}
}

func (d *debts) gone(p *torrent.Peer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.peers, p)
}

// silent are the aliases of those who owe and have sent nothing since before.
func (d *debts) silent(before time.Time) (out []netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for p, one := range d.peers {
		if one.requests == 0 || !one.since.Before(before) || p.RemoteAddr == nil {
			continue
		}
		if at, err := netip.ParseAddrPort(p.RemoteAddr.String()); err == nil {
			out = append(out, at.Addr())
		}
	}
	return out
}
