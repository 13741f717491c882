package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestRulesOfUsers follows a directory of rules in Starlark: what one makes is answered, and
// one that eats memory costs its own process and says so, while the others go on.
func TestRulesOfUsers(t *testing.T) {
	t.Parallel()
	in := newSources(t)
	in.zone("example.net", zoneOf("www A 192.0.2.80\n"))
	dir := t.TempDir()
	rule := func(name, text string) { in.write(filepath.Join(dir, name), text) }
	rule("racks.star", "def server(s):\n  return cname('rack-' + s.name, s.name)\n")
	rule("eats.star", "def server(s):\n  x = 'x' * 1000\n  for i in range(40):\n    x = x + x\n")
	const fleet = 200
	var lines strings.Builder
	for i := range fleet {
		fmt.Fprintf(&lines, `{"name":"h%d.example.net","role":"app","site":"sfo","addresses":["198.51.100.%d"]}`+"\n", i, i+1)
	}
	in.write(in.fleet, lines.String())
	tag := "def server(s):\n  if s.label in %s:\n    fail('no tag')\n  return txt('tag-' + s.name, '%s')\n"
	rule("tags.star", fmt.Sprintf(tag, "[]", "one"))
	u := StartUp(t, UpOptions{Zones: in.zones, Fleet: in.fleet, Args: []string{"--mutator-rules-dir", dir}})
	if out, stderr, status := u.Run("register", "web1.example.net", "--address", "192.0.2.1", "--role", "web", "--site", "ams"); status != 0 {
		t.Fatal(out, stderr)
	}
	holds(t, u, "rack-web1.example.net", "CNAME", "NOERROR web1.example.net.")
	holds(t, u, "web1.example.net", "A", "NOERROR 192.0.2.1")
	rule("racks.star", "def server(s):\n  return txt('rack-' + s.name, 'in ' + s.site)\n")
	holds(t, u, "rack-web1.example.net", "TXT", `NOERROR "in ams"`)
	until(t, func() string {
		out, stderr, _ := u.Run("status")
		if !strings.Contains(out, "rule/eats") || !strings.Contains(out, "more memory than it may have") && !strings.Contains(out, "is not run for a while") {
			return out + stderr
		}
		return ""
	})
	if err := os.Remove(filepath.Join(dir, "racks.star")); err != nil {
		t.Fatal(err)
	}
	holds(t, u, "rack-web1.example.net", "TXT", "NXDOMAIN")

	// A rule that fails for 1 % of the servers: the others move, what those had stays, and
	// whoever asks is told where and since when.
	holds(t, u, "tag-h7.example.net", "TXT", `NOERROR "one"`)
	rule("tags.star", fmt.Sprintf(tag, "['h7', 'h107']", "two"))
	for i := range fleet {
		want := `NOERROR "two"`
		if i%100 == 7 {
			want = `NOERROR "one"`
		}
		holds(t, u, fmt.Sprintf("tag-h%d.example.net", i), "TXT", want)
	}
	told := regexp.MustCompile(`rule/tags fails (for this server )?since 20\d\d-[^\n]* tags\.star:3:9: server h7\.example\.net: fail: no tag`)
	for _, name := range []string{"h7.example.net", "tag-h7.example.net"} {
		until(t, func() string {
			if out, stderr, _ := u.Run("why", name); !told.MatchString(out) {
				return out + stderr
			}
			return ""
		})
	}
	if out, _, _ := u.Run("why", "tag-h8.example.net"); strings.Contains(out, "rule/tags fails") {
		t.Errorf("of a server for which it does not fail: %s", out)
	}
	var status struct {
		Sources []struct {
			Source, Error string
			Failing       int
			Since         int64 `json:"since_ms"`
		}
	}
	out, stderr, code := u.Run("status", "--json")
	if err := json.Unmarshal([]byte(out), &status); code != 0 || err != nil {
		t.Fatal(out, stderr, err)
	}
	said := false
	for _, s := range status.Sources {
		said = said || s.Source == "rule/tags" && s.Failing == 2 && s.Since > 0 && strings.HasSuffix(s.Error, "fail: no tag (and 1 more)")
	}
	if !said {
		t.Errorf("status says %s", out)
	}
	rule("tags.star", fmt.Sprintf(tag, "[]", "three"))
	holds(t, u, "tag-h7.example.net", "TXT", `NOERROR "three"`)
	until(t, func() string {
		if out, _, _ := u.Run("why", "h7.example.net"); strings.Contains(out, "rule/tags fails") {
			return out
		}
		return ""
	})
}
