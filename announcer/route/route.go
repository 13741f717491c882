package route

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Route is one prefix with its attributes.
type Route struct {
	Prefix netip.Prefix
	// NextHop is where the router sends what is for it; the zero value is this host as the
	// session has it (next-hop self).
	NextHop netip.Addr
	// MED is the multi-exit discriminator (RFC 4271 §5.1.4): less is preferred.
	MED uint32
	// Prepend is how often the own AS stands before the path besides the once that is due.
	Prepend int
	// Communities are standard ones (RFC 1997), large ones (RFC 8092).
	Communities      []Community
	LargeCommunities []LargeCommunity
}

// Community is a standard community, AS:value.
type Community uint32

// Well-known communities.
const (
	GracefulShutdown Community = 0xffff0000 // RFC 8326
	NoExport         Community = 0xffffff01 // RFC 1997
	NoAdvertise      Community = 0xffffff02
)

func (c Community) String() string { return fmt.Sprintf("%d:%d", c>>16, c&0xffff) }

// MarshalText implements encoding.TextMarshaler.
func (c Community) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads AS:value, or the name of a well-known one.
func (c *Community) UnmarshalText(b []byte) error {
	switch string(b) {
	case "graceful-shutdown":
		*c = GracefulShutdown
		return nil
	case "no-export":
		*c = NoExport
		return nil
	case "no-advertise":
		*c = NoAdvertise
		return nil
	}
	n, err := numbers(string(b), 2, 16)
	if err != nil {
		return fmt.Errorf("community %.60q: %w", b, err)
	}
	*c = Community(n[0]<<16 | n[1])
	return nil
}

// LargeCommunity is AS:value:value.
type LargeCommunity struct{ ASN, Data1, Data2 uint32 }

func (c LargeCommunity) String() string { return fmt.Sprintf("%d:%d:%d", c.ASN, c.Data1, c.Data2) }

// MarshalText implements encoding.TextMarshaler.
func (c LargeCommunity) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads AS:value:value.
func (c *LargeCommunity) UnmarshalText(b []byte) error {
	n, err := numbers(string(b), 3, 32)
	if err != nil {
		return fmt.Errorf("large community %.60q: %w", b, err)
	}
	*c = LargeCommunity{n[0], n[1], n[2]}
	return nil
}

// numbers reads n numbers of so many bits with colons between.
func numbers(text string, n, bits int) ([]uint32, error) {
	parts := strings.Split(text, ":")
	if len(parts) != n {
		return nil, fmt.Errorf("%d numbers, expected %d with colons between", len(parts), n)
	}
	out := make([]uint32, n)
	for i, p := range parts {
		x, err := strconv.ParseUint(p, 10, bits)
		if err != nil {
			return nil, fmt.Errorf("%.20q is no number of 0 to %d", p, uint64(1)<<bits-1)
		}
		out[i] = uint32(x)
	}
	return out, nil
}

// Port is the one of BGP (RFC 4271).
const Port = 179

// Peer is a router: ADDRESS@AS, or ADDRESS:PORT@AS.
type Peer struct {
	Addr netip.AddrPort
	AS   uint32
}

func (p Peer) String() string {
	if p.Addr.Port() == Port {
		return fmt.Sprintf("%s@%d", p.Addr.Addr(), p.AS)
	}
	return fmt.Sprintf("%s@%d", p.Addr, p.AS)
}

// MarshalText implements encoding.TextMarshaler.
func (p Peer) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what String writes.
func (p *Peer) UnmarshalText(b []byte) error {
	where, as, found := strings.Cut(string(b), "@")
	if !found {
		return fmt.Errorf("peer %.80q has no @, expected ADDRESS@AS or ADDRESS:PORT@AS such as 192.0.2.1@65000", b)
	}
	addr, err := netip.ParseAddr(where)
	at := netip.AddrPortFrom(addr, Port)
	if err != nil {
		if at, err = netip.ParseAddrPort(where); err != nil || at.Port() == 0 {
			return fmt.Errorf("peer %.80q: %.60q is no address and no address:port", b, where)
		}
	}
	n, err := strconv.ParseUint(as, 10, 32)
	if err != nil || n == 0 {
		return fmt.Errorf("peer %.80q: AS is %.20q, expected 1 to 4294967295", b, as)
	}
	*p = Peer{netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), uint32(n)}
	return nil
}

// VIP is an address of a named VIP: NAME=ADDRESS or NAME=ADDRESS/LENGTH.
type VIP struct {
	Name    string
	Address netip.Addr
	// Prefix is what is announced: the address alone, or the network around it.
	Prefix netip.Prefix
}

func (v VIP) String() string {
	if v.Prefix.IsSingleIP() {
		return v.Name + "=" + v.Address.String()
	}
	return fmt.Sprintf("%s=%s/%d", v.Name, v.Address, v.Prefix.Bits())
}

// MarshalText implements encoding.TextMarshaler.
func (v VIP) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what String writes.
func (v *VIP) UnmarshalText(b []byte) error {
	name, where, found := strings.Cut(string(b), "=")
	if !found {
		return fmt.Errorf("vip %.80q has no =, expected NAME=ADDRESS or NAME=ADDRESS/LENGTH such as dns=192.0.2.53", b)
	}
	if err := CheckName(name); err != nil {
		return fmt.Errorf("vip %.80q: %w", b, err)
	}
	p, err := netip.ParsePrefix(where)
	if err != nil {
		addr, err := netip.ParseAddr(where)
		if err != nil {
			return fmt.Errorf("vip %.80q: %.60q is no address and no ADDRESS/LENGTH", b, where)
		}
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	a := p.Addr()
	switch {
	case a.Zone() != "" || a.Is4In6():
		return fmt.Errorf("vip %.80q: %s has a zone or is an IPv4 address in IPv6, expected a plain one", b, a)
	case a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), a.IsLinkLocalUnicast():
		return fmt.Errorf("vip %.80q: %s cannot be announced, expected a unicast address that others can reach", b, a)
	case p.Bits() == 0:
		return fmt.Errorf("vip %.80q: the whole Internet, expected a length of 1 at least", b)
	}
	*v = VIP{name, a, p.Masked()}
	return nil
}

// CheckName tells why a VIP cannot be called so, or nil.
func CheckName(name string) error {
	if name == "" || len(name) > 63 {
		return fmt.Errorf("its name has %d octets, expected 1 to 63", len(name))
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' || name[0] == '.' {
			return errors.New("its name has to be of lower case letters, digits, - _ and . (not as the first)")
		}
	}
	return nil
}

// PeerState is how a session with a router is.
type PeerState struct {
	Peer        string `json:"peer"`
	Established bool   `json:"established"`
	State       string `json:"state"`         // of RFC 4271 §8.2.2, lower case
	Why         string `json:"why,omitempty"` // it is not established, and what to do
}
