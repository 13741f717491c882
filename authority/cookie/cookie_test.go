package cookie

import (
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func octets(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func secrets(t testing.TB, lines ...string) *Secrets {
	t.Helper()
	s, err := Parse([]byte(strings.Join(lines, "\n")), "secrets")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const (
	secretA  = "e5e973e5a6b2a43f48e7dc849e37bfcf"
	secretA4 = "dd3bdf9344b678b185a6f5cb60fca715"
	secretB4 = "445536bcd2513298075a5d379663c962"
)

// TestPublishedVectors are those of RFC 9018 appendix A: what the client sends, and
// what the server gives back.
func TestPublishedVectors(t *testing.T) {
	for _, c := range []struct {
		name, addr string
		secrets    []string
		now        uint32
		sent       string
		verdict    Verdict
		returned   string
	}{
		{"A.1 learning a new server cookie", "198.51.100.100", []string{secretA}, 1559731985, "2464c4abcf10c957", ClientOnly, "2464c4abcf10c957010000005cf79f111f8130c3eee29480"},
		{"A.2 the same client learning a renewed one", "198.51.100.100", []string{secretA}, 1559734385, "2464c4abcf10c957010000005cf79f111f8130c3eee29480", Renew, "2464c4abcf10c957010000005cf7a871d4a564a1442aca77"},
		{"A.3 another client, reserved octets not zero", "203.0.113.203", []string{secretA}, 1559734700, "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", Expired, "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e"},
		{"A.4 IPv6 query with a rolled over secret", "2001:db8:220:1:59de:d0f4:8769:82b8", []string{secretB4, secretA4}, 1559741961, "22681ab97d52c298010000005cf7c57926556bd0934c72f8", Renew, "22681ab97d52c298010000005cf7c609a6bb79d16625507a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, addr, sent := secrets(t, c.secrets...), netip.MustParseAddr(c.addr), octets(t, c.sent)
			if got := s.Check(sent, addr, c.now); got != c.verdict {
				t.Errorf("verdict %s, want %s", got, c.verdict)
			}
			made := s.Make([ClientSize]byte(sent), addr, c.now)
			if got := hex.EncodeToString(append(sent[:ClientSize:ClientSize], made[:]...)); got != c.returned {
				t.Errorf("made %s, want %s", got, c.returned)
			}
			if got := s.Check(octets(t, c.returned), addr, c.now); got != Good {
				t.Errorf("what was made is %s, want good", got)
			}
		})
	}
}

func TestAge(t *testing.T) {
	s, addr, client := secrets(t, secretA), netip.MustParseAddr("192.0.2.1"), [ClientSize]byte{1, 2, 3}
	for _, made := range []uint32{1_800_000_000, 100, 0, 1<<32 - 100, 1 << 31} { // also where the clock wraps
		c := s.Make(client, addr, made)
		option := append(client[:], c[:]...)
		for _, d := range []struct {
			later int
			want  Verdict
		}{{0, Good}, {1800, Good}, {1801, Renew}, {3600, Renew}, {3601, Expired}, {1 << 30, Expired}, {-300, Good}, {-301, Future}, {-1 << 30, Future}} {
			if got := s.Check(option, addr, made+uint32(d.later)); got != d.want {
				t.Errorf("made at %d, checked %d s later: %s, want %s", made, d.later, got, d.want)
			}
		}
	}
}

func TestLengths(t *testing.T) {
	s, addr := secrets(t, secretA), netip.MustParseAddr("192.0.2.1")
	for n := range 50 {
		want := Malformed
		switch {
		case n == 8:
			want = ClientOnly
		case n >= 16 && n <= 40:
			want = Bad
		}
		if got := s.Check(make([]byte, n), addr, 0); got != want {
			t.Errorf("%d octets: %s, want %s", n, got, want)
		}
	}
}

// TestOneBit turns every bit of a cookie, and of the client's address: none may
// still be accepted.
func TestOneBit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bytes := func(n int, label string) []byte { return rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, label) }
		s, err := New(Secret(bytes(16, "secret")))
		if err != nil {
			t.Fatal(err)
		}
		client, raw, now := [ClientSize]byte(bytes(8, "client")), bytes(rapid.SampledFrom([]int{4, 16}).Draw(t, "family"), "addr"), rapid.Uint32().Draw(t, "now")
		addr, _ := netip.AddrFromSlice(raw)
		c := s.Make(client, addr, now)
		option := append(client[:], c[:]...)
		if got := s.Check(option, addr, now); got != Good {
			t.Fatalf("own cookie is %s", got)
		}
		for i := range 8 * len(option) {
			option[i/8] ^= 1 << (i % 8)
			if got := s.Check(option, addr, now); got.Valid() {
				t.Fatalf("%s with bit %d turned", got, i)
			}
			option[i/8] ^= 1 << (i % 8)
		}
		for i := range 8 * len(raw) {
			raw[i/8] ^= 1 << (i % 8)
			other, _ := netip.AddrFromSlice(raw)
			if got := s.Check(option, other, now); got != Bad {
				t.Fatalf("%s for a client that differs in bit %d", got, i)
			}
			raw[i/8] ^= 1 << (i % 8)
		}
	})
}

