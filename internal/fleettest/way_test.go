package fleettest

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zonecast/zonecast/agent"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/publisher"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

func (f *fleet) some(n int) {
	f.t.Helper()
	for i := range n {
		f.publish(rrset(f.t, fmt.Sprintf("h%d.example.net", i), record.TypeA, string([]byte{192, 0, 2, byte(f.d.Version())})))
	}
}

func TestWay(t *testing.T) {
	f := newFleet(t)
	f.some(3)
	p, _ := f.publisherAt("p")
	h := f.host("host0")
	h.reaches()
	f.some(20)
	h.reaches()
	eventually(t, "snapshot", func() bool { return !f.manifest(p).Snapshot.ID.IsZero() })
	f.publish(record.RRset{Key: rrset(t, "large.example.net", record.TypeTXT, "x").Key, TTL: 60, Data: []record.Rdata{record.Rdata("\xff" + strings.Repeat("t", 255))}})
	h.reaches()
	if s := p.Status(); !s.Leading || s.Signed != f.d.Version() || s.Refused != "" || s.Trouble != "" {
		t.Errorf("status of the publisher: %+v", s)
	}
	if s := h.a.Status(); s.Refused != "" || s.Trouble != "" || s.Digest != f.d.Digest() {
		t.Errorf("status of the agent: %+v", s)
	}
	f.moved("p", "zonecast_publisher_followed_version", "zonecast_publisher_signed_version", "zonecast_publisher_leading",
		"zonecast_publisher_sign_seconds", "zonecast_publisher_snapshot_seconds", "zonecast_publisher_snapshots_total", "zonecast_publisher_snapshot_bytes")
	f.moved("host0", "zonecast_agent_version", "zonecast_agent_apply_seconds", "zonecast_agent_append_seconds",
		"zonecast_agent_octets_total", "zonecast_agent_age_seconds", "zonecast_agent_reports_total")
}

