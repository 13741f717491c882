//go:build interop

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// cluster is a real etcd of three members, as users run it.
type cluster struct {
	members []*member
}

type member struct {
	args []string
	p    *Process
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	const n = 3
	base := FreePorts(t, 2*n)
	client := func(i int) string { return fmt.Sprintf("http://127.0.0.1:%d", base+i) }
	peer := func(i int) string { return fmt.Sprintf("http://127.0.0.1:%d", base+n+i) }
	var initial []string
	for i := range n {
		initial = append(initial, fmt.Sprintf("member%d=%s", i, peer(i)))
	}
	c := &cluster{}
	dir := t.TempDir()
	for i := range n {
		c.members = append(c.members, &member{args: []string{
			"--name", fmt.Sprintf("member%d", i), "--data-dir", filepath.Join(dir, fmt.Sprint(i)),
			"--listen-client-urls", client(i), "--advertise-client-urls", client(i),
			"--listen-peer-urls", peer(i), "--initial-advertise-peer-urls", peer(i),
			"--initial-cluster", strings.Join(initial, ","), "--log-level", "error",
		}})
		c.start(t, i)
	}
	for i := range 2 * n { // also so that nobody else takes the ports
		until(t, func() string {
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", base+i))
			if err != nil {
				return err.Error()
			}
			_ = conn.Close()
			return ""
		})
	}
	return c
}

func (c *cluster) start(t *testing.T, i int) {
	t.Helper()
	path, err := exec.LookPath("etcd")
	if err != nil {
		t.Fatal("etcd is not installed: scripts/install-test-deps.sh installs it")
	}
	m := c.members[i]
	if m.p, err = launch(t, path, fmt.Sprintf("etcd member %d", i), nil, m.args); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.p.Kill)
}

// endpoints is the store for --store.
func (c *cluster) endpoints() string {
	var all []string
	for _, m := range c.members {
		all = append(all, strings.TrimPrefix(m.args[5], "http://"))
	}
	return "etcd://" + strings.Join(all, ",")
}

// shell runs the commands of a person whose machine resolves no name: /etc/resolv.conf and
// /etc/hosts are empty there.
type shell struct {
	*testing.T
	api, key string
}

func newShell(t *testing.T, api, key string) shell {
	t.Helper()
	s := shell{t, api, key}
	if out, err := s.isolated("getent", "hosts", "localhost.example.net"); err == nil {
		t.Fatalf("a name is resolved: %s", out)
	}
	return s
}

