package operator

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFile: a file that is removed, broken, emptied or a directory leaves the operators
// that were read last, and says so; once it can be read, what it says holds.
func TestFile(t *testing.T) {
	line := func(name string) string {
		public, _, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		l, err := Line(name, public)
		if err != nil {
			t.Fatal(err)
		}
		return l + "\n"
	}
	alice, bob := line("alice"), line("bob")
	path := filepath.Join(t.TempDir(), "operators")
	write := func(text string) func() error {
		return func() error {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
			return os.WriteFile(path, []byte(text), 0o600)
		}
	}
	var f File
	for _, step := range []struct {
		what    string
		do      func() error
		names   string // of the operators; "none": there are none
		news    bool
		trouble string // "": none
	}{
		{"there is none yet", func() error { return nil }, "none", true, "no such file"},
		{"broken from the start", write("nonsense\n"), "none", true, "operators:1: 1 words"},
		{"written", write(alice), "alice", true, ""},
		{"as it was", func() error { return nil }, "alice", false, ""},
		{"gone", func() error { return os.Remove(path) }, "alice", true, "no such file"},
		{"still gone", func() error { return nil }, "alice", false, "no such file"},
		{"back", write(alice), "alice", true, ""},
		{"another", write(bob + alice), "alice bob", false, ""},
		{"broken", write(bob + "alice\n"), "alice bob", true, "operators:2: 1 words"},
		{"empty", write(""), "alice bob", true, "no operator in it"},
		{"a directory", func() error { _ = os.Remove(path); return os.Mkdir(path, 0o755) }, "alice bob", true, "is a directory"},
		{"mended", write(bob), "bob", true, ""},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		all, news, err := f.Now(path)
		names := "none"
		if all != nil {
			names = strings.Join(all.Names(), " ")
		}
		if names != step.names || news != step.news || (err == nil) != (step.trouble == "") || err != nil && !strings.Contains(err.Error(), step.trouble) {
			t.Errorf("%s: %s, news %v, %v; want %s, news %v, %q", step.what, names, news, err, step.names, step.news, step.trouble)
		}
	}
}
