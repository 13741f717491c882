//go:build interop && linux

package viptest

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/e2e"
)

// loopback is an address of the router that is not on the hosts' link.
const loopback = "203.0.113.1"

// frr starts FRR (zebra and bgpd) as the router.
func frr(l *lab) {
	l.t.Helper()
	const where = "/usr/lib/frr/"
	if _, err := os.Stat(where + "bgpd"); err != nil {
		l.t.Skip("FRR is not there: scripts/install-test-deps.sh installs it (package frr)")
	}
	// It changes to its account, which cannot pass the parent of the test's directory.
	dir, err := os.MkdirTemp("", "zonecast-frr-")
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { os.RemoveAll(dir) })
	l.frr = dir
	l.on(l.router, "chown", "frr:frr", dir)
	l.on(l.router, "ip", "addr", "add", loopback+"/32", "dev", "lo")
	conf := fmt.Sprintf("log stdout\nip prefix-list vip seq 5 permit 192.0.2.0/24 ge 32\nipv6 prefix-list vip6 seq 5 permit 2001:db8::/32 ge 128\nrouter bgp %d\n bgp router-id %s\n no bgp ebgp-requires-policy\n bgp always-compare-med\n", routerAS, l.router.Addr)
	var four, six string
	for _, h := range l.hosts {
		conf += fmt.Sprintf(" neighbor %[1]s remote-as %[2]d\n neighbor %[1]s timers 3 9\n neighbor %[1]s passive\n", h.Addr, cmp.Or(h.as, hostAS))
		if h.password != "" {
			conf += fmt.Sprintf(" neighbor %s password %s\n", h.Addr, h.password)
		}
		if h.peer == loopback {
			conf += fmt.Sprintf(" neighbor %[1]s ebgp-multihop 5\n neighbor %[1]s update-source %[2]s\n", h.Addr, loopback)
		}
		four += fmt.Sprintf("  neighbor %[1]s prefix-list vip in\n", h.Addr)
		six += fmt.Sprintf("  neighbor %[1]s activate\n  neighbor %[1]s prefix-list vip6 in\n", h.Addr)
	}
	conf += " address-family ipv4 unicast\n" + four + "  maximum-paths 16\n exit-address-family\n address-family ipv6 unicast\n" + six + "  maximum-paths 16\n exit-address-family\n"
	file := filepath.Join(dir, "frr.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		l.t.Fatal(err)
	}
	l.on(l.router, "chown", "frr:frr", file)
	common := func(daemon string) []string {
		return []string{where + daemon, "-i", filepath.Join(dir, daemon+".pid"), "-z", dir + "/z", "--vty_socket", dir, "-A", "127.0.0.1"}
	}
	e2e.StartCommand(l.t, "zebra", l.router.Argv(append(common("zebra"), "--log", "stdout")...)...)
	e2e.StartCommand(l.t, "bgpd", l.router.Argv(append(common("bgpd"), "-f", file)...)...)
}

// vtysh asks FRR.
func (l *lab) vtysh(command string) string {
	l.t.Helper()
	return l.on(l.router, "vtysh", "--vty_socket", l.frr, "-d", "bgpd", "-c", command)
}

// TestInteropFRR: FRR as the router: one session with graceful restart, one over a hop, one with a
// password. Queries spread over all; a killed authority's routes go; an announcer with graceful restart
// is killed and started again, and nothing is lost; one without is drained, and nothing is lost.
func TestInteropFRR(t *testing.T) {
	i := 0
	l := newLab(t, options{hosts: 3, router: frr, announce: []string{"--announcer-drain-for", "500ms"}, change: func(h *host) {
		switch i++; i {
		case 1:
			h.options = append(h.options, "--announcer-bgp-graceful-restart", "1m")
		case 2: // through d1, which forwards
			h.peer = loopback
			h.options = append(h.options, "--announcer-bgp-multihop", "5")
			h.lab.on(h.lab.hosts[0].Host, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.eth0.send_redirects=0")
			h.lab.on(h.lab.hosts[0].Host, "ip", "route", "add", loopback, "via", h.lab.router.Addr.String())
			h.lab.on(h.Host, "ip", "route", "add", loopback, "via", h.lab.hosts[0].Addr.String())
		case 3:
			h.password = "asecret"
			h.passwords(h.password)
		}
	}})
	all := []string{"d1", "d2", "d3"}
	if said := l.vtysh("show bgp neighbors " + l.hosts[1].Addr.String()); !strings.Contains(said, "External BGP neighbor may be up to 5 hops away") {
		t.Errorf("d2 is no neighbour over hops:\n%s", said)
	}
	for _, vip := range []string{vip4, vip6} {
		q := startLoad(l, vip, 24, 20*time.Millisecond)
		l.poll("every host answers", func() bool {
			q.mu.Lock()
			defer q.mu.Unlock()
			return len(q.answered) == 3
		})
		if answered, lost, sent := q.end(); len(lost) > 0 || len(answered) != 3 {
			t.Errorf("%s: of %d queries %d are lost, answers are of %v", vip, sent, len(lost), answered)
		}
	}

	// Killed and started again with graceful restart, drained without: nothing is lost.
	q := startLoad(l, vip4, 24, 20*time.Millisecond)
	l.hosts[0].announcer.Kill()
	l.poll("FRR waits for d1", func() bool {
		return strings.Contains(l.vtysh("show bgp ipv4 unicast "+vip4+"/32"), "stale")
	})
	if ways := l.ways(vip4); !slices.Equal(ways, all) {
		t.Errorf("with d1 restarting the ways are %v", ways)
	}
	l.hosts[0].startAnnouncer()
	l.poll("d1 is back", func() bool { return !strings.Contains(l.vtysh("show bgp ipv4 unicast "+vip4+"/32"), "stale") })
	l.await(3)
	l.order("d2", "drain")
	l.poll("nothing is sent to d2", func() bool { return slices.Equal(l.ways(vip4), []string{"d1", "d3"}) })
	l.order("d2", "")
	l.await(3)
	if _, lost, sent := q.end(); len(lost) > 0 {
		t.Errorf("a graceful restart and a drain lost %d of %d queries", len(lost), sent)
	}

	// A killed authority, and stale data elsewhere.
	killed := time.Now()
	q = startLoad(l, vip6, 24, 20*time.Millisecond)
	l.hosts[2].authority.Kill()
	l.poll("nothing is sent to d3", func() bool { return slices.Equal(l.ways(vip4), all[:2]) && slices.Equal(l.ways(vip6), all[:2]) })
	time.Sleep(300 * time.Millisecond)
	_, lost, sent := q.end()
	t.Logf("authority killed behind FRR, IPv6: %d of %d queries lost, the last one sent %v after", len(lost), sent, lastAfter(lost, killed))
	l.order("d1", "hold")
	l.hosts[0].fresh("")
	l.poll("d1 is held, not preferred", func() bool { return slices.Equal(l.ways(vip4), []string{"d2"}) })
	if said := l.vtysh("show bgp ipv4 unicast " + vip4 + "/32"); !strings.Contains(said, "65101 65101") || !strings.Contains(said, "metric 1000") || !strings.Contains(said, "graceful-shutdown") {
		t.Errorf("FRR has\n%s", said)
	}
}
