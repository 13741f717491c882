package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// keys are the paths of all keys in a JSON document, the elements of a list taken
// together.
func keys(at string, v any, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			into[at+"."+k] = true
			if k != "options" { // whose keys are the user's
				keys(at+"."+k, x, into)
			}
		}
	case []any:
		for _, x := range v {
			keys(at+"[]", x, into)
		}
	}
}

// TestDocumentedJSON runs every command of docs/cli.md, and what it prints has the
// keys of the example.
func TestDocumentedJSON(t *testing.T) {
	in := newSources(t)
	u := StartUp(t, UpOptions{Hosts: 1, Zones: in.zones, Fleet: in.fleet, Args: []string{"--json"}, Line: `{"ready":true`})
	var snapshots []string
	until(t, func() string { // a host may answer a version before a snapshot of it is there
		var err error
		if snapshots, err = filepath.Glob(filepath.Join(u.Dir, "snapshots", "*.snapshot")); err != nil || len(snapshots) == 0 {
			return fmt.Sprintf("no snapshots (%v)", err)
		}
		return ""
	})
	checked := 0
	tree, digest := filepath.Join(t.TempDir(), "tree"), ""
	for _, x := range session(t, filepath.Join(Root(), "docs", "cli.md")) {
		args := strings.Fields(x.command)[1:]
		var stdout string
		switch args[0] {
		case "up":
			stdout = u.Output()
		case "config":
			var stderr string
			var status int
			if !slices.Contains([]string{"compile", "test", "from-zone"}, args[1]) {
				stdout = reviewed(t, u, tree, &digest, args)
				break
			}
			if stdout, stderr, status = Run(t, configArgs(t, args, in.zones)...); status != 0 {
				t.Errorf("%s: status %d, %s", x.command, status, stderr)
			}
		case "host": // asks nobody, and finds fault with a host that has no options
			stdout, _, _ = Run(t, args...)
		case "check":
			stdout, _, _ = Run(t, append(args[:2], snapshots...)...)
		default:
			var stderr string
			var status int
			if stdout, stderr, status = u.Run(args...); status != 0 || stderr != "" {
				t.Errorf("%s: status %d, %s", x.command, status, stderr)
			}
		}
		sets := [2]map[string]bool{{}, {}}
		for i, text := range []string{x.want, stdout} {
			lines := strings.Split(strings.TrimSpace(text), "\n")
			for _, line := range lines {
				var v any
				if err := json.Unmarshal([]byte(line), &v); err != nil {
					t.Fatalf("%s: %v in %s", x.command, err, line)
				}
				keys("", v, sets[i])
			}
		}
		if args[0] == "vip" && len(sets[1]) == 0 {
			clear(sets[0]) // there are none here; TestInteropGuide has some
		}
		if args[0] == "rings" { // there are none here; TestRings reads those that are
			maps.DeleteFunc(sets[0], func(k string, _ bool) bool {
				return (strings.HasPrefix(k, ".trial") || strings.HasPrefix(k, ".rings[]")) && !sets[1][k]
			})
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(sets[0])), slices.Sorted(maps.Keys(sets[1]))); diff != "" {
			t.Errorf("%s: keys, documented (-) and found (+):\n%s", x.command, diff)
		}
		checked++
	}
	if checked < 10 {
		t.Errorf("docs/cli.md has %d examples", checked)
	}
	if strings.Contains(u.Log(), "\x1b") || os.Getenv("NO_COLOR") == "" && strings.Contains(u.Output(), "\x1b") {
		t.Error("colours where there is no terminal")
	}
}

// reviewed runs a command of review; "tree" is a directory that gets something to propose
// once it is there, and DIGEST the last that was printed.
func reviewed(t *testing.T, u *Up, tree string, digest *string, args []string) string {
	args = slices.Clone(args)
	for i, a := range args {
		switch a {
		case "tree":
			args[i] = tree
		case "DIGEST":
			args[i] = *digest
		}
	}
	stdout, stderr, status := u.Run(args...)
	if status != 0 && (args[1] != "plan" || status != 4) || stderr != "" {
		t.Errorf("%q: status %d, %s", args, status, stderr)
	}
	if args[1] == "checkout" {
		if err := os.WriteFile(filepath.Join(tree, "example.com.star"), []byte(program("example.com", `a("www", "192.0.2.80"),`)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var v struct{ Digest string }
	if err := json.Unmarshal([]byte(stdout), &v); err == nil && v.Digest != "" {
		*digest = v.Digest
	}
	return stdout
}

// configArgs puts files that are there in the place of those of the page.
func configArgs(t *testing.T, args []string, zones string) []string {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"t.thrift":    "struct A { 1: string x = 'x' }\n",
		"a.star":      "load('t.thrift', 'A')\nprint('hello')\nexport(A())\n",
		"a_test.star": "def test_a():\n    print('seen')\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	args = slices.Clone(args)
	for i, a := range args {
		switch a {
		case ".":
			args[i] = dir
		case "old/example.net":
			args[i] = filepath.Join(zones, "example.net")
		case "zones":
			args[i] = filepath.Join(dir, "zones")
		}
	}
	return args
}
