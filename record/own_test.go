package record

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTerms(t *testing.T) {
	owner, err := ParseName("www.example.net")
	if err != nil {
		t.Fatal(err)
	}
	r := NewRRset(owner, TypeA, 60, "\xc0\x00\x02\x01", "\xc0\x00\x02\x02", "\xc0\x00\x02\x03")
	r.Location = "esams"
	s := Set{RRset: r, Choose: 2, Terms: []Terms{{TTL: 60, Weight: 1}, {TTL: 60, Weight: 7}, {TTL: 60, Weight: 0}}}
	terms, ok, err := TermsRRset(s)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if terms.Key != (Key{owner, TypeTerms, "esams"}) || len(terms.Data) != 3 {
		t.Errorf("%v", terms)
	}
	for _, rd := range terms.Data {
		if err := CheckTerms(rd); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(s, r.With(terms.Data)); diff != "" {
		t.Errorf("there and back (-want +got):\n%s", diff)
	}
	other := NewRRset(owner, TypeAAAA, 60, Rdata(strings.Repeat("\x01", 16)))
	if got := other.With(terms.Data); got.Terms != nil || got.Choose != 0 {
		t.Errorf("terms of A hold for AAAA: %+v", got)
	}
	if _, ok, err := TermsRRset(Set{RRset: r}); ok || err != nil {
		t.Errorf("terms of nothing: %v, %v", ok, err)
	}
	s.Terms[0].Until = 5
	if _, _, err := TermsRRset(s); err == nil || !strings.Contains(err.Error(), "times of its own") {
		t.Errorf("times: %v", err)
	}
	for _, bad := range []Rdata{"", "\x00\x01", "\x00\x01\x00", "\x00\x01\x00\x00\x00", "\x00\x01\x01\x00\x00", "\x00\x01\x02", "\x00\x01\x00\x00\x00\x01"} {
		if CheckTerms(bad) == nil {
			t.Errorf("terms %q pass", bad)
		}
		if got := r.With([]Rdata{bad}); got.Terms != nil || got.Choose != 0 {
			t.Errorf("terms %q say %+v", bad, got)
		}
	}
}

func FuzzTerms(f *testing.F) {
	f.Add("\x00\x01\x01\x00\x00\x00\x07\xc0\x00\x02\x01")
	f.Add("\x00\x01\x00\x00\x02")
	r := NewRRset("\x00", TypeA, 60, "\xc0\x00\x02\x01", "\xc0\x00\x02\x02")
	f.Fuzz(func(t *testing.T, rd string) {
		s := r.With([]Rdata{Rdata(rd)})
		if CheckTerms(Rdata(rd)) != nil && (s.Terms != nil || s.Choose != 0) {
			t.Fatalf("malformed terms say %+v", s)
		}
	})
}
