package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestIncludedFileIsNoticed changes a file that a zone file includes, and one that it
// includes since.
func TestIncludedFileIsNoticed(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		old := time.Now().Add(-time.Hour) // not written while it is read
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	const head = "$TTL 300\n@ SOA ns1 admin 1 7200 900 604800 60\n@ NS ns1\nns1 A 192.0.2.53\n"
	write("example.net", head+"$INCLUDE hosts\n")
	write("hosts", "www A 192.0.2.1\n")
	d, err := newDataFiles([]string{filepath.Join(dir, "example.net")}, "zone")
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "image")
	load := func() {
		t.Helper()
		if _, err := d.Load(image); err != nil {
			t.Fatal(err)
		}
		if d.Changed() {
			t.Fatal("changed at once")
		}
	}
	load()
	write("hosts", "$INCLUDE more\nwww A 192.0.2.22\n")
	if !d.Changed() {
		t.Error("an included file changed, and nobody noticed")
	}
	write("more", "mail A 192.0.2.3\n")
	load()
	write("more", "mail A 192.0.2.44\n")
	if !d.Changed() {
		t.Error("a file that is included since changed, and nobody noticed")
	}
	load()
	write("example.net", head)
	load()
	write("more", "mail A 192.0.2.5\n")
	if d.Changed() {
		t.Error("a file that is no longer included changed, and that counts")
	}
}
