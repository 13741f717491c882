package presenter

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// signed puts a manifest of what is published, up to the head, as a publisher would.
func signed(t *testing.T, st store.Store, change ...func(*snapshot.Manifest)) {
	t.Helper()
	d := published(t, st)
	m := snapshot.Manifest{Dataset: "internal", Version: d.Version(), Time: d.Time(), Digest: d.Digest(), Chain: d.Chain(), Content: d.Content(), Oldest: 1}
	for _, f := range change {
		f(&m)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	do(t, st, store.Op{Path: tree.ManifestPath("internal"), Value: b})
}

func get(t *testing.T, st store.Store, path string) []byte {
	t.Helper()
	n, err := st.Get(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	return n.Value
}

// versions makes n versions, one address in each.
func versions(t *testing.T, st store.Store, from byte, n int) {
	t.Helper()
	for i := range byte(n) {
		put(t, st, "a", address("host", from+i))
		time.Sleep(time.Second)
	}
}

// TestLogMended holds that what no publisher has followed yet is put back into the log where that has
// lost or changed it, large deltas too, and that what is signed is left alone.
func TestLogMended(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "1", zone())
		p := run(t, st)
		defer p.stop(t)
		settle()
		versions(t, st, 1, 2) // 2, 3
		signed(t, st)
		settle()
		versions(t, st, 10, 2) // 4, 5
		many := hosts(3000)
		for i := range many {
			many[i].TTL = 77
		}
		put(t, st, "b", many...) // 6, in parts
		time.Sleep(time.Second)
		versions(t, st, 20, 1) // 7
		head := readHead(t, st)
		if head.Version != 7 {
			t.Fatalf("head %+v, expected version 7", head)
		}
		was := map[string][]byte{}
		for _, path := range []string{tree.LogPath("internal", 4), tree.LogPath("internal", 5), tree.LogPath("internal", 6), tree.PartPath("internal", 6, 0), tree.LogPath("internal", 7)} {
			was[path] = get(t, st, path)
		}
		spoilt := bytes.Clone(was[tree.LogPath("internal", 5)])
		spoilt[len(spoilt)/2] ^= 1
		do(t, st, store.Op{Path: tree.LogPath("internal", 5), Value: spoilt},
			store.Op{Path: tree.LogPath("internal", 4), Delete: true}, store.Op{Path: tree.PartPath("internal", 6, 0), Delete: true},
			store.Op{Path: tree.LogPath("internal", 2), Delete: true})
		time.Sleep(3 * mendEvery)
		for path, want := range was {
			if got := get(t, st, path); !bytes.Equal(got, want) {
				t.Errorf("%s has %d octets, expected the %d that were made", path, len(got), len(want))
			}
		}
		if _, err := st.Get(context.Background(), tree.LogPath("internal", 2)); err == nil {
			t.Error("delta 2, which is signed, was put back: it may have been trimmed")
		}
		if h := readHead(t, st); h != head || value(p.Presenter.metrics.mended) != 3 {
			t.Errorf("head %+v, %v versions mended, expected 3 and head %+v", h, value(p.Presenter.metrics.mended), head)
		}
	})
}

// takenOver has another presenter lead, which has none of what the one before made, and the log lose a
// version of that.
func takenOver(t *testing.T, st *memstore.Store, p *running, lost uint64) *running {
	t.Helper()
	p.stop(t)
	p = run(t, st)
	settle()
	do(t, st, store.Op{Path: tree.LogPath("internal", lost), Delete: true})
	return p
}

// TestLeap holds that publishers are got past what an earlier presenter made and the log lost: by a
// whole version, once, when for a minute nothing was signed.
func TestLeap(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "1", zone())
		p := run(t, st)
		settle()
		signed(t, st)
		versions(t, st, 1, 4) // 2 to 5
		p = takenOver(t, st, p, 3)
		defer p.stop(t)
		time.Sleep(leapAfter / 2)
		if h := readHead(t, st); h.Version != 5 {
			t.Fatalf("head %+v: a publisher may need half a minute, expected version 5", h)
		}
		time.Sleep(leapAfter)
		if d := equalsImport(t, st); d.Version() != 6 {
			t.Fatalf("version %d, expected 6; status %s", d.Version(), p.Status())
		}
		versions(t, st, 20, 2)
		time.Sleep(3 * time.Hour) // nobody publishes; it is not because of the log
		if d := equalsImport(t, st); d.Version() != 8 {
			t.Fatalf("version %d, expected 8; status %s", d.Version(), p.Status())
		}
	})
}

