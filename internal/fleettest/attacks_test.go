package fleettest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/refused"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trust"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
	"github.com/zonecast/zonecast/store"
)

// target is a host that is attacked, and who published what it has: the test signs in the
// publisher's place, so that it can sign what a publisher never would.
type target struct {
	*fleet
	*host
	key    ed25519.PrivateKey
	oldest uint64
	ref    snapshot.Ref // of the snapshot offered; zero: none
	signed [][]byte     // manifests of the past
	heal   func()       // ends the attack; nil: the next honest version does
	// restored: the journal was replaced, so that there is nothing that stays.
	restored bool
}

func newTarget(t *testing.T) *target {
	x := &target{fleet: newFleet(t), oldest: 1}
	x.key = x.fleet.key("key")
	x.next(3)
	x.host = x.fleet.believer("host0", x.key)
	x.reaches()
	for range 3 { // each a group of its own in the journal
		x.next(1)
		eventually(t, "the next version", func() bool { return x.a.Status().Version == x.d.Version() })
	}
	x.reaches()
	return x
}

// manifest is the signed one of what is published, but for a change.
func (x *target) manifest(change func(*snapshot.Manifest), key ed25519.PrivateKey) []byte {
	x.fleet.t.Helper()
	m := &snapshot.Manifest{
		Dataset: dataset, Version: x.d.Version(), Time: x.d.Time(), Digest: x.d.Digest(), Chain: x.d.Chain(), Content: x.d.Content(), Oldest: x.oldest, Snapshot: x.ref,
	}
	if change != nil {
		change(m)
	}
	b, err := m.Sign(key)
	if err != nil {
		x.fleet.t.Fatal(err)
	}
	return b
}

// next publishes versions, honestly.
func (x *target) next(n int) {
	x.fleet.t.Helper()
	for range n {
		x.some(1)
		x.announce(x.manifest(nil, x.key))
	}
}

func (x *target) announce(manifest []byte) {
	x.fleet.t.Helper()
	x.signed = append(x.signed, manifest)
	x.put(tree.ManifestPath(dataset), manifest)
}

// log is the node of a version.
func (x *target) log(version uint64) []byte {
	x.fleet.t.Helper()
	n, err := x.st.Get(context.Background(), tree.LogPath(dataset, version))
	if err != nil {
		x.fleet.t.Fatal(err)
	}
	return n.Value
}

func flipped(b []byte, at int) []byte {
	bad := bytes.Clone(b)
	bad[at] ^= 0x10
	return bad
}

// lie puts a version's node in another form, and then the manifest that is honest. What
// is there is right again before the next version.
func (x *target) lie(versions int, spoil func(good [][]byte) [][]byte) {
	x.fleet.t.Helper()
	first := x.d.Version() + 1
	x.some(versions)
	var good [][]byte
	for v := range uint64(versions) {
		good = append(good, x.log(first+v))
	}
	x.stop() // the host has not seen them: it has no manifest that covers them
	for v, b := range spoil(good) {
		x.put(tree.LogPath(dataset, first+uint64(v)), b)
	}
	x.announce(x.manifest(nil, x.key))
	x.restart()
	x.heal = func() {
		for v, b := range good {
			x.put(tree.LogPath(dataset, first+uint64(v)), b)
		}
	}
}

// attack is one row: what is done to a host that serves, and what must be said of it.
type attack struct {
	name string
	way  string // by which it comes
	kind string // by which it is refused
	do   func(x *target)
}

