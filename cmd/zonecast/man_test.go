package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Every command that help shows has a manual page, without a mistake in it if man is here
// to say so.
func TestManPages(t *testing.T) {
	dir := t.TempDir()
	root := newRoot(nil, nil, nil)
	if err := writeMan(root, dir); err != nil {
		t.Fatal(err)
	}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		b, err := os.ReadFile(filepath.Join(dir, manName(c)+".1"))
		if err != nil || !strings.Contains(string(b), ".SH SYNOPSIS\n") {
			t.Errorf("page of %s: %v, %.100q", c.CommandPath(), err, b)
		}
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				walk(sub)
			}
		}
	}
	walk(root)
	b, err := os.ReadFile(filepath.Join(dir, "zonecast-run-host.1"))
	if err != nil || !strings.Contains(string(b), `\-\-host\-leave`) {
		t.Errorf("the page of run host has no --host-leave (%v)", err)
	}
	man, err := exec.LookPath("man")
	if err != nil {
		t.Skip("man is not installed: nobody says whether the pages are right")
	}
	cmd := exec.Command(man, "--warnings", "-l", "-E", "UTF-8", "-Tutf8", "-Z", filepath.Join(dir, "zonecast-run-host.1"), filepath.Join(dir, "zonecast.1"))
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=160")
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil || said.Len() > 0 {
		t.Errorf("man: %v\n%s", err, &said)
	}
}

// What stands in a text is no request to the formatter.
func TestRoff(t *testing.T) {
	if got, want := roff(".x\n'y \\ a-b"), `\&.x`+"\n"+`\&'y \e a\-b`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
