package direct

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/internal/tree"
)

// signed is a statement of alice's, verified.
func signed(t testing.TB, act operator.Act) (operator.Statement, string, []byte) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	line, err := operator.Line("alice", public)
	if err != nil {
		t.Fatal(err)
	}
	o, err := operator.Parse("operators", []byte(line))
	if err != nil {
		t.Fatal(err)
	}
	b, err := operator.Sign(private, "alice", act.Action, "internal", act.Args, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s, id, err := o.Verify(b, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return s, id, b
}

// TestFile writes overrides and reads them again.
func TestFile(t *testing.T) {
	path := Path(filepath.Join(t.TempDir(), "journal"))
	if k, err := Read(path); err != nil || k.Overrides != nil || k.Seen != nil {
		t.Fatalf("no file: %v, %v", k, err)
	}
	s, id, b := signed(t, Set("WWW.example.net", "A", 60, []string{"192.0.2.2", "192.0.2.1"}, time.Hour, true, "fire"))
	d, err := Of(s, id, b)
	if err != nil || d.Owner != "www.example.net." || d.Until-d.Set != time.Hour.Milliseconds() || !d.Whole || d.Operator != "alice" || d.Reason != "fire" {
		t.Fatalf("%+v, %v", d, err)
	}
	kept := Kept{Overrides: []tree.Direct{d}, Seen: map[string]int64{id: d.Set}}
	if err := Write(path, kept); err != nil {
		t.Fatal(err)
	}
	all, err := Read(path)
	if diff := cmp.Diff(kept, all); err != nil || diff != "" {
		t.Fatalf("%v, (-wrote +read)\n%s", err, diff)
	}
	c, _, _ := signed(t, Clear(id, "out"))
	if of, why, err := ClearedID(c); of != id || why != "out" || err != nil {
		t.Errorf("clears %s (%s), %v", of, why, err)
	}
}

// TestRefused: what makes no sense is said.
func TestRefused(t *testing.T) {
	one := []string{"192.0.2.1"}
	for says, act := range map[string]operator.Act{
		"for 0s, expected 1s to 24h":       Set("a.example.net", "A", 60, one, 0, false, "x"),
		"for 25h0m0s, expected":            Set("a.example.net", "A", 60, one, 25*time.Hour, false, "x"),
		"the reason has 0 octets":          Set("a.example.net", "A", 60, one, time.Hour, false, ""),
		"type is NS":                       Set("a.example.net", "NS", 60, []string{"ns.example.net."}, time.Hour, false, "x"),
		"type is SOA":                      Set("example.net", "SOA", 60, []string{"a. b. 1 2 3 4 5"}, time.Hour, false, "x"),
		"0 records":                        Set("a.example.net", "A", 60, nil, time.Hour, false, "x"),
		`record 1, "192.0.2.300"`:          Set("a.example.net", "A", 60, []string{"192.0.2.300"}, time.Hour, false, "x"),
		"2 records, a CNAME has one":       Set("a.example.net", "CNAME", 60, []string{"b.", "c."}, time.Hour, false, "x"),
		"empty label":                      Set("a..net", "A", 60, one, time.Hour, false, "x"),
		"TTL is 4294967295, expected 0 to": Set("a.example.net", "A", 1<<32-1, one, time.Hour, false, "x"),
	} {
		s, id, b := signed(t, act)
		if _, err := Of(s, id, b); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %s", err, says)
		}
	}
}

// TestDamaged: a file with any bit turned, or cut off anywhere, is not read.
func TestDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	d := tree.Direct{ID: "1", Owner: "www.example.net.", Type: "A", TTL: 60, Rdata: []string{"192.0.2.1"}, Set: 1, Until: 2}
	if err := Write(path, Kept{Overrides: []tree.Direct{d}, Seen: map[string]int64{"1": 1}}); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		if _, err := decode(whole[:i]); err == nil {
			t.Fatalf("cut off at %d it is read", i)
		}
		for bit := range 8 {
			whole[i] ^= 1 << bit
			if _, err := decode(whole); err == nil {
				t.Fatalf("it is read as %q", whole)
			}
			whole[i] ^= 1 << bit
		}
	}
	if err := os.WriteFile(path, whole[1:], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "begins with") {
		t.Errorf("%v, want one that says that it is damaged", err)
	}
}

// FuzzDecode holds that a file that is read can be written and read again.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"overrides":[{"id":"1","owner":"www.example.net.","type":"A","ttl":60,"rdata":["192.0.2.1"],"set_ms":1,"until_ms":2}],"seen":{"1":1}}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := decode(b); err == nil && !bytes.HasPrefix(b, []byte(fileMagic)) {
			t.Fatal("it has no checksum")
		}
		k, err := decode(append([]byte(fileMagic+sumOf(b)+"\n"), b...))
		if err != nil {
			return
		}
		path := filepath.Join(t.TempDir(), "f")
		if err := Write(path, k); err != nil {
			t.Fatal(err)
		}
		again, err := Read(path)
		if err != nil || len(again.Overrides) != len(k.Overrides) || len(again.Seen) != len(k.Seen) {
			t.Fatal(again, err)
		}
	})
}

// TestDocumented reads the file that the documentation shows.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/format/direct.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```\n")
	file, _, _ := strings.Cut(rest, "```\n")
	k, err := decode([]byte(file))
	if err != nil || len(k.Overrides) != 1 || len(k.Seen) != 1 {
		t.Fatalf("%v, %v", k, err)
	}
	path := filepath.Join(t.TempDir(), "f")
	if err := Write(path, k); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != file {
		t.Errorf("it is written as\n%s, %v, and documented as\n%s", b, err, file)
	}
}
