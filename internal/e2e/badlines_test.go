//go:build linux && (interop || acceptance)

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/nettest"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
)

// badLines is a fleet on lines that nobody would want: each host is two processes, agent and
// authority, in a namespace of its own, with a shaped line to the control plane. What it says
// to the store and to publishers also passes a proxy of its own, which delays it, breaks
// connections now and then and cuts it off for a while. What clients ask it passes another,
// which loses, doubles and reorders datagrams.
type badLines struct {
	Hosts    int           // the last of them joins late
	Quiet    int           // changes without other faults than those of lines
	Trouble  int           // changes during the partition, and as many after it
	Pause    time.Duration // between those
	Life     time.Duration // mean, of connections
	Ask      time.Duration // pause of watchers between two questions
	Seed     uint64
	Within   time.Duration // all of it
	MostWait time.Duration // delay of the worst line
}

// line is what lies between one host and the others.
type line struct {
	control []*nettest.Proxy // the store's first, then publishers'
	dns     *nettest.Proxy
}

func (c badLines) run(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), c.Within)
	defer cancel()
	zones := t.TempDir()
	writeZone(t, zones, "example.net", "ns A 192.0.2.1", "www A 192.0.2.2")
	n := nettest.New(t)
	a := NewApart(t, ApartOptions{Hosts: c.Hosts, Zones: zones, Extra: map[string][]string{
		"mutator":   {"--mutator-session-ttl", "2s"},
		"presenter": {"--presenter-session-ttl", "2s", "--presenter-guards=false"}, // the mark changes all of its zones
		// The log is short: who was away, and who joins, needs a snapshot.
		"publisher": {"--publisher-session-ttl", "2s", "--publisher-snapshot-every", "4", "--publisher-snapshot-pause", "500ms"},
	}})
	lines := c.lay(t, n, a)

	agents, authorities := a.Of("agent"), a.Of("authority")
	late := c.Hosts - 1
	begin := func(i int) {
		t.Helper()
		for _, s := range []*Stage{agents[i], authorities[i]} {
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
		}
	}
	a.Start("store", "registry", "update", "mutator", "presenter", "publisher", "monitor")
	a.awaitFile(a.Path("keys", "publisher.key.pub"))
	for i := range late {
		begin(i)
	}
	client := a.Client(ctx)
	if _, err := insist(ctx, func(ctx context.Context) (int64, error) {
		return AwaitFiles(ctx, client, zones, []string{"example.net"})
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := settle(ctx, client, late); err != nil {
		t.Fatal(err)
	}
	mark, err := NewMark("example.net")
	if err != nil {
		t.Fatal(err)
	}
	zone, err := record.ParseName("example.net")
	if err != nil {
		t.Fatal(err)
	}
	seen := watchEach(t, a, mark, []record.Name{zone}, c.Seed, c.Ask)

	m := &marks{apart: a, mark: mark}
	for range c.Quiet {
		if err := m.next(ctx)(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d hosts, %d changes one after another, until it is known that the last host answers: %s; %s", late, c.Quiet, m.figures(), Machine())

	for { // version 1 is not in the log any more: who joins now takes a snapshot
		node, err := seen.truth.store.Get(ctx, tree.ManifestPath(dataset))
		if err != nil {
			t.Fatal(err)
		}
		m, err := snapshot.VerifyManifest(node.Value, seen.truth.keys)
		if err != nil {
			t.Fatal(err)
		}
		if m.Oldest > 1 {
			break
		}
		if err := Pause(ctx, 20*time.Millisecond); err != nil {
			t.Fatalf("the log still begins with version %d: %v", m.Oldest, err)
		}
	}
	cut := lines[:max(1, c.Hosts/4)]
	c.trouble(t, ctx, a, seen, m, lines, cut, begin)
	t.Logf("%d changes while %d hosts are cut off, a publisher is killed, a host starts again and one joins, until it is known that the last live host answers: %s",
		2*c.Trouble, len(cut), m.figures())

	if err := m.next(ctx)(); err != nil {
		t.Fatal(err)
	}
	if _, err := settle(ctx, client, c.Hosts); err != nil {
		t.Fatal(err)
	}
	if err := seen.await(ctx, m.number); err != nil {
		t.Error(err)
	}
	seen.stop()
	for _, f := range a.Faults() {
		t.Error(f)
	}
	var control, dns nettest.Counts
	for _, l := range lines {
		for _, p := range l.control {
			control = control.Add(p.Counts())
		}
		dns = dns.Add(l.dns.Counts())
	}
	t.Logf("to store and publishers: %+v; questions and answers: %+v", control, dns)
	if control.Broken == 0 || control.Stalled == 0 || dns.Lost == 0 || dns.Duplicated == 0 || dns.Reordered == 0 {
		t.Error("a fault of lines did not happen")
	}
	fetched := 0
	for _, p := range lines[late].control[1:] {
		fetched += p.Counts().Connections
	}
	if fetched == 0 {
		t.Error("the host that joined late has asked no publisher for a snapshot")
	}
}

// lay lays the lines and puts hosts at them. Everything is where it would be on loopback: on a
// host's loopback proxies listen in place of the store and the publishers.
func (c badLines) lay(t *testing.T, n *nettest.Net, a *Apart) []line {
	t.Helper()
	rng := rand.New(rand.NewPCG(c.Seed, 0))
	control := n.Host("control", nettest.Line{})
	listening := func(h *nettest.Host, at netip.AddrPort) net.Listener {
		t.Helper()
		ln, err := h.Listen(at)
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	closing := func(p *nettest.Proxy) *nettest.Proxy {
		t.Cleanup(p.Close)
		return p
	}
	var behind []netip.AddrPort // as hosts see them
	for _, target := range append([]string{a.Store}, a.Publishers...) {
		at := netip.MustParseAddrPort(target)
		behind = append(behind, at)
		closing(nettest.ProxyTCP(listening(control, netip.AddrPortFrom(control.Addr, at.Port())),
			func() (net.Conn, error) { return net.Dial("tcp", target) }, nettest.Faults{}, 0))
	}
	agents, authorities := a.Of("agent"), a.Of("authority")
	lines := make([]line, c.Hosts)
	for i := range lines {
		h := n.Host(fmt.Sprint("host", i), nettest.Line{Up: 1e6, Down: 4e6})
		agents[i].In, authorities[i].In = h.Argv(), h.Argv()
		const least = 5 * time.Millisecond
		f := nettest.Faults{
			Delay: least + time.Duration(rng.Int64N(int64(c.MostWait-least))), Jitter: 5 * time.Millisecond,
			Life: c.Life, Stalls: 0.03, Stall: 200 * time.Millisecond,
			Loss: 0.05, Duplicate: 0.05, Reorder: 0.05,
		}
		for _, at := range behind {
			across := netip.AddrPortFrom(control.Addr, at.Port())
			lines[i].control = append(lines[i].control,
				closing(nettest.ProxyTCP(listening(h, at), func() (net.Conn, error) { return h.Dial("tcp", across) }, f, rng.Uint64())))
		}
		socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(a.Hosts[i]))
		if err != nil {
			t.Fatal(err)
		}
		lines[i].dns = closing(nettest.ProxyUDP(socket, func() (net.Conn, error) { return h.Dial("udp", a.Hosts[i]) }, f, rng.Uint64()))
	}
	return lines
}

// trouble is a partition, and what happens meanwhile. Who is cut off answers what it has.
func (c badLines) trouble(t *testing.T, ctx context.Context, a *Apart, seen *watch, m *marks, lines, cut []line, begin func(int)) {
	t.Helper()
	each := func(of []line, do func(*nettest.Proxy)) {
		for _, l := range of {
			for _, p := range l.control {
				do(p)
			}
		}
	}
	var waits []func() error
	change := func() {
		t.Helper()
		waits = append(waits, m.next(ctx))
		if err := Pause(ctx, c.Pause); err != nil {
			t.Fatal(err)
		}
	}
	each(cut, (*nettest.Proxy).Cut)
	before := m.number
	killer := NewSupervisor(c.Seed)
	killer.Kill(a.Of("publisher")[0], time.Second)
	restarted, late := len(cut), c.Hosts-1
	var answers []int
	for i := range cut {
		answers = append(answers, seen.watchers[i].Report().Answers)
	}
	for i := range c.Trouble {
		if i == c.Trouble/2 {
			a.Of("agent")[restarted].Kill()
			a.Of("authority")[restarted].Kill()
			begin(restarted)
			begin(late)
		}
		change()
	}
	number := m.number
	for i := restarted; i < late; i++ {
		for seen.watchers[i].Report().Number < number {
			if err := Pause(ctx, 10*time.Millisecond); err != nil {
				t.Fatalf("host%d is not cut off and has not come to number %d: %v", i, number, err)
			}
		}
	}
	for i := range cut {
		for seen.watchers[i].Report().Answers == answers[i] {
			if err := Pause(ctx, 10*time.Millisecond); err != nil {
				t.Fatalf("host%d is cut off and answers nothing: %v", i, err)
			}
		}
		if n := seen.watchers[i].Report().Number; n > before {
			t.Errorf("host%d was cut off after number %d and answers number %d", i, before, n)
		}
	}
	each(cut, (*nettest.Proxy).Heal)
	each(lines[restarted:], (*nettest.Proxy).Break) // all others connect anew at a time
	for range c.Trouble {
		change()
	}
	for _, wait := range waits {
		if err := wait(); err != nil {
			t.Fatal(err)
		}
	}
	if err := killer.Wait(); err != nil {
		t.Fatal(err)
	}
}

// marks registers number after number and notes how long each took to the last host.
type marks struct {
	apart  *Apart
	mark   Mark
	number int

	mu   sync.Mutex // guards below
	took Figures
}

// next registers the next number; the wait, in the background and by a client of its own, is
// until all live hosts answer it.
func (m *marks) next(ctx context.Context) (wait func() error) {
	m.number++
	client := m.apart.Client(ctx)
	number, began := m.number, time.Now()
	change, err := register(ctx, client, m.mark.Registration(number))
	done := make(chan error, 1)
	if err != nil {
		done <- fmt.Errorf("register number %d: %w", number, err)
	} else {
		go func() { // ends with ctx
			_, err := insist(ctx, func(ctx context.Context) (int64, error) { return AwaitServers(ctx, client, change.Revision) })
			if err != nil {
				err = fmt.Errorf("number %d: %w", number, err)
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			m.took = append(m.took, time.Since(began))
			done <- err
		}()
	}
	return func() error { return <-done }
}

// figures are those of the changes since the last call.
func (m *marks) figures() (f Figures) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, m.took = m.took, nil
	return f
}

// TestInteropFleetOnBadLines is TestFleetOnBadLines in small.
func TestInteropFleetOnBadLines(t *testing.T) {
	badLines{
		Hosts: 4, Quiet: 6, Trouble: 6, Pause: 100 * time.Millisecond, Life: 2 * time.Second, Ask: 10 * time.Millisecond,
		Seed: 1, Within: 2 * time.Minute, MostWait: 40 * time.Millisecond,
	}.run(t)
}
