package record_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/record"
)

// drawName draws a valid name, often with odd octets and common suffixes.
func drawName(t *rapid.T) record.Name {
	octet := rapid.OneOf(rapid.SampledFrom([]byte("abAB-_*.\\ \"@$;()\x00\xff")), rapid.Byte())
	labels := rapid.SliceOfN(rapid.SliceOfN(octet, 1, 12), 0, 6).Draw(t, "labels")
	n := rapid.SampledFrom([]record.Name{record.Root, "\x07example\x03net\x00", "\x01a\x00"}).Draw(t, "suffix")
	for _, l := range labels {
		if m, err := n.Child(string(l)); err == nil {
			n = m
		}
	}
	return n
}

func drawRRset(t *rapid.T) record.RRset {
	rt := rapid.SampledFrom([]record.Type{record.TypeA, record.TypeTXT, record.TypeSOA, record.TypeCAA, 65280}).Draw(t, "type")
	data := rapid.SliceOfN(rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 40), func(b []byte) record.Rdata { return record.Rdata(b) }), 1, 4).Draw(t, "data")
	r := record.NewRRset(drawName(t), rt, rapid.Uint32Range(0, record.MaxTTL).Draw(t, "ttl"), data...)
	r.Location = record.Location(rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "location"))
	return r
}

func TestNamePrintParseIsIdentity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := drawName(t)
		text := n.String()
		if m, err := record.ParseName(text); err != nil || m != n {
			t.Fatalf("%q is written as %s, which reads as %q, %v", string(n), text, string(m), err)
		}
		if m, used, err := record.NameFromWire([]byte(n)); err != nil || m != n || used != len(n) {
			t.Fatalf("%q from wire is %q, %d octets, %v", string(n), string(m), used, err)
		}
		if n != record.Root && text[len(text)-1] != '.' {
			t.Fatalf("%s has no final dot", text)
		}
		// The library reads the same name from the same text.
		buf := make([]byte, 256)
		end, err := dns.PackDomainName(text, buf, 0, nil, false)
		if err != nil || !bytes.Equal(buf[:end], []byte(n)) {
			t.Fatalf("%s: the library has %q, %v; want %q", text, buf[:end], err, string(n))
		}
	})
}

// model orders names as RFC 4034 §6.1 says, in the plainest way.
func model(a, b record.Name) int {
	labels := func(n record.Name) [][]byte {
		var all [][]byte
		for ; n != record.Root; n = n.Parent() {
			all = append(all, []byte(n.FirstLabel()))
		}
		slices.Reverse(all)
		return all
	}
	return slices.CompareFunc(labels(a), labels(b), bytes.Compare)
}

func sign(n int) int { return min(1, max(-1, n)) }

func TestNameOrderIsCanonicalAndTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawName(t), drawName(t), drawName(t)
		ab, bc, ac := sign(a.Compare(b)), sign(b.Compare(c)), sign(a.Compare(c))
		if ab != model(a, b) {
			t.Fatalf("%s to %s is %d, want %d", a, b, ab, model(a, b))
		}
		if ab != -sign(b.Compare(a)) || (ab == 0) != (a == b) {
			t.Fatalf("%s to %s is %d, the other way round %d", a, b, ab, b.Compare(a))
		}
		if ab <= 0 && bc <= 0 && ac > 0 {
			t.Fatalf("%s <= %s <= %s, but %s > %s", a, b, c, a, c)
		}
		if a.IsSubdomainOf(b) && a != b && ab <= 0 {
			t.Fatalf("%s is not behind %s above it", a, b)
		}
		if got := a.IsSubdomainOf(b); got != dns.IsSubDomain(b.String(), a.String()) {
			t.Fatalf("%s is below %s: %v", a, b, got)
		}
	})
}

