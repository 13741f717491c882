package beacon

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/zonecast/zonecast/rtt"
)

// clientOf is the address of who sent a request: of the socket, or what a proxy that is
// believed says of it. ok is false when that is no address.
func clientOf(r *http.Request, proxies []netip.Prefix) (a netip.Addr, ok bool) {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return a, false
	}
	a = at.Addr().Unmap().WithZone("")
	// From the last to the first: each is what the one behind it has seen.
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && believed(a, proxies); i-- {
		text := strings.TrimSpace(hops[i])
		if text == "" {
			continue
		}
		next, err := netip.ParseAddr(text)
		if err != nil {
			at, err := netip.ParseAddrPort(text)
			if err != nil {
				return a, false
			}
			next = at.Addr()
		}
		a = next.Unmap().WithZone("")
	}
	return a, true
}

func believed(a netip.Addr, proxies []netip.Prefix) bool {
	for _, p := range proxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

var (
	// shared is the address space between carriers and their customers (RFC 6598).
	shared = netip.MustParsePrefix("100.64.0.0/10")
	// unicast6 is what is given out of IPv6 (RFC 4291 §2.4, IANA).
	unicast6 = netip.MustParsePrefix("2000::/3")
)

// public tells whether an address can be one of a user or a resolver as the world sees it.
// Private ones (RFC 1918, RFC 4193) and the like are somebody's mistake, and the same in many places.
func public(a netip.Addr) bool {
	if a.Is6() {
		return unicast6.Contains(a)
	}
	// Not "this network" (RFC 791), nor class E (RFC 1112 §4).
	return a.Is4() && a.IsGlobalUnicast() && !a.IsPrivate() && !shared.Contains(a) && a.As4()[0] != 0 && a.As4()[0] < 240
}

// keyOf is the key of a public address.
func keyOf(kind rtt.Kind, a netip.Addr) (rtt.Key, bool) {
	if !public(a) {
		return rtt.Key{}, false
	}
	return rtt.OfAddr(kind, a)
}

// minSubnet are the shortest client subnets that say where a client is: shorter ones are of
// several networks, and whoever is in one would say for all of them what nobody has measured there.
// What is shorter counts as none. Resolvers send /24 and /56 (RFC 7871 §11.1), and some a little less.
const (
	minSubnet4 = 16
	minSubnet6 = 32
)

// keyOfSubnet is the key of a client subnet that says where a client is.
func keyOfSubnet(p netip.Prefix) (rtt.Key, bool) {
	least := minSubnet6
	if p.IsValid() && p.Addr().Is4() {
		least = minSubnet4
	}
	if !p.IsValid() || p.Bits() < least || !public(p.Addr()) {
		return rtt.Key{}, false
	}
	return rtt.Of(rtt.Client, p)
}

// single is what stands for one client: an IPv4 address, or a /64, which is one host's or one
// home's (RFC 4291 §2.5.4), and of which it takes a new address as it likes.
func single(a netip.Addr) netip.Prefix {
	return netip.PrefixFrom(a, min(a.BitLen(), 64)).Masked()
}
