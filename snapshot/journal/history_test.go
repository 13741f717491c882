package journal_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
)

// history is a dataset's states from version 0 on, and what leads to them.
type history struct {
	t      testing.TB
	key    ed25519.PrivateKey
	states []*snapshot.Dataset // by version
	deltas [][]byte            // deltas[v] makes version v; deltas[0] is nil

	manifests map[[2]int][]byte // made already
}

func mustName(t testing.TB, text string) record.Name {
	t.Helper()
	n, err := record.ParseName(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// newHistory makes versions 1 to n: a zone, a name more each version, a name less
// now and then, a heartbeat.
func newHistory(t testing.TB, n int) *history {
	return newFork(t, n, "host")
}

// newFork is another history: its names begin with prefix.
func newFork(t testing.TB, n int, prefix string) *history {
	t.Helper()
	h := &history{t: t, manifests: map[[2]int][]byte{}, key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))}
	h.states, h.deltas = []*snapshot.Dataset{snapshot.NewDataset("internal")}, [][]byte{nil}
	for range n {
		h.grow(prefix)
	}
	return h
}

func (h *history) grow(prefix string) {
	h.t.Helper()
	v := len(h.states)
	d := h.states[v-1].Clone()
	put := []record.RRset{
		record.NewRRset(mustName(h.t, "_fresh.internal.example.net"), record.TypeTXT, 1, record.Rdata(fmt.Sprintf("\x04%04d", v))),
		record.NewRRset(mustName(h.t, fmt.Sprintf("%s%d.example.net", prefix, v)), record.TypeA, 300, record.Rdata([]byte{192, 0, 2, byte(v)})),
	}
	if v == 1 {
		put = append(put, record.NewRRset(mustName(h.t, "example.net"), record.TypeSOA, 300,
			"\x02ns\x00\x04host\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\x04"))
	}
	var remove []record.Key
	if v%3 == 0 {
		remove = append(remove, record.Key{Owner: mustName(h.t, fmt.Sprintf("%s%d.example.net", prefix, v-1)), Type: record.TypeA})
	}
	delta, err := d.Change(int64(1000*v), put, remove)
	if err != nil {
		h.t.Fatal(err)
	}
	b, err := delta.Encode()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := d.Apply(delta); err != nil {
		h.t.Fatal(err)
	}
	h.states, h.deltas = append(h.states, d), append(h.deltas, b)
}

func (h *history) public() ed25519.PublicKey { return h.key.Public().(ed25519.PublicKey) }

func (h *history) keys() journal.Keys {
	return journal.Fixed(h.public())
}

// manifest is that of a version, naming the snapshot of version snap when it is
// not 0.
func (h *history) manifest(v, snap int) []byte {
	h.t.Helper()
	if b := h.manifests[[2]int{v, snap}]; b != nil {
		return b
	}
	d := h.states[v]
	m := snapshot.Manifest{
		Dataset: "internal", Version: d.Version(), Time: d.Time(), Digest: d.Digest(), Chain: d.Chain(),
		Content: d.Content(), Oldest: 1,
	}
	if snap > 0 {
		_, m.Snapshot = h.file(snap)
	}
	b, err := m.Sign(h.key)
	if err != nil {
		h.t.Fatal(err)
	}
	h.manifests[[2]int{v, snap}] = b
	return b
}

// file is the snapshot file of a version.
func (h *history) file(v int) ([]byte, snapshot.Ref) {
	h.t.Helper()
	var buf bytes.Buffer
	ref, err := snapshot.Write(&buf, h.states[v])
	if err != nil {
		h.t.Fatal(err)
	}
	return buf.Bytes(), ref
}

// with is h in another test.
func (h *history) with(t testing.TB) *history {
	other := *h
	other.t = t
	return &other
}

// same fails unless d is exactly the state of its version.
func (h *history) same(d *snapshot.Dataset) {
	h.t.Helper()
	if d.Version() >= uint64(len(h.states)) {
		h.t.Fatalf("version %d was never made", d.Version())
	}
	want := h.states[d.Version()]
	if diff := cmp.Diff(want.Ref(), d.Ref()); diff != "" {
		h.t.Fatalf("version %d (-want +got):\n%s", d.Version(), diff)
	}
	if diff := cmp.Diff(want.Zones(), d.Zones()); diff != "" || want.Content() != d.Content() {
		h.t.Fatalf("version %d: content %d, want %d; zones (-want +got):\n%s", d.Version(), d.Content(), want.Content(), diff)
	}
	if !slices.EqualFunc(slices.Collect(want.All()), slices.Collect(d.All()), record.RRset.Equal) {
		h.t.Fatalf("version %d has other RRsets", d.Version())
	}
}
