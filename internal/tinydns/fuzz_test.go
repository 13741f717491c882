package tinydns_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
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

// FuzzReadCDB makes a cdb of records, as far as they are any: its tables are right when
// none are given, else those given are the first one, and head changes the header. A
// whole cdb has 2 KiB of header, which a fuzzer spends its time on making smaller.
func FuzzReadCDB(f *testing.F) {
	for _, line := range []string{
		"+a:192.0.2.1\n", "+*.a:192.0.2.1:0:400000005\n", "%aa:192.0.2\n+a:192.0.2.1:60::aa\n", "Za:b:c\n", "'a:x\n@a::b:1\n", ":a:65400:\\001\n",
	} {
		d, err := tinydns.ParseText(strings.NewReader(line), "data", changed)
		if err != nil {
			f.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := tinydns.WriteCDB(&b, slices.Values(d.Sets), &d.Atlas); err != nil {
			f.Fatal(err)
		}
		end := binary.LittleEndian.Uint32(b.Bytes())
		records := b.Bytes()[cdbHeader:end]
		if !bytes.Equal(makeCDB(nil, records, nil), b.Bytes()) {
			f.Fatalf("the cdb of %q is made in another way than by WriteCDB", line)
		}
		f.Add([]byte{}, records, []byte{})
		f.Add([]byte{0, 0, 0, 0, 1}, records, b.Bytes()[end:])
	}
	f.Fuzz(func(t *testing.T, head, records, tables []byte) {
		cdb := makeCDB(head, records, tables)
		if d, err := tinydns.ReadCDB(bytes.NewReader(cdb), int64(len(cdb))); err == nil {
			checkData(t, d)
		}
	})
}

const cdbHeader = 2048

func makeCDB(head, records, tables []byte) []byte {
	le := binary.LittleEndian
	end := uint32(cdbHeader + len(records))
	slots := [256][]byte{tables} // each u32 hash, u32 place
	if len(tables) == 0 {
		var pairs [256][][2]uint32
		for at := 0; len(records)-at >= 8; {
			key, data := le.Uint32(records[at:]), le.Uint32(records[at+4:])
			if uint64(key)+uint64(data) > uint64(len(records)-at-8) {
				break
			}
			h := uint32(5381)
			for _, c := range records[at+8:][:key] {
				h = h<<5 + h ^ uint32(c)
			}
			pairs[h%256] = append(pairs[h%256], [2]uint32{h, uint32(cdbHeader + at)})
			at += 8 + int(key) + int(data)
		}
		for i, all := range pairs {
			n := uint32(2 * len(all))
			slots[i] = make([]byte, 8*n)
			for _, p := range all {
				k := p[0] >> 8 % n
				for le.Uint32(slots[i][8*k+4:]) != 0 {
					k = (k + 1) % n
				}
				le.PutUint32(slots[i][8*k:], p[0])
				le.PutUint32(slots[i][8*k+4:], p[1])
			}
		}
	}
	cdb := make([]byte, cdbHeader, int(end)+len(tables))
	cdb = append(cdb, records...)
	for i, s := range slots {
		le.PutUint32(cdb[8*i:], uint32(len(cdb)))
		le.PutUint32(cdb[8*i+4:], uint32(len(s)/8))
		cdb = append(cdb, s...)
	}
	for i := range min(len(head), cdbHeader) {
		cdb[i] ^= head[i]
	}
	return cdb
}
