package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestConfigurationPage does what docs/configuration.md says: blocks with a file's name
// are written to that file, the commands of ```console blocks are typed, and what they
// print is what the page shows; "…" stands for anything on a line.
func TestConfigurationPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin, dir := t.TempDir(), t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, "zonecast")); err != nil {
		t.Fatal(err)
	}
	files, commands := 0, 0
	for _, m := range regexp.MustCompile("(?ms)^```(\\w+)(?: (\\S+))?\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		kind, name, text := m[1], m[2], m[3]
		if name != "" {
			file := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			files++
			continue
		}
		if kind != "console" {
			continue
		}
		for _, part := range strings.Split("\n"+text, "\n$ ")[1:] {
			command, want, _ := strings.Cut(part, "\n")
			want = strings.TrimSuffix(want, "\n")
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			sh := exec.CommandContext(ctx, "bash", "-c", command)
			sh.Dir = dir
			sh.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
			got, _ := sh.CombinedOutput() // commands that fail are shown as well
			cancel()
			expr := strings.ReplaceAll(regexp.QuoteMeta(want), "…", "[^\n]*")
			if !regexp.MustCompile("^" + expr + "\n?$").Match(got) {
				t.Errorf("$ %s\ngives:\n%s\nthe page says:\n%s", command, got, want)
			}
			commands++
		}
	}
	if files < 8 || commands < 10 {
		t.Errorf("%d files and %d commands found", files, commands)
	}
}