func TestTrimAndNewcomer(t *testing.T) {
	f := newFleet(t)
	p, _ := f.publisherAt("p", func(c *publisher.Config) { c.SnapshotEvery, c.SnapshotPause = 10, 0 })
	h := f.host("host0")
	var many []record.RRset // too many for one node: parts are trimmed as well
	for i := range 3000 {
		many = append(many, rrset(t, fmt.Sprintf("many%d.example.net", i), record.TypeA, "\xc0\x00\x02\x01"))
	}
	f.publish(many...)
	if nodes, _, err := f.st.List(t.Context(), tree.AllPartsPrefix(dataset)); err != nil || len(nodes) < 2 {
		t.Fatalf("%d parts, error %v", len(nodes), err)
	}
	for range 3 {
		f.some(12)
		h.reaches()
		eventually(t, "signed", func() bool { return p.Status().Signed == f.d.Version() })
	}
	eventually(t, "manifest of a trimmed log", func() bool {
		f.some(1) // a snapshot is made when a version comes and the last one is done
		return f.manifest(p).Oldest > 2
	})
	h.reaches()
	eventually(t, "trimmed log", func() bool {
		nodes, _, err := f.st.List(t.Context(), tree.LogPrefix(dataset))
		if err != nil || len(nodes) == 0 {
			return false
		}
		oldest, _ := tree.LogVersion(dataset, nodes[0].Path)
		m := f.manifest(p)
		return m.Oldest > 2 && oldest == m.Oldest
	})
	if nodes, _, err := f.st.List(t.Context(), tree.AllPartsPrefix(dataset)); err != nil || len(nodes) > 0 {
		t.Errorf("%d parts are left, error %v", len(nodes), err)
	}
	newcomer := f.host("host1")
	newcomer.reaches()
	f.some(2)
	newcomer.reaches()
	f.moved("p", "zonecast_publisher_trimmed_nodes_total", "zonecast_publisher_downloads_total")
	f.moved("host1", "zonecast_agent_snapshot_fetch_seconds")
	eventually(t, "two snapshots are kept", func() bool { // and one more while that is made
		files, _ := filepath.Glob(filepath.Join(f.dir, "p", "*.snapshot"))
		return len(files) <= 2
	})
	// What is offered can be had, with ranges, and nothing else can.
	ref := f.manifest(p).Snapshot
	server := httptest.NewServer(p.Handler())
	defer server.Close()
	get := func(method, path, rng string) (int, string, http.Header) {
		req, err := http.NewRequest(method, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if rng != "" {
			req.Header.Set("Range", rng)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b), resp.Header
	}
	path := "/snapshots/internal/" + ref.ID.String()
	code, body, header := get("GET", path, "")
	if code != 200 || int64(len(body)) != ref.Size || !strings.Contains(header.Get("Cache-Control"), "immutable") {
		t.Errorf("GET: %d, %d octets, %v", code, len(body), header)
	}
	if code, part, _ := get("GET", path, "bytes=8-15"); code != 206 || part != body[8:16] {
		t.Errorf("range: %d %q", code, part)
	}
	for _, bad := range []string{
		"/snapshots/", "/snapshots/internal/", "/snapshots/internal/offered.json", "/snapshots/external/" + ref.ID.String(),
		"/snapshots/internal/../../key", "/snapshots/internal/" + strings.Repeat("0", 64), path + ".snapshot",
	} {
		if code, _, _ := get("GET", bad, ""); code != 404 {
			t.Errorf("GET %s: %d, expected 404", bad, code)
		}
	}
	if code, _, _ := get("PUT", path, ""); code != 405 {
		t.Errorf("PUT: %d, expected 405", code)
	}
}

// A publisher whose directory is lost starts from the log, or from another's
// snapshot, and where nobody has one a full delta heals it.
func TestLostDirectory(t *testing.T) {
	f := newFleet(t)
	quick := func(c *publisher.Config) { c.SnapshotEvery, c.SnapshotPause = 5, 0 }
	p, proc := f.publisherAt("p", quick)
	eventually(t, "trimmed", func() bool {
		f.some(1) // a snapshot is made when a version comes and the last one is done
		return f.manifest(p).Oldest > 1 && len(p.Status().Snapshots) == 2
	})
	eventually(t, "log trimmed", func() bool {
		nodes, _, _ := f.st.List(t.Context(), tree.LogPrefix(dataset))
		return len(nodes) > 0 && nodes[0].Path != tree.LogPath(dataset, 1)
	})
	second, proc2 := f.publisherAt("q", quick) // finds the other's snapshot
	eventually(t, "second publisher", func() bool { return second.Status().Followed == f.d.Version() })
	proc.stop()
	eventually(t, "takeover", func() bool { return second.Status().Leading })
	f.some(1)
	eventually(t, "signed by the second", func() bool { return f.manifest(second).Version == f.d.Version() })
	proc2.stop()
	for _, dir := range []string{"p", "q"} {
		if err := os.RemoveAll(filepath.Join(f.dir, dir)); err != nil {
			t.Fatal(err)
		}
	}
	before := f.manifest(second).Version
	third, _ := f.publisherAt("r", quick)
	eventually(t, "warning", func() bool { return strings.Contains(third.Status().Refused, "unreachable") })
	f.some(1)
	if v := f.manifest(third).Version; v != before {
		t.Fatalf("signed version %d without having it", v)
	}
	f.replace(rrset(t, "new.example.net", record.TypeA, "\xc0\x00\x02\x01"))
	h := f.host("host0")
	h.reaches()
	f.some(2)
	h.reaches()
}

func TestPublisherRestarts(t *testing.T) {
	f := newFleet(t)
	p, proc := f.publisherAt("p")
	h := f.host("host0")
	f.some(5)
	h.reaches()
	eventually(t, "snapshot", func() bool { return len(p.Status().Snapshots) == 1 })
	key := p.PublicKey()
	ref := p.Status().Snapshots[0]
	proc.stop()
	f.some(5)
	p, proc = f.publisherAt("p")
	if !key.Equal(p.PublicKey()) {
		t.Error("the key is another")
	}
	h.reaches()
	if got := p.Status().Snapshots; len(got) != 1 || got[0].ID != ref.ID {
		t.Errorf("snapshots offered after the restart: %v, expected %s", got, ref.ID)
	}
	proc.stop()
	// Damaged snapshots are not offered.
	file := filepath.Join(f.dir, "p", ref.ID.String()+".snapshot")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	p, _ = f.publisherAt("p")
	if slices.ContainsFunc(p.Status().Snapshots, func(r snapshot.Ref) bool { return r.ID == ref.ID }) {
		t.Error("a damaged snapshot is offered")
	}
	f.some(1)
	h.reaches()
	eventually(t, "new snapshot", func() bool { return len(p.Status().Snapshots) == 1 })
}

// Damage is moved aside and said, nothing below what is answered is taken, and what
// is published comes anew.
func TestDamagedJournal(t *testing.T) {
	f := newFleet(t)
	p, _ := f.publisherAt("p")
	h := f.host("host0")
	f.some(5)
	h.reaches()
	h.serve(h.look())
	eventually(t, "snapshot", func() bool { return len(p.Status().Snapshots) == 1 })
	h.stop()
	damaged := 0
	err := filepath.WalkDir(h.cfg.Journal, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for i := range b {
			b[i] ^= 0xff
		}
		damaged += len(b)
		return os.WriteFile(path, b, 0o644)
	})
	if err != nil || damaged == 0 {
		t.Fatalf("damaged %d octets: %v", damaged, err)
	}
	h.restart()
	h.reaches()
	s := h.a.Status()
	f.moved("host0", "zonecast_agent_quarantined_total")
	if s.Quarantined == "" {
		t.Fatal("nothing was moved aside")
	}
	if _, err := os.Stat(s.Quarantined); err != nil {
		t.Error(err)
	}
}

