package fleettest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/zonecast/zonecast/agent"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/publisher"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// Eight hosts that join at once fetch the snapshot from each other: all end with what is
// published, and the publisher sends a bounded number of copies, by both its ways together.
func TestSwarmOfNewHosts(t *testing.T) {
	f := newFleet(t)
	f.swarm = true
	p, _ := f.publisherAt("p", func(c *publisher.Config) { c.SnapshotEvery, c.SnapshotPause = 10, 0 })
	var many []record.RRset
	for i := range 20000 {
		sum := sha256.Sum256([]byte{byte(i), byte(i >> 8)}) // does not compress
		many = append(many, rrset(t, fmt.Sprintf("many%d.example.net", i), record.TypeTXT, "\x20"+string(sum[:])))
	}
	f.publish(many...)
	eventually(t, "a snapshot", func() bool { return len(p.Status().Snapshots) == 1 })
	f.some(12) // makes one more due, and no third
	eventually(t, "two snapshots and a trimmed log", func() bool {
		nodes, _, err := f.st.List(t.Context(), tree.LogPrefix(dataset))
		s := p.Status()
		if err != nil || len(nodes) == 0 || len(s.Snapshots) != 2 {
			return false
		}
		oldest, _ := tree.LogVersion(dataset, nodes[0].Path)
		m := f.manifest(p)
		return oldest > 1 && s.Signed == f.d.Version() && m.Snapshot.ID == s.Snapshots[0].ID && m.Snapshot.Torrent != ""
	})
	m := f.manifest(p)
	nodes, _, err := f.st.List(t.Context(), tree.Torrents)
	if err != nil || len(nodes) != len(p.Status().Snapshots) {
		t.Fatalf("%d metainfo in the store for %d snapshots, error %v", len(nodes), len(p.Status().Snapshots), err)
	}
	var hosts []*host
	for i := range 8 {
		hosts = append(hosts, f.host(fmt.Sprint("host", i), func(c *agent.Config) { c.FoldSize = 1 << 30 }))
	}
	for _, h := range hosts {
		h.reaches()
	}
	size := float64(m.Snapshot.Size)
	bySwarm, _ := f.metric("p", "zonecast_swarm_sent_bytes_total")
	byURL, _ := f.metric("p", "zonecast_publisher_downloads_total")
	t.Logf("%.0f octets to 8 hosts: publisher sent %.2f times that to peers, and %v whole downloads", size, bySwarm/size, byURL)
	if bySwarm > 4*size || byURL > 0 {
		t.Errorf("publisher sent %.2f copies to peers and %v by URL, expected at most 4 and none", bySwarm/size, byURL)
	}
	for _, h := range hosts {
		f.moved(h.name, "zonecast_swarm_received_bytes_total", "zonecast_swarm_fetched_total", "zonecast_swarm_kept_bytes")
		if n, err := f.st.Get(t.Context(), tree.SwarmSitePrefix(dataset, "default")+h.name); err != nil || !n.Ephemeral || !bytes.Contains(n.Value, []byte(m.Snapshot.ID.String())) {
			t.Errorf("%s does not say in the store that it has the snapshot: %s, %v", h.name, n.Value, err)
		}
	}
	// A host that ends is no more named.
	hosts[0].stop()
	if _, err := f.st.Get(t.Context(), tree.SwarmSitePrefix(dataset, "default")+"host0"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a host that ended is still named: %v", err)
	}
	// What other programs are given is what hosts have.
	newest := p.Status().Snapshots[0].ID.String()
	base := strings.TrimSuffix(m.Snapshot.URLs[0], "/"+m.Snapshot.ID.String())
	for path, want := range map[string]int{".torrent": 200, "/" + newest + ".torrent": 200, "/" + m.Chain.String() + ".torrent": 404} {
		resp, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != want {
			t.Errorf("%s: status %d, error %v, expected %d", path, resp.StatusCode, err, want)
		}
		if want != 200 {
			continue
		}
		if node, err := f.st.Get(t.Context(), tree.TorrentPath(dataset, newest, 0)); err != nil || !bytes.Equal(b, node.Value) {
			t.Errorf("%s: it is not what is in the store (%v)", path, err)
		}
	}
}

// A large delta comes to hosts as a file, from each other: its parts in the store are read by the
// publisher alone.
func TestLargeDeltaFromPeers(t *testing.T) {
	f := newFleet(t)
	f.swarm = true
	p, _ := f.publisherAt("p")
	f.some(1)
	eventually(t, "a signed version", func() bool { return p.Status().Signed == f.d.Version() })
	var many []record.RRset
	for i := range 20000 {
		sum := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
		many = append(many, rrset(t, fmt.Sprintf("many%d.example.net", i), record.TypeTXT, "\x20"+string(sum[:])))
	}
	f.publish(many...)
	eventually(t, "a signed file", func() bool {
		m := f.manifest(p)
		return m.Version == f.d.Version() && len(m.Deltas) == 1 && m.Deltas[0].Torrent != "" && m.Deltas[0].Chain == f.d.Chain()
	})
	nodes, _, err := f.st.List(t.Context(), tree.TorrentPrefix(dataset, f.d.Chain().String()))
	if err != nil || len(nodes) == 0 {
		t.Fatalf("%d parts of its metainfo are in the store, error %v", len(nodes), err)
	}
	var hosts []*host
	for i := range 3 {
		hosts = append(hosts, f.host(fmt.Sprint("host", i), func(c *agent.Config) { c.FoldSize = 1 << 30 }))
	}
	for _, h := range hosts {
		h.reaches()
		if n, _ := f.metric(h.name, "zonecast_swarm_fetched_total"); n != 1 {
			t.Errorf("%s fetched %v files, expected the delta", h.name, n)
		}
	}
	f.some(1)
	for _, h := range hosts {
		h.reaches()
	}
}
