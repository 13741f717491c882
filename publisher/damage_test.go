package publisher

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// touching is a store of which something is touched as soon as it was listed.
type touching struct {
	store.Store
	then func()
}

func (s touching) List(ctx context.Context, prefix string) ([]store.Node, store.Revision, error) {
	nodes, rev, err := s.Store.List(ctx, prefix)
	s.then()
	return nodes, rev, err
}

// TestTouchedWhileInspected: a node of the log that is damaged while the log is looked through has it
// looked through again.
func TestTouchedWhileInspected(t *testing.T) {
	dir := t.TempDir()
	st := memstore.New()
	defer st.Close()
	c := DefaultConfig()
	c.Dir, c.KeyFile = filepath.Join(dir, "snapshots"), filepath.Join(dir, "key")
	p, err := New(c, Deps{Store: st, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	p.newest, p.suspect, p.status.Leading = version{version: 3}, true, true
	s := &signer{Publisher: p, last: snapshot.Manifest{Version: 3}}
	p.deps.Store = touching{st, func() { p.touched(2) }}
	s.inspect(t.Context())
	if !p.suspect {
		t.Error("it is not looked through again")
	}
	p.deps.Store = st
	s.inspect(t.Context())
	if p.suspect {
		t.Error("it is looked through for ever")
	}
}
