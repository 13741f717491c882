package swarm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/anacrolix/torrent"
)

// gate stands between the library and the network. To the library every connection is with
// an address of its own, an alias out of fd00::/8 that is used once: what it finds a peer guilty
// of, by address and for ever, then names one connection, behind a shared address too. Who that
// is, and for how long it is left alone, is decided here, by the real address.
type gate struct {
	ln       net.Listener
	dialer   net.Dialer
	log      *slog.Logger
	metrics  *metrics
	maxPeers int
	maxPerIP int
	banFor   time.Duration
	clock    func() time.Time
	traffic  func(at netip.AddrPort, received, sent int) // nil: nobody is told

	mu      sync.Mutex // guards below
	last    uint64     // alias given
	real    map[netip.Addr]netip.AddrPort
	dials   map[dial]netip.Addr      // aliases of those to connect to
	conns   map[netip.Addr]*conn     // by alias; those that are open
	banned  map[netip.Addr]time.Time // until when
	judged  map[netip.Addr]bool      // aliases whose guilt has been dealt with
	stopped bool
}

// dial is whom to connect to, and for which dataset: connections of two are not one.
type dial struct {
	dataset string
	at      netip.AddrPort
}

// Bounds of what is remembered. An alias costs about 200 octets.
const (
	maxAliases = 4096
	maxBanned  = 4096
	// perIP is connections from one address that connects to us, for each dataset: a peer has one
	// for each snapshot of the two that are about, and one of each that it gave up and we do not
	// yet know of.
	perIP = 4
	// acceptPause is between two tries to accept a connection, when files are exhausted.
	acceptPause = 100 * time.Millisecond
)

var aliasPrefix = [8]byte{0xfd, 'z', 'o', 'n', 'e', 'c', 's', 't'}

func newGate(c Config, p pace, log *slog.Logger, m *metrics) (*gate, error) {
	ln, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, err
	}
	g := &gate{
		ln: ln, log: log, metrics: m, maxPeers: c.MaxPeers, maxPerIP: perIP, banFor: c.BanFor, clock: time.Now, traffic: p.traffic,
		real: map[netip.Addr]netip.AddrPort{}, dials: map[dial]netip.Addr{}, conns: map[netip.Addr]*conn{},
		banned: map[netip.Addr]time.Time{}, judged: map[netip.Addr]bool{},
	}
	if p.clock != nil {
		g.clock = p.clock
	}
	// Who listens on one address is known by it, so it connects from there too.
	if at := g.addrPort(); !at.Addr().IsUnspecified() {
		g.dialer.LocalAddr = &net.TCPAddr{IP: at.Addr().AsSlice()}
	}
	return g, nil
}

// addrPort is where it listens.
func (g *gate) addrPort() netip.AddrPort { return unmapped(g.ln.Addr()) }

// unmapped is the address and port of a TCP address.
func unmapped(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := t.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// alias makes a new one. The caller holds mu.
func (g *gate) alias(at netip.AddrPort) netip.Addr {
	g.last++
	b := [16]byte{}
	copy(b[:], aliasPrefix[:])
	binary.BigEndian.PutUint64(b[8:], g.last)
	a := netip.AddrFrom16(b)
	g.real[a] = at
	return a
}

// forget drops aliases that nothing uses. The caller holds mu.
func (g *gate) forget() {
	if len(g.real) < maxAliases {
		return
	}
	named := map[netip.Addr]bool{}
	for _, a := range g.dials {
		named[a] = true
	}
	for a := range g.real {
		if g.conns[a] == nil && !named[a] {
			delete(g.real, a)
			delete(g.judged, a)
		}
	}
	if len(g.real) >= maxAliases { // all are to be connected to: they are named anew when asked for
		clear(g.dials)
	}
}

// more lets each address have more connections: another dataset came, or, with less than 0, went.
func (g *gate) more(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.maxPerIP += n
}

// peer is what the library is told of an address to connect to for a dataset; ok is false for one
// that is left alone, and for our own.
func (g *gate) peer(dataset string, at netip.AddrPort) (p torrent.PeerInfo, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.isBanned(at.Addr()) || !at.IsValid() || at.Port() == 0 {
		return p, false
	}
	to := dial{dataset, at}
	a, known := g.dials[to]
	if !known {
		g.forget()
		a = g.alias(at)
		g.dials[to] = a
	}
	return torrent.PeerInfo{Addr: aliasAddr(a, at.Port()), Source: torrent.PeerSourceDirect}, true
}

func aliasAddr(a netip.Addr, port uint16) *net.TCPAddr {
	return &net.TCPAddr{IP: a.AsSlice(), Port: int(port)}
}

// isBanned tells whether an address is left alone now. The caller holds mu.
func (g *gate) isBanned(a netip.Addr) bool {
	until, ok := g.banned[a]
	if ok && !g.clock().Before(until) {
		delete(g.banned, a)
		return false
	}
	return ok
}

// Dial is torrent.Dialer.Dial: the address is an alias.
func (g *gate) Dial(ctx context.Context, address string) (net.Conn, error) {
	alias, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	at, known := g.real[alias.Addr()]
	refuse := !known || g.isBanned(at.Addr()) || len(g.conns) >= g.maxPeers || g.stopped
	g.mu.Unlock()
	if refuse {
		return nil, fmt.Errorf("peer %s is not to be connected to now", at)
	}
	c, err := g.dialer.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, known = g.real[alias.Addr()]; !known || g.isBanned(at.Addr()) || len(g.conns) >= g.maxPeers || g.stopped {
		return nil, errors.Join(errors.New("peer is not wanted any more"), c.Close())
	}
	return g.admit(c, alias.Addr(), at), nil
}

// DialerNetwork is torrent.Dialer.DialerNetwork.
func (g *gate) DialerNetwork() string { return "tcp" }

// admit takes a connection in. The caller holds mu.
func (g *gate) admit(c net.Conn, alias netip.Addr, at netip.AddrPort) *conn {
	nc := &conn{Conn: c, gate: g, alias: alias, real: at, at: aliasAddr(alias, at.Port())}
	g.conns[alias] = nc
	g.metrics.peers.Set(float64(len(g.conns)))
	return nc
}

// Accept is torrent.Listener.Accept: who is left alone, and who is too many, is closed here.
func (g *gate) Accept() (net.Conn, error) {
	said := false
	for {
		c, err := g.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		if err != nil { // the library would ask again at once, with no pause
			if !said {
				g.log.Warn("peers cannot connect, trying again", "listen", g.Addr().String(), "pause", acceptPause, "error", err)
			}
			said = true
			time.Sleep(acceptPause)
			continue
		}
		at := unmapped(c.RemoteAddr())
		if nc := g.enter(c, at); nc != nil {
			return nc, nil
		}
		g.metrics.refused.Inc()
		_ = c.Close() // nothing was said yet
	}
}

func (g *gate) enter(c net.Conn, at netip.AddrPort) *conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	same := 0
	for _, other := range g.conns {
		if other.real.Addr() == at.Addr() {
			same++
		}
	}
	if g.isBanned(at.Addr()) || len(g.conns) >= g.maxPeers || same >= g.maxPerIP || g.stopped {
		return nil
	}
	g.forget()
	return g.admit(c, g.alias(at), at)
}