func TestMappedAddress(t *testing.T) {
	s := secrets(t, secretA)
	plain := s.Make([8]byte{}, netip.MustParseAddr("192.0.2.1"), 7)
	if mapped := s.Make([8]byte{}, netip.MustParseAddr("::ffff:192.0.2.1"), 7); mapped != plain {
		t.Errorf("%x for the mapped address, want %x", mapped, plain)
	}
}

// TestRollover goes through the steps with two servers, one always a step ahead: a
// client's cookie is good at both all the time.
func TestRollover(t *testing.T) {
	steps := []*Secrets{secrets(t, secretA4), secrets(t, secretA4, secretB4), secrets(t, secretB4, secretA4), secrets(t, secretB4)}
	addr, client := netip.MustParseAddr("2001:db8::1"), [8]byte{9}
	for i := 1; i < len(steps); i++ {
		for _, pair := range [][2]*Secrets{{steps[i-1], steps[i]}, {steps[i], steps[i-1]}} {
			c := pair[0].Make(client, addr, 1000)
			if got := pair[1].Check(append(client[:], c[:]...), addr, 1000); !got.Valid() {
				t.Errorf("between steps %d and %d: %s", i-1, i, got)
			}
		}
	}
	c := steps[0].Make(client, addr, 1000)
	if got := steps[3].Check(append(client[:], c[:]...), addr, 1000); got != Bad {
		t.Errorf("a cookie of a forgotten secret is %s, want bad", got)
	}
}

func TestRandom(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.1")
	a, b := Random(), Random()
	if a.Make([8]byte{}, addr, 1) == b.Make([8]byte{}, addr, 1) {
		t.Error("two servers made the same cookie")
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ text, problem string }{
		{secretA + "\n", ""},
		{"# active\n" + secretA + "\r\n\n# staged\n  " + strings.ToUpper(secretB4) + "  ", ""},
		{"", "f: no cookie secret, expected a line of 32"},
		{"# none\n", "f: no cookie secret"},
		{secretA + "\nabc\n", "f:2: 3 characters, expected the 32 hexadecimal"},
		{"g" + secretA[1:], "f:1: a character is no hexadecimal digit"},
		{secretA + "\n" + secretA, "f: take cookie secrets: the second is equal to the first"},
		{secretA + "\n" + secretB4 + "\n" + secretA4, "f: take cookie secrets: 3 found, expected 1 or 2"},
	} {
		_, err := Parse([]byte(c.text), "f")
		switch {
		case c.problem == "" && err != nil:
			t.Errorf("%q: %v", c.text, err)
		case c.problem != "" && (err == nil || !strings.Contains(err.Error(), c.problem)):
			t.Errorf("%q: %v, want %q", c.text, err, c.problem)
		case err != nil && strings.Contains(err.Error(), secretA[1:]):
			t.Errorf("%q: the error tells the secret: %v", c.text, err)
		}
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets")
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, []byte(secretA), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr("192.0.2.1")
	if s.Make([8]byte{}, addr, 1) != secrets(t, secretA).Make([8]byte{}, addr, 1) {
		t.Error("another secret than the file's")
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "mode 0644") {
		t.Errorf("a file open to everybody: %v", err)
	}
	if err := os.WriteFile(path, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "more than 65536 octets") {
		t.Errorf("a large file: %v", err)
	}
}

func FuzzCheck(f *testing.F) {
	s := secrets(f, secretB4, secretA4)
	for _, seed := range []string{"", "2464c4abcf10c957", "2464c4abcf10c957010000005cf79f111f8130c3eee29480", "22681ab97d52c298010000005cf7c57926556bd0934c72f8"} {
		f.Add(octets(f, seed), []byte{192, 0, 2, 1}, uint32(1559741961))
	}
	f.Fuzz(func(t *testing.T, option, raw []byte, now uint32) {
		addr, _ := netip.AddrFromSlice(raw) // also the zero Addr
		v := s.Check(option, addr, now)
		if v == None || v >= Verdicts {
			t.Fatalf("verdict %d", v)
		}
		if v.Valid() && len(option) != ClientSize+ServerSize {
			t.Fatalf("%d octets are %s", len(option), v)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", secretA, secretA + "\n" + secretB4, "# x\n\n" + secretA + "\r\n", "\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse(text, "f")
		if (s == nil) == (err == nil) {
			t.Fatalf("secrets %v and error %v", s, err)
		}
	})
}

func TestNoAllocation(t *testing.T) {
	s, addr := secrets(t, secretB4, secretA4), netip.MustParseAddr("2001:db8::1")
	option := make([]byte, 24)
	option[8] = version
	if n := testing.AllocsPerRun(100, func() {
		s.Make([8]byte(option), addr, 1)
		s.Check(option, addr, 1)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkMake(b *testing.B) {
	s := secrets(b, secretA)
	for _, a := range []string{"192.0.2.1", "2001:db8::1"} {
		addr := netip.MustParseAddr(a)
		b.Run(a, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				s.Make([8]byte{1}, addr, uint32(i))
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	s, addr, client := secrets(b, secretB4, secretA4), netip.MustParseAddr("192.0.2.1"), [8]byte{1}
	made := s.Make(client, addr, 1)
	good := append(client[:], made[:]...)
	forged := append([]byte(nil), good...)
	forged[23]++
	for name, option := range map[string][]byte{"good": good, "forged": forged} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				s.Check(option, addr, 1)
			}
		})
	}
}
