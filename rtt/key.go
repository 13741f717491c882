package rtt

import (
	"cmp"
	"fmt"
	"net/netip"
)

// Kind is who is measured.
type Kind uint8

// The values are those of the encoding.
const (
	// Client is a prefix of clients: as authorities see them by client subnet (ECS).
	Client Kind = 1
	// Resolver is a prefix of resolvers, measured by the clients that ask through them
	// without a client subnet.
	Resolver Kind = 2
)

// String is the kind for people.
func (k Kind) String() string {
	switch k {
	case Client:
		return "client"
	case Resolver:
		return "resolver"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Prefix lengths beyond which no address of a user is kept.
const (
	MaxBits4 = 24
	MaxBits6 = 48
)

// Key is who is measured.
type Key struct {
	Kind   Kind
	Prefix netip.Prefix // canonical: no bits behind its length, IPv4 as such
}

// Of is the key of an address or of a prefix of p.Bits(): mapped IPv4 is IPv4, and no more
// than MaxBits4 or MaxBits6 are kept. ok is false for what is no address.
func Of(kind Kind, p netip.Prefix) (key Key, ok bool) {
	a, bits := p.Addr().WithZone(""), p.Bits()
	if a.Is4In6() {
		a, bits = a.Unmap(), max(bits-96, 0)
	}
	most := MaxBits6
	if a.Is4() {
		most = MaxBits4
	}
	q, err := a.Prefix(min(bits, most))
	return Key{kind, q}, err == nil && p.IsValid()
}

// OfAddr is the key of one address.
func OfAddr(kind Kind, a netip.Addr) (key Key, ok bool) {
	if !a.IsValid() {
		return Key{}, false
	}
	a = a.WithZone("") // a prefix has none
	return Of(kind, netip.PrefixFrom(a, a.BitLen()))
}

// Check tells what is wrong with a key.
func (k Key) Check() error {
	switch p := k.Prefix; {
	case k.Kind != Client && k.Kind != Resolver:
		return fmt.Errorf("%v of %v, expected client (1) or resolver (2)", k.Kind, p)
	case !p.IsValid() || p != p.Masked() || p.Addr().Is4In6():
		return fmt.Errorf("%v is no prefix without bits behind its length, expected for example 192.0.2.0/24", p)
	}
	return nil
}

// compare orders keys: by kind, IPv4 first, by address, the larger prefix first.
func (k Key) compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Kind, o.Kind), cmp.Compare(k.Prefix.Addr().BitLen(), o.Prefix.Addr().BitLen()),
		k.Prefix.Addr().Compare(o.Prefix.Addr()), cmp.Compare(k.Prefix.Bits(), o.Prefix.Bits()))
}
