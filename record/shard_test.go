package record_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/record"
)

func mustName(t testing.TB, text string) record.Name {
	t.Helper()
	n, err := record.ParseName(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// drawClaims draws claims of zone/x, some alike so that texts repeat.
func drawClaims(t *rapid.T, most int) []record.Claim {
	text := rapid.SampledFrom([]string{"", "alice", "bob", "why\nnot", "a1b2c3"})
	claims := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) record.Claim {
		rr := drawRRset(t)
		return record.Claim{
			RRset: rr, Source: "zone/x", Place: rapid.SampledFrom([]string{"", "x:1", "x:12", "inc/y:3", "x"}).Draw(t, "place"),
			Fallback: rapid.Bool().Draw(t, "fallback"),
			Provenance: record.Provenance{
				Author: text.Draw(t, "author"), Reason: text.Draw(t, "reason"), Revision: text.Draw(t, "revision"),
				Time: time.UnixMilli(rapid.Int64Range(-1<<45, 1<<45).Draw(t, "time")).UTC(),
			},
		}
	}), 0, most).Draw(t, "claims")
	return claims
}

func TestShardRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawClaims(t, 30)
		b := record.EncodeShard("zone/x", want)
		if !bytes.Equal(b, record.EncodeShard("zone/x", append([]record.Claim(nil), want...))) {
			t.Fatal("equal claims gave other bytes")
		}
		got, err := record.DecodeShard(b)
		if err != nil {
			t.Fatal(err)
		}
		if len(want) == 0 {
			want = []record.Claim{}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("claims (-want +got):\n%s", diff)
		}
	})
}

func TestShardZeroTimeStays(t *testing.T) {
	rr := record.NewRRset(mustName(t, "example.net."), record.TypeA, 1, "\xc0\x00\x02\x01")
	got, err := record.DecodeShard(record.EncodeShard("rule/x", []record.Claim{{RRset: rr}}))
	if err != nil || !got[0].Time.IsZero() || got[0].Source != "rule/x" {
		t.Errorf("claims are %+v, %v; want the zero time and source rule/x", got, err)
	}
}

// golden is docs/format/claims.md's example.
const golden = "C\x01\x00" + "\x06rule/x" + "\x02\x00\x01r" + "\x01" +
	"\x01\x00\x00\x01\x80\xa0\xab\xfe\xf9\x62\x00\x04\x77eb1" +
	"\x03www\x00" + "\x00\x01" + "\x00" + "\x00\x00\x01\x2c" + "\x00\x01" + "\x00\x04\xc0\x00\x02\x01"