// TestNameOrderOfTheRFC is the example of RFC 4034 §6.1.
func TestNameOrderOfTheRFC(t *testing.T) {
	want := []string{"example.", "a.example.", "yljkjljk.a.example.", "z.a.example.", "zabc.a.example.", "z.example.", "\\001.z.example.", "*.z.example.", "\\200.z.example."}
	var names []record.Name
	for _, s := range want {
		names = append(names, mustName(t, s))
	}
	slices.Reverse(names)
	slices.SortFunc(names, record.Name.Compare)
	var got []string
	for _, n := range names {
		got = append(got, n.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestParseName(t *testing.T) {
	for text, want := range map[string]string{
		".": ".", "Example.NET": "example.net.", "example.net.": "example.net.", `a\.b.`: `a\.b.`, `\097`: "a.", `\A`: "a.", `a\032b`: `a\032b.`, "*": "*.", `\@`: `\@.`,
		strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("a", 61): strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("a", 61) + ".",
	} {
		if got, err := record.ParseName(text); err != nil || got.String() != want {
			t.Errorf("%q is %s, %v; want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"": "is empty", "..": "empty label at octet 1", "a..b": "empty label at octet 3", ".a": "empty label at octet 1", `a\`: "lone backslash",
		`\25`: "bad escape", `\256`: "at most", `\1a2`: "bad escape", "a b": "octet 0x20 at 2", "a\x00": "octet 0x00", strings.Repeat("a", 64): "label of 64 octets",
		strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("a", 62): "longer than 255", strings.Repeat("a.", 100000): "longer than 255",
	} {
		if got, err := record.ParseName(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q is %.40s, error %v; want %q", text, got, err, want)
		}
	}
}

func TestNameFamily(t *testing.T) {
	n := mustName(t, "A.b.example.net.")
	if n.Labels() != 4 || n.FirstLabel() != "a" || n.Parent() != mustName(t, "b.example.net") || record.Root.Parent() != "" || record.Root.Labels() != 0 {
		t.Errorf("%s: %d labels, first %q, parent %s", n, n.Labels(), n.FirstLabel(), n.Parent())
	}
	// A suffix that does not start at a label is no zone above.
	if mustName(t, "xexample.net.").IsSubdomainOf(mustName(t, "example.net.")) || n.IsSubdomainOf("") || !n.IsSubdomainOf(record.Root) {
		t.Error("subdomain of what it is not")
	}
	odd, err := record.Name("\x03net\x00").Child("\x07example")
	if err != nil || odd.IsSubdomainOf(mustName(t, "example.net.")) {
		t.Errorf("%s, %v is below example.net.", odd, err)
	}
	w, err := n.Wildcard()
	if err != nil || !w.IsWildcard() || n.IsWildcard() || mustName(t, "*a.b.").IsWildcard() {
		t.Errorf("wildcard of %s is %s, %v", n, w, err)
	}
	long := record.Root
	for range 3 {
		if long, err = long.Child(strings.Repeat("a", 63)); err != nil {
			t.Fatal(err)
		}
	}
	if long, err = long.Child(strings.Repeat("a", 61)); err != nil || len(long) != 255 {
		t.Fatalf("%d octets, %v; want 255", len(long), err)
	}
	for _, f := range []func() (record.Name, error){long.Wildcard, func() (record.Name, error) { return n.Child("") }, func() (record.Name, error) { return n.Child(strings.Repeat("a", 64)) }} {
		if got, err := f(); err == nil {
			t.Errorf("made %s, want an error", got)
		}
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{".", "www.example.net.", `a\.b\032\255.x`, "a..b", strings.Repeat("a.", 127), `\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := record.ParseName(text)
		if err != nil {
			return
		}
		if m, used, err := record.NameFromWire([]byte(n)); err != nil || m != n || used != len(n) {
			t.Errorf("%q gives %q, which is no canonical name: %q, %d, %v", text, string(n), string(m), used, err)
		}
		if m, err := record.ParseName(n.String()); err != nil || m != n {
			t.Errorf("%q is %s, which reads as %s, %v", text, n, m, err)
		}
	})
}

func FuzzNameFromWire(f *testing.F) {
	for _, s := range []string{"\x00", "\x03WWW\x07example\x03net\x00rest", "\xc0\x0c", "\x3f", strings.Repeat("\x01a", 127) + "\x00", strings.Repeat("\x01a", 128)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, used, err := record.NameFromWire(b)
		if err != nil {
			return
		}
		if used != len(n) || used > 255 || isASCII(b[:used]) && !bytes.EqualFold([]byte(n), b[:used]) {
			t.Errorf("%q gives %q of %d octets", b, string(n), used)
		}
		if m, err := record.ParseName(n.String()); err != nil || m != n {
			t.Errorf("%q is %s, which reads as %s, %v", b, n, m, err)
		}
	})
}

func isASCII(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c >= 0x80 }) }
