package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMapsOfDatasets: a host that carries two datasets answers the names of each by its own
// maps; a drain counts in both.
func TestMapsOfDatasets(t *testing.T) {
	t.Parallel() // it waits more than it works
	in := newSources(t)
	in.zone("example.net", zoneOf("www A 192.0.2.80\n"))
	in.zone("example.org", zoneOf("www A 192.0.2.90\n"))
	u := StartUp(t, UpOptions{Hosts: 1, Zones: in.zones, Args: []string{"--policy-datasets", "internal=*", "--policy-datasets", "edge=example.org"}})
	run := func(want int, args ...string) string {
		t.Helper()
		stdout, stderr, status := u.Run(args...)
		if status != want {
			t.Fatalf("zonecast %s: status %d, expected %d\n%s%s", strings.Join(args, " "), status, want, stdout, stderr)
		}
		return stdout + stderr
	}
	file := func(name string, last int) string {
		path := filepath.Join(t.TempDir(), name)
		in.must(os.WriteFile(path, fmt.Appendf(nil, `maps => { m => { datacenters => [aa, bb], nets => { 198.51.100.0/24 => [aa, bb], 203.0.113.0/24 => [bb, aa] } } }
resources => { www => { map => m, dcmap => { aa => 192.0.2.%d, bb => 192.0.2.%d } } }
`, last, last+1), 0o644))
		return path
	}
	args := func(name, owner string, last int) []string {
		return []string{"map", "import", name, file(name, last), "--format", "gdnsd", "--resource", "www", "--for", owner, "--unknown-pops", "add", "--reason", "test"}
	}
	if out := run(1, args("outside", "www.example.org", 11)...); !strings.Contains(out, `map "outside" holds for www.example.org., which is in dataset edge, expected names of internal`) || !strings.Contains(out, "--dataset edge imports it there") {
		t.Errorf("a map for names of another dataset: %s", out)
	}
	run(0, append(args("outside", "www.example.org", 11), "--dataset", "edge")...)
	run(0, args("inside", "www.example.net", 21)...)
	answers := func(org, net [2]string) {
		t.Helper()
		until(t, func() string {
			for owner, want := range map[string][2]string{"www.example.org": org, "www.example.net": net} {
				for i, client := range []string{"198.51.100.7", "203.0.113.7"} {
					if got := askedFor(t, u.Hosts[0], owner, client); got != want[i] {
						return fmt.Sprintf("%s for %s is %s, expected %s", owner, client, got, want[i])
					}
				}
			}
			return ""
		})
	}
	answers([2]string{"192.0.2.11", "192.0.2.12"}, [2]string{"192.0.2.21", "192.0.2.22"})
	for dataset, want := range map[string]string{"edge": "outside", "internal": "inside"} {
		until(t, func() string {
			if out := run(0, "map", "list", "--dataset", dataset); !strings.Contains(out, "\n"+want+" ") || strings.Count(out, "\n") != 2 {
				return dataset + " has " + out
			}
			return ""
		})
	}
	if stdout, stderr, status := Run(t, "pop", "drain", "aa", "--reason", "test", "--store", "embedded", "--dir", u.Dir); status != 0 {
		t.Fatalf("pop drain: %s%s", stdout, stderr)
	}
	answers([2]string{"192.0.2.12", "192.0.2.12"}, [2]string{"192.0.2.22", "192.0.2.22"})
}
