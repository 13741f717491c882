//go:build interop && linux

package viptest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/e2e"
	"github.com/zonecast/zonecast/internal/nettest"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/etcd"
)

// The VIP (RFC 5737, RFC 3849), and the AS of router and hosts.
const (
	vip4, vip6 = "192.0.2.53", "2001:db8::53"
	routerAS   = 65000
	hostAS     = 65101
)

// lab is a router, hosts behind it with one VIP, a client, and a store.
type lab struct {
	t      *testing.T
	dir    string
	router *nettest.Host
	client *nettest.Host
	hosts  []*host
	etcd   *e2e.Process
	bird   *e2e.Process // nil with another router
	frr    string       // the directory of FRR; "" with another router
	store  store.Store
}

// host is one DNS host.
type host struct {
	*nettest.Host
	lab                  *lab
	authority, announcer *e2e.Process
	zone                 string
	peerAS               int      // of the router, as the host believes; 0: the right one
	options              []string // of the announcer, besides
	peer                 string   // ADDRESS or ADDRESS:PORT of the router, as the host believes; "": the right one
	as                   int      // as the router has it; 0: the right one, -1: it does not know this host
	password             string   // as the router has it (TCP MD5); "" is none
}

// options say what a lab is.
type options struct {
	hosts    int
	announce []string // options of every announcer
	// router starts it; nil is BIRD.
	router func(l *lab)
	// change is called of every host before anything is started.
	change func(h *host)
	// speak starts what announces a host's routes; nil is startAnnouncer.
	speak func(h *host)
	// cold: nothing is waited for.
	cold bool
}

// newLab starts everything and waits until the router has a route to every host.
func newLab(t *testing.T, o options) *lab {
	t.Helper()
	n := nettest.New(t)
	l := &lab{t: t, dir: t.TempDir()}
	l.router, l.client = n.Host("router", nettest.Line{}), n.Host("client", nettest.Line{})
	for i := range o.hosts {
		h := &host{Host: n.Host(fmt.Sprintf("d%d", i+1), nettest.Line{}), lab: l, options: o.announce}
		if o.change != nil {
			o.change(h)
		}
		l.hosts = append(l.hosts, h)
	}
	l.on(l.router, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.fib_multipath_hash_policy=1",
		"net.ipv6.fib_multipath_hash_policy=1", "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.eth0.send_redirects=0")
	l.on(l.client, "ip", "route", "add", vip4+"/32", "via", l.router.Addr.String())
	l.on(l.client, "ip", "-6", "route", "add", vip6+"/128", "via", l.router.Addr6.String())
	l.on(l.client, "sysctl", "-qw", "net.ipv6.conf.all.accept_redirects=0", "net.ipv6.conf.eth0.accept_redirects=0")
	l.startStore()
	if o.router == nil {
		o.router = bird
	}
	o.router(l)
	for _, h := range l.hosts {
		h.zone = filepath.Join(l.dir, h.Name)
		h.fresh("v=7 t=1790000000000 d=00")
		if o.speak != nil {
			o.speak(h)
		} else {
			h.startAnnouncer()
		}
		h.startAuthority()
	}
	if !o.cold {
		l.await(o.hosts)
	}
	return l
}

// startStore starts etcd on a unix socket, which hosts in all namespaces reach.
func (l *lab) startStore() {
	l.etcd = e2e.Start(l.t, "store", "run", "store", "--etcd-dir", filepath.Join(l.dir, "etcd"), "--etcd-listen", l.dir+"/s")
	if l.store == nil {
		st, err := etcd.Open(context.Background(), etcd.Config{Endpoints: []string{"unix://" + l.dir + "/s"}})
		if err != nil {
			l.t.Fatal(err)
		}
		l.t.Cleanup(func() { _ = st.Close() })
		l.store = st
	}
}

// on runs a command on a host.
func (l *lab) on(h *nettest.Host, command ...string) string {
	l.t.Helper()
	argv := h.Argv(command...)
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s on %s: %v: %s", strings.Join(command, " "), h.Name, err, out)
	}
	return string(out)
}

// fresh writes the host's zones; text is that of the freshness record, "" leaves it away.
func (h *host) fresh(text string) {
	h.lab.t.Helper()
	soa := " 300 IN SOA ns.example.net. h.example.net. 1 3600 600 86400 60\n"
	zones := map[string]string{"example.net": "example.net." + soa + "example.net. 300 IN NS ns.example.net.\nns.example.net. 300 IN A " + vip4 + "\nwho.example.net. 5 IN TXT " + h.Name + "\n"}
	record := "_fresh.internal.zonecast.internal. 0 IN TXT \"" + text + "\"\n"
	if text == "" {
		record = ""
	}
	zones["zonecast.internal"] = "zonecast.internal." + soa + "zonecast.internal. 300 IN NS ns.example.net.\n" + record
	for name, content := range zones {
		path := h.zone + "-" + name + ".zone"
		if err := os.WriteFile(path+".new", []byte(content), 0o644); err != nil {
			h.lab.t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			h.lab.t.Fatal(err)
		}
	}
}

func (h *host) startAuthority() {
	h.lab.t.Helper()
	h.lab.poll(h.Name+" has the VIP's addresses", func() bool {
		out := h.lab.on(h.Host, "ip", "-o", "addr", "show", "lo")
		return strings.Contains(out, vip4+"/32") && strings.Contains(out, vip6+"/128")
	})
	args := []string{e2e.Build(h.lab.t), "serve", "--workers", "1", "--listen", vip4 + ":53,[" + vip6 + "]:53,127.0.0.1:53", h.zone + "-example.net.zone", h.zone + "-zonecast.internal.zone"}
	h.authority = e2e.StartCommand(h.lab.t, "authority "+h.Name, h.Argv(args...)...)
	if _, err := h.authority.WaitLine("ready", time.Minute); err != nil {
		h.lab.t.Fatal(err)
	}
}

