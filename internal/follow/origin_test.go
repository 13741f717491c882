package follow_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
	"github.com/zonecast/zonecast/store"
)

const dataset = "internal"

// origin plays presenter and publisher: it writes log, head and manifest.
type origin struct {
	t    *testing.T
	st   *memstore.Store
	key  ed25519.PrivateKey
	d    *snapshot.Dataset
	ref  snapshot.Ref // offered
	file []byte
	logs map[uint64][]byte // encoded deltas
	sigs map[uint64][]byte // manifests
}

func key(seed byte) ed25519.PrivateKey {
	s := sha256.Sum256([]byte{seed})
	return ed25519.NewKeyFromSeed(s[:])
}

func newOrigin(t *testing.T) *origin {
	o := &origin{t: t, st: memstore.New(), key: key(1), d: snapshot.NewDataset(dataset), logs: map[uint64][]byte{}, sigs: map[uint64][]byte{}}
	return o
}

func (o *origin) public() []ed25519.PublicKey {
	return []ed25519.PublicKey{o.key.Public().(ed25519.PublicKey)}
}

func rrset(t *testing.T, owner string, last byte) record.RRset {
	t.Helper()
	n, err := record.ParseName(owner)
	if err != nil {
		t.Fatal(err)
	}
	return record.NewRRset(n, record.TypeA, 300, record.Rdata([]byte{192, 0, 2, last}))
}

// next makes the next version, without publishing it.
func (o *origin) next(put ...record.RRset) (*snapshot.Delta, []byte) {
	o.t.Helper()
	d, err := o.d.Change(int64(o.d.Version()+1)*1000, put, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	return d, o.encode(d)
}

func (o *origin) encode(d *snapshot.Delta) []byte {
	o.t.Helper()
	b, err := d.Encode()
	if err != nil {
		o.t.Fatal(err)
	}
	return b
}

// publish makes a version and puts log and head; sign puts the manifest.
func (o *origin) publish(put ...record.RRset) {
	o.t.Helper()
	if len(put) == 0 {
		put = []record.RRset{rrset(o.t, fmt.Sprintf("h%d.example.net", o.d.Version()+1), byte(o.d.Version()))}
	}
	d, b := o.next(put...)
	o.log(d, b)
}

func (o *origin) log(d *snapshot.Delta, b []byte) {
	o.t.Helper()
	if err := o.d.Apply(d); err != nil {
		o.t.Fatal(err)
	}
	o.put(d.Version, b)
}

// put puts any octets as the delta of the dataset's version, and the head.
func (o *origin) put(version uint64, b []byte) {
	o.t.Helper()
	o.logs[version] = b
	batches, log, err := follow.LogOps(dataset, version, b)
	if err != nil {
		o.t.Fatal(err)
	}
	for _, ops := range batches {
		o.commit(ops...)
	}
	o.commit(log, store.Op{Path: tree.HeadPath(dataset), Value: tree.Encode(tree.Head{
		Version: o.d.Version(), Digest: o.d.Digest().String(), Chain: o.d.Chain().String(), Time: o.d.Time(), Content: o.d.Content(),
	})})
}

func (o *origin) commit(ops ...store.Op) {
	o.t.Helper()
	if _, err := o.st.Commit(context.Background(), store.Txn{Do: ops}); err != nil {
		o.t.Fatal(err)
	}
}

func (o *origin) manifest() snapshot.Manifest {
	return snapshot.Manifest{
		Dataset: dataset, Version: o.d.Version(), Time: o.d.Time(), Digest: o.d.Digest(), Chain: o.d.Chain(),
		Content: o.d.Content(), Snapshot: o.ref,
	}
}

func (o *origin) signed(m snapshot.Manifest, key ed25519.PrivateKey) []byte {
	o.t.Helper()
	b, err := m.Sign(key)
	if err != nil {
		o.t.Fatal(err)
	}
	return b
}

func (o *origin) sign() {
	o.t.Helper()
	b := o.signed(o.manifest(), o.key)
	o.sigs[o.d.Version()] = b
	o.putManifest(b)
}

func (o *origin) putManifest(b []byte) {
	o.t.Helper()
	signed, list := snapshot.Detach(b)
	ops := []store.Op{{Path: tree.ManifestPath(dataset), Value: signed}}
	if list != nil {
		ops = append(ops, store.Op{Path: tree.FilesPath(dataset), Value: list})
	}
	o.commit(ops...)
}

// snapshot offers the present state, for the next manifest.
func (o *origin) snapshot(urls ...string) {
	o.t.Helper()
	var buf bytes.Buffer
	ref, err := snapshot.Write(&buf, o.d)
	if err != nil {
		o.t.Fatal(err)
	}
	ref.URLs = urls
	o.ref, o.file = ref, buf.Bytes()
}

// trim deletes log nodes below version.
func (o *origin) trim(version uint64) {
	o.t.Helper()
	for v := range o.logs {
		if v < version {
			o.commit(store.Op{Path: tree.LogPath(dataset, v), Delete: true})
			delete(o.logs, v)
		}
	}
}

// fetcher serves what the origin offers.
type fetcher struct {
	mu    sync.Mutex // guards below
	files map[snapshot.ID][]byte
	asked int
	gate  chan struct{} // unless nil, Fetch waits for it
}

func (f *fetcher) offer(o *origin) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.files == nil {
		f.files = map[snapshot.ID][]byte{}
	}
	f.files[o.ref.ID] = o.file
}

