//go:build interop && linux

package usertest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/internal/e2e"
	"github.com/zonecast/zonecast/internal/nettest"
	"github.com/zonecast/zonecast/rtt"
)

// port is that of all that browsers fetch.
const port = 8080

// pops have addresses that each group of users has on its own loopback, where a proxy of the test
// holds back what goes to the PoP.
var pops = []string{"esams", "eqiad", "ulsfo"}

func popAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, byte(1 + i)}) }

// anycast leads to the first PoP from everywhere.
var anycast = netip.MustParseAddr("203.0.113.100")

// lab is all of it.
type lab struct {
	t    *testing.T
	dir  string
	net  *nettest.Net
	core *nettest.Host // control plane and authority
	edge *nettest.Host // the beacon
	pops []*nettest.Host

	groups []*group
}

// group is users of one prefix, behind one resolver.
type group struct {
	*nettest.Host
	lab      *lab
	number   int
	prefix   netip.Prefix
	resolver netip.AddrPort
	seen     []rtt.Key // whom authorities see asking for it

	mu     sync.Mutex       // guards below
	delays []time.Duration  // to each PoP, one way
	lines  []*nettest.Proxy // to each PoP, and the anycast one
}

func (l *lab) on(h *nettest.Host, command ...string) string {
	l.t.Helper()
	argv := h.Argv(command...)
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s on %s: %v: %s", strings.Join(command, " "), h.Name, err, out)
	}
	return string(out)
}

// start starts zonecast on a host.
func (l *lab) start(h *nettest.Host, name string, args ...string) *e2e.Process {
	l.t.Helper()
	return e2e.StartCommand(l.t, name, h.Argv(append([]string{e2e.Build(l.t)}, args...)...)...)
}

// newLab starts PoPs, a control plane with a zone, an authority and a beacon.
func newLab(t *testing.T, beacon ...string) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir(), net: nettest.New(t)}
	l.core, l.edge = l.net.Host("core", nettest.Line{}), l.net.Host("edge", nettest.Line{})
	for _, name := range pops {
		l.pops = append(l.pops, l.net.Host(name, nettest.Line{}))
	}
	l.zone()
	l.write("keys", "1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")

	up := l.start(l.core, "up", "up", "--dir", l.path("up"), "--zones", l.path("zones"), "--hosts", "1", "--log-format", "text",
		"--presenter-guards=false") // each of four prefixes is a large part of the map
	if _, err := up.WaitLine("ready", time.Minute); err != nil {
		t.Fatal(err)
	}
	keys := l.published()
	shared := []string{"--store", "embedded", "--dir", l.path("up"), "--log-format", "text"}
	l.start(l.core, "agent", append([]string{"run", "agent"}, append(shared, "--agent-host", "ns1", "--agent-dns", l.authority().String(), "--agent-journal", l.path("journal"),
		"--agent-status-dir", l.path("status"), "--agent-keys", keys)...)...)
	l.start(l.edge, "beacon", append([]string{
		"run", "beacon", "--log-format", "text", "--beacon-listen", l.at(l.edge), "--beacon-zone", "beacon.example.net", "--beacon-pops", strings.Join(pops, ","),
		"--beacon-port", fmt.Sprint(port), "--beacon-rate", "1", "--beacon-per-minute", "100000", "--beacon-per-client", "100000", "--beacon-targets", fmt.Sprint(len(pops)), "--beacon-dnstap", l.tap(),
		"--beacon-keys", l.path("keys"), "--beacon-out", l.path("rtt"), "--http", netip.AddrPortFrom(l.edge.Addr, 7392).String(),
	}, beacon...)...)
	for i, name := range pops {
		l.start(l.pops[i], "pop "+name, "run", "beacon", "--log-format", "text", "--beacon-listen", l.at(l.pops[i]), "--beacon-zone", "beacon.example.net",
			"--beacon-pops", strings.Join(pops, ","), "--beacon-pop", name, "--beacon-out", l.path("unused-"+name))
	}
	l.eventually("the beacon's socket", 20*time.Second, func() error { _, err := os.Stat(l.path("tap")); return err })
	l.start(l.core, "authority", "run", "authority", "--log-format", "text", "--authority-listen", l.authority().String(), "--authority-journal", l.path("journal"),
		"--authority-status-dir", l.path("status"), "--authority-keys", keys, "--authority-dnstap-socket", l.tap(), "--authority-dnstap-always", "beacon.example.net", "--authority-dnstap-every", "10")
	return l
}

func (l *lab) path(elem ...string) string { return filepath.Join(append([]string{l.dir}, elem...)...) }

func (l *lab) tap() string { return l.path("tap") }

