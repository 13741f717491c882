package token

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const (
	secretA = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	secretB = "ffeeddccbbaa99887766554433221100"
)

var (
	life = Lifetime{Life: 2 * time.Minute, Skew: 10 * time.Second}
	now  = time.Unix(1_800_000_000, 0)
)

func keys(t testing.TB, lines ...string) *Keys {
	t.Helper()
	k, err := Parse([]byte(strings.Join(lines, "\n")), "keys")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// The octets that docs/format/beacon-token.md tells. Whoever changes them turns away all
// tokens that are on their way.
func TestVector(t *testing.T) {
	k := keys(t, "7 "+secretA)
	want := Token{ID: 0x0123456789abcdef, Time: now}
	got := k.make(want)
	if got != vector {
		t.Errorf("token is %s, expected %s", got, vector)
	}
	back, err := k.Verify([]byte(strings.ToUpper(vector)), now, life)
	if err != nil || back != want {
		t.Errorf("%+v, %v", back, err)
	}
}

const vector = "0s0i6hb7h6lsrrrb97901h53bnd4r5d3lgn7ncha"

func TestVerify(t *testing.T) {
	a, ab, ba, b := keys(t, "1 "+secretA), keys(t, "1 "+secretA, "2 "+secretB), keys(t, "2 "+secretB, "1 "+secretA), keys(t, "2 "+secretB)
	text, want := a.Issue(now)
	for _, c := range []struct {
		name  string
		keys  *Keys
		at    time.Time
		label string
		err   error
	}{
		{"now", a, now, text, nil},
		{"upper case", a, now, strings.ToUpper(text), nil},
		{"with the next key", ab, now, text, nil},
		{"with the key that was", ba, now, text, nil},
		{"without its key", b, now, text, ErrForged},
		{"another secret of its number", keys(t, "1 "+secretB), now, text, ErrForged},
		{"at its end", a, now.Add(life.Life + life.Skew), text, nil},
		{"after its end", a, now.Add(life.Life + life.Skew + time.Second), text, ErrExpired},
		{"a clock behind", a, now.Add(-life.Skew), text, nil},
		{"a clock too far behind", a, now.Add(-life.Skew - time.Second), text, ErrFuture},
		{"a clock that jumped", a, now.Add(1000 * 24 * time.Hour), text, ErrExpired},
		{"short", a, now, text[:Size-1], ErrMalformed},
		{"long", a, now, text + "0", ErrMalformed},
		{"empty", a, now, "", ErrMalformed},
		{"another alphabet", a, now, "w" + text[1:], ErrMalformed},
		{"not ASCII", a, now, "\xe4" + text[1:], ErrMalformed},
	} {
		got, err := c.keys.Verify([]byte(c.label), c.at, life)
		if !errors.Is(err, c.err) || c.err == nil && (err != nil || got != want) {
			t.Errorf("%s: %+v, %v, expected %v", c.name, got, err, c.err)
		}
	}
	if again, _ := a.Issue(now); again == text {
		t.Error("two tokens are equal")
	}
}

// No single change of a character goes unnoticed.
func TestChanged(t *testing.T) {
	k := keys(t, "1 "+secretA)
	text, _ := k.Issue(now)
	rapid.Check(t, func(t *rapid.T) {
		b := []byte(text)
		i := rapid.IntRange(0, Size-1).Draw(t, "at")
		b[i] = rapid.SampledFrom([]byte(alphabet)).Filter(func(c byte) bool { return c != text[i] }).Draw(t, "character")
		if _, err := k.Verify(b, now, life); err == nil {
			t.Errorf("%s was taken for %s", b, text)
		}
	})
}

func TestClientHash(t *testing.T) {
	a, same, b := keys(t, "1 "+secretA), keys(t, "9 "+secretA), keys(t, "1 "+secretB)
	if a.ClientHash([]byte{1}) != same.ClientHash([]byte{1}) || a.ClientHash([]byte{1}) == b.ClientHash([]byte{1}) || a.ClientHash([]byte{1}) == a.ClientHash([]byte{2}) {
		t.Error("hashes are not of key and octets")
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"# active\n1 " + secretA + "\r\n\n  2\t" + strings.ToUpper(secretB) + " ", ""},
		{"", "keys: no key"},
		{"# nothing", "keys: no key"},
		{secretA, "keys:1: 1 fields"},
		{"1 " + secretA + "\n256 " + secretB, "keys:2: the first field is no number"},
		{"-1 " + secretB, "keys:1: the first field"},
		{"1 " + secretB[1:], "keys:1: the second field has 31 characters"},
		{"1 " + secretB[2:], "keys:1: the second field has 30 characters"},
		{"1 " + strings.Repeat("00", 65), "keys:1: the second field has 130 characters"},
		{"1 " + strings.Repeat("x", 32), "keys:1: the second field"},
		{"1 " + secretA + "\n1 " + secretB, "keys:2: key 1 is there twice"},
	} {
		_, err := Parse([]byte(c.text), "keys")
		if (err == nil) != (c.want == "") || err != nil && (!strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), secretB[4:20])) {
			t.Errorf("%q: %v, expected %q and no secret", c.text, err, c.want)
		}
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	if _, err := Load(path); err == nil {
		t.Error("a file that is not there was read")
	}
	for mode, want := range map[os.FileMode]string{0o600: "", 0o640: "", 0o644: "open to everybody", 0o602: "open to everybody"} {
		if err := os.WriteFile(path, []byte("1 "+secretA), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("mode %o: %v, expected %q", mode, err, want)
		}
	}
	if err := os.WriteFile(path, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil {
		t.Error("a file that is too large was read")
	}
}

func FuzzVerify(f *testing.F) {
	k := keys(f, "7 "+secretA)
	f.Add([]byte(vector))
	f.Add([]byte(strings.ToUpper(vector)))
	f.Fuzz(func(t *testing.T, label []byte) {
		got, err := k.Verify(label, now, life)
		if err != nil {
			return
		}
		// Whoever has no key makes none: what is taken is what the key makes.
		if k.make(got) != strings.ToLower(string(label)) {
			t.Errorf("%s was taken", label)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	k := keys(b, "7 "+secretA)
	for b.Loop() {
		if _, err := k.Verify([]byte(vector), now, life); err != nil {
			b.Fatal(err)
		}
	}
}

// The vector's authenticator, computed by itself.
func ExampleKeys() {
	raw, _ := encoding.DecodeString(vector)
	fmt.Println(hex.EncodeToString(raw[:macAt]), len(raw))
	// Output: 070123456789abcdef6b49d200 25
}
