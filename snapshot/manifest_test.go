package snapshot

import (
	"bytes"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func testKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func publicOf(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

func testManifest() *Manifest {
	return &Manifest{
		Dataset: "internal", Version: 12, Time: 1700000000000, Digest: Digest{1}, Chain: Chain{2}, Content: 11, Oldest: 3,
		Snapshot: Ref{
			ID: ID{3}, Size: 4711, Version: 10, Digest: Digest{4}, Chain: Chain{5}, Time: 1699999999000,
			URLs: []string{"http://192.0.2.1:8080/snapshots/<id>?a=1&b=2"},
		},
	}
}

func TestManifestSignature(t *testing.T) {
	key, other := testKey(1), testKey(2)
	b, err := testManifest().Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "manifest.bin", string(b))
	got, err := VerifyManifest(b, []ed25519.PublicKey{publicOf(other), publicOf(key)})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(testManifest(), got); diff != "" {
		t.Error(diff)
	}
	if got, err := DecodeManifest(b); err != nil || got.Version != 12 {
		t.Errorf("%+v, %v", got, err)
	}
	for what, keys := range map[string][]ed25519.PublicKey{"none": nil, "another": {publicOf(other)}, "short": {publicOf(key)[:31]}} {
		if _, err := VerifyManifest(b, keys); err == nil {
			t.Errorf("keys %s: verified", what)
		}
	}
	for bit := range 8 * len(b) {
		bad := bytes.Clone(b)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := VerifyManifest(bad, []ed25519.PublicKey{publicOf(key)}); err == nil {
			t.Fatalf("bit %d flipped: verified %s", bit, bad)
		}
	}
	if _, err := VerifyManifest(append(b, '\n'), []ed25519.PublicKey{publicOf(key)}); err == nil {
		t.Error("a line end more: verified")
	}
	for n := range b {
		if m, err := VerifyManifest(b[:n], []ed25519.PublicKey{publicOf(key)}); err == nil && (!m.Snapshot.ID.IsZero() || m.Version != 12) {
			t.Errorf("%d of %d octets: verified %+v", n, len(b), m)
		}
	}
}

// TestManifestAndFiles: what hosts need seldom lies beside the manifest, and is what was signed or
// nothing.
func TestManifestAndFiles(t *testing.T) {
	key := testKey(1)
	keys := []ed25519.PublicKey{publicOf(key)}
	whole, err := testManifest().Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	signed, files := Detach(whole)
	if len(signed) > 256 || len(files) == 0 {
		t.Errorf("%d octets are signed, beside a list of files of %d; expected at most 256", len(signed), len(files))
	}
	m, err := VerifyManifest(signed, keys)
	if err != nil {
		t.Fatal(err)
	}
	want := testManifest()
	want.Snapshot = Ref{}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Error(diff)
	}
	for _, from := range [][]byte{signed, whole} {
		again, err := Attach(from, files)
		if err != nil || !bytes.Equal(again, whole) {
			t.Errorf("put together again: %q, %v", again, err)
		}
	}
	other := bytes.Replace(files, []byte("192.0.2.1"), []byte("192.0.2.2"), 1)
	for what, files := range map[string][]byte{"none": nil, "another": other, "longer": append(bytes.Clone(files), ' ')} {
		if _, err := Attach(signed, files); err == nil || !strings.Contains(err.Error(), "sha256") {
			t.Errorf("list of files: %s: error is %v", what, err)
		}
		if len(files) > 0 {
			if _, err := VerifyManifest(append(bytes.Clone(signed), files...), keys); err == nil {
				t.Errorf("list of files: %s: verified", what)
			}
		}
	}
	bare := testManifest()
	bare.Snapshot = Ref{}
	if whole, err = bare.Sign(key); err != nil {
		t.Fatal(err)
	}
	if again, err := Attach(whole, files); err != nil || !bytes.Equal(again, whole) {
		t.Errorf("a manifest without a list of files, and one beside it: %q, %v", again, err)
	}
	if _, err := VerifyManifest(append(bytes.Clone(whole), files...), keys); err == nil {
		t.Error("a manifest without a list of files, and one behind it: verified")
	}
}

