package swarm

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// edge is a dataset beside the first.
const edge = "edge"

// offerEdge has a publisher of edge offer n RRsets of about 1,040 octets.
func (m *member) offerEdge(seed uint64, n int) snapshot.Ref {
	m.w.t.Helper()
	d := snapshot.NewDataset(edge)
	change(m.w.t, d, slices.Collect(data(m.w.t, seed, n).All()), nil)
	var b bytes.Buffer
	ref, err := snapshot.Write(&b, d)
	path := filepath.Join(m.w.dir, ref.ID.String()+".offered")
	if err == nil {
		err = os.WriteFile(path, b.Bytes(), 0o644)
	}
	var meta []byte
	if err == nil {
		ref.Torrent, meta, err = m.Offer(ref, path)
	}
	if err == nil {
		_, err = m.w.st.Commit(m.w.t.Context(), store.Txn{Do: tree.TorrentOps(edge, ref.ID.String(), meta)})
	}
	if err != nil {
		m.w.t.Fatal(err)
	}
	return ref
}

// of is the host's part in the swarm of edge.
func (m *member) of(t *testing.T) *member {
	t.Helper()
	s, err := m.Of(edge, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &member{Swarm: s, w: m.w, name: m.name}
}

// TestHostOfTwoDatasets: hosts fetch the snapshots of two datasets at the same time from publishers and from each
// other, by one port each; what they keep of both is bounded together, and what is dropped leaves nothing.
func TestHostOfTwoDatasets(t *testing.T) {
	w := newWorld(t)
	p := w.start("p", true)
	q := w.start("q", true, func(_ *Config, d *Deps, _ *pace) { d.Dataset = edge })
	first, second := p.offer(data(t, 1, 400)), q.offerEdge(2, 400)
	bound := func(c *Config, d *Deps, _ *pace) { c.MaxBytes, d.Also = first.Size+second.Size*3/2, []string{edge} }
	h, i := w.start("h", false, bound), w.start("i", false, bound)
	he, ie := h.of(t), i.of(t)
	var wg sync.WaitGroup
	for _, one := range []struct {
		*member
		snapshot.Ref
	}{{h, first}, {i, first}, {he, second}, {ie, second}} {
		wg.Go(func() {
			if err := one.fetch(one.Ref); err != nil {
				t.Errorf("%s: %v", one.name, err)
			}
		})
	}
	wg.Wait()
	for _, m := range []*member{h, i} {
		if n := m.metric("fetched_total", bySwarm); n != 2 {
			t.Errorf("%s fetched %v by the swarm, expected 2", m.name, n)
		}
		s := m.Status()
		if len(s.Shared) != 1 || len(s.Beside) != 1 || s.Beside[0].Dataset != edge || len(s.Beside[0].Shared) != 1 || s.Beside[0].Address != s.Address {
			t.Errorf("status of %s is %+v", m.name, s)
		}
	}
	w.eventually("both named in the swarm of edge, whole", func() bool {
		v, err := Read(t.Context(), w.st, edge)
		all := 0
		for _, peer := range v.Peers {
			all += peer.Other // no manifest says which is the newest
		}
		return err == nil && len(v.Peers) == 3 && all == 3
	})
	names, err := Datasets(t.Context(), w.st)
	if err != nil || strings.Join(names, " ") != "edge internal" {
		t.Errorf("datasets with a swarm: %v, %v", names, err)
	}

	// A third file has no room beside the two: the older of its dataset goes.
	if err := he.fetch(q.offerEdge(3, 400)); err != nil {
		t.Fatal(err)
	}
	if s := h.Status(); len(s.Shared) != 1 || len(s.Beside[0].Shared) != 1 {
		t.Errorf("kept is %+v, expected one of each", s)
	}

	// After a restart what was kept of a dataset that is carried is there, and of others not.
	i.stop()
	i = w.start("i", false, bound)
	ie = i.of(t)
	w.eventually("loaded", func() bool { return len(ie.Status().Shared) == 1 })
	i.stop()
	w.start("i", false, bound, func(_ *Config, d *Deps, _ *pace) { d.Also = nil })
	if _, err := os.Stat(ie.cfg.Dir); !os.IsNotExist(err) {
		t.Errorf("what was kept of a dataset that is not carried: %v", err)
	}

	he.Leave()
	if _, err := os.Stat(he.cfg.Dir); !os.IsNotExist(err) {
		t.Errorf("what was kept of a dataset that was dropped: %v", err)
	}
	w.eventually("named no more", func() bool {
		_, err := w.st.Get(t.Context(), tree.SwarmSitePrefix(edge, "default")+"h")
		return err != nil
	})
	if s := h.Status(); len(s.Beside) != 0 || len(s.Shared) != 1 {
		t.Errorf("status is %+v", s)
	}
	h.of(t).Leave() // and once more
	h.Leave()       // the first one: the port stays
	if n := len(h.Nodes()); n != 0 || len(h.Status().Shared) != 0 {
		t.Errorf("%d nodes, %+v", n, h.Status())
	}
	if again, err := h.Of(dataset, nil); err != nil || again != h.Swarm || len(h.Nodes()) != 2 {
		t.Errorf("taken up again: %v, %d nodes", err, len(h.Nodes()))
	}
	if err := h.fetch(first); err != nil {
		t.Error(err)
	}
}