// storeAttacks are those of somebody who has the store.
func storeAttacks() []attack {
	manifest := func(name, kind string, make func(x *target) []byte) attack {
		return attack{name, "store", kind, func(x *target) { x.put(tree.ManifestPath(dataset), make(x)) }}
	}
	lie := func(name, kind string, versions int, spoil func([][]byte) [][]byte) attack {
		return attack{name, "store", kind, func(x *target) { x.lie(versions, spoil) }}
	}
	stranger := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize))
	return []attack{
		manifest("rollback: an older manifest", "older", func(x *target) []byte { return x.signed[0] }),
		{"replay to an agent that starts again", "store", "older", func(x *target) {
			x.stop()
			x.put(tree.ManifestPath(dataset), x.signed[1])
			x.restart()
		}},
		manifest("signed by nobody we know", "signature", func(x *target) []byte { x.some(1); return x.manifest(nil, stranger) }),
		manifest("bit-flipped manifest", "signature", func(x *target) []byte { return flipped(x.signed[2], 40) }),
		manifest("truncated manifest", "manifest", func(x *target) []byte { return x.signed[2][:len(x.signed[2])/2] }),
		manifest("oversized manifest", "manifest", func(*target) []byte { return bytes.Repeat([]byte(" "), store.MaxValue) }),
		manifest("mix and match: another dataset's manifest", "dataset", func(x *target) []byte {
			return x.manifest(func(m *snapshot.Manifest) { m.Dataset, m.Version = "external", 99 }, x.key)
		}),
		manifest("a fork: the same version with other content", "forked", func(x *target) []byte {
			return x.manifest(func(m *snapshot.Manifest) { m.Digest[0] ^= 1; m.Chain[0] ^= 1 }, x.key)
		}),
		manifest("a digest that does not come out", "digest", func(x *target) []byte {
			x.some(1)
			return x.manifest(func(m *snapshot.Manifest) { m.Digest[0] ^= 1 }, x.key)
		}),
		{"mix and match: another list of files than was signed", "store", "manifest", func(x *target) {
			signed, list := snapshot.Detach(x.manifest(func(m *snapshot.Manifest) {
				m.Snapshot = x.d.Ref()
				m.Snapshot.ID, m.Snapshot.Size, m.Snapshot.URLs = snapshot.ID{1}, 4711, []string{"http://192.0.2.1/snapshot"}
			}, x.key))
			x.put(tree.FilesPath(dataset), bytes.Replace(list, []byte("192.0.2.1"), []byte("192.0.2.2"), 1))
			x.put(tree.ManifestPath(dataset), signed)
		}},
		{"signed by a key that is revoked", "store", "revoked", func(x *target) {
			next := x.fleet.key("next")
			x.believe(x.key, next)
			x.revoke(x.key, false)
			eventually(x.fleet.t, "revoked", func() bool { return slices.Equal(x.trusts().Believed, []string{keyID(next)}) })
			x.some(1)
			x.put(tree.ManifestPath(dataset), x.manifest(nil, x.key))
			x.key = next
		}},
		{"a revocation that the key did not sign", "store", "revocation", func(x *target) {
			line, err := trust.Statement{Void: true, Time: time.Now()}.Sign(stranger)
			if err != nil {
				x.fleet.t.Fatal(err)
			}
			mine, err := trust.Statement{Void: true, Time: time.Now()}.Sign(x.key)
			if err != nil {
				x.fleet.t.Fatal(err)
			}
			f, g := strings.Fields(line), strings.Fields(mine)
			f[1] = g[1] // the publisher's key, a stranger's signature
			x.put(tree.RevocationPath(keyID(x.key)), []byte(strings.Join(f, " ")))
		}},
		lie("bit-flipped delta", "chain", 1, func(g [][]byte) [][]byte { return [][]byte{flipped(g[0], len(g[0])/2)} }),
		lie("truncated delta", "chain", 1, func(g [][]byte) [][]byte { return [][]byte{g[0][:len(g[0])-5]} }),
		lie("empty node", "log", 1, func([][]byte) [][]byte { return [][]byte{{'D'}} }),
		lie("reordered deltas", "chain", 2, func(g [][]byte) [][]byte { return [][]byte{g[1], g[0]} }),
		lie("mix and match: a delta of another history", "chain", 1, func(g [][]byte) [][]byte {
			d, err := snapshot.NewDataset(dataset).Replace(1, nil)
			if err != nil {
				panic(err)
			}
			b, err := d.Encode()
			if err != nil {
				panic(err)
			}
			return [][]byte{append([]byte{'D'}, b...)}
		}),
		lie("decompression bomb: a pointer to more than fits", "log", 1, func([][]byte) [][]byte {
			return [][]byte{[]byte(fmt.Sprintf(`P{"parts":%d,"size":%d,"sha256":"%064d"}`, 1<<20, 1<<40, 0))}
		}),
	}
}

