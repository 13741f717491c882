package bgp

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/zonecast/zonecast/announcer/route"
)

// Config is the speaker.
type Config struct {
	// AS is that of this host; equal to a peer's it is iBGP.
	AS uint64 `option:"as" help:"autonomous system of this host"`
	// RouterID is an IPv4 address that no other speaker has; empty is the local address of the
	// first peer that has one.
	RouterID netip.Addr `option:"router-id" help:"BGP identifier, an IPv4 address; empty is --announcer-bgp-local"`
	// Peers are the routers.
	Peers []route.Peer `option:"peers" help:"routers, each ADDRESS@AS or ADDRESS:PORT@AS"`
	// Local is the address that sessions are from; the zero value lets the kernel choose.
	Local netip.Addr `option:"local" help:"address that sessions come from; empty lets the kernel choose"`
	// Passwords is a file of lines ADDRESS PASSWORD (TCP MD5, RFC 2385), for root's eyes only.
	Passwords string `option:"passwords" help:"file with a line ADDRESS PASSWORD for each router that wants one (TCP MD5)"`
	// HoldTime is how long a silent router is waited for, and how long a router sends queries to
	// a host that fell silent. A keepalive is sent three times in it.
	HoldTime time.Duration `option:"hold-time" help:"how long a silent session lives; a host that loses its power is sent queries as long"`
	// GracefulRestart is how long routers keep the routes of a speaker that restarts (RFC 4724).
	// They keep those of a host that died as well. Zero: not at all.
	GracefulRestart time.Duration `option:"graceful-restart" help:"how long routers keep the routes of an announcer that restarts; 0 is not at all"`
	// Multihop is the TTL of sessions with routers that are not on the link; 0: they are.
	Multihop int `option:"multihop" help:"TTL of sessions with eBGP routers that are not on the link; 0: they are"`
	// NextHop4 and NextHop6 are where routers send what is for a VIP; empty is this host as
	// the session has it, which takes a session of the same family.
	NextHop4 netip.Addr `option:"next-hop4" help:"next hop of IPv4 routes; empty is this host's address of the session"`
	NextHop6 netip.Addr `option:"next-hop6" help:"next hop of IPv6 routes; empty is this host's address of the session"`
	// Listen is where routers may connect to, address:port; empty: nowhere.
	Listen netip.AddrPort `option:"listen" help:"address:port on which routers may connect; empty listens nowhere"`
}

// DefaultConfig needs AS and Peers yet.
func DefaultConfig() Config { return Config{HoldTime: 9 * time.Second} }

// Validate tells what is wrong, by the option's name.
func (c Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf("bgp-"+format, args...)) }
	if c.AS == 0 || c.AS > 1<<32-1 {
		wrong("as is %d, expected 1 to 4294967295", c.AS)
	}
	if c.RouterID.IsValid() && !c.RouterID.Is4() {
		wrong("router-id is %s, expected an IPv4 address", c.RouterID)
	}
	if _, err := c.routerID(); err != nil {
		wrong("router-id is empty, and no IPv4 address to take for it is given by --announcer-bgp-local: expected one")
	}
	if len(c.Peers) == 0 {
		wrong("peers is empty, expected a router such as 192.0.2.1@65000")
	}
	seen := map[netip.Addr]route.Peer{}
	for _, p := range c.Peers {
		if other, twice := seen[p.Addr.Addr()]; twice {
			wrong("peers has %s and %s: a router has one session", other, p)
		}
		seen[p.Addr.Addr()] = p
	}
	if c.HoldTime < 3*time.Second || c.HoldTime > 65535*time.Second || c.HoldTime%time.Second != 0 {
		wrong("hold-time is %v, expected whole seconds from 3s to 65535s", c.HoldTime)
	}
	if c.GracefulRestart < 0 || c.GracefulRestart > 4095*time.Second || c.GracefulRestart%time.Second != 0 {
		wrong("graceful-restart is %v, expected whole seconds from 0s to 4095s", c.GracefulRestart)
	}
	if c.Multihop < 0 || c.Multihop > 255 {
		wrong("multihop is %d, expected 0 to 255", c.Multihop)
	}
	if c.NextHop4.IsValid() && !c.NextHop4.Is4() {
		wrong("next-hop4 is %s, expected an IPv4 address", c.NextHop4)
	}
	if c.NextHop6.IsValid() && !c.NextHop6.Is6() {
		wrong("next-hop6 is %s, expected an IPv6 address", c.NextHop6)
	}
	return errors.Join(errs...)
}

// Carries tells why a route of prefix could reach no router, or nil.
func (c Config) Carries(prefix netip.Prefix) error {
	for _, p := range c.Peers {
		if c.carries(p, prefix.Addr().Is4()) {
			return nil
		}
	}
	family, option := "IPv6", "--announcer-bgp-next-hop6"
	if prefix.Addr().Is4() {
		family, option = "IPv4", "--announcer-bgp-next-hop4"
	}
	return fmt.Errorf("%s is %s, and no router has a session over that: expected one, or %s", prefix, family, option)
}

// carries tells whether routes of a family go to a peer.
func (c Config) carries(p route.Peer, four bool) bool {
	if four {
		return p.Addr.Addr().Is4() || c.NextHop4.IsValid()
	}
	return p.Addr.Addr().Is6() || c.NextHop6.IsValid()
}

func (c Config) routerID() (netip.Addr, error) {
	for _, a := range []netip.Addr{c.RouterID, c.Local, c.NextHop4} {
		if a.Is4() {
			return a, nil
		}
	}
	return netip.Addr{}, errors.New("there is none")
}

// maxPassword is what the kernel takes (TCP_MD5SIG_MAXKEYLEN).
const maxPassword = 80

// passwords reads the file.
func (c Config) passwords() (map[netip.Addr]string, error) {
	out := map[netip.Addr]string{}
	if c.Passwords == "" {
		return out, nil
	}
	text, err := os.ReadFile(c.Passwords)
	if err != nil {
		return nil, fmt.Errorf("read passwords: %w", err)
	}
	s := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(s.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		where, password, _ := strings.Cut(line, " ")
		password = strings.TrimSpace(password)
		addr, err := netip.ParseAddr(where)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s:%d: %.60q is no address, expected ADDRESS PASSWORD", c.Passwords, n, where)
		case password == "" || len(password) > maxPassword:
			return nil, fmt.Errorf("%s:%d: the password of %s has %d octets, expected 1 to %d", c.Passwords, n, addr, len(password), maxPassword)
		case out[addr] != "":
			return nil, fmt.Errorf("%s:%d: %s is there twice", c.Passwords, n, addr)
		}
		out[addr] = password
	}
	for addr := range out {
		known := false
		for _, p := range c.Peers {
			known = known || p.Addr.Addr() == addr
		}
		if !known {
			return nil, fmt.Errorf("%s: %s is none of --announcer-bgp-peers", c.Passwords, addr)
		}
	}
	return out, s.Err()
}