func (f *fetcher) Fetch(ctx context.Context, ref snapshot.Ref, dir string, _ func(done, total int64)) (string, error) {
	f.mu.Lock()
	f.asked++
	file, ok := f.files[ref.ID]
	f.mu.Unlock()
	if f.gate != nil {
		select {
		case <-f.gate:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	if !ok {
		return "", errors.New("nobody has it")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, ref.ID.String())
	return path, os.WriteFile(path, file, 0o644)
}

// host is a Sink that checks what every sink may rely on.
type host struct {
	t  *testing.T
	mu sync.Mutex // guards below
	// d is made of what was given, independently of the follower's.
	d        *snapshot.Dataset
	resets   int
	groups   int
	refusals []follow.Refusal
	fail     error // of the next calls
	failed   int
	signed   bool
	keys     []ed25519.PublicKey
}

func (h *host) Reset(_ context.Context, r follow.Reset) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fail != nil {
		h.failed++
		return h.fail
	}
	if r.Dataset.Version() <= h.d.Version() {
		h.t.Errorf("reset to version %d, had %d", r.Dataset.Version(), h.d.Version())
	}
	if r.Path != "" {
		if _, err := os.Stat(r.Path); err != nil {
			h.t.Errorf("reset: %v", err)
		}
	}
	h.check(r.Manifest, r.Dataset, r.Path != "")
	h.d = r.Dataset.Clone()
	h.resets++
	return nil
}

func (h *host) Apply(_ context.Context, g follow.Group) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fail != nil {
		h.failed++
		return h.fail
	}
	for i, b := range g.Encoded {
		d, err := snapshot.DecodeDelta(b)
		if err != nil {
			h.t.Errorf("group has a bad delta: %v", err)
			return nil
		}
		if d.Version != g.Deltas[i].Version {
			h.t.Errorf("encoded delta is %d, decoded %d", d.Version, g.Deltas[i].Version)
		}
		if err := h.d.Apply(d); err != nil {
			h.t.Errorf("group does not follow: %v", err)
		}
	}
	h.check(g.Manifest, g.Dataset, false)
	if h.d.Digest() != g.Dataset.Digest() || h.d.Version() != g.Dataset.Version() {
		h.t.Errorf("group leads to %d %s, follower has %d %s", h.d.Version(), h.d.Digest(), g.Dataset.Version(), g.Dataset.Digest())
	}
	h.groups++
	return nil
}

// check holds a manifest against what was given with it.
func (h *host) check(manifest []byte, d *snapshot.Dataset, file bool) {
	if !h.signed {
		if manifest != nil {
			h.t.Error("manifest without keys")
		}
		return
	}
	m, err := snapshot.VerifyManifest(manifest, h.keys)
	if err != nil {
		h.t.Errorf("given with a bad manifest: %v", err)
		return
	}
	if !file && (m.Version != d.Version() || m.Digest != d.Digest() || m.Chain != d.Chain()) || file && m.Snapshot.Version != d.Version() {
		h.t.Errorf("manifest is of version %d, snapshot %d, the state given is %d", m.Version, m.Snapshot.Version, d.Version())
	}
}

func (h *host) Refused(r follow.Refusal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refusals = append(h.refusals, r)
}

func (h *host) version() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.d.Version()
}

func (h *host) digest() snapshot.Digest {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.d.Digest()
}

func (h *host) counts() (resets, groups, failed int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.resets, h.groups, h.failed
}

func (h *host) setFail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail = err
}

func (h *host) told() []follow.Refusal {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.refusals)
}

func (h *host) kinds() []follow.Kind {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []follow.Kind
	for _, r := range h.refusals {
		out = append(out, r.Kind)
	}
	return out
}

// run runs a follower for h until the test ends or stop is called.
func (h *host) run(o *origin, fetch follow.Fetcher, change ...func(*follow.Config)) (stop func()) {
	h.t.Helper()
	cfg := follow.Config{
		Dataset: dataset, Store: o.st.Peer(), Fetcher: fetch, Dir: h.t.TempDir(),
		RetryMin: 5 * time.Millisecond, RetryMax: 20 * time.Millisecond,
	}
	if h.signed {
		cfg.Keys = journal.Fixed(h.keys...)
	}
	for _, c := range change {
		c(&cfg)
	}
	f, err := follow.New(cfg, h.d.Clone(), h)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f.Run(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, follow.ErrStop) {
			h.t.Errorf("Run: %v", err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done; _ = cfg.Store.Close() })
	h.t.Cleanup(stop)
	return stop
}

func newHost(t *testing.T, keys []ed25519.PublicKey) *host {
	return &host{t: t, d: snapshot.NewDataset(dataset), signed: keys != nil, keys: keys}
}

// eventually waits for ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("%s: not within 10 s", what)
}

// reaches waits until the host is where the origin is.
func (h *host) reaches(o *origin) {
	h.t.Helper()
	eventually(h.t, fmt.Sprintf("version %d", o.d.Version()), func() bool { return h.version() == o.d.Version() })
	if h.digest() != o.d.Digest() {
		h.t.Fatalf("digest is %s, published %s", h.digest(), o.d.Digest())
	}
}

func (h *host) refuses(kind follow.Kind) {
	h.t.Helper()
	eventually(h.t, fmt.Sprintf("refusal %s (have %v)", kind, h.kinds()), func() bool {
		for _, k := range h.kinds() {
			if k == kind {
				return true
			}
		}
		return false
	})
}