func (l *lab) at(h *nettest.Host) string { return netip.AddrPortFrom(h.Addr, port).String() }

func (l *lab) authority() netip.AddrPort { return netip.AddrPortFrom(l.core.Addr, 53) }

func (l *lab) write(name, text string) {
	l.t.Helper()
	path := l.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// published is the public key of the publisher of `up`.
func (l *lab) published() string {
	l.t.Helper()
	var found string
	l.eventually("the publisher's key", 20*time.Second, func() error {
		return filepath.WalkDir(l.path("up"), func(path string, _ os.DirEntry, err error) error {
			if strings.HasSuffix(path, ".key.pub") {
				found = path
				return filepath.SkipAll
			}
			return nil
		})
	})
	if found == "" {
		l.t.Fatal("there is no key of the publisher")
	}
	return found
}

// zone is where everything is. The PoPs have their addresses in all namespaces of users.
func (l *lab) zone() {
	b := &strings.Builder{}
	fmt.Fprintf(b, "$TTL 2\n@ SOA ns hostmaster 1 3600 600 86400 1\n@ NS ns\nns A %s\nbeacon A %s\n", l.core.Addr, l.edge.Addr)
	fmt.Fprintf(b, "page A %s\n", l.edge.Addr)
	for i, name := range pops {
		fmt.Fprintf(b, "*.%s.beacon A %s\n", name, popAddr(i))
	}
	fmt.Fprintf(b, "*.any.beacon A %s\n*.map.beacon A %s\nwww A %s\n", anycast, popAddr(0), popAddr(0))
	l.write("zones/example.net.zone", b.String())
}

// eventually waits until ok gives no error.
func (l *lab) eventually(what string, within time.Duration, ok func() error) {
	l.t.Helper()
	for end := time.Now().Add(within); ; time.Sleep(50 * time.Millisecond) {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			l.t.Fatalf("not within %v: %s: %v", within, what, err)
		}
	}
}

// group makes one more: delays are one way, to each PoP.
func (l *lab) group(delays ...time.Duration) *group {
	l.t.Helper()
	g := &group{lab: l, number: len(l.groups) + 1, delays: delays}
	g.Host = l.net.Host(fmt.Sprint("users", g.number), nettest.Line{})
	g.prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 19, byte(g.number), 0}), 24)
	l.groups = append(l.groups, g)
	for i := range 32 {
		l.on(g.Host, "ip", "addr", "add", g.user(i).String()+"/15", "dev", "eth0")
	}
	// A browser's address is of the prefix, too.
	l.on(g.Host, "ip", "route", "replace", "198.18.0.0/15", "dev", "eth0", "src", g.user(0).String())
	for i := range pops {
		l.on(g.Host, "ip", "addr", "add", popAddr(i).String()+"/32", "dev", "lo")
	}
	l.on(g.Host, "ip", "addr", "add", anycast.String()+"/32", "dev", "lo")
	g.lay()
	l.t.Cleanup(func() { g.cut() })
	return g
}

// user is the address of one of 32.
func (g *group) user(i int) netip.Addr {
	a := g.prefix.Addr().As4()
	a[3] = byte(10 + i)
	return netip.AddrFrom4(a)
}

// lay lays the lines to the PoPs.
func (g *group) lay() {
	g.lab.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range len(pops) + 1 {
		at, to := anycast, 0
		if i < len(pops) {
			at, to = popAddr(i), i
		}
		ln, err := g.Listen(netip.AddrPortFrom(at, port))
		if err != nil {
			g.lab.t.Fatal(err)
		}
		target := netip.AddrPortFrom(g.lab.pops[to].Addr, port)
		g.lines = append(g.lines, nettest.ProxyTCP(ln, func() (net.Conn, error) { return g.Dial("tcp", target) }, nettest.Faults{Delay: g.delays[to]}, 1))
	}
}

func (g *group) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.lines {
		p.Close()
	}
	g.lines = nil
}

// move changes the distances.
func (g *group) move(delays ...time.Duration) {
	g.cut()
	g.delays = delays
	g.lay()
}

// nearest is the PoP with the shortest way, and how long a round trip to it takes.
func (g *group) nearest() (pop string, trip time.Duration) {
	best := 0
	for i, d := range g.delays {
		if d < g.delays[best] {
			best = i
		}
	}
	return pops[best], 2 * g.delays[best]
}

