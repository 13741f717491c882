package swarm

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// Config is what a person may set.
type Config struct {
	// Listen is where peers connect to, address:port. Empty: no swarm, snapshots come
	// from the publisher's URLs alone.
	Listen string `option:"listen" help:"address:port on which peers fetch pieces of snapshots; empty: no swarm"`
	// Address is Listen as others reach it; empty when that is the same.
	Address string `option:"address" help:"the same as others reach it; empty when it is the same"`
	// Site is where the host stands. Peers of one site are asked first, and few of them
	// ask elsewhere.
	Site string `option:"site" help:"site of this host: peers of the same site are asked first"`
	// Dir is where snapshots are kept for others; empty: beside the journal. It is the
	// swarm's alone.
	Dir string `option:"dir" help:"directory for snapshots that others fetch; empty is JOURNAL.swarm"`
	// Up and Down bound what goes to and comes from peers, in octets a second. Zero
	// means no bound. A bound below 64 KiB a second would look like a stall to others.
	Up   int64 `option:"up" help:"octets a second that go to peers at most; 0 is no bound"`
	Down int64 `option:"down" help:"octets a second that come from peers at most; 0 is no bound"`
	// MaxBytes bounds the files in Dir, in octets; a snapshot that does not fit comes from
	// the URLs and is not kept.
	MaxBytes int64 `option:"max-bytes" help:"octets of the snapshots kept for others at most"`
	// Keep is how many snapshots are kept for others. They share the disk with the journal's
	// until that is folded. Two is what a publisher offers.
	Keep int `option:"keep" help:"snapshots kept for others"`
	// MaxPeers bounds the connections, of all snapshots together.
	MaxPeers int `option:"max-peers" help:"connections to peers at most"`
	// BanFor is how long a peer that sent what was wrong is left alone.
	BanFor time.Duration `option:"ban-for" help:"how long a peer that sent what was wrong is left alone"`
}

// DefaultConfig is without a swarm: it needs Listen yet.
func DefaultConfig() Config {
	return Config{Site: "default", MaxBytes: 16 << 30, Keep: 2, MaxPeers: 80, BanFor: 10 * time.Minute}
}

// minRate is the least bound of a rate, in octets a second.
const minRate = 64 << 10

// Validate tells what is wrong, by the option's name.
func (c Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Listen != "" {
		at, err := netip.ParseAddrPort(c.Listen)
		switch {
		case err != nil:
			fail("listen is %.80q, expected ADDRESS:PORT such as 192.0.2.1:7382", c.Listen)
		case c.Address == "" && at.Addr().IsUnspecified():
			fail("listen is %s and address is empty, expected an address that others reach in one of them", c.Listen)
		}
	}
	if at, err := netip.ParseAddrPort(c.Address); c.Address != "" && (err != nil || at.Addr().IsUnspecified() || at.Port() == 0) {
		fail("address is %.80q, expected ADDRESS:PORT such as 192.0.2.1:7382", c.Address)
	}
	if err := store.CheckPath(tree.SwarmSites("d") + c.Site); err != nil || filepath.Base(c.Site) != c.Site {
		fail("site is %.80q, expected one path element of printable ASCII", c.Site)
	}
	for _, rate := range []struct {
		name  string
		value int64
	}{{"up", c.Up}, {"down", c.Down}} {
		if rate.value != 0 && rate.value < minRate {
			fail("%s is %d, expected 0 or at least %d octets a second", rate.name, rate.value, minRate)
		}
	}
	if c.MaxBytes < 1 {
		fail("max-bytes is %d, expected more", c.MaxBytes)
	}
	if c.Keep < 1 || c.Keep > tree.SwarmMaxHave-1 {
		fail("keep is %d, expected 1 to %d", c.Keep, tree.SwarmMaxHave-1)
	}
	if c.MaxPeers < 2 {
		fail("max-peers is %d, at least 2", c.MaxPeers)
	}
	if c.BanFor <= 0 {
		fail("ban-for is %s, expected more than 0", c.BanFor)
	}
	return errors.Join(errs...)
}

// Deps is what the swarm works with.
type Deps struct {
	Store   store.Store
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Name    string // of this host or process, one path element
	Dataset string
	// Publisher tells that this process offers, and does not fetch.
	Publisher bool
	// Also are datasets of which an earlier run may have kept snapshots beside: those of others are
	// removed.
	Also []string
	// Session tells that nobody else puts Nodes into the store, as a host's agent does.
	Session bool
	// Old gives files of snapshots on this disk of which blocks are used again. Nil: those
	// in Dir alone.
	Old func() []string
	// Fallback fetches what the swarm cannot. Nil means follow.HTTP.
	Fallback follow.Fetcher
}

// pace is how long things may take; tests are in more of a hurry.
type pace struct {
	look     time.Duration // between two looks at a fetch and at peers
	patience time.Duration // without progress, before others than those of the site are asked
	stall    time.Duration // without progress, before the next means: URLs, then giving up
	silent   time.Duration // a peer owes octets and sends none for so long: it is left
	report   time.Duration // between two reports of progress to the store
	list     time.Duration // between two readings of the peers, at first
	term     time.Duration // with less than what is fair, until a host lets more doors be roots
	fair     int64         // octets a second
	settle   time.Duration // the most that is waited for others who begin at the same time
	settleBy int64         // octets of the file for a millisecond of that; 0: it is waited in full

	// For tests; nil in earnest.
	clock      func() time.Time                            // of bans
	traffic    func(at netip.AddrPort, received, sent int) // told of octets of connections
	writeError func() error                                // of writes to disk
}

// The numbers: a TCP connection survives the loss of several segments in a row in 7 s (RFC 6298:
// 1 + 2 + 4 s), hence silent and stall; a peer of the site that is about to have pieces has them
// within seconds, hence patience. By settleBy the wait at the beginning is at most a tenth of the time
// that a line of 1 Gbit/s takes for the file. Less than 10 Mbit/s is no line between sites.
var defaultPace = pace{
	look: 250 * time.Millisecond, patience: 3 * time.Second, stall: 15 * time.Second, silent: 10 * time.Second,
	report: 5 * time.Second, list: 2 * time.Second, term: 30 * time.Second, fair: 10e6 / 8, settle: 500 * time.Millisecond, settleBy: 1_250_000,
}
