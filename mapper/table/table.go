package table

import (
	"fmt"
	"math"
	"net/netip"
	"strings"

	"github.com/zonecast/zonecast/mapper/assign"
)

// Bounds of a table: our own choice.
const (
	// MaxPrefixes is how many prefixes there may be: 2^23, as many as a map has entries.
	MaxPrefixes = 1 << 23
	// MaxCells bounds prefixes × PoPs, of 4 octets each: 4 GiB.
	MaxCells = 1 << 30
	// MaxName is how many octets a PoP's name may have: a label (RFC 1035 §2.3.4).
	MaxName = 63
	// MaxAmount bounds a demand or a capacity.
	MaxAmount = 1e15
)

// Missing is the round-trip time that was not measured.
const Missing = -1

// PoP is a point of presence.
type PoP struct {
	Name                string
	Latitude, Longitude float64 // degrees north and east
	// Located tells that latitude and longitude are known.
	Located bool
	// Capacity is how much demand it can serve, in the unit of the demand. Zero: none.
	Capacity float64
	// Drained PoPs get nothing.
	Drained bool
}

// Check tells what is wrong with a PoP.
func (p PoP) Check() error {
	switch {
	case p.Name == "" || len(p.Name) > MaxName || strings.ContainsFunc(p.Name, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`,/"`, r) }):
		return fmt.Errorf("name is %.80q, expected 1 to %d printable ASCII characters without space, comma, slash and quotation mark", p.Name, MaxName)
	case !(p.Latitude >= -90 && p.Latitude <= 90):
		return fmt.Errorf("%s: latitude is %v, expected -90 to 90 degrees", p.Name, p.Latitude)
	case !(p.Longitude >= -180 && p.Longitude <= 180):
		return fmt.Errorf("%s: longitude is %v, expected -180 to 180 degrees", p.Name, p.Longitude)
	case !(p.Capacity >= 0 && p.Capacity <= MaxAmount):
		return fmt.Errorf("%s: capacity is %v, expected 0 to %g", p.Name, p.Capacity, float64(MaxAmount))
	}
	return nil
}

// Open tells that demand may be sent to the PoP.
func (p PoP) Open() bool { return !p.Drained && p.Capacity > 0 }

// CheckPoPs tells what is wrong with all of them together.
func CheckPoPs(pops []PoP) error {
	if len(pops) == 0 || len(pops) > assign.MaxPoPs {
		return fmt.Errorf("%d PoPs, expected 1 to %d", len(pops), assign.MaxPoPs)
	}
	seen := map[string]int{}
	for i, p := range pops {
		if err := p.Check(); err != nil {
			return fmt.Errorf("PoP %d: %w", i+1, err)
		}
		if first, ok := seen[p.Name]; ok {
			return fmt.Errorf("PoP %d: %s is PoP %d already, expected each name once", i+1, p.Name, first+1)
		}
		seen[p.Name] = i
	}
	return nil
}

// Table is PoPs, prefixes and what was measured between them.
type Table struct {
	PoPs []PoP
	// Prefixes are those of the demand, in its order, and then those that were measured only,
	// in the order of addresses. They may be within one another.
	Prefixes []netip.Prefix
	// Demand is that of each prefix, without what longer prefixes in it have.
	Demand []float64
	// RTT has a row for each prefix with a column for each PoP, in microseconds; or Missing.
	RTT []int32
}

// Row is what was measured from prefix i.
func (t *Table) Row(i int) []int32 {
	m := len(t.PoPs)
	return t.RTT[i*m : (i+1)*m : (i+1)*m]
}

// ParsePrefix reads a prefix as people write it: a single address is one of full length,
// and IPv4-mapped ones are IPv4.
func ParsePrefix(text string) (netip.Prefix, error) {
	wrong := func(why string) (netip.Prefix, error) {
		return netip.Prefix{}, fmt.Errorf("prefix is %.80q, %s", text, why)
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		a, err2 := netip.ParseAddr(text)
		if err2 != nil || a.Zone() != "" {
			return wrong("expected one such as 192.0.2.0/24 or 2001:db8::/32")
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return wrong("which is around all IPv4-mapped addresses and more, expected an IPv4 prefix such as 192.0.2.0/24")
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return wrong(fmt.Sprintf("with bits behind its length, expected %s", p.Masked()))
	}
	return p, nil
}

// parseRTT reads milliseconds as microseconds.
func parseRTT(text []byte) (int32, error) {
	v, ok := parseDecimal(text)
	if !ok || v*1000 > assign.MaxRTT {
		return 0, fmt.Errorf("milliseconds is %.80q, expected 0 to %d", text, assign.MaxRTT/1000)
	}
	return int32(math.Round(v * 1000)), nil
}

// parseAmount reads a demand.
func parseAmount(text []byte) (float64, error) {
	v, ok := parseDecimal(text)
	if !ok || v > MaxAmount {
		return 0, fmt.Errorf("weight is %.80q, expected 0 to %g", text, float64(MaxAmount))
	}
	return v, nil
}
