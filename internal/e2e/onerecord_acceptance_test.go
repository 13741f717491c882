//go:build acceptance && linux

package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/nettest"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
)

// TestOneRecord changes one record and measures what each host's line carries for it and how long
// it takes until the last host has it: agents that follow etcd, and, in the same run, as many
// secondaries of one BIND (NOTIFY and IXFR). Each host is a process in a namespace of its own. A
// host has a change when it has written it to its journal, and the secondary to its. All of those
// are in memory (tmpfs): a hundred machines would not share one disk. Freshness stamps are off; BIND's
// pauses between NOTIFYs are off, too. ZONECAST_HOSTS (100) and ZONECAST_CHANGES (100) change how many.
func TestOneRecord(t *testing.T) {
	hosts, changes := int(setting(t, "ZONECAST_HOSTS", 100)), int(setting(t, "ZONECAST_CHANGES", 100))
	n := nettest.New(t)
	dir, err := os.MkdirTemp("/dev/shm", "zc")
	if err != nil {
		t.Skipf("journals are to be in memory: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &oneRecord{T: t, net: n, dir: dir, hosts: hosts, changes: changes}
	z := r.zonecast()
	b := r.bind()
	t.Logf("%d hosts, %d changes; %s", hosts, changes, Machine())
	t.Logf("zonecast: %s", z)
	t.Logf("BIND:     %s", b)
	if z.octets >= 1024 {
		t.Errorf("one record costs each host %d octets, the aim is less than 1,024", z.octets)
	}
	if p99 := z.last.At(99); p99 >= 200*time.Millisecond {
		t.Errorf("p99 of the last of %d hosts is %s, the aim is less than 200 ms", hosts, p99)
	}
}

type oneRecord struct {
	*testing.T
	net            *nettest.Net
	dir            string
	hosts, changes int
}

// recordFigures are what changes of one record took.
type recordFigures struct {
	octets, idle int64 // a change and host: of frames, both directions; a second and host, without changes
	each, last   Figures
	cpu          time.Duration // a change and host
}

func (f recordFigures) String() string {
	return fmt.Sprintf("%d octets a change on each host's line (%d a second without changes); until each host has it: %s; until the last has it: %s; CPU of a host %s a change",
		f.octets, f.idle, f.each, f.last, f.cpu)
}

// thousand is a zone of a thousand records; www, which changes, has this address.
func thousand(www string) string {
	var b strings.Builder
	b.WriteString("$TTL 300\n@ SOA ns1 admin 1 7200 900 1209600 300\n@ NS ns1\nns1 A 192.0.2.1\nwww A " + www + "\n")
	for i := range 996 {
		fmt.Fprintf(&b, "host%d A 198.18.%d.%d\n", i, i/250, i%250+1)
	}
	return b.String()
}

// pause is between two changes: what follows from one is over.
const pause = 500 * time.Millisecond

// measure makes changes by do and waits for each until all hosts' files are written. The first
// changes are not counted.
func (r *oneRecord) measure(hosts []*nettest.Host, processes []*Process, w *writes, do func(i int) error) (f recordFigures) {
	r.Helper()
	step := func(i int) Figures {
		r.Helper()
		w.forget()
		began := time.Now()
		if err := do(i); err != nil {
			r.Fatalf("change %d: %v", i, err)
		}
		at, err := w.all(len(hosts), began.Add(30*time.Second))
		if err != nil {
			r.Fatalf("change %d: %v", i, err)
		}
		var took Figures
		for _, t := range at {
			took = append(took, t.Sub(began))
		}
		time.Sleep(pause)
		return took
	}
	octets := func() (sum int64) {
		for _, h := range hosts {
			sent, received := h.Octets()
			sum += sent + received
		}
		return sum
	}
	used := func() (sum time.Duration) {
		for _, p := range processes {
			sum += cpuOf(r, p)
		}
		return sum
	}
	const warm = 3
	for i := range warm {
		step(i)
	}
	const quiet = 10 * time.Second
	silence := func() int64 {
		before := octets()
		time.Sleep(quiet)
		return octets() - before
	}
	idle := silence()
	before, cpu, began := octets(), used(), time.Now()
	for i := range r.changes {
		took := step(warm + i)
		f.each = append(f.each, took...)
		f.last = append(f.last, took.At(100))
	}
	span := time.Since(began)
	all := int64(len(hosts) * r.changes)
	total := octets() - before
	f.cpu = (used() - cpu) / time.Duration(all)
	// Hundreds of interfaces that have just come say more than later: what is taken away is the least.
	idle = min(idle, silence())
	f.octets = (total - int64(float64(idle)*span.Seconds()/quiet.Seconds())) / all
	f.idle = idle / int64(len(hosts)) / int64(quiet/time.Second)
	return f
}

func (r *oneRecord) zonecast() recordFigures {
	server := r.net.Host("store", nettest.Line{})
	path, err := exec.LookPath("etcd")
	if err != nil {
		r.Fatal("etcd is not installed: scripts/install-test-deps.sh installs it")
	}
	// Stages speak to it by a socket of this machine, hosts by their lines.
	disk := r.TempDir()
	at := "http://" + netip.AddrPortFrom(server.Addr, 2379).String()
	argv := server.Argv("sh", "-c", `cd "$0" && exec "$@"`, r.dir, path, "--name", "a", "--data-dir", filepath.Join(disk, "etcd"), "--listen-client-urls", at+",unix://etcd:1", "--advertise-client-urls", at,
		"--listen-peer-urls", "http://127.0.0.1:2380", "--log-level", "error")
	p, err := launch(r, argv[0], "etcd", nil, argv[1:])
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(p.Kill)
	a := NewApart(r, ApartOptions{Hosts: 1, Zones: r.TempDir(), Store: "etcd+unix://" + r.dir + "/etcd:1", Extra: map[string][]string{
		"presenter": {"--presenter-guards=false"}, "mutator": {"--mutator-fresh-interval", "0"},
	}})
	a.Start("registry", "update", "mutator", "presenter", "publisher")
	a.awaitFile(a.Path("keys", "publisher.key.pub"))
	ctx, cancel := context.WithTimeout(r.Context(), 30*time.Minute)
	defer cancel()
	c := a.Client(ctx)
	change := func(i int) error {
		_, err := c.Control.ImportZone(ctx, "example.net", []byte(thousand(fmt.Sprintf("192.0.2.%d", 3+i%250))), &controlapi.Doer{Author: "alice", Reason: "a test"})
		return err
	}
	if _, err := insist(ctx, func(context.Context) (int, error) { return 0, change(-1) }); err != nil {
		r.Fatal(err)
	}
	keys, err := snapshot.LoadPublicKeys(a.Path("keys", "publisher.key.pub"))
	if err != nil {
		r.Fatal(err)
	}
	var hosts []*nettest.Host
	var agents []*Process
	var dirs []string
	for i := range r.hosts {
		h := r.net.Host(fmt.Sprint("agent", i), nettest.Line{})
		hosts, dirs = append(hosts, h), append(dirs, filepath.Join(r.dir, h.Name, "journal"))
		agents = append(agents, startAt(r, h, "run", "agent", "--store", "etcd://"+netip.AddrPortFrom(server.Addr, 2379).String(), "--agent-host", h.Name,
			"--agent-dns", netip.AddrPortFrom(h.Addr, 53).String(), "--agent-journal", dirs[i], "--agent-status-dir", filepath.Join(r.dir, h.Name, "status"), "--agent-keys", a.Path("keys", "publisher.key.pub")))
	}
	version := func(dir string) uint64 {
		d, _, err := journal.Load(dir, journal.Fixed(keys...))
		if err != nil {
			return 0
		}
		return d.Version()
	}
	for _, dir := range dirs {
		for deadline := time.Now().Add(2 * time.Minute); version(dir) == 0; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				r.Fatalf("no version in %s after 2 minutes", dir)
			}
		}
	}
	f := r.measure(hosts, agents, watchWrites(r, dirs, "log-"), change)
	newest := version(dirs[0])
	for _, dir := range dirs {
		if got := version(dir); got != newest || got < uint64(r.changes) {
			r.Errorf("%s is at version %d, expected %d, at least %d", dir, got, newest, r.changes)
		}
	}
	for _, p := range agents {
		p.Stop()
	}
	for _, s := range a.Stages {
		if s.Running() {
			if _, err := s.Stop(stopWithin); err != nil {
				r.Error(err)
			}
		}
	}
	return f
}