// peerAttacks are those of whoever serves a snapshot: a host that was away needs one.
func peerAttacks() []attack {
	serve := func(name, kind string, serve func(w http.ResponseWriter, good []byte)) attack {
		return attack{name, "peers", kind, func(x *target) {
			x.stop()
			x.some(4)
			var file bytes.Buffer
			ref, err := snapshot.Write(&file, x.d)
			if err != nil {
				x.fleet.t.Fatal(err)
			}
			var honest atomic.Bool
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if honest.Load() {
					_, _ = w.Write(file.Bytes()) // the host is gone when it does not work
					return
				}
				serve(w, file.Bytes())
			}))
			x.fleet.t.Cleanup(server.Close)
			ref.URLs = []string{server.URL + "/snapshot"}
			x.ref, x.oldest = ref, x.d.Version()
			for v := uint64(1); v <= x.d.Version(); v++ {
				if _, err := x.st.Commit(context.Background(), store.Txn{Do: []store.Op{{Path: tree.LogPath(dataset, v), Delete: true}}}); err != nil {
					x.fleet.t.Fatal(err)
				}
			}
			x.announce(x.manifest(nil, x.key))
			x.restart()
			x.heal = func() { honest.Store(true) }
		}}
	}
	write := func(w http.ResponseWriter, b []byte) { _, _ = w.Write(b) } // likewise
	// A large delta is had as a file; what is refused of it is read from the store, where it lies in
	// parts, which are not there while the attack goes on.
	large := func(name string, serve func(w http.ResponseWriter, good []byte)) attack {
		return attack{name, "peers", "delta", func(x *target) {
			x.stop()
			var put []record.RRset
			for i := range 4000 {
				put = append(put, rrset(x.fleet.t, fmt.Sprintf("n%d.example.net", i), record.TypeA, "\xc0\x00\x02\x01"))
			}
			x.publish(put...)
			parts, _, err := x.st.List(context.Background(), tree.PartsPrefix(dataset, x.d.Version()))
			if err != nil || len(parts) < 2 {
				x.fleet.t.Fatalf("%d parts, error %v", len(parts), err)
			}
			var good []byte
			for _, n := range parts {
				good = append(good, n.Value...)
				x.delete(n.Path)
			}
			var honest atomic.Bool
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if honest.Load() {
					_, _ = w.Write(good) // the host is gone when it does not work
					return
				}
				serve(w, good)
			}))
			x.fleet.t.Cleanup(server.Close)
			x.announce(x.manifest(func(m *snapshot.Manifest) {
				m.Deltas = []snapshot.DeltaRef{{Version: m.Version, Chain: m.Chain, Size: int64(len(good)), URLs: []string{server.URL + "/delta"}}}
			}, x.key))
			x.restart()
			x.heal = func() {
				honest.Store(true)
				x.reaches()
			}
		}}
	}
	return []attack{
		large("bit-flipped large delta", func(w http.ResponseWriter, good []byte) { write(w, flipped(good, len(good)/2)) }),
		large("truncated large delta, padded", func(w http.ResponseWriter, good []byte) {
			write(w, append(bytes.Clone(good[:len(good)/2]), make([]byte, len(good)-len(good)/2)...))
		}),
		large("oversized large delta", func(w http.ResponseWriter, good []byte) {
			w.(http.Flusher).Flush()
			for range 1 << 6 {
				if _, err := w.Write(good); err != nil {
					return
				}
			}
		}),
		serve("bit-flipped snapshot", "snapshot", func(w http.ResponseWriter, good []byte) { write(w, flipped(good, len(good)/2)) }),
		serve("truncated snapshot, padded", "snapshot", func(w http.ResponseWriter, good []byte) {
			write(w, append(bytes.Clone(good[:len(good)/2]), make([]byte, len(good)-len(good)/2)...))
		}),
		serve("truncated snapshot", "snapshot", func(w http.ResponseWriter, good []byte) { write(w, good[:len(good)/2]) }),
		serve("oversized snapshot", "snapshot", func(w http.ResponseWriter, good []byte) {
			w.(http.Flusher).Flush() // without a length: it never ends by itself
			for range 1 << 12 {
				if _, err := w.Write(good); err != nil {
					return
				}
			}
		}),
		serve("mix and match: another dataset's snapshot", "snapshot", func(w http.ResponseWriter, good []byte) {
			var file bytes.Buffer
			if _, err := snapshot.Write(&file, snapshot.NewDataset("external")); err != nil {
				panic(err)
			}
			write(w, append(file.Bytes(), make([]byte, max(0, len(good)-file.Len()))...)[:len(good)])
		}),
	}
}

