package guard

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/record"
)

// TestEncode: what is told of bounds is read as it was.
func TestEncode(t *testing.T) {
	all := DefaultBounds()
	all.Protect = []record.Name{"\x03www\x07example\x03net\x00", "\x01*\x03vip\x07example\x03net\x00"}
	all.Zone.Created = Bound{}
	for _, b := range []Bounds{DefaultBounds(), all, {}} {
		text, err := b.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(text)
		if diff := cmp.Diff(b, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", text, err, diff)
		}
	}
	for text, says := range map[string]string{
		`{`:                          "decode bounds: unexpected end",
		`{"window_ns":600000000000}`: "few is 0, expected at least 1",
		`{"window_ns":9223372036854775807,"few":6}`:              "window is 2562047h47m16.854775807s, expected",
		`{"window_ns":600000000000,"few":6,"protect":["a..b"]}`:  "decode bounds: ",
		`{"window_ns":600000000000,"few":6,"ttl_lowered":"all"}`: "decode bounds: ",
	} {
		if b, err := Decode([]byte(text)); err == nil || !strings.Contains(err.Error(), says) || b.Window != 0 {
			t.Errorf("%s: %+v, %v, want %q", text, b, err, says)
		}
	}
}
