package ortc

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

func entries(text string) []geo.Entry {
	var out []geo.Entry
	for line := range strings.FieldsSeq(text) {
		p, l, _ := strings.Cut(line, "=")
		out = append(out, geo.Entry{Prefix: netip.MustParsePrefix(p), Location: record.Location(l)})
	}
	return out
}

func text(all []geo.Entry) string {
	var out []string
	for _, e := range all {
		out = append(out, e.Prefix.String()+"="+string(e.Location))
	}
	return strings.Join(out, " ")
}

func TestOver(t *testing.T) {
	for _, c := range []struct{ name, base, over, want string }{
		{"nothing", "", "", ""},
		{"halves", "", "0.0.0.0/1=a 128.0.0.0/1=a", "0.0.0.0/0=a"},
		{"the example of the paper", "", "128.0.0.0/2=a 192.0.0.0/2=b 0.0.0.0/1=b", "0.0.0.0/0=b 128.0.0.0/2=a"},
		{"what is inside already", "", "192.0.2.0/24=a 192.0.2.0/25=a 192.0.2.7/32=b", "192.0.2.0/24=a 192.0.2.7/32=b"},
		{"none inside", "", "192.0.2.0/24=a 192.0.2.128/25=", "192.0.2.0/25=a"},
		{"none is cheaper to cut out", "", "192.0.2.0/25=a 192.0.2.128/26=a 192.0.2.192/27=a", "192.0.2.0/24=a 192.0.2.224/27="},
		{"over wins on all its area", "192.0.2.0/26=a 192.0.2.7/32=c ::/0=a", "192.0.2.0/24=b", "192.0.2.0/24=b ::/0=a"},
		{"base around over", "0.0.0.0/0=a", "192.0.2.0/24=b 192.0.2.128/25=a", "0.0.0.0/0=a 192.0.2.0/25=b"},
		{"over says none", "0.0.0.0/0=a", "192.0.2.0/24=", "0.0.0.0/0=a 192.0.2.0/24="},
		{"twice the same", "", "192.0.2.0/24=a 192.0.2.0/24=a", "192.0.2.0/24=a"},
		{"last address", "", "255.255.255.255/32=a ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128=b", "255.255.255.255/32=a ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128=b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Over(entries(c.base), entries(c.over))
			if err != nil {
				t.Fatal(err)
			}
			if text(got) != c.want {
				t.Errorf("got  %s\nwant %s", text(got), c.want)
			}
		})
	}
}

func TestMoved(t *testing.T) {
	for _, c := range []struct {
		before, after string
		v4, v6        float64
	}{
		{"", "", 0, 0},
		{"0.0.0.0/0=a ::/0=a", "0.0.0.0/0=b ::/0=a", 1, 0},
		{"0.0.0.0/0=a", "0.0.0.0/0=a 128.0.0.0/2=b", 0.25, 0},
		{"0.0.0.0/0=a 255.255.255.255/32=b", "0.0.0.0/0=a", 0x1p-32, 0},
		{"2000::/4=a 1000::/4=b", "2000::/4=c", 0, 0.5},
		{"10.0.0.0/8=a 10.0.0.0/9=b", "10.0.0.0/8=a 10.128.0.0/9=b", 1. / 256, 0},
		{"0.0.0.0/1=", "", 0, 0},
	} {
		v4, v6, err := Moved(entries(c.before), entries(c.after))
		if err != nil || math.Abs(v4-c.v4) > 1e-9*max(c.v4, 0x1p-32) || math.Abs(v6-c.v6) > 1e-9 {
			t.Errorf("%q to %q: %g of IPv4, %g of IPv6, %v, expected %g and %g", c.before, c.after, v4, v6, err, c.v4, c.v6)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		entry geo.Entry
		want  string
	}{
		{geo.Entry{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Location: "b"}, `192.0.2.0/24 is there twice, with locations "a" and "b"`},
		{geo.Entry{Prefix: netip.MustParsePrefix("192.0.2.1/24"), Location: "a"}, "192.0.2.1/24 is no prefix without bits behind its length"},
		{geo.Entry{Prefix: netip.MustParsePrefix("::ffff:192.0.2.0/120"), Location: "a"}, "is no prefix"},
		{geo.Entry{}, "is no prefix"},
	} {
		_, err := Aggregate(append(entries("192.0.2.0/24=a"), c.entry))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, expected %q", c.entry.Prefix, err, c.want)
		}
	}
}

// where is what the longest prefix says of an address.
func where(all []geo.Entry, a netip.Addr) (record.Location, bool) {
	best, found := geo.Entry{}, false
	for _, e := range all {
		if e.Prefix.Contains(a) && (!found || e.Prefix.Bits() > best.Prefix.Bits()) {
			best, found = e, true
		}
	}
	return best.Location, found
}

// TestEveryAddress draws two layers within the last bits of an address space and
// compares every address; and with the fewest prefixes that any search finds.
func TestEveryAddress(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := netip.MustParseAddr(rapid.SampledFrom([]string{"192.0.2.0", "0.0.0.0", "255.255.255.240", "2001:db8::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0"}).Draw(t, "base"))
		const free = 4
		at := func(i int) netip.Addr {
			b := base.AsSlice()
			b[len(b)-1] |= byte(i)
			a, _ := netip.AddrFromSlice(b)
			return a
		}
		layer := func(label string) (out []geo.Entry) {
			seen := map[netip.Prefix]bool{}
			for range rapid.IntRange(0, 10).Draw(t, label) {
				p := netip.PrefixFrom(at(rapid.IntRange(0, 1<<free-1).Draw(t, "at")), base.BitLen()-rapid.IntRange(0, free).Draw(t, "bits")).Masked()
				if !seen[p] {
					seen[p] = true
					out = append(out, geo.Entry{Prefix: p, Location: record.Location(rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "location"))})
				}
			}
			return out
		}
		under, over := layer("base"), layer("over")
		got, err := Over(under, over)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]record.Location, 1<<free)
		for i := range want {
			l, ok := where(over, at(i))
			if !ok {
				l, _ = where(under, at(i))
			}
			want[i] = l
			if have, _ := where(got, at(i)); have != l {
				t.Fatalf("%s is at %q, expected %q: %s", at(i), have, l, text(got))
			}
		}
		if best := cost(want, ""); len(got) > best {
			t.Fatalf("%d entries where %d do: %s", len(got), best, text(got))
		}
		again, err := Aggregate(got)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(text(got), text(again)); d != "" {
			t.Fatalf("made again: %s", d)
		}
	})
}

// cost is how many prefixes a block needs below one that says around, by trying all.
func cost(block []record.Location, around record.Location) int {
	return min(below(block, around), 1+min(below(block, ""), below(block, "a"), below(block, "b"), below(block, "c")))
}

// below is cost without a prefix of the block's own.
func below(block []record.Location, around record.Location) int {
	if len(block) == 1 {
		if block[0] == around {
			return 0
		}
		return 1 << 20 // only a prefix of its own says so
	}
	half := len(block) / 2
	return cost(block[:half], around) + cost(block[half:], around)
}

func BenchmarkAggregate(b *testing.B) {
	const n = 1 << 20
	r := rand.New(rand.NewPCG(1, 2))
	all := make([]geo.Entry, n)
	for i := range all {
		a := netip.AddrFrom4([4]byte{byte(i >> 12), byte(i >> 4), byte(i << 4), 0})
		all[i] = geo.Entry{Prefix: netip.PrefixFrom(a, 20), Location: record.Location("p" + string('a'+rune(r.IntN(14))))}
	}
	for b.Loop() {
		out, err := Aggregate(all)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(out)), "entries")
	}
}