// TestTwoKeys: while the publisher's key changes, whoever knows the old one or the new one
// believes; a signature of ours that does not hold is not made good by another.
func TestTwoKeys(t *testing.T) {
	old, next, stranger := testKey(1), testKey(2), testKey(3)
	b, err := testManifest().Sign(old, next)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{KeyID(publicOf(old)), KeyID(publicOf(next))}, SignedBy(b)); diff != "" {
		t.Error(diff)
	}
	for _, keys := range [][]ed25519.PublicKey{{publicOf(old)}, {publicOf(next)}, {publicOf(stranger), publicOf(next)}} {
		if _, err := VerifyManifest(b, keys); err != nil {
			t.Error(err)
		}
	}
	if _, err := VerifyManifest(b, []ed25519.PublicKey{publicOf(stranger)}); err == nil {
		t.Error("believed a stranger")
	}
	e, err := openEnvelope(b)
	if err != nil {
		t.Fatal(err)
	}
	e.signatures[1].value = sign(stranger, e.payload).value
	forged := e.append(nil)
	if _, err := VerifyManifest(forged, []ed25519.PublicKey{publicOf(old), publicOf(next)}); err == nil {
		t.Error("believed a manifest with a forged second signature")
	}
	if _, err := testManifest().Sign(old, next, next, next, next); err == nil {
		t.Error("signed by five")
	}
	for bit := range 8 * len(b) {
		bad := bytes.Clone(b)
		bad[bit/8] ^= 1 << (bit % 8)
		// A signature under another name is no signature, and the other one holds.
		if m, err := VerifyManifest(bad, []ed25519.PublicKey{publicOf(old), publicOf(next)}); err == nil && !cmp.Equal(m, testManifest()) {
			t.Fatalf("bit %d flipped: verified %s", bit, bad)
		}
	}
}

// TestManifestOfTheFuture: unknown fields at the end are ignored; another format is not taken,
// and the error says who is to be upgraded.
func TestManifestOfTheFuture(t *testing.T) {
	key := testKey(1)
	keys := []ed25519.PublicKey{publicOf(key)}
	m := testManifest()
	m.Snapshot = Ref{}
	e := envelope{payload: append(m.payload(nil), "\x07of later programs"...)}
	e.signatures = []signature{sign(key, e.payload)}
	got, err := VerifyManifest(e.append(nil), keys)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, got); diff != "" {
		t.Error(diff)
	}
	for text, want := range map[string]string{
		`{"payload":"{}","key":"34750f98bd59fcfc","signature":""}`: "upgrade that",
		"\x03" + string(e.append(nil)[1:]):                         "upgrade this one",
		"garbage":                                                  "begins with",
		"":                                                         "empty",
	} {
		if _, err := VerifyManifest([]byte(text), keys); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: error is %v, expected one with %q", text, err, want)
		}
	}
	for what, spoil := range map[string]func(*Manifest){
		"version 0":            func(m *Manifest) { m.Version = 0 },
		"content of later":     func(m *Manifest) { m.Content = m.Version + 1 },
		"oldest is newer":      func(m *Manifest) { m.Oldest = m.Version + 1 },
		"no name of a dataset": func(m *Manifest) { m.Dataset = "INTERNAL" },
	} {
		m := testManifest()
		m.Snapshot = Ref{}
		spoil(m)
		e := envelope{payload: m.payload(nil)}
		e.signatures = []signature{sign(key, e.payload)}
		if _, err := VerifyManifest(e.append(nil), keys); err == nil {
			t.Errorf("%s: verified", what)
		}
	}
}

func TestManifestChecks(t *testing.T) {
	for what, spoil := range map[string]func(*Manifest){
		"snapshot ahead":            func(m *Manifest) { m.Snapshot.Version = 13 },
		"snapshot of version 0":     func(m *Manifest) { m.Snapshot.Version = 0 },
		"snapshot without size":     func(m *Manifest) { m.Snapshot.Size = 0 },
		"snapshot of other content": func(m *Manifest) { m.Snapshot.Version = 12 },
		"valid before it is signed": func(m *Manifest) { m.Signed, m.ValidUntil = 2, 1 },
		"too many URLs":             func(m *Manifest) { m.Snapshot.URLs = []string{strings.Repeat("x", MaxManifest)} },
	} {
		m := testManifest()
		spoil(m)
		if _, err := m.Sign(testKey(1)); err == nil {
			t.Errorf("%s: signed", what)
		}
	}
}

