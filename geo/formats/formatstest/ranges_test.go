package formatstest

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// TestRanges compares ranges with a look through all prefixes.
func TestRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []Said
		seen := map[netip.Prefix]bool{}
		for range rapid.IntRange(0, 12).Draw(t, "prefixes") {
			last := byte(rapid.IntRange(0, 255).Draw(t, "last"))
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{255, 255, 255, last}), rapid.IntRange(23, 32).Draw(t, "bits")).Masked()
			if rapid.Bool().Draw(t, "six") {
				p = netip.PrefixFrom(netip.AddrFrom16([16]byte{15: last}), 96+p.Bits()).Masked()
			}
			if !seen[p] {
				seen[p] = true
				all = append(all, Said{p, rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "value")})
			}
		}
		at := func(a netip.Addr) string {
			best := Said{}
			for _, s := range all {
				if s.Prefix.Contains(a) && (!best.Prefix.IsValid() || s.Prefix.Bits() > best.Prefix.Bits()) {
					best = s
				}
			}
			return best.Value
		}
		r := NewRanges(all)
		for _, base := range []netip.Addr{netip.AddrFrom4([4]byte{255, 255, 255, 0}), netip.IPv6Unspecified()} {
			a := base
			for i := range 256 {
				if i%16 > 1 && i%16 < 15 { // prefixes begin and end near there
					a = a.Next()
					continue
				}
				if got, want := r.At(a), at(a); got != want {
					t.Fatalf("%s: %q, want %q of %v", a, got, want, all)
				}
				for bits := a.BitLen() - 8; bits <= a.BitLen(); bits++ {
					p := netip.PrefixFrom(a, bits).Masked()
					want := true
					for b := p.Addr(); b.IsValid() && p.Contains(b); b = b.Next() {
						want = want && at(b) == at(a)
					}
					if _, got := r.In(p); got != want {
						t.Fatalf("%s: uniform is %v, want %v of %v", p, got, want, all)
					}
				}
				a = a.Next()
			}
		}
	})
}