func TestShardGolden(t *testing.T) {
	rr := record.NewRRset(mustName(t, "www."), record.TypeA, 300, "\xc0\x00\x02\x01")
	c := record.Claim{RRset: rr, Source: "rule/x", Place: "web1", Fallback: true, Provenance: record.Provenance{Revision: "r", Time: time.UnixMilli(1700000000000).UTC()}}
	if got := record.EncodeShard("rule/x", []record.Claim{c}); string(got) != golden {
		t.Errorf("encoded\n%q, want\n%q", got, golden)
	}
	got, err := record.DecodeShard([]byte(golden))
	if diff := cmp.Diff([]record.Claim{c}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestShardCompresses(t *testing.T) {
	var claims []record.Claim
	for i := range 500 {
		rr := record.NewRRset(mustName(t, "host"+strings.Repeat("x", i%50)+".example.net."), record.TypeA, 300, record.Rdata([]byte{192, 0, 2, byte(i)}))
		claims = append(claims, record.Claim{RRset: rr, Source: "zone/x"})
	}
	b := record.EncodeShard("zone/x", claims)
	if b[2] != 1 || len(b) > 500*25 {
		t.Errorf("coding %d, %d octets of 500 claims, want zstd and less than 25 a claim", b[2], len(b))
	}
}

func TestShardRefused(t *testing.T) {
	good := record.EncodeShard("zone/x", []record.Claim{{RRset: record.NewRRset(mustName(t, "a."), record.TypeA, 1, "\xc0\x00\x02\x01")}})
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	bomb := func(said, real int) []byte {
		return enc.EncodeAll(make([]byte, real), binary.BigEndian.AppendUint32([]byte{'C', 1, 1}, uint32(said)))
	}
	for _, c := range []struct {
		name string
		b    []byte
		want string
	}{
		{"empty", nil, "so it is none"},
		{"other magic", []byte("X\x01\x00"), "so it is none"},
		{"other version", []byte("C\x02\x00"), "format version 2, this program reads 1"},
		{"other coding", []byte("C\x01\x07"), "coding 7"},
		{"cut off", good[:len(good)-1], "cut off"},
		{"too long", append(good[:len(good):len(good)], 0), "1 octets after the last claim"},
		{"other source", []byte("C\x01\x00\x03foo\x00\x00"), `source "foo" has an unknown kind`},
		{"bomb", bomb(record.MaxShardBody+1, 64<<20), "at most 4194304"},
		{"bomb that says it is none", bomb(100, 64<<20), "decompress"},
		{"other size than said", bomb(100, 99), "header says 100"},
		{"more claims than octets", []byte("C\x01\x00\x06zone/x\x00\xff\xff\xff\xff\x0f"), "cut off"},
		{"text that is not there", []byte("C\x01\x00\x06zone/x\x00\x01" + strings.Repeat("\x05", 40)), "text 5 of 0"},
		{"place that is not there", []byte("C\x01\x00\x06zone/x\x01\x00\x01\x00\x00\x00\x00\x00\x05" + strings.Repeat("\x00", 40)), "place shares 5 octets with one of 0"},
		{"unknown flags", []byte("C\x01\x00\x06zone/x\x01\x00\x01\x80\x00\x00\x00\x00\x00\x00" + strings.Repeat("\x00", 40)), "unknown flags 0x80"},
	} {
		if got, err := record.DecodeShard(c.b); err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "claim shard: ") {
			t.Errorf("%s: %d claims, error %v; want %q", c.name, len(got), err, c.want)
		}
	}
}

func FuzzDecodeShard(f *testing.F) {
	f.Add([]byte(golden))
	f.Add(record.EncodeShard("zone/example.net", nil))
	var many []record.Claim
	for i := range 100 {
		many = append(many, record.Claim{RRset: record.NewRRset("\x03www\x00", record.TypeA, 1, record.Rdata([]byte{192, 0, 2, byte(i)})), Place: "x:1"})
	}
	f.Add(record.EncodeShard("zone/x", many))
	f.Fuzz(func(t *testing.T, b []byte) {
		claims, err := record.DecodeShard(b)
		if err != nil || len(claims) == 0 {
			return
		}
		for _, c := range claims {
			if err := c.Check(); err != nil {
				t.Fatalf("decoded a claim that is none: %v", err)
			}
		}
		again, err := record.DecodeShard(record.EncodeShard(claims[0].Source, claims))
		if diff := cmp.Diff(claims, again); err != nil || diff != "" {
			t.Fatalf("%v (-first +again):\n%s", err, diff)
		}
	})
}

func BenchmarkShard(b *testing.B) {
	var claims []record.Claim
	for i := range 200 {
		rr := record.NewRRset(mustName(b, "host"+string(rune('a'+i%26))+strings.Repeat("x", i/26)+".example.net."), record.TypeA, 300, record.Rdata([]byte{192, 0, 2, byte(i)}))
		claims = append(claims, record.Claim{RRset: rr, Place: "example.net:17", Provenance: record.Provenance{Author: "alice", Revision: "0123456789abcdef"}})
	}
	enc := record.EncodeShard("zone/x", claims)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			record.EncodeShard("zone/x", claims)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := record.DecodeShard(enc); err != nil {
				b.Fatal(err)
			}
		}
	})
}
