package freshness

import (
	"strings"
	"testing"

	"github.com/zonecast/zonecast/record"
)

func TestParse(t *testing.T) {
	txt := func(s string) record.Rdata { return record.Rdata(append([]byte{byte(len(s))}, s...)) }
	s, err := Parse(txt("v=41 t=1790000000123 d=3f9a01bc22334455 x=later"))
	if err != nil || s.Version != 41 || s.Time.UnixMilli() != 1790000000123 || s.Digest != "3f9a01bc22334455" {
		t.Errorf("got %+v, %v", s, err)
	}
	for _, bad := range []record.Rdata{"", "\x05abc", txt(""), txt("v=1"), txt("t=x"), txt("v=-1 t=1")} {
		if s, err := Parse(bad); err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", bad, s)
		}
	}
}

func TestName(t *testing.T) {
	zone, err := record.ParseName("zonecast.internal.")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := Name(zone, "external"); err != nil || n.String() != "_fresh.external.zonecast.internal." {
		t.Errorf("%s, %v", n, err)
	}
	if _, err := Name(zone, strings.Repeat("a", 64)); err == nil {
		t.Error("a label of 64 octets passes")
	}
}