// diskAttacks are what a disk, or who has it, does to a journal while no agent runs.
func diskAttacks() []attack {
	damage := func(name string, spoil func(t testing.TB, x *target)) attack {
		return attack{name, "disk", "journal", func(x *target) { x.stop(); spoil(x.fleet.t, x); x.restart() }}
	}
	edit := func(pattern string, change func(b []byte) []byte) func(testing.TB, *target) {
		return func(t testing.TB, x *target) {
			t.Helper()
			files, err := filepath.Glob(filepath.Join(x.cfg.Journal, pattern))
			if err != nil || len(files) != 1 {
				t.Fatalf("files %v, error %v", files, err)
			}
			b, err := os.ReadFile(files[0])
			if err == nil {
				err = os.WriteFile(files[0], change(b), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	groups := func(b []byte) (starts []int) {
		for at := 0; ; {
			i := bytes.Index(b[at:], []byte("zcgr"))
			if i < 0 {
				return append(starts, len(b))
			}
			starts = append(starts, at+i)
			at += i + 4
		}
	}
	return []attack{
		damage("bit-flipped group", edit("log-*", func(b []byte) []byte { g := groups(b); return flipped(b, (g[0]+g[1])/2) })),
		damage("reordered groups", edit("log-*", func(b []byte) []byte {
			g := groups(b)
			return slices.Concat(b[:g[0]], b[g[1]:g[2]], b[g[0]:g[1]], b[g[2]:])
		})),
		damage("truncated log", edit("log-*", func(b []byte) []byte { return b[:20] })),
		damage("truncated CURRENT", edit("CURRENT", func(b []byte) []byte { return b[:len(b)/2] })),
		damage("oversized group", edit("log-*", func(b []byte) []byte {
			g := groups(b)
			bad := bytes.Clone(b)
			copy(bad[g[0]+12:], bytes.Repeat([]byte{0xff}, 8)) // its length
			return bad
		})),
		damage("a group that a stranger signed", func(t testing.TB, x *target) {
			w, d, err := journal.OpenWriter(x.cfg.Journal, journal.Options{Dataset: dataset})
			if err != nil {
				t.Fatal(err)
			}
			delta, err := d.Change(time.Now().UnixMilli(), []record.RRset{rrset(t, "forged.example.net", record.TypeA, "\xcb\x00\x71\x01")}, nil)
			if err != nil {
				t.Fatal(err)
			}
			b, err := delta.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Apply(delta); err != nil {
				t.Fatal(err)
			}
			m := snapshot.Manifest{Dataset: dataset, Version: d.Version(), Time: d.Time(), Digest: d.Digest(), Chain: d.Chain(), Content: d.Content(), Oldest: 1}
			signed, err := m.Sign(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize)))
			if err == nil {
				err = w.Append([][]byte{b}, signed)
			}
			if err := errors.Join(err, w.Close()); err != nil {
				t.Fatal(err)
			}
		}),
		{"rollback: an older journal and an older store, beside an authority that answers", "store", "older", func(x *target) {
			x.serve(x.look())
			x.stop()
			if err := os.RemoveAll(x.cfg.Journal); err != nil {
				x.fleet.t.Fatal(err)
			}
			x.put(tree.ManifestPath(dataset), x.signed[0])
			x.floor, x.restored = 0, true
			x.restart()
		}},
	}
}

// TestAttacksAreHeld: what an attacker does by the store, by peers and by the disk is refused by
// its name, counted, and kept for inspection; what the host had stays; and it takes the next
// honest version. A row fails when its defence is away, since then what was forged is taken, or
// not named.
func TestAttacksAreHeld(t *testing.T) {
	for _, a := range slices.Concat(storeAttacks(), peerAttacks(), diskAttacks()) {
		t.Run(a.way+"/"+a.name, func(t *testing.T) {
			x := newTarget(t)
			had := x.look()
			a.do(x)
			eventually(t, "refused as "+a.kind, func() bool { return x.refusedAs(a.kind) > 0 })
			var kept []refused.Entry
			eventually(t, "kept for inspection", func() bool {
				all, err := refused.List(journal.System(), refused.Dir(x.cfg.Journal))
				kept = all
				return err == nil && slices.ContainsFunc(all, func(e refused.Entry) bool { return e.Kind == a.kind && e.Way == a.way && !e.Damaged })
			})
			for _, e := range kept {
				if e.Why == "" || e.Size == 0 && e.Way == "store" && e.Kind != "forked" {
					t.Errorf("nothing to see of %+v", e)
				}
			}
			switch {
			case a.kind == "journal" || x.restored:
				x.floor = 0 // moved aside and fetched anew: for a moment there is none
			default:
				if now := x.look(); now.Version() != had.Version() || now.Digest() != had.Digest() {
					t.Errorf("the host has version %d, expected that it stays at %d", now.Version(), had.Version())
				}
			}
			if x.heal != nil {
				x.heal()
			}
			x.next(1)
			x.reaches()
		})
	}
}

// refusedAs is how often the agent refused something of a kind.
func (x *target) refusedAs(kind string) float64 {
	families, err := x.reg[x.name].Gather()
	if err != nil {
		x.fleet.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "zonecast_agent_refused_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "kind" && l.GetValue() == kind {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	return 0
}
