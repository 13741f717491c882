//go:build linux && (interop || acceptance)

package e2e

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/nettest"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/swarm"
)

const typeSSHFP record.Type = 44

// toFleet is a snapshot on its way from one publisher to hosts that all begin at once, each
// of them a process in a namespace of its own.
type toFleet struct {
	Servers int // of eight records; about 190 octets of the file are a server's
	Hosts   int
	Sites   int
	Mbit    int // of each line, publisher's too, in both directions
	Ways    []string
	Within  time.Duration // one way
}

// wayFigures are what one way took.
type wayFigures struct {
	last      time.Duration // from the start of the processes until the last host has it
	median    time.Duration
	egress    float64 // frames that left the publisher's line, in multiples of the file
	publisher time.Duration
	hosts     Figures // processor time of each
	memory    int64   // octets, the most of one host
}

// run carries it by each way and gives the figures by way; the size is the snapshot's, in octets.
func (c toFleet) run(t *testing.T) (size int64, figures map[string]wayFigures) {
	n := nettest.New(t)
	line := nettest.Line{Up: int64(c.Mbit) * 1e6, Down: int64(c.Mbit) * 1e6}
	dir, err := os.MkdirTemp("", "zc") // short: the path of a socket has at most 107 octets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ref := offerGenerated(t, filepath.Join(dir, "published"), c.Servers)
	t.Logf("snapshot of the records of %d servers: %d octets; %s", c.Servers, ref.Size, Machine())

	socket := filepath.Join(dir, "etcd")
	Start(t, "store", "run", "store", "--etcd-dir", filepath.Join(dir, "store"), "--etcd-listen", socket)
	store := "etcd+unix://" + socket
	key := filepath.Join(dir, "key")
	from := n.Host("publisher", line)
	publisher := startAt(t, from, "run", "publisher", "--store", store, "--publisher-dir", filepath.Join(dir, "published"), "--publisher-key", key,
		"--publisher-url", "http://"+from.Addr.String()+":7380", "--http", from.Addr.String()+":7380", "--swarm-listen", from.Addr.String()+":7382")
	var view swarm.View
	for deadline := time.Now().Add(time.Minute + time.Duration(c.Servers/10000)*time.Second); view.Torrent == ""; time.Sleep(100 * time.Millisecond) {
		out, _, _ := Run(t, "swarm", "status", "--store", store, "--json") // what is not there yet is no view
		if err := json.Unmarshal([]byte(out), &view); err != nil || view.Torrent == "" {
			view = swarm.View{}
		}
		if time.Now().After(deadline) || !publisher.Running() {
			t.Fatalf("no snapshot is offered:\n%s", publisher.Log())
		}
	}
	if view.Snapshot != ref.ID.String() {
		t.Fatalf("snapshot %s is offered, expected %s", view.Snapshot, ref.ID)
	}
	hosts := make([]*nettest.Host, c.Hosts)
	for i := range hosts {
		hosts[i] = n.Host(fmt.Sprint("host", i), line)
	}

	figures = map[string]wayFigures{}
	for _, way := range c.Ways {
		sent, _ := from.Octets()
		used := cpuOf(t, publisher)
		began := time.Now()
		var fetching []*Process
		for i, h := range hosts {
			args := []string{
				"swarm", "fetch", "--store", store, "--keys", key + ".pub", "--into", filepath.Join(dir, way, h.Name), "--name", h.Name,
				"--stay", "--json",
			}
			if way == "swarm" {
				args = append(args, "--swarm-listen", h.Addr.String()+":7382", "--swarm-site", fmt.Sprint("site", i%c.Sites))
			}
			fetching = append(fetching, startAt(t, h, args...))
		}
		var f wayFigures
		var took Figures
		for _, p := range fetching {
			line, err := p.WaitLine("{", c.Within-time.Since(began))
			if err != nil {
				t.Fatalf("%s: %v", way, err)
			}
			var got struct {
				ID   string  `json:"id"`
				Took float64 `json:"took_s"`
			}
			if err := json.Unmarshal([]byte(line), &got); err != nil || got.ID != ref.ID.String() {
				t.Fatalf("%s: %s says %s (%v), expected snapshot %s", way, p.name, line, err, ref.ID)
			}
			took = append(took, time.Duration(got.Took*float64(time.Second)))
		}
		f.last, f.median = time.Since(began), took.At(50)
		after, _ := from.Octets()
		f.egress = float64(after-sent) / float64(ref.Size)
		f.publisher = cpuOf(t, publisher) - used
		for _, p := range fetching {
			f.memory = max(f.memory, memoryOf(t, p))
			p.Stop()
			state := p.cmd.ProcessState
			f.hosts = append(f.hosts, state.UserTime()+state.SystemTime())
		}
		figures[way] = f
		t.Logf("%s to %d hosts at %d sites, lines of %d Mbit/s: the last has it after %.1f s, the median host after %.1f s; the publisher's line sent %.2f times the file; CPU: publisher %.1f s, a host %.1f s (median; most %.1f s); most memory of a host %d MiB; %s",
			way, c.Hosts, c.Sites, c.Mbit, f.last.Seconds(), f.median.Seconds(), f.egress, f.publisher.Seconds(), f.hosts.At(50).Seconds(), f.hosts.At(100).Seconds(), f.memory>>20, Machine())
		if err := os.RemoveAll(filepath.Join(dir, way)); err != nil {
			t.Fatal(err)
		}
	}
	return ref.Size, figures
}

