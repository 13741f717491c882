package presenter

import (
	"context"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// A store that was lost, or put back to an older state, is older than what hosts
// answer: with consent the next version is above theirs and whole.
func TestStoreOlderThanHosts(t *testing.T) {
	for _, lost := range []bool{true, false} {
		bubble(t, func(t *testing.T, st *memstore.Store) {
			put(t, st, "1", zone())
			if !lost { // put back: there is a head, at an older version
				p := run(t, st)
				settle()
				p.stop(t)
			}
			reports := func(version uint64) {
				host := tree.Host{Name: "ns1", Datasets: map[string]tree.HostDataset{"internal": {Version: version}}}
				if _, err := st.Commit(context.Background(), store.Txn{Do: []store.Op{{Path: tree.HostPath("ns1"), Value: tree.Encode(host)}}}); err != nil {
					t.Fatal(err)
				}
			}
			if !lost {
				reports(500)
			}
			// Without consent hosts are left alone, and people told.
			careful := run(t, st)
			settle()
			if d := equalsImport(t, st); d.Version() != 1 {
				t.Fatalf("lost=%v: version %d, expected 1", lost, d.Version())
			}
			if behind := careful.Status().Behind; (behind != "") == lost {
				t.Fatalf("lost=%v: status says %q", lost, behind)
			}
			careful.stop(t)
			p := run(t, st, func(c *Config, _ *Deps) { c.AboveHosts = true })
			defer p.stop(t)
			settle()
			if lost { // the host finds the new store when versions are made already
				reports(500)
				put(t, st, "a", hosts(2)...)
				settle()
			}
			if d := equalsImport(t, st); d.Version() != 501 {
				t.Fatalf("lost=%v: version %d, expected 501", lost, d.Version())
			}
			reports(501)
			time.Sleep(askEvery)
			put(t, st, "b", hosts(3)...)
			settle()
			if d := equalsImport(t, st); d.Version() != 502 {
				t.Fatalf("lost=%v: version %d, expected 502", lost, d.Version())
			}
			if s := p.Status(); s.Behind != "" {
				t.Fatalf("lost=%v: status says %q", lost, s.Behind)
			}
			// Nonsense is not believed.
			reports(1 << 60)
			put(t, st, "b", hosts(4)...)
			settle()
			if d := equalsImport(t, st); d.Version() != 503 {
				t.Fatalf("lost=%v: version %d, expected 503", lost, d.Version())
			}
		})
	}
}