// unbound is a resolver in a namespace of its own, which sends the client subnet to the authority or not.
func (l *lab) unbound(number int, subnet bool) (at netip.AddrPort, key rtt.Key) {
	l.t.Helper()
	name := fmt.Sprint("resolver", number)
	h := l.net.Host(name, nettest.Line{})
	a := netip.AddrFrom4([4]byte{198, 19, byte(100 + number), 53})
	l.on(h, "ip", "addr", "add", a.String()+"/15", "dev", "eth0")
	modules, ecs := "iterator", ""
	if subnet {
		modules = "subnetcache iterator"
		ecs = fmt.Sprintf("\n send-client-subnet: %s\n client-subnet-always-forward: yes\n max-client-subnet-ipv4: 24", l.core.Addr)
	}
	l.write(name+"/unbound.conf", fmt.Sprintf(`server:
 interface: %[1]s
 outgoing-interface: %[1]s
 access-control: 198.18.0.0/15 allow
 module-config: "%[2]s"%[3]s
 chroot: ""
 username: ""
 directory: "%[4]s"
 pidfile: "%[4]s/pid"
 use-syslog: no
 do-daemonize: no
 do-ip6: no
 qname-minimisation: no
 minimal-responses: yes
remote-control:
 control-enable: no
stub-zone:
 name: example.net
 stub-addr: %[5]s
`, a, modules, ecs, l.path(name), l.core.Addr))
	e2e.StartCommand(l.t, name, h.Argv("/usr/sbin/unbound", "-d", "-c", l.path(name, "unbound.conf"))...)
	key, _ = rtt.OfAddr(rtt.Resolver, a)
	return netip.AddrPortFrom(a, 53), key
}

// farm is a resolver of the test whose queries leave by several addresses of different prefixes. It
// keeps nothing.
func (l *lab) farm(number, machines int) (at netip.AddrPort, keys []rtt.Key) {
	l.t.Helper()
	h := l.net.Host(fmt.Sprint("farm", number), nettest.Line{})
	var from []netip.Addr
	for i := range machines {
		a := netip.AddrFrom4([4]byte{198, 19, byte(100 + number + i), 53})
		l.on(h, "ip", "addr", "add", a.String()+"/15", "dev", "eth0")
		from = append(from, a)
		k, _ := rtt.OfAddr(rtt.Resolver, a)
		keys = append(keys, k)
	}
	at = netip.AddrPortFrom(from[0], 53)
	var socket *net.UDPConn
	if err := h.Do(func() (err error) {
		socket, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		return err
	}); err != nil {
		l.t.Fatal(err)
	}
	var wg sync.WaitGroup
	l.t.Cleanup(func() { socket.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			b := make([]byte, 4096)
			size, client, err := socket.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			source := from[rand.IntN(len(from))]
			wg.Go(func() {
				var c net.Conn
				if err := h.Do(func() (err error) {
					c, err = (&net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0))}).Dial("udp", l.authority().String())
					return err
				}); err != nil {
					return
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(2 * time.Second))
				if _, err := c.Write(b[:size]); err != nil {
					return
				}
				answer := make([]byte, 4096)
				if n, err := c.Read(answer); err == nil {
					socket.WriteToUDPAddrPort(answer[:n], client)
				}
			})
		}
	})
	return at, keys
}

// lookup asks the group's resolver for an address.
func (g *group) lookup(from netip.Addr, name string) (netip.Addr, error) {
	var conn net.Conn
	if err := g.Do(func() (err error) {
		conn, err = (&net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Timeout: 5 * time.Second}).Dial("udp", g.resolver.String())
		return err
	}); err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), dns.TypeA)
	answer, _, err := (&dns.Client{Timeout: 5 * time.Second}).ExchangeWithConn(q, &dns.Conn{Conn: conn})
	if err != nil {
		return netip.Addr{}, err
	}
	for _, rr := range answer.Answer {
		if a, ok := rr.(*dns.A); ok {
			addr, _ := netip.AddrFromSlice(a.A.To4())
			return addr, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%s has no address: %s", name, dns.RcodeToString[answer.Rcode])
}

// steered is the PoP that the group's users are sent to.
func (g *group) steered() (string, error) {
	a, err := g.lookup(g.user(1), "www.example.net")
	if err != nil {
		return "", err
	}
	for i, name := range pops {
		if popAddr(i) == a {
			return name, nil
		}
	}
	return "", fmt.Errorf("www.example.net is %v, which is no PoP", a)
}

// client fetches as a user does: names by the resolver, connections from the user's address.
func (g *group) client(from netip.Addr) *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext: func(_ context.Context, _, address string) (c net.Conn, err error) {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			to, err := g.lookup(from, host)
			if err != nil {
				return nil, err
			}
			err = g.Do(func() (err error) {
				local := &net.TCPAddr{IP: from.AsSlice()}
				if popAddr(0).As4()[0] == to.As4()[0] {
					local = nil // it is on this machine's loopback
				}
				d := net.Dialer{Timeout: 5 * time.Second}
				if local != nil {
					d.LocalAddr = local
				}
				c, err = d.Dial("tcp", net.JoinHostPort(to.String(), port))
				return err
			})
			return c, err
		},
	}}
}

