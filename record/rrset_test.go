package record_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/record"
)

func TestRRsetRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawRRset(t)
		if err := want.Check(); err != nil {
			t.Fatal(err)
		}
		got, rest, err := record.DecodeRRset(append(want.AppendBinary(nil), "rest"...))
		if err != nil || !got.Equal(want) || string(rest) != "rest" {
			t.Fatalf("%v decodes as %v, %q left, %v", want, got, rest, err)
		}
		k, rest, err := record.DecodeKey(want.Key.AppendBinary(nil))
		if err != nil || k != want.Key || len(rest) != 0 {
			t.Fatalf("key %s decodes as %s, %q left, %v", want.Key, k, rest, err)
		}
	})
}

func TestEqualRRsetsAreEqualBytesInWhateverOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawRRset(t)
		shuffled := rapid.Permutation(append(slices.Clone(a.Data), a.Data[0])).Draw(t, "order")
		b := record.NewRRset(a.Owner, a.Type, a.TTL, shuffled...)
		b.Location = a.Location
		if !a.Equal(b) || !bytes.Equal(a.AppendBinary(nil), b.AppendBinary(nil)) {
			t.Fatalf("%v and %v differ", a, b)
		}
		b.TTL ^= 1
		if a.Equal(b) || !a.SameData(b) {
			t.Fatalf("another TTL: equal %v, same data %v", a.Equal(b), a.SameData(b))
		}
	})
}

func TestKeyOrderIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawRRset(t).Key, drawRRset(t).Key, drawRRset(t).Key
		ab, bc, ac := sign(a.Compare(b)), sign(b.Compare(c)), sign(a.Compare(c))
		if ab != -sign(b.Compare(a)) || (ab == 0) != (a == b) || ab <= 0 && bc <= 0 && ac > 0 {
			t.Fatalf("%s, %s, %s: %d, %d, %d", a, b, c, ab, bc, ac)
		}
		if a.Owner != b.Owner && ab != sign(a.Owner.Compare(b.Owner)) {
			t.Fatalf("%s to %s is %d, against the owners' order", a, b, ab)
		}
	})
}

func TestRRsetRefused(t *testing.T) {
	owner := mustName(t, "example.net.")
	a := record.Rdata("\xc0\x00\x02\x01")
	rr := func(t record.Type, ttl uint32, d ...record.Rdata) record.RRset {
		return record.NewRRset(owner, t, ttl, d...)
	}
	unsorted := rr(record.TypeA, 1, a)
	unsorted.Data = []record.Rdata{"b", "a"}
	double := rr(record.TypeA, 1, a)
	double.Data = []record.Rdata{a, a}
	located := rr(record.TypeA, 1, a)
	located.Location = record.Location(strings.Repeat("x", 256))
	many := make([]record.Rdata, 5000)
	for i := range many {
		many[i] = record.Rdata([]byte{byte(i >> 8), byte(i), 0, 0})
	}
	for want, r := range map[string]record.RRset{
		"owner is missing":                  record.NewRRset("", record.TypeA, 1, a),
		"type ANY is for questions":         rr(record.TypeANY, 1, a),
		"type OPT is for questions":         rr(record.TypeOPT, 1, a),
		"type TYPE0 is for questions":       rr(0, 1, a),
		"TTL is 2147483648":                 rr(record.TypeA, 1<<31, a),
		"no RDATA":                          rr(record.TypeA, 1),
		"RDATA of 65536 octets":             rr(record.TypeTXT, 1, record.Rdata(make([]byte, 65536))),
		"without duplicates":                double,
		"RDATA is not in canonical order":   unsorted,
		"location has 256 octets":           located,
		"has 5000 records and 80000 octets": rr(record.TypeA, 1, many...),
	} {
		if err := r.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
	for name, b := range map[string][]byte{
		"unsorted":   unsorted.AppendBinary(nil),
		"upper case": []byte("\x01A\x00\x00\x01\x00\x00\x00\x00\x01\x00\x01\x00\x00"),
		"cut off":    rr(record.TypeA, 1, a).AppendBinary(nil)[:20],
		"count":      []byte("\x00\x00\x01\x00\x00\x00\x00\x01\xff\xff\x00\x00"),
	} {
		if r, _, err := record.DecodeRRset(b); err == nil {
			t.Errorf("%s: decoded %v", name, r)
		}
	}
}

func TestType(t *testing.T) {
	for i := range 1 << 16 {
		rt := record.Type(i)
		got, err := record.ParseType(strings.ToLower(rt.String()))
		if err != nil || got != rt {
			t.Fatalf("type %d is written %s, which reads as %d, %v", i, rt, got, err)
		}
	}
	for _, s := range []string{"", "WAT", "TYPE", "TYPE65536", "TYPE-1", "A "} {
		if rt, err := record.ParseType(s); err == nil {
			t.Errorf("%q is type %s", s, rt)
		}
	}
}

func TestKeyReadsWellInJSON(t *testing.T) {
	want := record.Key{Owner: mustName(t, "www.example.net."), Type: record.TypeAAAA}
	b, err := json.Marshal(want)
	if err != nil || !strings.Contains(string(b), `"www.example.net."`) || !strings.Contains(string(b), `"AAAA"`) {
		t.Fatalf("%s, %v", b, err)
	}
	var got record.Key
	if err := json.Unmarshal(b, &got); err != nil || got != want {
		t.Errorf("%s reads as %v, %v", b, got, err)
	}
}

func TestSourceCheck(t *testing.T) {
	for _, s := range []record.Source{"rule/ptr", "zone/example.net", "config/a/b/c", "override/17", "map/x", "update/key"} {
		if err := s.Check(); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []record.Source{"", "rule", "rule/", "foo/x", "zone//x", "zone/..", "zone/a b", "zone/\xff", record.Source("zone/" + strings.Repeat("x", 256))} {
		if s.Check() == nil {
			t.Errorf("source %q passes", s)
		}
	}
}

func FuzzDecodeRRset(f *testing.F) {
	f.Add([]byte("\x03www\x00\x00\x01\x00\x00\x00\x01\x2c\x00\x02\x00\x04\xc0\x00\x02\x01\x00\x04\xc0\x00\x02\x02"))
	f.Add([]byte("\x00\x00\x10\x02eu\x00\x00\x00\x00\x00\x01\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, rest, err := record.DecodeRRset(b)
		if err != nil {
			return
		}
		if err := r.Check(); err != nil {
			t.Errorf("decoded what does not pass: %v", err)
		}
		if again := append(r.AppendBinary(nil), rest...); !bytes.Equal(again, b) {
			t.Errorf("%q encodes as %q", b, again)
		}
	})
}