func TestReport(t *testing.T) {
	f := newFleet(t)
	f.publisherAt("p")
	h := f.host("host0")
	f.some(2)
	h.reaches()
	eventually(t, "report", func() bool { _, ok := h.report(); return ok })
	if r, _ := h.report(); len(r.Datasets) != 0 || r.Name != "host0" || r.DNS != "192.0.2.1:53" {
		t.Errorf("before the authority answers: %+v", r)
	}
	says := func(want uint64) func() bool {
		return func() bool { r, ok := h.report(); return ok && r.Datasets[dataset].Version == want }
	}
	h.serve(f.d)
	eventually(t, "what is answered", says(2))
	// A change of content is said at once, a heartbeat within a second, not sooner.
	f.some(1)
	h.reaches()
	began := time.Now()
	h.serve(f.d)
	eventually(t, "content", says(3))
	if took := time.Since(began); took > 500*time.Millisecond {
		t.Errorf("content was said after %s", took)
	}
	f.publish(rrset(t, "_fresh.internal.example.net", record.TypeTXT, "\x01a"))
	h.reaches()
	h.serve(f.d)
	eventually(t, "heartbeat", says(4))
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("heartbeat was said after %s, expected a second between two", took)
	}
	// An authority that starts anew answers nothing, and no more is said of it.
	if err := os.Remove(filepath.Join(h.cfg.StatusDir, agent.ServingFile)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing is answered", func() bool { r, ok := h.report(); return ok && len(r.Datasets) == 0 })
	h.serve(f.d)
	eventually(t, "what is answered again", says(4))
	// What is refused is said.
	if _, err := f.st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.ManifestPath(dataset), Value: []byte("garbage")}}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "refusal", func() bool { r, _ := h.report(); return strings.HasPrefix(r.Refused, "manifest: ") })
	f.moved("host0", "zonecast_agent_refused_total", "zonecast_agent_serving_version")
	f.some(1)
	h.reaches()
	eventually(t, "all is well again", func() bool { r, _ := h.report(); return r.Refused == "" })
	// The session is lost with the store, the journal is not; both come back.
	f.st.SetAvailable(false)
	time.Sleep(1200 * time.Millisecond) // longer than the session's ttl, by the store's clock
	if h.look().Version() != f.d.Version() {
		t.Error("the journal lost something with the store")
	}
	f.st.SetAvailable(true)
	h.serve(f.d)
	eventually(t, "report in a new session", says(f.d.Version()))
	h.stop()
	if _, ok := h.report(); ok {
		t.Error("a host that stopped is still reported")
	}
}

