package tinydns_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/internal/tinydns"
	"github.com/zonecast/zonecast/internal/tinydns/tinytest"
)

func writeCDB(t *testing.T, d *tinydns.Data) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := tinydns.WriteCDB(&b, slices.Values(d.Sets), &d.Atlas); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReadWhatIsWritten(t *testing.T) {
	for _, n := range []int{0, 1, 500} {
		d := parseText(t, tinytest.Generate(uint64(n), n))
		cdb := writeCDB(t, d)
		got, err := tinydns.ReadCDB(bytes.NewReader(cdb), int64(len(cdb)))
		if err != nil {
			t.Fatal(err)
		}
		d.Notes, got.Notes = nil, nil
		if diff := cmp.Diff(dump(d), dump(got)); diff != "" {
			t.Errorf("(-text +cdb)\n%s", diff)
		}
	}
	empty := writeCDB(t, &tinydns.Data{})
	if d, err := tinydns.ReadCDB(bytes.NewReader(empty), int64(len(empty))); err != nil || len(d.Sets) != 0 {
		t.Errorf("empty: %v, %v", d, err)
	}
}

// TestDamage: no octet of the header, of lengths or of the tables can change, nor a
// part be missing, without an error; those of keys and data are others' business but
// for keys, which the tables cover.
func TestDamage(t *testing.T) {
	d := parseText(t, []byte("+www.example.net:192.0.2.1\n"))
	cdb := writeCDB(t, d)
	const record = 2048
	for i := range cdb {
		if data := record + 8 + 17; i >= data && i < data+4+15 {
			continue // the record's data
		}
		bad := bytes.Clone(cdb)
		bad[i] ^= 1
		if _, err := tinydns.ReadCDB(bytes.NewReader(bad), int64(len(bad))); err == nil {
			t.Errorf("octet %d changed: no error", i)
		}
	}
	for n := range cdb {
		if _, err := tinydns.ReadCDB(bytes.NewReader(cdb[:n]), int64(n)); err == nil {
			t.Errorf("cut at %d: no error", n)
		}
	}
}

// TestForeignCDB: records that tinydns-data does not make are refused or read, by
// what they are.
func TestForeignCDB(t *testing.T) {
	const start = 2048 + 8
	d := parseText(t, []byte("Cwww.example.net:web.example.com:60\n"))
	for _, tc := range []struct {
		at   int
		with string
		want string
	}{
		{start + 1, "W", "not in lower case"},
		{start, "\x05", "is no name"},
		{start + 17 + 2, "?", "kind '?'"},
		{start + 17 + 3, "\x80", "TTL is 2147483708"},
		{start + 17 + 15, "\x40", "no name in wire form"},
		{start + 17, "\x00\xff", "cannot be data"},
		{start + 17, "\x00\x01", "RDATA of A has 17 octets"},
	} {
		cdb := writeCDB(t, d)
		copy(cdb[tc.at:], tc.with)
		_, err := tinydns.ReadCDB(bytes.NewReader(cdb), int64(len(cdb)))
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "octet 2048") {
			t.Errorf("%q at %d: got %v, expected %q at octet 2048", tc.with, tc.at, err, tc.want)
		}
	}
	// Upper case in RDATA is what the text had.
	cdb := writeCDB(t, d)
	copy(cdb[start+17+15+1:], "WEB")
	got, err := tinydns.ReadCDB(bytes.NewReader(cdb), int64(len(cdb)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d.Sets, got.Sets); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestSecondPassDiffers(t *testing.T) {
	d := parseText(t, []byte("+a.example.net:192.0.2.1\n+b.example.net:192.0.2.1\n"))
	pass := 0
	seq := func(yield func(s set) bool) {
		pass++
		for _, s := range d.Sets[:len(d.Sets)+1-pass] {
			if !yield(s) {
				return
			}
		}
	}
	_, err := tinydns.WriteCDB(&bytes.Buffer{}, seq, nil)
	if err == nil || !strings.Contains(err.Error(), "second pass") {
		t.Errorf("got %v, expected an error of the second pass", err)
	}
}
