package cookie

import (
	"encoding/binary"
	"net/netip"

	"github.com/dchest/siphash"
)

// Sizes in octets.
const (
	ClientSize = 8  // RFC 7873 §4.1
	ServerSize = 16 // RFC 9018 §4
	// Of a server cookie of whatever construction (RFC 7873 §4.2).
	minServer = 8
	maxServer = 32
)

// Times in seconds (RFC 9018 §4.3).
const (
	lifetime = 3600 // a cookie is not accepted when it is older
	renewal  = 1800 // and is replaced when it is older than half of that
	ahead    = 300  // by how much the clocks of a fleet may differ
)

const version = 1 // RFC 9018 §4.1

// Server is the server's part of a COOKIE option:
//
//	 0       1               4           8                      16
//	+---------+---------------+-----------+-----------------------+
//	| version |   reserved    | timestamp |         hash          |
//	|    1    |    0  0  0    | seconds,  |  SipHash-2-4, lowest  |
//	|         |               | big end.  |     octet first       |
//	+---------+---------------+-----------+-----------------------+
//
// The hash is over the client cookie, the first 8 octets of this, and the client's
// address of 4 or 16 octets.
type Server [ServerSize]byte

// Verdict is what a COOKIE option is worth.
type Verdict uint8

// The verdicts. Only Good and Renew tell that the client is at its address.
const (
	// None is that of a query without the option: Check never gives it.
	None Verdict = iota
	// ClientOnly asks for a server cookie.
	ClientOnly
	Good
	// Renew is Good, and a new cookie is due: it is older than half an hour, or made
	// with a secret that is not the active one.
	Renew
	// Bad was made by another server, for another client, or by a forger.
	Bad
	// Expired is ours and older than an hour.
	Expired
	// Future is ours and made more than five minutes from now: clocks of the fleet
	// disagree.
	Future
	// Malformed has a length that no cookie has: FORMERR (RFC 7873 §5.2.2).
	Malformed
	Verdicts
)

// String is the verdict's name in metrics.
func (v Verdict) String() string {
	return [...]string{"none", "client-only", "good", "renew", "bad", "expired", "future", "malformed"}[v]
}

// Valid tells whether the client has proved its address.
func (v Verdict) Valid() bool { return v == Good || v == Renew }

// Make gives the server cookie for a client. now is in seconds since 1970, modulo
// 2^32.
func (s *Secrets) Make(client [ClientSize]byte, addr netip.Addr, now uint32) Server {
	var c Server
	c[0] = version
	binary.BigEndian.PutUint32(c[4:], now)
	binary.LittleEndian.PutUint64(c[8:], s.accepted[0].mac(client[:], c[:8], addr))
	return c
}

// Check judges the value of a COOKIE option. now is as for Make.
func (s *Secrets) Check(option []byte, addr netip.Addr, now uint32) Verdict {
	switch n := len(option); {
	case n == ClientSize:
		return ClientOnly
	case n < ClientSize+minServer || n > ClientSize+maxServer:
		return Malformed
	case n != ClientSize+ServerSize || option[ClientSize] != version:
		return Bad // well formed, and none of ours
	}
	client, server := option[:ClientSize], option[ClientSize:]
	want := binary.LittleEndian.Uint64(server[8:])
	for i := range s.accepted[:s.count] {
		if s.accepted[i].mac(client, server[:8], addr) == want {
			return age(now-binary.BigEndian.Uint32(server[4:]), i == 0)
		}
	}
	return Bad
}

// age judges a cookie that is ours by how old it is, in the serial arithmetic of
// RFC 1982: the clock may wrap.
func age(old uint32, active bool) Verdict {
	switch d := int32(old); {
	case d > lifetime:
		return Expired
	case d < -ahead:
		return Future
	case d > renewal || !active:
		return Renew
	}
	return Good
}

// mac hashes what a cookie vouches for; head is its first 8 octets as they are, the
// reserved ones too.
func (s *key) mac(client, head []byte, addr netip.Addr) uint64 {
	var b [32]byte
	copy(b[:8], client)
	copy(b[8:16], head)
	addr = addr.Unmap()
	if addr.Is4() {
		a := addr.As4()
		copy(b[16:], a[:])
		return siphash.Hash(s.k0, s.k1, b[:20])
	}
	a := addr.As16()
	copy(b[16:], a[:])
	return siphash.Hash(s.k0, s.k1, b[:])
}