// measure is one measurement, as the script does it.
func (g *group) measure(user int) error {
	c := g.client(g.user(user))
	defer c.CloseIdleConnections()
	var started struct {
		T, U string
		N    []string
	}
	base := fmt.Sprintf("http://beacon.example.net:%d", port)
	if err := get(c, base+"/start", func(r io.Reader) error { return json.NewDecoder(r).Decode(&started) }); err != nil {
		return err
	}
	var times [][]any
	for _, name := range started.N {
		var best time.Duration
		var pop string
		for i := range 3 {
			began := time.Now()
			err := get(c, fmt.Sprintf("http://%s.%s%s?%d", started.T, name, started.U, i), func(r io.Reader) error {
				b, err := io.ReadAll(r)
				pop = string(b)
				return err
			})
			if err != nil {
				return err
			}
			if took := time.Since(began); i > 0 && (best == 0 || took < best) {
				best = took
			}
		}
		times = append(times, []any{name, float64(best) / 1e6, pop})
	}
	b, err := json.Marshal(map[string]any{"t": started.T, "m": times})
	if err != nil {
		return err
	}
	resp, err := c.Post(base+"/report", "text/plain", strings.NewReader(string(b)))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("report: status %s", resp.Status)
	}
	return nil
}

func get(c *http.Client, url string, read func(io.Reader) error) error {
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %s", url, resp.Status)
	}
	if err := read(resp.Body); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// crowd has users of all groups measure until the test ends or stop is called.
func (l *lab) crowd(each time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(l.t.Context())
	var wg sync.WaitGroup
	for _, g := range l.groups {
		for user := 1; user <= 6; user++ {
			wg.Go(func() {
				for ctx.Err() == nil {
					if err := g.measure(user); err != nil && ctx.Err() == nil {
						l.t.Logf("users of group %d: %v", g.number, err)
					}
					select {
					case <-ctx.Done():
					case <-time.After(each):
					}
				}
			})
		}
	}
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	l.t.Cleanup(stop)
	return stop
}

// counters are the beacon's, by name and outcome.
func (l *lab) counters(name string) (map[string]int, error) {
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return nil, err
		}
		return l.edge.Dial(network, at)
	}}}
	got := map[string]int{}
	err := get(c, fmt.Sprintf("http://%s/metrics", netip.AddrPortFrom(l.edge.Addr, 7392)), func(r io.Reader) error {
		b, err := io.ReadAll(r)
		for line := range strings.Lines(string(b)) {
			rest, ok := strings.CutPrefix(line, name+"{outcome=\"")
			if !ok {
				continue
			}
			outcome, value, _ := strings.Cut(rest, "\"")
			var n float64
			if _, err := fmt.Sscan(value[strings.Index(value, "}")+1:], &n); err == nil && n > 0 {
				got[outcome] = int(n)
			}
		}
		return err
	})
	return got, err
}

// times reads what the beacon has written.
func (l *lab) times() (*rtt.Table, error) {
	tables, err := rtt.ReadDir(l.path("rtt"), rtt.Limit{}, time.Time{})
	if err != nil {
		return nil, err
	}
	return rtt.Recent(tables, 0, rtt.Limit{})
}

// far tells how far the shortest measured time is from the true one: never shorter, and longer by
// what a busy machine takes. Medians are of the machine's as much as of the line's.
func far(got, want time.Duration) error {
	const slow = 150 * time.Millisecond
	if float64(got) < float64(want)*(1-2*rtt.Accuracy) || got > want+want/4+slow {
		return fmt.Errorf("%v, expected %v and a little", got, want)
	}
	return nil
}

// holds tells whether the table has true times of a key, for a group.
func holds(table *rtt.Table, k rtt.Key, g *group, count uint64) error {
	row, ok := table.Get(k)
	if !ok {
		return fmt.Errorf("nothing of %v %v", k.Kind, k.Prefix)
	}
	seen := 0
	for _, c := range row.Cells {
		for i, name := range pops {
			if name != c.PoP {
				continue
			}
			if err := far(c.Times.Quantile(0), 2*g.delays[i]); err != nil {
				return fmt.Errorf("%v %v to %s: %w", k.Kind, k.Prefix, name, err)
			}
			if c.Times.Count() >= count {
				seen++
			}
		}
	}
	if seen != len(pops) {
		return fmt.Errorf("%v %v: %d PoPs measured %d times or more, expected %d", k.Kind, k.Prefix, seen, count, len(pops))
	}
	return nil
}
