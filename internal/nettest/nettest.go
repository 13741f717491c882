//go:build linux

package nettest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Net is a bridge in a namespace of its own, and the hosts at it.
type Net struct {
	t      testing.TB
	prefix string // of its namespaces
	hub    string
	hosts  int
}

// Host is one machine. It has one line, to the bridge.
type Host struct {
	Name  string
	Addr  netip.Addr
	Addr6 netip.Addr // of 2001:2::/48 (RFC 5180)
	net   *Net
	ns    string
}

// Line is the rate of a host's line, in bits a second. Zero is no bound.
type Line struct {
	Up   int64 // from the host
	Down int64 // to it
}

// prefix begins the names of all namespaces; the process id follows.
const prefix = "zct"

// maxHosts is what fits into 198.18.0.0/15 (RFC 2544), 250 to each 256 addresses.
const maxHosts = 250 * 250

var nets atomic.Int64

// New makes a net without hosts. Where namespaces cannot be made the test is skipped, with
// the reason.
func New(t testing.TB) *Net {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces take root: run this test as root")
	}
	for _, tool := range []string{"ip", "tc"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not there: scripts/install-test-deps.sh installs it (package iproute2)", tool)
		}
	}
	sweep()
	n := &Net{t: t, prefix: fmt.Sprintf("%s%d-%d-", prefix, os.Getpid(), nets.Add(1))}
	n.hub = n.prefix + "hub"
	if out, err := run("ip", "netns", "add", n.hub); err != nil {
		t.Skipf("a network namespace cannot be made here: %v: %s", err, out)
	}
	t.Cleanup(func() { n.remove(n.hub) })
	n.must("ip", "-n", n.hub, "link", "add", "br0", "type", "bridge")
	n.must("ip", "-n", n.hub, "link", "set", "br0", "up")
	return n
}

// Host adds one. What runs on it must have ended when the test's earlier cleanups run.
func (n *Net) Host(name string, line Line) *Host {
	n.t.Helper()
	if n.hosts++; n.hosts > maxHosts {
		n.t.Fatalf("%d hosts, at most %d", n.hosts, maxHosts)
	}
	i := n.hosts - 1
	h := &Host{Name: name, net: n, ns: n.prefix + name, Addr: netip.AddrFrom4([4]byte{198, 18, byte(i / 250), byte(i%250 + 1)})}
	h.Addr6 = netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 3: 0x02, 14: byte((i + 1) >> 8), 15: byte(i + 1)})
	port := fmt.Sprintf("p%d", i) // the bridge's end
	n.must("ip", "netns", "add", h.ns)
	n.t.Cleanup(func() { n.remove(h.ns) })
	n.must("ip", "link", "add", port, "netns", n.hub, "type", "veth", "peer", "name", "eth0", "netns", h.ns)
	n.must("ip", "-n", n.hub, "link", "set", port, "master", "br0", "up")
	n.must("ip", "-n", h.ns, "link", "set", "lo", "up")
	n.must("ip", "-n", h.ns, "addr", "add", h.Addr.String()+"/15", "dev", "eth0")
	n.must("ip", "-n", h.ns, "addr", "add", h.Addr6.String()+"/64", "dev", "eth0", "nodad")
	n.must("ip", "-n", h.ns, "link", "set", "eth0", "up")
	n.shape(h.ns, "eth0", line.Up)
	n.shape(n.hub, port, line.Down)
	return h
}

// shape bounds what leaves by a device. A burst is a hundredth of a second, which tc's
// timers want, and no less than one large segment.
func (n *Net) shape(ns, dev string, rate int64) {
	n.t.Helper()
	if rate == 0 {
		return
	}
	burst := max(rate/8/100, 80<<10)
	n.must("tc", "-n", ns, "qdisc", "add", "dev", dev, "root", "tbf", "rate", fmt.Sprintf("%dbit", rate), "burst", fmt.Sprint(burst), "latency", "100ms")
}

// Argv is what runs a command on the host: `ip netns exec` becomes the command, so that it
// has the process id of what was started.
func (h *Host) Argv(command ...string) []string {
	return append([]string{"ip", "netns", "exec", h.ns}, command...)
}

// Do calls f on a thread of its own that is in the host's namespace: a socket that f opens
// by itself - not in another goroutine - is the host's, and stays it.
func (h *Host) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		done <- func() error {
			ns, err := os.Open(filepath.Join("/run/netns", h.ns))
			if err != nil {
				return err
			}
			defer func() { _ = ns.Close() }() // read only
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter namespace %s: %w", h.ns, err)
			}
			return f()
		}()
	}()
	return <-done
}

// Listen listens for connections on the host.
func (h *Host) Listen(at netip.AddrPort) (ln net.Listener, err error) {
	err = h.Do(func() (err error) {
		ln, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
		return err
	})
	return ln, err
}

// Dial connects from the host, by "tcp" or "udp".
func (h *Host) Dial(network string, to netip.AddrPort) (c net.Conn, err error) {
	err = h.Do(func() (err error) {
		c, err = (&net.Dialer{Timeout: 10 * time.Second}).Dial(network, to.String())
		return err
	})
	return c, err
}

// Octets is what the host's line has carried, whole frames, from the host and to it.
func (h *Host) Octets() (sent, received int64) {
	h.net.t.Helper()
	out, err := run("ip", "netns", "exec", h.ns, "cat", "/sys/class/net/eth0/statistics/tx_bytes", "/sys/class/net/eth0/statistics/rx_bytes")
	if err == nil {
		_, err = fmt.Sscan(out, &sent, &received)
	}
	if err != nil {
		h.net.t.Fatalf("octets of %s: %v: %s", h.Name, err, out)
	}
	return sent, received
}

func (n *Net) must(args ...string) {
	n.t.Helper()
	if out, err := run(args...); err != nil {
		n.t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func (n *Net) remove(ns string) {
	if out, err := run("ip", "netns", "del", ns); err != nil {
		n.t.Errorf("remove namespace %s: %v: %s", ns, err, out)
	}
}

func run(args ...string) (string, error) {
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// sweep removes the namespaces of test processes that are dead.
func sweep() {
	entries, err := os.ReadDir("/run/netns")
	if err != nil {
		return // there are none
	}
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), prefix)
		number, _, _ := strings.Cut(rest, "-")
		pid, err := strconv.Atoi(number)
		if ours && err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_, _ = run("ip", "netns", "del", e.Name()) // another process may have been faster
		}
	}
}