func (h *host) startAnnouncer() {
	h.lab.t.Helper()
	h.announcer = e2e.StartCommand(h.lab.t, "announcer "+h.Name, h.Argv(h.arguments()...)...)
}

// arguments are the announcer's; options given twice mean the last.
func (h *host) arguments() []string {
	return append([]string{
		e2e.Build(h.lab.t), "run", "announcer", "--store", "etcd+unix://" + h.lab.dir + "/s", "--announcer-host", h.Name,
		"--announcer-vips", "dns=" + vip4, "--announcer-vips", "dns=" + vip6, "--announcer-bgp-as", fmt.Sprint(hostAS), "--announcer-bgp-local", h.Addr.String(),
		"--announcer-bgp-peers", fmt.Sprintf("%s@%d", cmp.Or(h.peer, h.lab.router.Addr.String()), cmp.Or(h.peerAS, routerAS)), "--announcer-bgp-next-hop6", h.Addr6.String(),
		"--announcer-check-stale-after", "1h", "--announcer-state", filepath.Join(h.lab.dir, h.Name+".state"), "--log-format", "text",
	}, h.options...)
}

// bird starts the router.
func bird(l *lab) {
	l.t.Helper()
	path, err := exec.LookPath("bird")
	if err != nil {
		path = "/usr/sbin/bird"
	}
	conf := "router id " + l.router.Addr.String() + ";\nprotocol device {}\n" +
		"protocol kernel k4 { merge paths on; ipv4 { export all; import none; }; }\nprotocol kernel k6 { merge paths on; ipv6 { export all; import none; }; }\n" +
		"protocol static back { ipv4; route 203.0.113.0/24 blackhole; }\n"
	for _, h := range l.hosts {
		if h.as < 0 {
			continue
		}
		password := ""
		if h.password != "" {
			password = `password "` + h.password + `"; `
		}
		conf += fmt.Sprintf("protocol bgp %s { local %s port 179 as %d; neighbor %s as %d; %sdirect; passive on; hold time 9;\n ipv4 { import where net ~ [ 192.0.2.0/24{32,32} ]; export all; };\n ipv6 { import where net ~ [ 2001:db8::/32{128,128} ]; export none; }; }\n",
			h.Name, l.router.Addr, routerAS, h.Addr, cmp.Or(h.as, hostAS), password)
	}
	file := filepath.Join(l.dir, "bird.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		l.t.Fatal(err)
	}
	l.bird = e2e.StartCommand(l.t, "bird", l.router.Argv(path, "-f", "-c", file, "-s", l.dir+"/b", "-P", l.dir+"/bird.pid")...)
}

// birdc asks BIRD.
func (l *lab) birdc(command ...string) string {
	out, err := exec.Command("birdc", append([]string{"-s", l.dir + "/b"}, command...)...).CombinedOutput()
	if err != nil {
		l.t.Logf("birdc %v: %v", command, err)
	}
	return string(out)
}

// ways are the hosts to which the router's kernel sends what is for the VIP.
func (l *lab) ways(vip string) (names []string) {
	family := "-4"
	if netip.MustParseAddr(vip).Is6() {
		family = "-6"
	}
	var routes []struct {
		Dst, Gateway string
		Via          struct{ Host string }
		Nexthops     []struct {
			Gateway string
			Via     struct{ Host string }
		}
	}
	out := l.on(l.router, "ip", family, "-j", "route", "show")
	if strings.TrimSpace(out) == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(out), &routes); err != nil {
		l.t.Fatalf("%v: %s", err, out)
	}
	for _, r := range routes {
		if r.Dst != vip {
			continue
		}
		for _, h := range l.hosts {
			is := func(gateway, via string) bool {
				at, _ := netip.ParseAddr(cmp.Or(gateway, via))
				return at == h.Addr || at == h.Addr6
			}
			if is(r.Gateway, r.Via.Host) {
				names = append(names, h.Name)
			}
			for _, n := range r.Nexthops {
				if is(n.Gateway, n.Via.Host) {
					names = append(names, h.Name)
				}
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// patience is how long something may take on a machine that does much else.
const patience = time.Minute

// poll waits until something is so.
func (l *lab) poll(what string, so func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("not so after %v: %s; the router's ways are %v and %v\n%s", patience, what, l.ways(vip4), l.ways(vip6), l.birdc("show", "route", "all"))
		}
	}
}

// await waits until the router has so many ways, of both families.
func (l *lab) await(n int) {
	l.t.Helper()
	l.poll(fmt.Sprintf("the router has %d ways", n), func() bool { return len(l.ways(vip4)) == n && len(l.ways(vip6)) == n })
}

// said waits until a host says of itself what so wants.
func (l *lab) said(h *host, what string, so func(tree.VIPHost) bool) tree.VIPHost {
	l.t.Helper()
	var v tree.VIPHost
	l.poll(h.Name+" says "+what, func() bool {
		v = tree.VIPHost{}
		n, err := l.store.Get(context.Background(), tree.VIPHostPath("dns", h.Name))
		return err == nil && tree.Decode(n, &v) == nil && so(v)
	})
	return v
}

// order puts an order; "" takes it away.
func (l *lab) order(host, order string) {
	l.t.Helper()
	op := store.Op{Path: tree.VIPOrderPath("dns", host), Delete: order == ""}
	if order != "" {
		op.Value = tree.Encode(tree.VIPOrder{Order: order, Author: "alice", Reason: "a test"})
	}
	if _, err := l.store.Commit(context.Background(), store.Txn{Do: []store.Op{op}}); err != nil {
		l.t.Fatal(err)
	}
}
