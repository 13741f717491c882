package claimtree_test

import (
	"testing"

	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/record"
)

// The same claims in another order are no change: nobody is told that a frozen source has one.
func TestSame(t *testing.T) {
	claim := func(owner, address string) record.Claim {
		n, err := record.ParseName(owner)
		if err != nil {
			t.Fatal(err)
		}
		return record.Claim{RRset: record.NewRRset(n, record.TypeA, 300, record.Rdata(address)), Source: "rule/web"}
	}
	a, b := claim("a.example.net.", "\xc0\x00\x02\x01"), claim("b.example.net.", "\xc0\x00\x02\x01")
	other, fallback := claim("b.example.net.", "\xc0\x00\x02\x02"), b
	fallback.Fallback = true
	for _, c := range []struct {
		x, y []record.Claim
		want bool
	}{
		{nil, nil, true},
		{[]record.Claim{a, b}, []record.Claim{a, b}, true},
		{[]record.Claim{a, b}, []record.Claim{b, a}, true},
		{[]record.Claim{b, fallback, a}, []record.Claim{a, fallback, b}, true},
		{[]record.Claim{a, b}, []record.Claim{a}, false},
		{[]record.Claim{a, b}, []record.Claim{other, a}, false},
		{[]record.Claim{a, b}, []record.Claim{fallback, a}, false},
		{[]record.Claim{a, a, b}, []record.Claim{a, b, b}, false},
	} {
		if got := claimtree.Same(c.x, c.y); got != c.want {
			t.Errorf("%v and %v: %v, expected %v", c.x, c.y, got, c.want)
		}
	}
}