func (s shell) isolated(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(s.Context(), 30*time.Second)
	defer cancel()
	script := `mount --bind /dev/null /etc/resolv.conf && mount --bind /dev/null /etc/hosts && exec "$@"`
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", script, "sh", name}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// try runs a command of the binary.
func (s shell) try(args ...string) (string, error) {
	if slices.Contains(args, "--reason") {
		args = append(args, "--author", "alice", "--key", s.key)
	}
	return s.isolated(Build(s.T), append(args, "--api", s.api)...)
}

// do runs a command that must work, within a time that a person takes for at once.
func (s shell) do(args ...string) string {
	s.Helper()
	began := time.Now()
	out, err := s.try(args...)
	if err != nil {
		s.Fatalf("zonecast %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	if took := time.Since(began); took > 5*time.Second {
		s.Errorf("zonecast %s took %v", strings.Join(args, " "), took)
	}
	return out
}

// says runs a command whose output must have all of want.
func (s shell) says(want string, args ...string) string {
	s.Helper()
	out := ""
	until(s.T, func() string {
		if out = s.do(args...); !strings.Contains(out, want) {
			return fmt.Sprintf("zonecast %s says\n%swant %q in it", strings.Join(args, " "), out, want)
		}
		return ""
	})
	return out
}

// id gives the word behind one in a command's output.
func id(t *testing.T, out, before string) string {
	t.Helper()
	f := strings.Fields(out)
	for i := range len(f) - 1 {
		if f[i] == before {
			return strings.Trim(f[i+1], ":`")
		}
	}
	t.Fatalf("no word behind %q in\n%s", before, out)
	return ""
}

// TestEmergencyInterop is a whole emergency, from a shell that resolves no name, on a store
// of three etcd members of which the first to die is whichever: a robot takes half of a zone
// away and is held, a name is overridden, sources are frozen, a mistake is rolled back; and
// then with all members dead hosts go on answering, and commands say what is the matter.
func TestEmergencyInterop(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("mounts an empty /etc/resolv.conf, which root may")
	}
	store := startCluster(t)
	in := newSources(t)
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "h%d A 192.0.2.%d\n", i, i%250)
		}
		return b.String()
	}
	in.zone("example.net", zoneOf("www A 192.0.2.80\n"))
	in.zone("example.org", zoneOf(many(100)))
	dir := t.TempDir()
	key, operators := filepath.Join(dir, "alice.key"), filepath.Join(dir, "operators")
	line, stderr, status := Run(t, "operator", "keygen", "alice", "--out", key)
	if status != 0 {
		t.Fatal(stderr)
	}
	in.write(operators, line)
	a := NewApart(t, ApartOptions{Zones: in.zones, Store: store.endpoints(), Operators: operators, Extra: shortTerms()})
	a.Start(kinds...)
	u := &Up{Hosts: a.Hosts}
	holds(t, u, "h99.example.org", "A", "NOERROR 192.0.2.99")
	sh := newShell(t, a.API, key)
	sh.says("host2", "status")

	dead := rand.IntN(len(store.members))
	store.members[dead].p.Kill()
	t.Logf("member %d is dead", dead)
	// The leaders' sessions may have to be taken over first.
	sh.says("host2", "status")

	in.zone("example.org", zoneOf(many(40)))
	held := sh.says("would remove 60 of ", "holds")
	holds(t, u, "h99.example.org", "A", "NOERROR 192.0.2.99")
	holdID := id(t, held, "hold")

	began := time.Now()
	out := sh.do("override", "set", "www.example.net", "A", "192.0.2.7", "--for", "1h", "--reason", "the new one burns", "--wait")
	t.Logf("override with one of three members dead, command and all hosts: %v; %s", time.Since(began), Machine())
	holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.7")
	sh.says("192.0.2.7", "override", "list")
	sh.says("override/", "why", "www.example.net")
	sh.do("override", "clear", id(t, out, "override"), "--reason", "it is cool again", "--wait")
	holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.80")

	out = sh.do("freeze", "--source", "zone/*", "--reason", "look first")
	in.zone("example.net", zoneOf("www A 192.0.2.81\n"))
	sh.says("look first", "status")
	time.Sleep(100 * time.Millisecond)
	holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.80")
	sh.do("thaw", id(t, out, "freeze"), "--reason", "looked")
	holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.81")

	sh.do("release", holdID, "--reason", "they are really gone")
	holds(t, u, "h99.example.org", "A", "NXDOMAIN")
	history := sh.do("history", "--limit", "2")
	before := strings.Fields(strings.Split(history, "\n")[2])[0]
	sh.says("60 removed", "diff", before)
	sh.do("rollback", before, "--reason", "they were not", "--wait")
	holds(t, u, "h99.example.org", "A", "NOERROR 192.0.2.99")
	sh.says("PINNED", "status")
	sh.do("release", "--reason", "they will be registered anew", "--wait")
	holds(t, u, "h99.example.org", "A", "NXDOMAIN")
	audit := sh.do("audit", "--versions")
	for _, want := range []string{"override set", "override cleared", "freeze", "thaw", "held", "hold release", "rollback", "release", "the new one burns", "zone/example.org (by "} {
		if !strings.Contains(audit, want) {
			t.Errorf("the audit has no %q:\n%s", want, audit)
		}
	}

	for _, m := range store.members {
		m.p.Kill()
	}
	out, err := sh.try("override", "set", "www.example.net", "A", "192.0.2.7", "--for", "1h", "--reason", "again")
	if err == nil || !strings.Contains(out, "store") {
		t.Errorf("without a store an override is answered with %v and\n%s", err, out)
	}
	holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.81")

	// Break glass.
	everywhere := strings.Join(a.Direct, ",")
	var took Figures
	set := func(address, length string) string {
		t.Helper()
		began := time.Now()
		out := sh.do("override", "set", "www.example.net", "A", address, "--for", length, "--reason", "no store", "--direct", everywhere)
		took = append(took, time.Since(began))
		for _, h := range u.Hosts {
			if got := asked(t, h, "www.example.net", "A"); got != "NOERROR "+address {
				t.Fatalf("%s answers %s after\n%s", h, got, out)
			}
		}
		return id(t, out, "override")
	}
	for i := range 20 {
		set(fmt.Sprintf("192.0.2.%d", 100+i), "1h")
	}
	t.Logf("an override handed to %d hosts without a store, signed, durable and answered by all, with the command: %s; %s", len(a.Hosts), took, Machine())
	sh.says("A by alice until", "override", "list", "--direct", everywhere)
	if out, err := sh.try("override", "set", "www.example.com", "A", "192.0.2.7", "--for", "1h", "--reason", "no zone", "--direct", everywhere); err == nil || !strings.Contains(out, "www.example.com. is in no zone of dataset internal") {
		t.Errorf("in no zone: %v\n%s", err, out)
	}
	began = time.Now()
	set("192.0.2.9", "2s")
	holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.81")
	if late := time.Since(began) - 2*time.Second; late < -100*time.Millisecond || late > time.Second {
		t.Errorf("a direct override ended %v after its time", late)
	}
	cleared := set("192.0.2.10", "1h")
	sh.do("override", "clear", cleared, "--reason", "wrong", "--direct", everywhere)
	holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.81")
	kept := set("192.0.2.11", "1h")
	// It survives agents and authorities.
	for _, kind := range []string{"agent", "authority"} {
		for _, s := range a.Of(kind) {
			s.Kill()
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
		}
	}
	holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.11")

	// The way back.
	for i := range store.members {
		store.start(t, i)
	}
	sh.says("host2", "status")
	seen := map[string]bool{}
	until(t, func() string {
		for _, h := range u.Hosts { // without a gap
			seen[asked(t, h, "www.example.net", "A")] = true
		}
		for _, at := range a.Direct {
			out, err := sh.try("override", "list", "--direct", at)
			if err != nil || !strings.Contains(out, " 0 direct overrides") {
				return fmt.Sprintf("%v\n%s", err, out)
			}
		}
		return ""
	})
	delete(seen, "NOERROR 192.0.2.11")
	if len(seen) > 0 {
		t.Errorf("while it was taken in hosts answered also %v", slices.Collect(maps.Keys(seen)))
	}
	sh.says("override "+kept, "override", "list")
	audit = sh.says("direct override taken in", "audit")
	for _, want := range []string{"direct override ended", "cleared: by alice (wrong)", "its time was over", "cleared: replaced by", "no store"} {
		if !strings.Contains(audit, want) {
			t.Errorf("the audit has no %q:\n%s", want, audit)
		}
	}
	sh.do("override", "clear", kept, "--reason", "the store is back", "--wait")
	holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.81")
	in.zone("example.net", zoneOf("www A 192.0.2.82\n"))
	holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.82")
	if f := a.Faults(); len(f) > 0 {
		t.Errorf("ended by themselves: %q", f)
	}
}