// startAt runs the binary on a host and ends it with the test.
func startAt(t testing.TB, h *nettest.Host, args ...string) *Process {
	t.Helper()
	argv := h.Argv(append([]string{Build(t)}, args...)...)
	p, err := launch(t, argv[0], h.Name, nil, argv[1:])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("log of %s (its end):\n%s", h.Name, p.Log()[max(0, len(p.Log())-4<<10):])
		}
	})
	return p
}

// memoryOf is the most memory that a process has had resident, in octets. (What wait4 tells
// includes that of the process it was forked from.)
func memoryOf(t testing.TB, p *Process) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatalf("VmHWM of %s: %v", p.name, err)
	}
	return kib << 10
}

// cpuOf is what a process has used since it started.
func cpuOf(t testing.TB, p *Process) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	d, err := statCPU(string(b))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// statCPU is utime and stime, fields 14 and 15 of proc_pid_stat(5), in ticks of 10 ms; the second
// field may have spaces and ends with the last parenthesis.
func statCPU(stat string) (d time.Duration, err error) {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 13 {
		return 0, fmt.Errorf("%q has %d fields behind the command, expected 13 or more", stat, len(f))
	}
	for _, k := range []int{11, 12} {
		n, err := strconv.Atoi(f[k])
		if err != nil {
			return 0, err
		}
		d += time.Duration(n) * 10 * time.Millisecond
	}
	return d, nil
}

// offerGenerated makes a publisher's directory that offers a snapshot of so many servers.
func offerGenerated(t testing.TB, dir string, servers int) snapshot.Ref {
	t.Helper()
	ref, err := writeGenerated(dir, servers)
	if err != nil {
		t.Fatal(err)
	}
	debug.FreeOSMemory() // the hosts need it
	return ref
}

// writeGenerated gives each server eight records, of what does not compress: an A, an AAAA, and
// the six SSHFP that `ssh-keygen -r` prints.
func writeGenerated(dir string, servers int) (ref snapshot.Ref, err error) {
	const chunk = 500_000 // servers in a delta, which is bounded
	d := snapshot.NewDataset("internal")
	random := rand.NewChaCha8([32]byte{1})
	octets := func(head ...byte) func(n int) record.Rdata {
		return func(n int) record.Rdata {
			b := append(slices.Clone(head), make([]byte, n)...)
			_, _ = random.Read(b[len(head):]) // does not fail
			return record.Rdata(b)
		}
	}
	for made := 0; made < servers; {
		var put []record.RRset
		for range min(chunk, servers-made) {
			owner, err := record.ParseName(fmt.Sprintf("host%08d.zone%02d.example.net.", made, made%64))
			if err != nil {
				return ref, err
			}
			var prints []record.Rdata
			for _, key := range []byte{1, 3, 4} { // RSA, ECDSA, Ed25519 (RFC 4255, 6594, 7479)
				prints = append(prints, octets(key, 1)(20), octets(key, 2)(32))
			}
			put = append(put,
				record.NewRRset(owner, record.TypeA, 300, octets(198, 18)(2)),
				record.NewRRset(owner, record.TypeAAAA, 300, octets(0x20, 0x01, 0x0d, 0xb8)(12)),
				record.NewRRset(owner, typeSSHFP, 300, prints...))
			made++
		}
		delta, err := d.Change(1790000000000, put, nil)
		if err != nil {
			return ref, err
		}
		if err := d.Apply(delta); err != nil {
			return ref, err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return ref, err
	}
	building := filepath.Join(dir, "writing")
	f, err := os.Create(building)
	if err != nil {
		return ref, err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	if ref, err = snapshot.Write(w, d); err == nil {
		err = w.Flush()
	}
	if err = cmp.Or(err, f.Close()); err != nil {
		return ref, err
	}
	if err := os.Rename(building, filepath.Join(dir, ref.ID.String()+".snapshot")); err != nil {
		return ref, err
	}
	b, err := json.Marshal([]snapshot.Ref{ref})
	if err != nil {
		return ref, err
	}
	return ref, os.WriteFile(filepath.Join(dir, "offered.json"), b, 0o644)
}

// TestInteropSnapshotToFleet is TestSnapshotToFleet in small.
func TestInteropSnapshotToFleet(t *testing.T) {
	c := toFleet{Servers: 20000, Hosts: 4, Sites: 2, Mbit: 50, Ways: []string{"swarm", "http"}, Within: time.Minute}
	size, f := c.run(t)
	if size < 2<<20 {
		t.Errorf("snapshot has %d octets, expected some MiB", size)
	}
	// Each host of HTTP has it from the publisher, each octet of the swarm comes from there at
	// least once. What is more is a slow machine's: hosts that wait too long ask there as well.
	if e := f["http"].egress; e < 4 {
		t.Errorf("by HTTP the publisher sent %.2f times the file, expected at least 4", e)
	}
	if e := f["swarm"].egress; e < 1 || e > 4.4 {
		t.Errorf("by the swarm the publisher sent %.2f times the file, expected 1 to 4.4", e)
	}
	if slices.Contains(f["swarm"].hosts, 0) {
		t.Errorf("CPU of hosts is %v, expected more than 0", f["swarm"].hosts)
	}
}
