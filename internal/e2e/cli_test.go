package e2e

import (
	"encoding/json"
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
	snapshots, err := filepath.Glob(filepath.Join(u.Dir, "snapshots", "*.snapshot"))
	if err != nil || len(snapshots) == 0 {
		t.Fatalf("no snapshots (%v)", err)
	}
	checked := 0
	for _, x := range session(t, filepath.Join(Root(), "docs", "cli.md")) {
		args := strings.Fields(x.command)[1:]
		var stdout string
		switch args[0] {
		case "up":
			stdout = u.Output()
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
