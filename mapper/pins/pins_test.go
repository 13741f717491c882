package pins

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/zonecast/zonecast/mapper/fill"
	"github.com/zonecast/zonecast/mapper/table"
)

// Any octets are pins or an error with the file's name, and pins name PoPs that there are.
func FuzzPins(f *testing.F) {
	f.Add("match,pop\n192.0.2.0/24,esams\nAS64500,eqiad\nNL,esams\n")
	f.Add("# none\n\"2001:db8::/32\",\"esams\"\n::ffff:192.0.2.1,eqiad")
	f.Add("AS4294967296,a")
	f.Add("\"")
	pops := []table.PoP{{Name: "esams"}, {Name: "eqiad"}}
	prefixes := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/48")}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(strings.NewReader(text), "pins.csv")
		if err != nil {
			if !strings.HasPrefix(err.Error(), "pins.csv:") {
				t.Fatal(err)
			}
			return
		}
		of, _ := p.Of(prefixes, []fill.Place{{AS: 64500}, {Country: [2]byte{'N', 'L'}}}, pops)
		for _, j := range of {
			if j < -1 || int(j) >= len(pops) {
				t.Fatalf("pinned to %d", j)
			}
		}
	})
}