func (r *oneRecord) bind() recordFigures {
	path, err := exec.LookPath("named")
	if err != nil {
		path = "/usr/sbin/named"
	}
	write := func(dir, name, text string) {
		r.Helper()
		if err := os.MkdirAll(dir, 0o755); err != nil {
			r.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			r.Fatal(err)
		}
	}
	const shared = "\tlisten-on-v6 { none; };\n\tpid-file none;\n\tsession-keyfile none;\n\trecursion no;\n\tdnssec-validation no;\n"
	start := func(h *nettest.Host, dir string) *Process {
		argv := h.Argv(path, "-f", "-n", "1", "-c", filepath.Join(dir, "named.conf"))
		p, err := launch(r, argv[0], h.Name, nil, argv[1:])
		if err != nil {
			r.Fatal(err)
		}
		r.Cleanup(p.Kill)
		return p
	}
	primary := r.net.Host("primary", nettest.Line{})
	var hosts []*nettest.Host
	var notify strings.Builder
	for i := range r.hosts {
		hosts = append(hosts, r.net.Host(fmt.Sprint("secondary", i), nettest.Line{}))
		fmt.Fprintf(&notify, " %s;", hosts[i].Addr)
	}
	dir := filepath.Join(r.dir, "primary")
	write(dir, "zone", thousand("192.0.2.2"))
	write(dir, "named.conf", fmt.Sprintf("options {\n\tdirectory %q;\n\tlisten-on { %s; };\n%s\tnotify explicit;\n\talso-notify {%s };\n\tnotify-delay 0;\n\tnotify-rate 10000;\n\ttransfers-out 1000;\n\ttcp-clients 1000;\n};\ncontrols { };\nzone \"example.net\" { type primary; file \"zone\"; allow-update { any; }; allow-transfer { any; }; };\n",
		dir, primary.Addr, shared, notify.String()))
	start(primary, dir)
	var dirs []string
	var secondaries []*Process
	for _, h := range hosts {
		d := filepath.Join(r.dir, h.Name)
		dirs = append(dirs, d)
		write(d, "named.conf", fmt.Sprintf("options {\n\tdirectory %q;\n\tlisten-on { %s; };\n%s\tnotify no;\n};\ncontrols { };\nzone \"example.net\" { type secondary; file \"zone\"; primaries { %s; }; };\n", d, h.Addr, shared, primary.Addr))
		secondaries = append(secondaries, start(h, d))
	}
	for _, d := range dirs {
		for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
			if _, err := os.Stat(filepath.Join(d, "zone")); err == nil {
				break
			}
			if time.Now().After(deadline) {
				r.Fatalf("no zone in %s after 2 minutes", d)
			}
		}
	}
	var conn *net.UDPConn // of a person beside the primary: what it carries is nobody's cost
	if err := primary.Do(func() (err error) {
		conn, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(primary.Addr, 53)))
		return err
	}); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = conn.Close() })
	soa := func(c *dns.Conn) uint32 {
		m := new(dns.Msg).SetQuestion("example.net.", dns.TypeSOA)
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil { // that of the last change is over
			r.Fatal(err)
		}
		if err := c.WriteMsg(m); err != nil {
			r.Fatal(err)
		}
		answer, err := c.ReadMsg()
		if err != nil || len(answer.Answer) != 1 {
			r.Fatalf("SOA: %v, %v", answer, err)
		}
		return answer.Answer[0].(*dns.SOA).Serial
	}
	to := &dns.Conn{Conn: conn}
	update := func(i int) error {
		m := new(dns.Msg).SetUpdate("example.net.")
		old, err := dns.NewRR("www.example.net. 300 A 192.0.2.2")
		if err != nil {
			return err
		}
		next, err := dns.NewRR(fmt.Sprintf("www.example.net. 300 A 192.0.2.%d", 3+i%250))
		if err != nil {
			return err
		}
		m.RemoveRRset([]dns.RR{old})
		m.Insert([]dns.RR{next})
		if err := to.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		if err := to.WriteMsg(m); err != nil {
			return err
		}
		answer, err := to.ReadMsg()
		if err == nil && answer.Rcode != dns.RcodeSuccess {
			err = fmt.Errorf("update: %s", dns.RcodeToString[answer.Rcode])
		}
		return err
	}
	f := r.measure(hosts, secondaries, watchWrites(r, dirs, "zone.jnl"), update)
	want := soa(to)
	for _, h := range hosts {
		var c *net.UDPConn
		if err := h.Do(func() (err error) {
			c, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(h.Addr, 53)))
			return err
		}); err != nil {
			r.Fatal(err)
		}
		if got := soa(&dns.Conn{Conn: c}); got != want {
			r.Errorf("%s has serial %d, expected %d", h.Name, got, want)
		}
		_ = c.Close() // it was asked
	}
	for _, p := range secondaries {
		p.Kill()
	}
	return f
}

