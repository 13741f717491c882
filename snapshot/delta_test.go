package snapshot

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/record"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file in testdata.
func golden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// TestVectors pins the formats for other implementations: what changes these
// files breaks every host that has the old program.
func TestVectors(t *testing.T) {
	local := rrset(t, "www.example.net", record.TypeA, "\xc6\x33\x64\x01")
	local.Location = "eu"
	first := []record.RRset{
		rrset(t, "example.net", record.TypeSOA, soa(1)),
		rrset(t, "www.example.net", record.TypeA, "\xc0\x00\x02\x02", "\xc0\x00\x02\x01"),
		local,
		rrset(t, "_fresh.internal.example.net", record.TypeTXT, "\x03v=1"),
	}
	var out strings.Builder
	for _, r := range first {
		fmt.Fprintf(&out, "rrset    %s\nencoding %s\nhash     %s\nin digest %v\n\n", r.Key, hex.EncodeToString(r.AppendBinary(nil)), HashRRset(r), !IsFreshness(r.Key))
	}
	fmt.Fprintf(&out, "digest   %s\n", digestOf(first))
	golden(t, "digest.txt", out.String())

	out.Reset()
	d := NewDataset("internal")
	full, err := d.Replace(1000, first)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Apply(full); err != nil {
		t.Fatal(err)
	}
	next, err := d.Change(2000, []record.RRset{rrset(t, "www.example.net", record.TypeAAAA, "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01")}, []record.Key{local.Key})
	if err != nil {
		t.Fatal(err)
	}
	for _, delta := range []*Delta{full, next} {
		b, err := delta.Encode()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "version  %d\nfull     %v\nbase     %s\ndigest   %s\nprev     %s\nencoding %s\nchain    %s\n\n",
			delta.Version, delta.Full, delta.BaseDigest, delta.Digest, delta.Prev, hex.EncodeToString(b), delta.Chain())
	}
	golden(t, "delta.txt", out.String())
}

func TestDigestArithmetic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := rapid.Custom(func(t *rapid.T) Digest {
			return Digest(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0x7f, 0x80, 0xff}), 32, 32).Draw(t, "octets"))
		})
		a, b := draw.Draw(t, "a"), draw.Draw(t, "b")
		if a.Add(b) != b.Add(a) || a.Add(b).Sub(b) != a || a.Sub(a) != (Digest{}) {
			t.Fatalf("%s and %s", a, b)
		}
		if back, err := ParseDigest(a.String()); err != nil || back != a {
			t.Fatalf("%s: %s, %v", a, back, err)
		}
	})
	one, most := Digest{31: 1}, Digest(bytes.Repeat([]byte{0xff}, 32))
	if got := most.Add(one); got != (Digest{}) {
		t.Errorf("2^256-1 + 1 = %s, want 0", got)
	}
	if got := (Digest{}).Sub(one); got != most {
		t.Errorf("0 - 1 = %s, want 2^256-1", got)
	}
	for _, bad := range []string{"", "00", strings.Repeat("0", 63) + "g", strings.Repeat("A", 64), strings.Repeat("0", 65)} {
		if _, err := ParseDigest(bad); err == nil {
			t.Errorf("ParseDigest(%q) gave no error", bad)
		}
	}
}

func encoded(t testing.TB) []byte {
	t.Helper()
	d := NewDataset("internal")
	change(t, d, []record.RRset{rrset(t, "example.net", record.TypeSOA, soa(1)), rrset(t, "a.example.net", record.TypeA, "1234")})
	delta, err := d.Change(2000, []record.RRset{rrset(t, "b.example.net", record.TypeA, "1234")}, []record.Key{{Owner: name(t, "a.example.net"), Type: record.TypeA}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := delta.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDeltaBitFlipsAndCuts(t *testing.T) {
	b := encoded(t)
	for bit := range 8 * len(b) {
		bad := bytes.Clone(b)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := DecodeDelta(bad); err == nil {
			t.Fatalf("bit %d flipped: decoded", bit)
		}
	}
	for n := range b {
		if _, err := DecodeDelta(b[:n]); err == nil {
			t.Fatalf("%d of %d octets: decoded", n, len(b))
		}
	}
	if _, err := DecodeDelta(append(bytes.Clone(b), 0)); err == nil {
		t.Error("an octet more: decoded")
	}
}

// seal puts the right checksum behind a body, so that the checks behind it are met.
func seal(body []byte) []byte {
	sum := castagnoli(body)
	return append(bytes.Clone(body), byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
}

func TestDecodeDeltaRefuses(t *testing.T) {
	good := encoded(t)
	body := good[:len(good)-4]
	counts := len(DeltaMagic) + 2 + len("internal") + 16 + 96
	for what, spoil := range map[string]func([]byte) []byte{
		"trailing octets": func(b []byte) []byte { return append(b, 0) },
		"flags":           func(b []byte) []byte { b[8] = 2; return b },
		"name":            func(b []byte) []byte { b[10] = 'I'; return b },
		"version 0":       func(b []byte) []byte { b[len(DeltaMagic)+2+8+7] = 0; return b },
		"many RRsets":     func(b []byte) []byte { b[counts] = 0xff; return b },
		"many keys":       func(b []byte) []byte { b[counts+4] = 0xff; return b },
		"full with keys":  func(b []byte) []byte { b[8] = 1; return b },
		"upper case":      func(b []byte) []byte { b[counts+8+1] = 'B'; return b },
	} {
		bad := seal(spoil(bytes.Clone(body)))
		if _, err := DecodeDelta(bad); err == nil || strings.Contains(err.Error(), "CRC") {
			t.Errorf("%s: %v, want a refusal for this reason", what, err)
		}
	}
}

func FuzzDecodeDelta(f *testing.F) {
	b := encoded(f)
	f.Add(b[:len(b)-4])
	f.Add([]byte(DeltaMagic))
	f.Fuzz(func(t *testing.T, body []byte) {
		b := seal(body)
		d, err := DecodeDelta(b)
		if err != nil {
			return
		}
		again, err := d.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("re-encoded to %x (%v), was %x", again, err, b)
		}
	})
}
