//go:build acceptance && linux

package e2e

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
)

// TestHostAway has a host away while a day of real changes goes by, and another for a month, whose
// deltas are not kept any more: the first catches up by deltas and fetches no snapshot, the second
// fetches of a snapshot what changed, from peers, and has the rest from its own.
func TestHostAway(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	data := NeedData(t)
	z, err := CopyZones(filepath.Join(data, "zones"), filepath.Join(t.TempDir(), "zones"))
	if err != nil {
		t.Fatal(err)
	}
	churn, err := ReadChurn(filepath.Join(data, "churn.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	const day, month = 24 * 3600, 30 * 24 * 3600
	end := churn[len(churn)-1].Time
	write := func(c Change) (files []string) {
		t.Helper()
		e, err := z.Prepare(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.write(z.Dir); err != nil {
			t.Fatal(err)
		}
		for _, f := range e.Files {
			files = append(files, f.Name)
		}
		return files
	}
	past, zones := &Edit{}, map[string]bool{}
	for len(churn) > 0 && churn[0].Time <= end-month {
		touched, err := z.apply(past, churn[0])
		if err != nil {
			t.Fatal(err)
		}
		for zone := range touched {
			zones[zone] = true
			if len(z.zones[zone]) == 0 {
				delete(z.zones, zone) // later records of its names are of the zone above
			}
		}
		churn = churn[1:]
	}
	past.take(z, zones)
	if err := past.write(z.Dir); err != nil {
		t.Fatal(err)
	}
	a := NewApart(t, ApartOptions{Hosts: 1, Zones: z.Dir, Fleet: filepath.Join(data, "fleet.jsonl"), Extra: map[string][]string{
		"presenter": {"--presenter-guards=false"}, "mutator": {"--mutator-fresh-interval", "0"},
		"publisher": {"--swarm-listen", "127.0.0.1:0", "--publisher-snapshot-every", "15", "--publisher-snapshot-pause", "1s"},
	}})
	a.Start(kinds[:len(kinds)-1]...) // all but the monitor; the host of these stays
	c := a.Client(ctx)
	keys, err := snapshot.LoadPublicKeys(a.Path("keys", "publisher.key.pub"))
	if err != nil {
		t.Fatal(err)
	}
	settled := func(files []string) uint64 {
		t.Helper()
		v, err := insist(ctx, func(ctx context.Context) (int64, error) { return AwaitFiles(ctx, c, z.Dir, files) })
		if err != nil {
			t.Fatal(err)
		}
		return uint64(v)
	}
	everything, err := os.ReadDir(z.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range everything {
		names = append(names, f.Name())
	}
	version := settled(names)

	hosts := map[string]*awayHost{}
	for _, name := range []string{"day", "month"} {
		base := FreePorts(t, 2)
		h := &awayHost{T: t, a: a, keys: keys, name: name, http: fmt.Sprintf("127.0.0.1:%d", base), dns: fmt.Sprintf("127.0.0.1:%d", base+1)}
		hosts[name] = h
		h.start()
		// While its agent lives, every change waits until the host answers.
		Start(t, name+"'s authority", "run", "authority", "--authority-listen", h.dns, "--authority-journal", h.journal(), "--authority-status-dir", a.Path(name, "status"),
			"--authority-image-dir", a.Path(name, "images"), "--authority-keys", a.Path("keys", "publisher.key.pub"), "--authority-udp-workers", "1")
		hosts[name].reach(version)
	}
	hosts["month"].p.Stop()
	changes, left := 0, false
	for _, one := range churn {
		if one.Time > end-day && !left {
			left = true
			hosts["day"].reach(version)
			hosts["day"].p.Stop()
		}
		if files := write(one); len(files) > 0 {
			version = settled(files)
		}
		changes++
	}
	t.Logf("%d changes of a month, version %d; %s", changes, version, Machine())

	h := hosts["day"]
	before := h.journalSize()
	began := time.Now()
	h.start()
	h.reach(version)
	t.Logf("away for a day: %.2f s from the start of the agent, the journal grew by %d octets", time.Since(began).Seconds(), h.journalSize()-before)
	if n := h.metric("zonecast_swarm_fetched_total", ""); n != 0 {
		t.Errorf("after a day %.0f snapshots were fetched, expected none: deltas lead on", n)
	}
	h = hosts["month"]
	began = time.Now()
	h.start()
	h.reach(version)
	took := time.Since(began)
	disk, peers, urls := h.metric("zonecast_swarm_snapshot_bytes_total", `from="disk"`), h.metric("zonecast_swarm_snapshot_bytes_total", `from="peers"`), h.metric("zonecast_swarm_snapshot_bytes_total", `from="urls"`)
	t.Logf("away for a month: %.2f s from the start of the agent; of a snapshot of %.0f octets %.0f came from peers, %.0f from URLs and %.0f from the snapshot that the host had",
		took.Seconds(), disk+peers+urls, peers, urls, disk)
	if n := h.metric("zonecast_swarm_fetched_total", `way="swarm"`); n < 1 {
		t.Errorf("after a month %.0f snapshots were fetched from peers, expected 1", n)
	}
	if share := disk / (disk + peers + urls); share < 0.2 {
		t.Errorf("%.2f of the snapshot came from the one that the host had, expected at least 0.2", share)
	}
}

// awayHost is a host whose agent is started and stopped.
type awayHost struct {
	*testing.T
	a         *Apart
	keys      []ed25519.PublicKey
	name      string
	http, dns string
	p         *Process
}

func (h *awayHost) start() {
	h.Helper()
	h.p = Start(h, h.name, "run", "agent", "--store", "etcd://"+h.a.Store, "--agent-host", h.name, "--agent-dns", h.dns, "--http", h.http, "--swarm-listen", "127.0.0.1:0",
		"--agent-journal", h.journal(), "--agent-status-dir", h.a.Path(h.name, "status"), "--agent-keys", h.a.Path("keys", "publisher.key.pub"))
}

func (h *awayHost) journal() string { return h.a.Path(h.name, "journal") }

// reach waits until the journal has a version.
func (h *awayHost) reach(version uint64) {
	h.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		d, _, err := journal.Load(h.journal(), journal.Fixed(h.keys...))
		if err == nil && d.Version() >= version {
			return
		}
		if time.Now().After(deadline) {
			h.Fatalf("%s has not reached version %d after 2 minutes: %v\n%s", h.name, version, err, h.p.Log())
		}
	}
}

// journalSize is the octets of the log.
func (h *awayHost) journalSize() (size int64) {
	h.Helper()
	logs, err := filepath.Glob(filepath.Join(h.journal(), "log-*"))
	if err != nil {
		h.Fatal(err)
	}
	for _, path := range logs {
		info, err := os.Stat(path)
		if err != nil {
			h.Fatal(err)
		}
		size += info.Size()
	}
	return size
}

// metric sums a metric's lines that have some label.
func (h *awayHost) metric(name, label string) (sum float64) {
	h.Helper()
	r, err := http.Get("http://" + h.http + "/metrics")
	if err != nil {
		h.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		h.Fatal(err)
	}
	found := false
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, name+"{") && strings.Contains(line, label) {
			var v float64
			if _, err := fmt.Sscan(line[strings.LastIndexByte(strings.TrimSpace(line), ' ')+1:], &v); err != nil {
				h.Fatal(err)
			}
			sum, found = sum+v, true
		}
	}
	if !found {
		h.Fatalf("%s has no metric %s", h.name, name)
	}
	return sum
}