// TestLeapUnreadable holds that a manifest that cannot be read keeps nobody from it: an old one that
// somebody put back beside the list of files of another, and what is none.
func TestLeapUnreadable(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, st store.Store){
		"list of another": func(t *testing.T, st store.Store) {
			signed(t, st, func(m *snapshot.Manifest) {
				m.Snapshot = snapshot.Ref{ID: snapshot.ID{1}, Size: 100, Version: m.Version, Digest: m.Digest, Chain: m.Chain, Time: m.Time, URLs: []string{"http://p.example.net"}}
			})
			b, list := snapshot.Detach(get(t, st, tree.ManifestPath("internal")))
			if len(list) == 0 {
				t.Fatal("the manifest has no list of files")
			}
			do(t, st, store.Op{Path: tree.ManifestPath("internal"), Value: b}, store.Op{Path: tree.FilesPath("internal"), Value: append(list, ' ')})
		},
		"no manifest": func(t *testing.T, st store.Store) {
			do(t, st, store.Op{Path: tree.ManifestPath("internal"), Value: []byte("{}")})
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, st *memstore.Store) {
				put(t, st, "1", zone())
				p := run(t, st)
				settle()
				spoil(t, st)
				versions(t, st, 1, 4) // 2 to 5
				p = takenOver(t, st, p, 3)
				defer p.stop(t)
				time.Sleep(2 * leapAfter)
				if d := equalsImport(t, st); d.Version() != 6 {
					t.Fatalf("version %d, expected 6; status %s", d.Version(), p.Status())
				}
			})
		})
	}
}

// TestLeapAmongOld holds that old manifests that come again are not taken for a publisher that gets on.
func TestLeapAmongOld(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "1", zone())
		p := run(t, st)
		settle()
		var old [][]byte
		for i := range 2 {
			versions(t, st, byte(1+i), 1) // 2, 3
			signed(t, st)
			old = append(old, get(t, st, tree.ManifestPath("internal")))
		}
		versions(t, st, 10, 2) // 4, 5
		p = takenOver(t, st, p, 4)
		defer p.stop(t)
		for i := range 2 * int(leapAfter/mendEvery) {
			do(t, st, store.Op{Path: tree.ManifestPath("internal"), Value: old[i%2]})
			time.Sleep(mendEvery)
		}
		if d := equalsImport(t, st); d.Version() != 6 {
			t.Fatalf("version %d, expected 6; status %s", d.Version(), p.Status())
		}
	})
}

// TestLeapWithoutSnapshot holds the same of publishers that lost their snapshots when the log does not
// reach back any more; while none leads, nothing is made for it.
func TestLeapWithoutSnapshot(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "1", zone())
		p := run(t, st)
		defer p.stop(t)
		settle()
		versions(t, st, 1, 4) // 2 to 5
		signed(t, st, func(m *snapshot.Manifest) {
			m.Oldest = 4
			m.Snapshot = snapshot.Ref{ID: snapshot.ID{1}, Size: 100, Version: 3, URLs: []string{"http://gone.example.net"}}
		})
		settle()
		versions(t, st, 10, 2) // 6, 7
		do(t, st, store.Op{Path: tree.LogPath("internal", 1), Delete: true}, store.Op{Path: tree.LogPath("internal", 2), Delete: true}, store.Op{Path: tree.LogPath("internal", 3), Delete: true})
		time.Sleep(10 * leapAfter)
		if h := readHead(t, st); h.Version != 7 {
			t.Fatalf("head %+v, expected version 7 while nobody publishes", h)
		}
		do(t, st, store.Op{Path: tree.ElectPublisher + "/internal", Value: []byte("p")})
		time.Sleep(2 * leapPause)
		if d := equalsImport(t, st); d.Version() != 8 {
			t.Fatalf("version %d, expected 8; status %s", d.Version(), p.Status())
		}
	})
}
