package control

import (
	"strings"
	"testing"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/controlapi"
)

const zoneHead = "$TTL 300\n@ SOA ns1 admin 1 7200 900 604800 60\n@ NS ns1\n"

// A small file can say very much: what an import by call makes is bounded, and so
// is what is said about it.
func TestImportIsBounded(t *testing.T) {
	w := newWorld(t)
	bomb := zoneHead + "$GENERATE 0-65535 a$ TXT" + strings.Repeat(` "`+strings.Repeat("x", 250)+`"`, 16) + "\n"
	if _, err := w.ImportZone(t.Context(), "example.net", []byte(bomb), &controlapi.Doer{Author: "", Reason: ""}); api.Code(err) != api.Invalid || !strings.Contains(api.Message(err), "octets of names and RDATA") {
		t.Errorf("a file of %d octets that makes 256 MiB: %v", len(bomb), err)
	}
	for _, text := range []string{strings.Repeat("x", 1025), "\xff"} {
		if _, err := w.ImportZone(t.Context(), "example.net", []byte(zoneHead), &controlapi.Doer{Author: "alice", Reason: text}); api.Code(err) != api.Invalid {
			t.Errorf("reason of %d octets: %v", len(text), err)
		}
	}
}

// The same file again changes nothing, and one record more leaves the others to who
// brought them.
func TestImportAgain(t *testing.T) {
	w := newWorld(t)
	if ch, err := w.ImportZone(t.Context(), "example.net", []byte(zoneHead), &controlapi.Doer{Author: "alice", Reason: ""}); err != nil || !ch.Changed {
		t.Fatal(ch, err)
	}
	if ch, err := w.ImportZone(t.Context(), "example.net", []byte(zoneHead), &controlapi.Doer{Author: "bob", Reason: ""}); err != nil || ch.Changed {
		t.Errorf("the same again: %v, %v", ch, err)
	}
	if _, err := w.ImportZone(t.Context(), "example.net", []byte(zoneHead+"www A 192.0.2.1\n"), &controlapi.Doer{Author: "bob", Reason: ""}); err != nil {
		t.Fatal(err)
	}
	w.eventually(func() error {
		for name, want := range map[string]string{"example.net": "alice", "www.example.net": "bob"} {
			x, err := w.Why(t.Context(), name, "")
			if err != nil {
				return err
			}
			if len(x.Claims) == 0 || x.Claims[0].Author != want {
				return api.Refuse(api.Invalid, "", "%s is claimed by %v, want %s", name, x.Claims, want)
			}
		}
		return nil
	})
}