// writes tells when a file of each directory was first written to, as inotify(7) says.
type writes struct {
	mu    sync.Mutex // guards below
	at    map[int32]time.Time
	grown chan struct{} // closed and replaced when there is another
}

// watchWrites watches files of some prefix in directories until the test ends.
func watchWrites(t testing.TB, dirs []string, prefix string) *writes {
	t.Helper()
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	for _, dir := range dirs {
		if _, err := syscall.InotifyAddWatch(fd, dir, syscall.IN_MODIFY); err != nil {
			t.Fatalf("watch %s: %v", dir, err)
		}
	}
	w := &writes{at: map[int32]time.Time{}, grown: make(chan struct{})}
	var reading sync.WaitGroup
	reading.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := events.Read(buf)
			if err != nil {
				return
			}
			w.take(buf[:n], prefix, time.Now())
		}
	})
	t.Cleanup(func() { _ = events.Close(); reading.Wait() })
	return w
}

func (w *writes) take(b []byte, prefix string, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(b) >= syscall.SizeofInotifyEvent {
		wd, length := int32(binary.NativeEndian.Uint32(b)), int(binary.NativeEndian.Uint32(b[12:]))
		name := string(bytes.TrimRight(b[syscall.SizeofInotifyEvent:syscall.SizeofInotifyEvent+length], "\x00"))
		b = b[syscall.SizeofInotifyEvent+length:]
		if _, known := w.at[wd]; !known && strings.HasPrefix(name, prefix) {
			w.at[wd] = now
		}
	}
	close(w.grown)
	w.grown = make(chan struct{})
}

func (w *writes) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.at)
}

// all waits until n files were written to and gives when.
func (w *writes) all(n int, deadline time.Time) (at []time.Time, err error) {
	late := time.After(time.Until(deadline))
	for {
		w.mu.Lock()
		at = at[:0]
		for _, t := range w.at {
			at = append(at, t)
		}
		grown := w.grown
		w.mu.Unlock()
		if len(at) >= n {
			return at, nil
		}
		select {
		case <-grown:
		case <-late:
			return nil, fmt.Errorf("%d of %d hosts have it after all that time", len(at), n)
		}
	}
}
