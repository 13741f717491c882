package rules

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/record"
)

const (
	inAddrArpa record.Name = "\x07in-addr\x04arpa\x00" // RFC 1035 §3.5
	ip6Arpa    record.Name = "\x03ip6\x04arpa\x00"     // RFC 3596 §2.5
)

// ReverseName is the owner of an address's PTR. a is IPv4 or IPv6 without a zone,
// as fleet.CheckAddress keeps them.
func ReverseName(a netip.Addr) record.Name { return reverse(a, a.BitLen()) }

// ReverseZone is the zone that rules make for an address's PTR when nobody else
// has one: all of a private IPv4 block of RFC 1918 that its holder delegates as a
// whole (10/8, 192.168/16, and each /16 of 172.16/12, since in-addr.arpa has no
// /12), else the /24 for IPv4 and the /48 for IPv6: the smallest blocks that are
// routed and delegated on their own (RFC 6177, RFC 4193 §3.1).
func ReverseZone(a netip.Addr) record.Name {
	bits := 48
	if a.Is4() {
		switch b := a.As4(); {
		case b[0] == 10:
			bits = 8
		case b[0] == 192 && b[1] == 168, b[0] == 172 && b[1]&0xf0 == 16:
			bits = 16
		default:
			bits = 24
		}
	}
	return reverse(a, bits)
}

// reverse is the reverse name of the first bits of an address, a multiple of 8
// for IPv4 and of 4 for IPv6.
func reverse(a netip.Addr, bits int) record.Name {
	var n []byte
	b := a.AsSlice()
	if a.Is4() {
		for _, v := range slices.Backward(b[:bits/8]) {
			text := strconv.Itoa(int(v))
			n = append(append(n, byte(len(text))), text...)
		}
		return record.Name(n) + inAddrArpa
	}
	const hex = "0123456789abcdef"
	for i := bits/4 - 1; i >= 0; i-- {
		v := b[i/2] >> 4
		if i%2 == 1 {
			v = b[i/2] & 0xf
		}
		n = append(n, 1, hex[v])
	}
	return record.Name(n) + ip6Arpa
}

// Numbers of the SOA of zones made here, in seconds (RFC 1035 §3.3.13).
const (
	zoneSerial  = 1       // what is answered is this plus the version of the zone's last change
	zoneRefresh = 900     // a secondary that missed a NOTIFY is right again within a quarter of an hour
	zoneRetry   = 300     // three tries in a refresh
	zoneExpire  = 1209600 // two weeks, RFC 1912 §2.2: longer than any repair
	zoneMinimum = 60      // negative answers (RFC 2308 §4): a new server is found a minute after it was asked for in vain
	zoneTTL     = 3600    // of SOA and NS themselves; a zone's name server changes seldom
)

// Zone gives the claims that make a zone hold where nobody else claims one: SOA
// and NS, both Fallback. The name server need not have an address: these zones
// are asked for directly, not found by delegation.
func (p Params) Zone(apex record.Name, source record.Source, place string) []record.Claim {
	soa := []byte(p.NS + p.Mailbox)
	for _, v := range []uint32{zoneSerial, zoneRefresh, zoneRetry, zoneExpire, zoneMinimum} {
		soa = binary.BigEndian.AppendUint32(soa, v)
	}
	return []record.Claim{
		{RRset: record.NewRRset(apex, record.TypeNS, zoneTTL, record.Rdata(p.NS)), Source: source, Place: place, Fallback: true},
		{RRset: record.NewRRset(apex, record.TypeSOA, zoneTTL, record.Rdata(soa)), Source: source, Place: place, Fallback: true},
	}
}

// reverseZone claims the zones that PTRs lie in; a shard is a zone. Its claims say
// nothing of the members, so that a zone is not written again for each of them.
type reverseZone struct{ params Params }

func (reverseZone) Source() record.Source { return "rule/reverse-zone" }

func (reverseZone) Shards(s fleet.Server) ([]string, error) {
	var shards []string
	for _, a := range s.Addresses {
		if z := shardOf(ReverseZone(a)); !slices.Contains(shards, z) {
			shards = append(shards, z)
		}
	}
	return shards, nil
}

func (r reverseZone) Claims(shard string, _ func() []fleet.Server) ([]record.Claim, error) {
	apex, err := record.ParseName(shard)
	if err != nil {
		return nil, fmt.Errorf("reverse zone: %w", err)
	}
	return r.params.Zone(apex, r.Source(), "addresses of servers"), nil
}

// shardOf is a name as a shard: without the final dot.
func shardOf(n record.Name) string { return strings.TrimSuffix(n.String(), ".") }
