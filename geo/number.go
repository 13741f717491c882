package geo

import (
	"math/bits"
	"net/netip"

	"github.com/zonecast/zonecast/internal/addrbits"
)

// number is an address: prefixes of IPv4 and IPv6 are the same to it.
type number = addrbits.Number

func numberOf(a netip.Addr) number { return addrbits.Of(a) }

// before is the last address of a family below n, which is not the first.
func before(n number, family int) number {
	if family == 4 {
		return number{Hi: n.Hi - 1<<32}
	}
	lo, borrow := bits.Sub64(n.Lo, 1, 0)
	return number{Hi: n.Hi - borrow, Lo: lo}
}
