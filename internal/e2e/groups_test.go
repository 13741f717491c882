package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDatasetsPage types what docs/datasets.md shows, with the division that it gives.
func TestDatasetsPage(t *testing.T) {
	t.Parallel() // it waits more than it works
	page := filepath.Join(Root(), "docs", "datasets.md")
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	toml := regexp.MustCompile("(?s)```toml\n(.*?)```").FindSubmatch(b)
	if toml == nil {
		t.Fatal("the page has no division of datasets")
	}
	file := filepath.Join(t.TempDir(), "zonecast.toml")
	if err := os.WriteFile(file, toml[1], 0o600); err != nil {
		t.Fatal(err)
	}
	in := newSources(t)
	in.zone("corp.example.com", zoneOf("www A 192.0.2.80\n"))
	in.zone("example.org", zoneOf("www A 192.0.2.90\n"))
	dir, bin := filepath.Join(t.TempDir(), "data"), t.TempDir()
	u := StartUp(t, UpOptions{Dir: dir, Zones: in.zones, Args: []string{"--config", file}})
	if err := os.Symlink(Build(t), filepath.Join(bin, "zonecast")); err != nil {
		t.Fatal(err)
	}
	typeSession(t, page, t.TempDir(), []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "ZONECAST_API=" + u.API, "ZONECAST_STORE=embedded", "ZONECAST_DIR=" + dir, "ZONECAST_TIMEOUT=60s"})
	// The host of the other group has no name of theirs.
	eventually(t, "each has its names", func() error {
		for i, want := range []string{"REFUSED", "NOERROR 192.0.2.99", "NOERROR 192.0.2.99"} {
			if got := addressOf(t.Context(), u.Hosts[i], "www.example.org"); got != want {
				return fmt.Errorf("host%d answers %q, expected %q", i, got, want)
			}
		}
		return nil
	})
}

// TestGroups: two datasets and groups of hosts that carry them. A change reaches the hosts of
// its dataset alone; a host moved to another group takes that dataset up and answers it, and
// drops its own, without a restart; all of it outlives one.
func TestGroups(t *testing.T) {
	t.Parallel() // it waits more than it works
	in := newSources(t)
	in.zone("example.net", zoneOf("www A 192.0.2.80\n"))
	in.zone("example.org", zoneOf("www A 192.0.2.90\n"))
	dir := filepath.Join(t.TempDir(), "data")
	o := UpOptions{Dir: dir, Zones: in.zones, Args: []string{"--policy-datasets", "internal=*", "--policy-datasets", "edge=example.org"}}
	u := StartUp(t, o)
	groups := func(args ...string) string {
		t.Helper()
		stdout, stderr, status := Run(t, append(append([]string{"groups"}, args...), "--store", "embedded", "--dir", dir)...)
		if status != 0 {
			t.Fatalf("groups %q: status %d\n%s%s", args, status, stdout, stderr)
		}
		return stdout
	}
	all := func(owner string, want ...string) {
		t.Helper()
		eventually(t, owner, func() error {
			for i, h := range u.Hosts {
				if got := addressOf(t.Context(), h, owner); got != want[i] {
					return fmt.Errorf("host%d answers %q, expected %q", i, got, want[i])
				}
			}
			return nil
		})
	}
	// One process speaks of both: of a name that which has it.
	says := func(want string, args ...string) {
		t.Helper()
		eventually(t, strings.Join(args, " "), func() error {
			stdout, stderr, status := u.Run(args...)
			if status != 0 || !strings.Contains(stdout, want) {
				return fmt.Errorf("%s: status %d\n%s%sexpected %q", strings.Join(args, " "), status, stdout, stderr, want)
			}
			return nil
		})
	}
	says("192.0.2.90", "get", "www.example.org", "A")
	says("192.0.2.80", "get", "www.example.net", "A")
	says("zone/example.org", "why", "www.example.org", "A")
	says("dataset edge  version ", "status")
	says("dataset internal  version ", "status")
	says("192.0.2.90", "export", "json", "--dataset", "edge")
	if out, _, _ := u.Run("status", "--dataset", "edge"); strings.Contains(out, "dataset internal") {
		t.Errorf("status of edge says\n%s", out)
	}
	no, net, org := "REFUSED", "NOERROR 192.0.2.80", "NOERROR 192.0.2.90"
	// Without groups hosts carry what their options say: here both.
	all("www.example.net", net, net, net)
	all("www.example.org", org, org, org)
	if text := groups(); !strings.HasPrefix(text, "no groups") {
		t.Errorf("groups says %q", text)
	}

	groups("set", "inside", "internal", "--hosts", "host0")
	groups("set", "edge", "edge", "--hosts", "host1,host2", "--reason", "names of the inside stay there")
	all("www.example.net", net, no, no)
	all("www.example.org", no, org, org)
	// A change reaches its hosts.
	in.zone("example.org", zoneOf("www A 192.0.2.91\n"))
	in.zone("example.net", zoneOf("www A 192.0.2.81\n"))
	net, org = "NOERROR 192.0.2.81", "NOERROR 192.0.2.91"
	all("www.example.net", net, no, no)
	all("www.example.org", no, org, org)
	// Each has a record of freshness.
	for i, dataset := range []string{"internal", "edge", "edge"} {
		eventually(t, "freshness", func() error {
			data, rcode := lookup(t, u.Hosts[i], "_fresh."+dataset+".zonecast.internal", "TXT")
			if len(data) != 1 || !strings.HasPrefix(data[0], `"v=`) {
				return fmt.Errorf("host%d answers %s %q", i, rcode, data)
			}
			return nil
		})
	}
	// What people do about a name goes to the dataset that has it, and is waited for there.
	says("answered by 2 hosts", "override", "set", "www.example.org", "A", "192.0.2.99", "--for", "10m", "--reason", "a test", "--wait", "--timeout", "60s")
	all("www.example.org", no, "NOERROR 192.0.2.99", "NOERROR 192.0.2.99")
	var overrides []struct{ ID string }
	u.JSON(&overrides, "override", "list")
	if len(overrides) != 1 {
		t.Fatalf("overrides are %+v", overrides)
	}
	says("answered by", "override", "clear", overrides[0].ID, "--reason", "over", "--wait", "--timeout", "60s")
	all("www.example.org", no, org, org)
	// A host is moved while it runs.
	groups("set", "edge", "edge", "--hosts", "host2")
	groups("set", "inside", "internal", "--hosts", "host0,host1")
	all("www.example.net", net, net, no)
	all("www.example.org", no, no, org)
	if text := groups(); !strings.Contains(text, "host0 host1") {
		t.Errorf("groups says\n%s", text)
	}
	// One of two groups carries both; a dataset that does not exist is refused.
	groups("set", "both", "edge", "internal", "--hosts", "host1")
	all("www.example.net", net, net, no)
	all("www.example.org", no, org, org)
	if _, stderr, status := Run(t, "groups", "set", "edge", "egde", "--hosts", "host2", "--store", "embedded", "--dir", dir); status == 0 || !strings.Contains(stderr, "no dataset egde") {
		t.Errorf("a dataset that does not exist: status %d, %s", status, stderr)
	}

	u.Stop()
	u = StartUp(t, o)
	all("www.example.net", net, net, no)
	all("www.example.org", no, org, org)
	groups("remove", "both")
	groups("remove", "inside")
	groups("remove", "edge")
	all("www.example.net", net, net, net)
	all("www.example.org", org, org, org)
}
