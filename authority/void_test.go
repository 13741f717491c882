package authority

import (
	"crypto/ed25519"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/trust"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
)

// TestVoid: what is served goes for something older when, and only when, the keys that
// signed it are void by what this authority itself has read, and those that sign the older
// are not.
func TestVoid(t *testing.T) {
	h := startHost(t)
	next, err := snapshot.LoadOrCreateKey(filepath.Join(t.TempDir(), "next"))
	if err != nil {
		t.Fatal(err)
	}
	stolen, err := snapshot.LoadPrivateKey(filepath.Join(filepath.Dir(h.dir), "key"))
	if err != nil {
		t.Fatal(err)
	}
	both, err := os.ReadFile(h.config.Keys[0])
	if err != nil {
		t.Fatal(err)
	}
	withNext, err := snapshot.EncodePublicKey(next.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.config.Keys[0], append(both, withNext...), 0o644); err != nil {
		t.Fatal(err)
	}
	h.openJournal()
	h.publish([]record.RRset{soa("example.net"), address("www.example.net", 1)}, nil)
	honest := h.dataset.Clone()
	for range 3 {
		h.publish([]record.RRset{address("www.example.net", byte(h.dataset.Version()))}, nil)
	}
	id := snapshot.KeyID(h.ring.Keys().Believed[0])
	eventually(t, "version 4", func() bool { s := h.Serving(); return s.Version == 4 && slices.Equal(s.SignedBy, []string{id}) })

	signed := func(m *snapshot.Manifest) []byte {
		b, err := m.Sign(next)
		if err != nil {
			t.Error(err)
		}
		return b
	}
	back := func() {
		t.Helper()
		ref := honest.Ref()
		if err := h.writer.ResetDataset(honest, signed(&snapshot.Manifest{
			Dataset: "internal", Version: ref.Version, Time: ref.Time, Digest: ref.Digest, Chain: ref.Chain, Content: honest.Content(), Oldest: 1,
		})); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the next key is known", func() bool { return len(h.ring.Keys().Believed) == 2 })
	before := h.metrics()["journal_problems_total"]
	back()
	eventually(t, "going back is refused", func() bool { return h.metrics()["journal_problems_total"] > before })
	if v := h.Serving().Version; v != 4 {
		t.Fatalf("went back to version %d though no key is void", v)
	}
	line, err := trust.Statement{Void: true, Time: time.Now()}.Sign(stolen)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(trust.MemoryFile(h.dir), []byte(line+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	nextID := []string{snapshot.KeyID(next.Public().(ed25519.PublicKey))}
	eventually(t, "the older version", func() bool { s := h.Serving(); return s.Version == 1 && slices.Equal(s.SignedBy, nextID) })
	h.dataset, h.sign = honest.Clone(), signed
	h.publish([]record.RRset{address("www.example.net", 9)}, nil)
	eventually(t, "on from there", func() bool { return h.Serving().Version == 2 })
}
