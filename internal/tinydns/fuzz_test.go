package tinydns_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/internal/tinydns"
	"github.com/zonecast/zonecast/internal/tinydns/tinytest"
	"github.com/zonecast/zonecast/record"
)

type set = record.Set

// FuzzParseText: what is read holds the invariant, and what is written of it reads as
// the same.
func FuzzParseText(f *testing.F) {
	f.Add(tinytest.Generate(1, 50))
	f.Add([]byte("+*.a:1.2.3.4:0:400000005\n=\\052.b:1.2.3.4::40:x\r\n'c:\\\n%:1.2.3\n.:1.2.3.4::0:4"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := tinydns.ParseText(bytes.NewReader(text), "data", changed)
		if err != nil {
			return
		}
		checkData(t, d)
		var b bytes.Buffer
		report, err := tinydns.WriteText(&b, slices.Values(d.Sets), &d.Atlas)
		if err != nil {
			t.Fatal(err)
		}
		if len(report.Problems) > 0 {
			return // RDATA too large, a location with a colon
		}
		again, err := tinydns.ParseText(&b, "again", changed)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d.Sets, again.Sets); diff != "" {
			t.Errorf("(-first +again)\n%s", diff)
		}
	})
}

func FuzzParseRocks(f *testing.F) {
	for _, line := range []string{
		"+*.a,2001:db8::1,60,,lo,5\n+a,192.0.2.1,60,,\\000\\047,0\n", "%lo,2001:db8::/33,m1\nM*.a,m1\n8a,m1\n",
		"!m1,0.0.0.0,0,aa\n!m1,192.0.2.0,24,bb\n!m1,2001:db8::\n!m1,::,1,cc", "Ha,b,,,1,alpn=h2|h3;port=443;mandatory=alpn;ipv6hint=2001:db8::1\n", "Sa:192.0.2.1:x:80:1:2\n",
		"Zexample.net,a,b\n.example.net,192.0.2.1,a\n&a.b,,c\n@a,::1,b,1\nCa,b\n^a,b\n'a,\\x41\n:a,65400,\\001\nP\n",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if d, err := tinydns.ParseRocks(bytes.NewReader(text), "rocks", changed); err == nil {
			checkData(t, d)
		}
	})
}

func FuzzReadCDB(f *testing.F) {
	for n := range 3 {
		d, err := tinydns.ParseText(bytes.NewReader(tinytest.Generate(1, n)), "data", changed)
		if err != nil {
			f.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := tinydns.WriteCDB(&b, slices.Values(d.Sets), &d.Atlas); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, cdb []byte) {
		if d, err := tinydns.ReadCDB(bytes.NewReader(cdb), int64(len(cdb))); err == nil {
			checkData(t, d)
		}
	})
}
