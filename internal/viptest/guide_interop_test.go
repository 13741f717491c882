//go:build interop && linux

package viptest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/e2e"
	"github.com/zonecast/zonecast/internal/nettest"
)

// TestInteropGuide does what docs/host.md says under "Three hosts behind one VIP": three hosts under
// `run host`, BIRD as their router and a control plane, each in a namespace of its own, with the
// options, BIRD's file and the commands of the page, and other addresses. Then all commands of `vip`
// in docs/cli.md.
func TestInteropGuide(t *testing.T) {
	n := nettest.New(t)
	l := &lab{t: t, dir: t.TempDir(), router: n.Host("router", nettest.Line{}), client: n.Host("client", nettest.Line{})}
	control := n.Host("control", nettest.Line{})
	for i := range 3 {
		l.hosts = append(l.hosts, &host{Host: n.Host(fmt.Sprintf("dns%d", i+1), nettest.Line{}), lab: l})
	}
	page := func(file, begin string) string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(e2e.Root(), "docs", file))
		if err != nil {
			t.Fatal(err)
		}
		_, text, found := strings.Cut(string(b), begin)
		text, _, _ = strings.Cut(text, "\n## ")
		if !found {
			t.Fatalf("docs/%s has no %q", file, begin)
		}
		return text
	}
	guide := page("host.md", "## Three hosts behind one VIP")
	blocks := strings.Split(guide, "```")
	if len(blocks) != 5 {
		t.Fatalf("docs/host.md has %d parts there, expected 5 with two files", len(blocks))
	}
	addresses := []string{"198.51.100.1", l.router.Addr.String()}
	for i, h := range l.hosts {
		addresses = append(addresses, fmt.Sprintf("198.51.100.%d", i+2), h.Addr.String())
	}
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(l.dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}

	l.startStore()
	binary := e2e.Build(t)
	api := []string{"--api", "127.0.0.1:7353"}
	up := e2e.StartCommand(t, "control plane", control.Argv(binary, "up", "--dir", filepath.Join(l.dir, "up"), "--hosts", "1", "--store", "etcd+unix://"+l.dir+"/s",
		"--zones", filepath.Join(e2e.Root(), "examples", "wikimedia-cut", "zones"), "--http", control.Addr.String()+":7380", "--presenter-guards=false")...)
	if _, err := up.WaitLine("ready", 2*time.Minute); err != nil {
		t.Fatal(err)
	}

	// Step 1: the hosts.
	for i, h := range l.hosts {
		options := strings.NewReplacer("   ", "", "etcd://192.0.2.11:2379,192.0.2.12:2379,192.0.2.13:2379", "etcd+unix://"+l.dir+"/s",
			`"dns1"`, fmt.Sprintf("%q\ndir = %q\nkeys = [%q]", h.Name, filepath.Join(l.dir, h.Name), filepath.Join(l.dir, "up", "keys", "publisher.key.pub")),
			"198.51.100.2", h.Addr.String(), "198.51.100.1", l.router.Addr.String()).Replace(strings.TrimPrefix(blocks[1], "toml\n"))
		if i == 0 && strings.Count(options, l.dir) != 3 {
			t.Fatalf("the guide's options are\n%s", options)
		}
		h.zone = write(h.Name+".toml", options)
		e2e.StartCommand(t, "run host "+h.Name, h.Argv(binary, "run", "host", "--config", h.zone)...)
	}
	// Step 2: the router.
	l.on(l.router, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.fib_multipath_hash_policy=1", "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.eth0.send_redirects=0")
	if !strings.Contains(guide, "net.ipv4.fib_multipath_hash_policy=1") {
		t.Error("the guide has lost the setting of the router's kernel")
	}
	bird, err := exec.LookPath("bird")
	if err != nil {
		bird = "/usr/sbin/bird"
	}
	conf := write("bird.conf", strings.NewReplacer(addresses...).Replace(blocks[3]))
	l.bird = e2e.StartCommand(t, "bird", l.router.Argv(bird, "-f", "-c", conf, "-s", l.dir+"/b", "-P", l.dir+"/bird.pid")...)
	ways := func(names ...string) {
		t.Helper()
		l.poll(fmt.Sprintf("the router's ways are %v", names), func() bool { return slices.Equal(l.ways(vip4), names) })
	}
	ways("dns1", "dns2", "dns3")
	// Step 3: the doctor.
	for _, h := range l.hosts {
		said := ""
		l.poll("a doctor of "+h.Name+" who finds nothing bad", func() bool {
			argv := h.Argv(binary, "host", "doctor", "--config", h.zone)
			out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
			said = string(out)
			return err == nil
		})
		if !strings.Contains(said, "vip addresses") {
			t.Errorf("the doctor of %s says\n%s", h.Name, said)
		}
	}
	l.on(l.client, "ip", "route", "add", vip4+"/32", "via", l.router.Addr.String())
	if out := l.on(l.client, "dig", "+short", "@"+vip4, "_fresh.internal.zonecast.internal", "TXT"); !strings.Contains(out, "v=") {
		t.Errorf("through the VIP: %s", out)
	}

	// Step 4, and docs/cli.md: its commands in their order.
	zonecast := func(args ...string) string {
		t.Helper()
		return l.on(control, append(append([]string{binary}, args...), api...)...)
	}
	commands := 0
	_, block, found := strings.Cut(page("cli.md", "## vip\n"), "```\n")
	block, _, ends := strings.Cut(block, "```")
	if !found || !ends {
		t.Fatal("docs/cli.md has no commands there")
	}
	for line := range strings.Lines(block) {
		rest, is := strings.CutPrefix(line, "$ zonecast ")
		if !is {
			continue
		}
		rest, _, _ = strings.Cut(rest, " #")
		reason := "none"
		if at := strings.Index(rest, `"`); at >= 0 {
			reason = strings.Trim(strings.TrimSpace(rest[at:]), `"`)
			rest = rest[:at]
		}
		args := strings.Fields(rest)
		if reason != "none" {
			args = append(args, reason)
		}
		said := zonecast(args...)
		commands++
		switch args[1] {
		case "status":
			if !strings.Contains(said, "vip dns: announced by 3 of 3 hosts") {
				t.Errorf("vip status says\n%s", said)
			}
		case "drain":
			ways("dns1", "dns3")
			if said := zonecast("vip", "status"); !strings.Contains(said, "dns2 drain") || !strings.Contains(said, reason) {
				t.Errorf("with dns2 drained vip status says\n%s", said)
			}
		case "undrain", "release":
			ways("dns1", "dns2", "dns3")
		case "hold":
			var views []struct{ Hosts []struct{ Order string } }
			l.poll("every host has the order", func() bool {
				views = nil
				return json.Unmarshal([]byte(zonecast("vip", "status", "--json")), &views) == nil && len(views) == 1 && len(views[0].Hosts) == 3 &&
					!slices.ContainsFunc(views[0].Hosts, func(h struct{ Order string }) bool { return h.Order != "hold" })
			})
		case "force":
			ways("dns1", "dns2")
		}
	}
	if commands < 7 {
		t.Errorf("docs/cli.md has %d commands there, expected 7 at least", commands)
	}
}
