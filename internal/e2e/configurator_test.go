package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repository is a git repository with a work tree.
type repository struct {
	t   *testing.T
	dir string
}

func newRepository(t *testing.T) *repository {
	r := &repository{t, filepath.Join(t.TempDir(), "repository")}
	if out, err := exec.Command("git", "init", "-q", "-b", "main", r.dir).CombinedOutput(); err != nil {
		t.Fatalf("git init: %v: %s", err, out)
	}
	return r
}

// commit writes files (without text: removes) and commits them.
func (r *repository) commit(author, message string, files map[string]string) {
	r.t.Helper()
	for name, text := range files {
		path := filepath.Join(r.dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if text == "" {
			err = os.Remove(path)
		} else if err == nil {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"add", "-A"}, {"-c", "user.name=" + author, "-c", "user.email=" + author + "@example.net", "commit", "-qm", message}} {
		if out, err := exec.Command("git", append([]string{"-C", r.dir}, args...)...).CombinedOutput(); err != nil {
			r.t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
}

func program(apex, records string) string {
	return `load("//zonecast.star", "a", "ns", "soa", "txt", "zone")

export(zone(
    "` + apex + `",
    ttl = 300,
    soa = soa("ns1", "hostmaster", serial = 1, refresh = 2, retry_after = 3, expire = 4, minimum = 5),
    records = [
        ns("@", "ns1"),
        a("ns1", "192.0.2.53"),
        ` + records + `
    ],
))
`
}

// TestFollowedRepository commits to a repository that zonecast follows: what is committed
// is answered, and who did it and where it stands is told; a mistake changes nothing and is
// told with its place.
func TestFollowedRepository(t *testing.T) {
	t.Parallel() // it waits more than it works
	r := newRepository(t)
	r.commit("alice", "Add www", map[string]string{"zones/a.example.com.star": program("a.example.com", `a("www", "192.0.2.80"),`)})
	in := newSources(t)
	u := StartUp(t, UpOptions{Zones: in.zones, Args: []string{"--configurator-remote", r.dir, "--configurator-every", "1s"}})
	holds(t, u, "www.a.example.com", "A", "NOERROR 192.0.2.80")
	r.commit("bob", "Move www\n\nThe old one is full.", map[string]string{"zones/a.example.com.star": program("a.example.com", `a("www", "192.0.2.82"),`)})
	holds(t, u, "www.a.example.com", "A", "NOERROR 192.0.2.82")
	for name, want := range map[string]string{"www.a.example.com": "bob", "ns1.a.example.com": "alice"} {
		out, stderr, status := u.Run("why", name, "A")
		if status != 0 || !strings.Contains(out, "config/zones/a.example.com") || !strings.Contains(out, want) || !strings.Contains(out, "zones/a.example.com.star:") {
			t.Errorf("why %s: %s%s, want it to name %s and the line", name, out, stderr, want)
		}
	}
	r.commit("carol", "A mistake", map[string]string{"zones/a.example.com.star": program("a.example.com", `a("www", "192.0.2.999"),`)})
	until(t, func() string {
		out, stderr, _ := u.Run("status")
		if !strings.Contains(out, "config/@landed") || !strings.Contains(out, "zones/a.example.com.star:10:") {
			return out + stderr
		}
		return ""
	})
	holds(t, u, "www.a.example.com", "A", "NOERROR 192.0.2.82")
	r.commit("carol", "Mend it, and another", map[string]string{
		"zones/a.example.com.star": program("a.example.com", `txt("www", "moved"),`),
		"zones/b.example.com.star": program("b.example.com", `a("www", "192.0.2.84"),`),
	})
	holds(t, u, "www.b.example.com", "A", "NOERROR 192.0.2.84")
	holds(t, u, "www.a.example.com", "TXT", `NOERROR "moved"`)
	holds(t, u, "www.a.example.com", "A", "NOERROR")
	// Rules of users land the same way.
	if out, stderr, status := u.Run("register", "web9.example.net", "--address", "192.0.2.9", "--role", "web", "--site", "ams"); status != 0 {
		t.Fatal(out, stderr)
	}
	r.commit("carol", "Racks", map[string]string{"rules/racks.star": "def server(s):\n  return txt('rack-' + s.name, 'in ' + s.site)\n"})
	holds(t, u, "rack-web9.example.net", "TXT", `NOERROR "in ams"`)
	if out, stderr, status := u.Run("why", "rack-web9.example.net", "TXT"); status != 0 || !strings.Contains(out, "rules/racks.star:2") {
		t.Errorf("why of what a rule made: %s%s", out, stderr)
	}
	r.commit("carol", "Away with it", map[string]string{"zones/b.example.com.star": ""})
	holds(t, u, "www.b.example.com", "A", "REFUSED")
}

// TestReviewPage types what docs/review.md shows.
func TestReviewPage(t *testing.T) {
	u := StartUp(t, UpOptions{Guarded: true})
	bin := t.TempDir()
	if err := os.Symlink(Build(t), filepath.Join(bin, "zonecast")); err != nil {
		t.Fatal(err)
	}
	typeSession(t, filepath.Join(Root(), "docs", "review.md"), t.TempDir(), []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "ZONECAST_API=" + u.API})
}
