package e2e

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/etcd"
)

// dataset is the one that the stages make without being told another.
const dataset = "internal"

// Truth reads the store beside every stage and holds what hosts say they answer
// against it: a version is only answered once it is signed, with the digest that was
// published for it, and there is only one version of a number.
type Truth struct {
	store store.Store
	keys  []ed25519.PublicKey
	hosts []string // status files

	mu         sync.Mutex                // guards below
	published  map[uint64]string         // version → digest, out of the log
	chains     map[uint64]snapshot.Chain // version → chain
	answered   map[uint64]string         // version → digest, out of status files
	last       map[string]uint64         // status file → version
	looks      int                       // how often all hosts were held against the manifest
	violations []string
}

// NewTruth connects to the store of a. The publisher's key must be there.
func NewTruth(t testing.TB, a *Apart) *Truth {
	t.Helper()
	keys, err := snapshot.LoadPublicKeys(a.Path("keys", "publisher.key.pub"))
	if err != nil {
		t.Fatal(err)
	}
	st, err := etcd.Open(t.Context(), etcd.Config{Endpoints: []string{a.Store}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	h := &Truth{
		store: st, keys: keys, published: map[uint64]string{}, chains: map[uint64]snapshot.Chain{},
		answered: map[uint64]string{}, last: map[string]uint64{},
	}
	for i := range a.Hosts {
		h.hosts = append(h.hosts, a.Path(fmt.Sprintf("host%d", i), "status", "serving"))
	}
	return h
}

// Run looks until ctx ends, and then leaves the store.
func (h *Truth) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer func() { _ = h.store.Close() }() // it holds nothing there
	defer wg.Wait()
	wg.Go(func() {
		for b := range h.store.Watch(ctx, tree.LogPrefix(dataset), 0) {
			h.note(b)
		}
	})
	for ctx.Err() == nil {
		h.look(ctx)
		_ = Pause(ctx, 20*time.Millisecond) // the end of ctx ends the loop
	}
}

// note takes deltas out of the log. Those in parts are left out: what hosts make of
// them shows in the version after.
func (h *Truth) note(b store.Batch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range b.Puts {
		encoded, ok := bytes.CutPrefix(n.Value, []byte{'D'})
		if !ok {
			continue
		}
		d, err := snapshot.DecodeDelta(encoded)
		if err != nil {
			h.violate("log node %s: %v", n.Path, err)
			continue
		}
		if c, known := h.chains[d.Version]; known && c != d.Chain() {
			h.violate("there are two versions %d", d.Version)
		}
		if c, known := h.chains[d.Version-1]; known && c != d.Prev {
			h.violate("version %d does not come after the version %d that was published", d.Version, d.Version-1)
		}
		h.published[d.Version], h.chains[d.Version] = d.Digest.String(), d.Chain()
	}
}

// look reads what hosts answer first and what is signed then: the latter must not be
// less.
func (h *Truth) look(ctx context.Context) {
	var most uint64
	for _, path := range h.hosts {
		b, err := os.ReadFile(path)
		if err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				h.fail("%v", err)
			}
			continue
		}
		var s tree.HostDataset
		if err := json.Unmarshal(b, &s); err != nil {
			h.fail("%s: %v", path, err)
			continue
		}
		most = max(most, s.Version)
		h.answer(path, s)
	}
	if most == 0 {
		return
	}
	n, err := h.store.Get(ctx, tree.ManifestPath(dataset))
	if err != nil {
		if errors.Is(err, store.ErrNotFound) {
			h.fail("version %d is answered and there is no manifest", most)
		}
		return // the store is away
	}
	m, err := snapshot.VerifyManifest(n.Value, h.keys)
	if err != nil {
		h.fail("manifest: %v", err)
		return
	}
	if m.Version < most {
		h.fail("version %d is answered, signed is version %d", most, m.Version)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.looks++
}

func (h *Truth) answer(path string, s tree.HostDataset) {
	h.mu.Lock()
	defer h.mu.Unlock()
	host := filepath.Base(filepath.Dir(filepath.Dir(path)))
	if s.Version < h.last[path] {
		h.violate("%s said it answers version %d and now %d", host, h.last[path], s.Version)
	}
	h.last[path] = s.Version
	if d, known := h.answered[s.Version]; known && d != s.Digest {
		h.violate("%s answers version %d with digest %s, it was %s elsewhere", host, s.Version, s.Digest, d)
	}
	h.answered[s.Version] = s.Digest
}

func (h *Truth) fail(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.violate(format, args...)
}

// violate notes what must not be; with mu held.
func (h *Truth) violate(format string, args ...any) {
	if len(h.violations) < maxViolations {
		h.violations = append(h.violations, fmt.Sprintf("%s %s", time.Now().Format("15:04:05.000"), fmt.Sprintf(format, args...)))
	}
}

// Check holds everything that was answered, and everything that freshness records
// said, against what was published. It tells how many versions could be compared.
func (h *Truth) Check(stamps ...map[uint64]string) (compared int, violations []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for v, digest := range h.answered {
		want, known := h.published[v]
		if !known {
			continue
		}
		compared++
		if digest != want {
			h.violate("version %d was answered with digest %s, published is %s", v, digest, want)
		}
	}
	for _, s := range stamps {
		for v, digest := range s {
			if want, known := h.published[v]; known && !strings.HasPrefix(want, digest) {
				h.violate("freshness says version %d has digest %s…, published is %s", v, digest, want)
			}
		}
	}
	return compared, h.violations
}