func FuzzDecodeManifest(f *testing.F) {
	b, err := testManifest().Sign(testKey(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(b))
	signed, _ := Detach(b)
	f.Add(string(signed))
	f.Add("\x02\x00\x00\x01")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := DecodeManifest([]byte(text))
		if err != nil {
			return
		}
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
		again, err := m.Sign(testKey(1))
		if err != nil {
			t.Skip() // a list of files that is larger when it is written anew
		}
		back, err := VerifyManifest(again, []ed25519.PublicKey{publicOf(testKey(1))})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, back, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestKeyFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "key")
	keys := make([]ed25519.PrivateKey, 8)
	var all sync.WaitGroup
	for i := range keys {
		all.Go(func() {
			var err error
			if keys[i], err = LoadOrCreateKey(path); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, k := range keys {
		if !k.Equal(keys[0]) {
			t.Fatal("two processes that started at once have different keys")
		}
	}
	public, err := LoadPublicKeys(path + ".pub")
	if err != nil || len(public) != 1 || !public[0].Equal(keys[0].Public()) {
		t.Errorf("public keys %v, %v", public, err)
	}
	names, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(names) != 2 {
		t.Errorf("files are left over: %v, %v", names, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := LoadPrivateKey(path + ".pub"); err == nil {
		t.Error("a public key was read as a private one")
	}
	if _, err := LoadPublicKeys(path); err == nil {
		t.Error("a private key was read as a public one")
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPrivateKey(path); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("a key that the group can read: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateKey(path); err == nil || !strings.Contains(err.Error(), ".pub") {
		t.Errorf("a public key of another private key: %v", err)
	}
}

// TestSignersOf: who signed is who is found to have, whatever a manifest claims; what holds stays
// when a key comes to be known whose signature was claimed.
func TestSignersOf(t *testing.T) {
	key, second, other := testKey(1), testKey(2), testKey(3)
	b, err := testManifest().Sign(key, second)
	if err != nil {
		t.Fatal(err)
	}
	id := func(k ed25519.PrivateKey) string { return KeyID(publicOf(k)) }
	all := []ed25519.PublicKey{publicOf(other), publicOf(second), publicOf(key)}
	if diff := cmp.Diff([]string{id(key), id(second)}, SignersOf(b, all)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{id(second)}, SignersOf(b, all[:2])); diff != "" {
		t.Error(diff)
	}
	e, err := openEnvelope(b)
	if err != nil {
		t.Fatal(err)
	}
	claim := sign(other, e.payload)
	claim.value = e.signatures[0].value
	e.signatures = append(e.signatures, claim, signature{key: [keyIDSize]byte{1}})
	claimed := e.append(nil)
	if diff := cmp.Diff([]string{id(key), id(second)}, SignersOf(claimed, all)); diff != "" {
		t.Error(diff)
	}
	if _, err := VerifyManifest(claimed, all); err == nil {
		t.Error("a signature of ours that does not hold is taken")
	}
	if _, err := VerifyKept(claimed, all); err != nil {
		t.Error(err)
	}
	for what, keys := range map[string][]ed25519.PublicKey{"none": nil, "claimed": all[:1], "short": {publicOf(key)[:31]}} {
		if _, err := VerifyKept(claimed, keys); err == nil {
			t.Errorf("keys %s: verified", what)
		}
	}
	if ids := SignersOf(claimed[1:], all); ids != nil {
		t.Errorf("what is no manifest is signed by %v", ids)
	}
}

// TestDamagedKeyFile: a file in which a key is damaged, or that is being written, is not one with
// fewer keys.
func TestDamagedKeyFile(t *testing.T) {
	var both []byte
	for seed := range byte(2) {
		b, err := EncodePublicKey(publicOf(testKey(seed + 1)))
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, b...)
	}
	path := filepath.Join(t.TempDir(), "keys.pub")
	load := func(text []byte) (int, error) {
		t.Helper()
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		keys, err := LoadPublicKeys(path)
		return len(keys), err
	}
	if n, err := load(append([]byte("# of two publishers\n"), both...)); n != 2 || err != nil {
		t.Errorf("%d keys, %v", n, err)
	}
	for _, cut := range []int{len(both) - 5, len(both) - 60} {
		if n, err := load(both[:cut]); err == nil || !strings.Contains(err.Error(), "1 of its 2") {
			t.Errorf("cut off after %d octets: %d keys, %v", cut, n, err)
		}
	}
	bad := bytes.Clone(both)
	bad[40] = '?'
	if n, err := load(bad); err == nil || !strings.Contains(err.Error(), "1 of its 2") {
		t.Errorf("damaged: %d keys, %v", n, err)
	}
}