// unsteady is a store of whose sessions' commits two in three get no answer.
type unsteady struct {
	store.Store
	sessions, commits atomic.Int64
}

func (u *unsteady) Session(ctx context.Context, ttl time.Duration) (store.Session, error) {
	s, err := u.Store.Session(ctx, ttl)
	if err != nil {
		return nil, err
	}
	u.sessions.Add(1)
	return unsteadySession{s, u}, nil
}

type unsteadySession struct {
	store.Session
	u *unsteady
}

func (s unsteadySession) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	if s.u.commits.Add(1)%3 != 0 {
		return 0, store.ErrUnavailable
	}
	return s.Session.Commit(ctx, txn)
}

// TestReportGoesOn: what breaks while the session lives makes nobody miss the host.
func TestReportGoesOn(t *testing.T) {
	f := newFleet(t)
	f.publisherAt("p")
	u := &unsteady{Store: f.st.Peer()}
	f.behind = func() (store.Store, follow.Fetcher) { return u, follow.HTTP{} }
	h := f.host("host0")
	for range 4 {
		f.some(1)
		h.reaches()
		h.serve(f.d)
		eventually(t, "what is answered", func() bool { r, _ := h.report(); return r.Datasets[dataset].Version == f.d.Version() })
	}
	if n := u.sessions.Load(); n != 1 {
		t.Errorf("%d sessions were begun, expected one: the host was missing in between", n)
	}
}

// TestSimulation plays random lives from a seed: hosts restart at any moment, the
// store goes away, publishers die and others take over, logs are trimmed. No journal
// ever goes back, and all end with what is published.
func TestSimulation(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			f := newFleet(t)
			quick := func(c *publisher.Config) { c.SnapshotEvery, c.SnapshotPause = 8, 0 }
			_, proc := f.publisherAt("p", quick)
			hosts := []*host{f.host("host0"), f.host("host1"), f.host("host2")}
			f.some(1)
			for range 50 {
				switch rng.IntN(10) {
				default:
					f.some(1 + rng.IntN(4))
				case 5:
					hosts[rng.IntN(len(hosts))].restart()
				case 6:
					f.st.SetAvailable(false)
					time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
					f.st.SetAvailable(true)
				case 7:
					f.st.Compact()
				case 8:
					proc.stop()
					_, proc = f.publisherAt("p", quick)
				case 9:
					h := hosts[rng.IntN(len(hosts))]
					h.stop()
					f.some(rng.IntN(30))
					h.restart()
				}
				hosts[rng.IntN(len(hosts))].look()
			}
			f.some(1)
			for _, h := range hosts {
				h.reaches()
			}
		})
	}
}

// TestLatency measures; the bounds are far above what it takes, so that they fail
// only when something waits that should not.
func TestLatency(t *testing.T) {
	f := newFleet(t)
	f.publisherAt("p")
	h := f.host("host0")
	f.some(1)
	h.reaches()
	var took []time.Duration
	for i := range 300 {
		set := rrset(t, fmt.Sprintf("l%d.example.net", i), record.TypeA, "\xc0\x00\x02\x01")
		began := time.Now()
		f.publish(set)
		for h.a.Status().Version != f.d.Version() {
			time.Sleep(50 * time.Microsecond)
			if time.Since(began) > 10*time.Second {
				t.Fatalf("version %d does not come", f.d.Version())
			}
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("head commit to durable in the journal: p50 %s, p99 %s, max %s", took[150], took[297], took[299])
	n, sum := f.metric("p", "zonecast_publisher_sign_seconds")
	t.Logf("version verified to manifest committed: mean %s of %v", time.Duration(sum/n*float64(time.Second)), n)
	if took[150] > 100*time.Millisecond {
		t.Errorf("p50 is %s, expected far below 100ms", took[150])
	}
}
