package trust

import (
	"crypto/ed25519"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzParseStatement: what is taken is in its one form, and is what its key signed.
func FuzzParseStatement(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	for _, s := range []Statement{{Time: time.UnixMilli(1790000000000)}, {Void: true, Reason: "über 100 %"}, {Time: time.UnixMilli(-1), Reason: "two  spaces"}} {
		line, err := s.Sign(key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
		f.Add(strings.ToUpper(line))
	}
	f.Add(statementMagic + "    ")
	f.Fuzz(func(t *testing.T, line string) {
		s, err := ParseStatement(line)
		if err != nil {
			return
		}
		before, behind := s.parts()
		fields := strings.SplitN(line, " ", 6)
		if before+" "+fields[4]+behind != line || s.Line() != line || len(line) > MaxStatement {
			t.Errorf("%q is taken as %+v", line, s)
		}
	})
}

// FuzzParseRevoked: an administrator's file is taken whole or not at all, and what it says of a
// key is short enough for a node of the store.
func FuzzParseRevoked(f *testing.F) {
	f.Add("# of this host\n6a3803d5f059902a void in the wrong hands\n\n0123456789abcdef\n")
	f.Add("6a3803d5f059902a void\r\nwhat?")
	f.Add("6a3803d5f059902a " + strings.Repeat("ü", MaxReason))
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseRevoked("revoked", text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "revoked:") {
				t.Errorf("error %q does not say where", err)
			}
			return
		}
		for id, x := range all {
			if len(id) != 16 || x.why == "" || len(x.why) > MaxReason+len("void since 2026-09-21T14:13:20Z: ") || utf8.ValidString(text) && !utf8.ValidString(x.why) {
				t.Errorf("key %q is revoked for %q", id, x.why)
			}
		}
	})
}
