package operator

import (
	"crypto/ed25519"
	"strings"
	"testing"
	"time"
)

func key(t testing.TB, name string) (ed25519.PrivateKey, string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	line, err := Line(name, public)
	if err != nil {
		t.Fatal(err)
	}
	return private, line
}

// TestText signs a text and refuses what is altered, somebody else's, for something else or
// beyond an operator's rights.
func TestText(t *testing.T) {
	alice, line := key(t, "alice")
	bob, other := key(t, "bob")
	o, err := Parse("operators", []byte(line+" config,hold\n"+other+" freeze\n"))
	if err != nil {
		t.Fatal(err)
	}
	text := []byte("zonecast review 1\nrepository X\n")
	signature := SignText(alice, text)
	if err := o.VerifyText("alice", "config", text, signature); err != nil {
		t.Fatal(err)
	}
	statement, err := Sign(alice, "alice", "freeze", "internal", nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		who       string
		text      string
		signature []byte
		says      string
	}{
		{"alice", string(text), nil, "is missing, and only operators may act here"},
		{"alice", string(text) + "x", signature, "is not that of operator alice: another key, or something else was signed"},
		{"alice", string(text), SignText(bob, text), "is not that of operator alice: another key, or something else was signed"},
		{"bob", string(text), signature, "is not that of operator bob: another key, or something else was signed"},
		{"bob", string(text), SignText(bob, text), `bob lacks the right "config"`},
		{"carol", string(text), signature, `operator "carol" is not known here`},
		{"alice", string(statement[ed25519.SignatureSize:]), statement[:ed25519.SignatureSize], "is not that of operator alice: another key, or something else was signed"},
	} {
		if err := o.VerifyText(c.who, "config", []byte(c.text), c.signature); err == nil || err.Error() != c.says {
			t.Errorf("%s: %v, want %s", c.who, err, c.says)
		}
	}
	if _, _, err := o.Verify(append(SignText(alice, statement[ed25519.SignatureSize:]), statement[ed25519.SignatureSize:]...), time.Time{}); err == nil {
		t.Error("the signature of a text is taken for that of a statement")
	}
}

// TestStatement signs and verifies, and refuses what is altered, old, early, or of somebody
// else.
func TestStatement(t *testing.T) {
	alice, line := key(t, "alice")
	bob, _ := key(t, "bob")
	o, err := Parse("operators", []byte("# people\n"+line+" # on call\n\n"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	args := Args{"name": "www.example.net.", "for_ms": 60000, "rdata": []string{"192.0.2.1"}}
	signed, err := Sign(alice, "alice", "override set", "internal", args, now)
	if err != nil {
		t.Fatal(err)
	}
	s, id, err := o.Verify(signed, now.Add(Skew))
	if err != nil || s.Operator != "alice" || len(id) != 16 || !s.At().Equal(now) {
		t.Fatalf("%+v, %s, %v", s, id, err)
	}
	if err := s.Is("override set", "internal", Args{"rdata": []string{"192.0.2.1"}, "name": "www.example.net.", "for_ms": 60000}); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{
		`signed "override set", not "freeze"`:    s.Is("freeze", "internal", args),
		`for dataset "internal", not "external"`: s.Is("override set", "external", args),
		`not with {"name":"x."}`:                 s.Is("override set", "internal", Args{"name": "x."}),
	} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %s", err, what)
		}
	}
	again, err := Sign(alice, "alice", "override set", "internal", args, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, other, err := o.Verify(again, now); err != nil || other == id {
		t.Errorf("signed again it has the id %s, %v", other, err)
	}
	for i := range signed {
		bad := []byte(string(signed))
		bad[i] ^= 1
		if _, _, err := o.Verify(bad, now); err == nil {
			t.Fatalf("octet %d is altered, and nobody notices", i)
		}
	}
	forged, err := Sign(bob, "alice", "override set", "internal", args, now)
	if err != nil {
		t.Fatal(err)
	}
	unknown, err := Sign(bob, "bob", "override set", "internal", args, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		signed []byte
		at     time.Time
		says   string
	}{
		{forged, now, "signature is not that of operator alice"},
		{unknown, now, `operator "bob" is not known here`},
		{signed, now.Add(Skew + time.Second), "more than 5m0s apart"},
		{signed, now.Add(-Skew - time.Second), "more than 5m0s apart"},
		{nil, now, "has 0 octets"},
		{make([]byte, MaxSigned+1), now, "expected 65 to 131072"},
	} {
		if _, _, err := o.Verify(c.signed, c.at); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v, want %s", err, c.says)
		}
	}
	if _, _, err := o.Verify(signed, time.Time{}); err != nil {
		t.Errorf("at any time: %v", err)
	}
}

// TestOperatorsRefused: what is wrong with a file is said with its line.
func TestOperatorsRefused(t *testing.T) {
	_, line := key(t, "alice")
	for text, says := range map[string]string{
		"":                             "no operator in it",
		"alice\n":                      "operators:1: 1 words, expected a name, a key and",
		"\nAlice AAAA\n":               `operators:2: name is "Alice"`,
		"alice AAAA\n":                 `operators:1: key of alice is "AAAA", expected the 32 octets`,
		line + "\n" + line:             "operators:2: alice is there twice",
		line + " freeze more\n":        "operators:1: 4 words",
		line + " freeze,all\n":         `operators:1: right "all" of alice is unknown, expected override, freeze`,
		strings.Repeat("#", maxFile+1): "octets of operators",
	} {
		if _, err := Parse("operators", []byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.40q: %v, want %s", text, err, says)
		}
	}
}

// TestRights: an operator may do what his line says, and everything when it says nothing.
func TestRights(t *testing.T) {
	_, alice := key(t, "alice")
	_, robot := key(t, "robot")
	o, err := Parse("operators", []byte(alice+"\n"+robot+" import,expect\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range Rights {
		if !o.May("alice", r) || o.May("robot", r) != (r == "import" || r == "expect") || o.May("bob", r) {
			t.Errorf("right %s: alice %v, robot %v, bob %v", r, o.May("alice", r), o.May("robot", r), o.May("bob", r))
		}
	}
}

// FuzzVerify holds that nothing that was not signed passes, and that nothing panics.
func FuzzVerify(f *testing.F) {
	alice, line := key(f, "alice")
	o, err := Parse("operators", []byte(line))
	if err != nil {
		f.Fatal(err)
	}
	signed, err := Sign(alice, "alice", "freeze", "internal", Args{"source": "rule/*"}, time.Unix(1e9, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add(signed[:70])
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, _, err := o.Verify(b, time.Time{}); err == nil && string(b) != string(signed) {
			t.Fatalf("%q passes as %+v", b, s)
		}
	})
}

// FuzzOperators holds that nothing panics.
func FuzzOperators(f *testing.F) {
	_, line := key(f, "alice")
	f.Add([]byte(line))
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, err := Parse("x", b); err == nil && len(o.Names()) == 0 {
			t.Fatal("nobody, and no error")
		}
	})
}
