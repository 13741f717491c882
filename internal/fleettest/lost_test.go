package fleettest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/publisher"
	"github.com/zonecast/zonecast/store"
)

// TestLostLogNode: a node of the log that is lost or changed, while a host is away that needs it,
// holds the host up only until the next snapshot, which is made for that reason: none is due for
// another.
func TestLostLogNode(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(f *fleet, path string){
		"lost": func(f *fleet, path string) { f.delete(path) },
		"changed": func(f *fleet, path string) {
			n, err := f.st.Get(f.t.Context(), path)
			if err != nil {
				f.t.Fatal(err)
			}
			b := slices.Clone(n.Value)
			b[len(b)/2] ^= 1
			f.put(path, b)
		},
		"lost while nobody leads":                 nil, // another takes over, which has followed
		"lost with all below, while nobody leads": nil, // which looks as if they had been trimmed
		"lost while the store forgets": func(f *fleet, path string) {
			f.st.SetAvailable(false)
			f.st.SetAvailable(true)
			f.delete(path)
			f.st.Compact()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			slow := func(c *publisher.Config) { c.SnapshotEvery, c.SnapshotPause = 1_000_000, 100*time.Millisecond }
			p, process := f.publisherAt("p", slow)
			second := p
			if spoil == nil {
				second, _ = f.publisherAt("second", slow)
			}
			near, away := f.host("near"), f.host("away")
			f.some(3)
			near.reaches()
			away.reaches()
			eventually(t, "snapshot", func() bool { return !f.manifest(p).Snapshot.ID.IsZero() })
			eventually(t, "snapshot of the other one", func() bool { return len(second.Status().Snapshots) > 0 })
			first := f.manifest(p).Snapshot.Version
			away.stop()
			f.some(5)
			near.reaches()
			lost, leads := f.d.Version()-2, "p"
			path := tree.LogPath(dataset, lost)
			if spoil != nil {
				spoil(f, path)
			} else {
				eventually(t, "the other one has it", func() bool { return second.Status().Followed == f.d.Version() })
				below := strings.Contains(name, "all below")
				f.st.SetAvailable(!below) // then its lead ends later, when they are gone
				process.stop()
				f.st.SetAvailable(true)
				f.delete(path)
				for v := lost - 1; v > 0 && below; v-- {
					f.delete(tree.LogPath(dataset, v))
				}
				p, leads = second, "second"
			}
			eventually(t, "it is seen", func() bool {
				n, _ := f.metric(leads, "zonecast_publisher_log_damage_total")
				return n > 0 && p.Status().Damage != ""
			})
			time.Sleep(100 * time.Millisecond)
			f.some(1) // with freshness records, within a second
			eventually(t, "snapshot beyond it", func() bool { return f.manifest(p).Snapshot.Version > first })
			away.restart()
			away.reaches()
			f.some(2)
			near.reaches()
			away.reaches()
			if n, _ := f.metric(leads, "zonecast_publisher_log_damage_total"); n > 2 {
				t.Errorf("it was seen %v times", n)
			}
		})
	}
}

// delete deletes a node.
func (f *fleet) delete(path string) {
	f.t.Helper()
	if _, err := f.st.Commit(f.t.Context(), store.Txn{Do: []store.Op{{Path: path, Delete: true}}}); err != nil {
		f.t.Fatal(err)
	}
}