// Addr is torrent.Listener.Addr.
func (g *gate) Addr() net.Addr { return g.ln.Addr() }

// judge leaves alone those whom the library has found guilty.
func (g *gate) judge(aliases []string) {
	for _, text := range aliases {
		alias, err := netip.ParseAddr(text)
		if err != nil {
			continue
		}
		g.mu.Lock()
		at, known := g.real[alias]
		news := known && !g.judged[alias]
		g.judged[alias] = true
		g.mu.Unlock()
		if news {
			g.metrics.garbage.Inc()
			g.ban(at.Addr(), "it sent pieces that are not those of the snapshot")
		}
	}
}

// ban leaves an address alone for a while.
func (g *gate) ban(a netip.Addr, why string) {
	now := g.clock()
	g.mu.Lock()
	if len(g.banned) >= maxBanned {
		for other := range g.banned { // any: whoever fills the table gains nothing by it
			delete(g.banned, other)
			break
		}
	}
	g.banned[a] = now.Add(g.banFor)
	var open []*conn
	for _, c := range g.conns {
		if c.real.Addr() == a {
			open = append(open, c)
		}
	}
	for to := range g.dials {
		if to.at.Addr() == a {
			delete(g.dials, to) // a new alias afterwards: the library never forgives the old one
		}
	}
	g.mu.Unlock()
	g.log.Warn("peer is left alone for a while", "client", a, "why", why, "pause", g.banFor)
	for _, c := range open {
		_ = c.Close() // it is over with it
	}
}

// leave closes the connection of an alias, and gives the address another alias: it may be
// tried again.
func (g *gate) leave(alias netip.Addr) (at netip.AddrPort, ok bool) {
	g.mu.Lock()
	c := g.conns[alias]
	g.mu.Unlock()
	if c == nil {
		return at, false
	}
	_ = c.Close() // it is over with it
	return c.real, true
}

// part closes the connection that was made to an address for a dataset, and makes none again until
// it is named again.
func (g *gate) part(dataset string, at netip.AddrPort) {
	to := dial{dataset, at}
	g.mu.Lock()
	alias := g.dials[to]
	c := g.conns[alias]
	delete(g.dials, to)
	if c == nil {
		delete(g.real, alias)
	}
	g.mu.Unlock()
	if c != nil {
		_ = c.Close() // it is over with it
	}
}

// bannedNow is who is left alone, at most n of them.
func (g *gate) bannedNow(n int) (out []netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for a := range g.banned {
		if g.isBanned(a) && len(out) < n {
			out = append(out, a)
		}
	}
	return out
}

// Close ends it with all connections.
func (g *gate) Close() error {
	g.mu.Lock()
	g.stopped = true
	var open []*conn
	for _, c := range g.conns {
		open = append(open, c)
	}
	g.mu.Unlock()
	err := g.ln.Close()
	for _, c := range open {
		_ = c.Close() // ended by us
	}
	return err
}

// conn is a connection under an alias.
type conn struct {
	net.Conn
	gate  *gate
	alias netip.Addr
	real  netip.AddrPort
	at    *net.TCPAddr
}

// RemoteAddr is the alias.
func (c *conn) RemoteAddr() net.Addr { return c.at }

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.gate.count(c.real, n, 0)
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.gate.count(c.real, 0, n)
	return n, err
}

// SetDeadline is net.Conn's. Of a connection that was closed here meanwhile it says nothing: the
// library panics when it fails, and finds out by the next octet.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.Conn.SetDeadline(t); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// count counts octets of a connection.
func (g *gate) count(at netip.AddrPort, received, sent int) {
	g.metrics.received.Add(float64(received))
	g.metrics.sent.Add(float64(sent))
	if g.traffic != nil {
		g.traffic(at, received, sent)
	}
}

// Close closes it, and lets go of its place.
func (c *conn) Close() error {
	c.gate.mu.Lock()
	if c.gate.conns[c.alias] == c {
		delete(c.gate.conns, c.alias)
		c.gate.metrics.peers.Set(float64(len(c.gate.conns)))
	}
	c.gate.mu.Unlock()
	return c.Conn.Close()
}

var _ io.Closer = (*gate)(nil)
