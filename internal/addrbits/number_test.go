package addrbits

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// TestNumber holds numbers against what netip says of the same addresses.
func TestNumber(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.SampledFrom([]int{32, 128}).Draw(t, "width")
		draw := func(name string) netip.Addr {
			// Few values, so that addresses have much in common.
			b := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0x80, 0xff}), width/8, width/8).Draw(t, name)
			a, _ := netip.AddrFromSlice(b)
			return a
		}
		a, b := draw("a"), draw("b")
		length := rapid.IntRange(0, width).Draw(t, "length")
		n, m, p := Of(a), Of(b), netip.PrefixFrom(a, length).Masked()
		if n.Addr(width) != a {
			t.Fatalf("%v comes back as %v", a, n.Addr(width))
		}
		if n.Less(m) != a.Less(b) {
			t.Fatalf("%v and %v are in another order", a, b)
		}
		if n.Mask(length) != Of(p.Addr()) {
			t.Fatalf("%v of %d bits is %v", a, length, n.Mask(length).Addr(width))
		}
		if (min(n.Common(m), width) >= length) != p.Contains(b) {
			t.Fatalf("%v and %v have %d bits in common", a, b, n.Common(m))
		}
		last := n.Mask(length)
		for i := length; i < width; i++ {
			last = last.Bit(i)
		}
		next := last.Addr(width).Next()
		end, over := n.Mask(length).After(length)
		if over != !next.IsValid() || !over && end != Of(next) {
			t.Fatalf("behind %v comes %v (%v), expected %v", p, end.Addr(width), over, next)
		}
	})
}
