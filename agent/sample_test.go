package agent

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// TestSample holds what is in the store against the file, as time goes.
func TestSample(t *testing.T) {
	st := memstore.New()
	defer st.Close()
	m, err := newMetrics(prometheus.NewRegistry(), "internal", func() float64 { return 0 }, func() float64 { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{cfg: DefaultConfig(), deps: Deps{Store: st, Log: slog.New(slog.DiscardHandler)}, metrics: m}
	a.cfg.Host, a.cfg.StatusDir = "host0", t.TempDir()
	s, err := st.Session(t.Context(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	r := sampler{Agent: a}
	path := tree.SamplePath("internal", "host0")
	file := filepath.Join(a.cfg.StatusDir, sampleFile)
	now := time.UnixMilli(1_790_000_000_000)
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
		now = now.Add(10 * time.Second)
		if err := os.Chtimes(file, now, now); err != nil {
			t.Fatal(err)
		}
	}
	drawn := func(n int) tree.Sample {
		return tree.Sample{Drawn: int64(n), Questions: []tree.SampleQuestion{{Times: n, Was: "positive", Type: record.TypeA, Name: "\x03net\x00"}}}
	}
	look := func(what string, want *tree.Sample) {
		t.Helper()
		r.report(t.Context(), s, now)
		n, err := st.Get(t.Context(), path)
		if want == nil {
			if !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: %s, %v; want nothing", what, n.Value, err)
			}
			return
		}
		var got tree.Sample
		if err != nil || tree.Decode(n, &got) != nil {
			t.Fatalf("%s: %s, %v", what, n.Value, err)
		}
		if d := cmp.Diff(*want, got); d != "" {
			t.Errorf("%s: %s", what, d)
		}
	}
	one, two := drawn(1), drawn(2)
	look("without a file", nil)
	write([]byte("{"))
	look("a file that cannot be read", nil)
	write(tree.Encode(one))
	look("the first file", &one)
	write(tree.Encode(two))
	look("within the minute", &one)
	now = now.Add(a.cfg.SampleEvery)
	look("after it", &two)
	write([]byte(`{"questions":["` + strings.Repeat("x", maxSample) + `"]}`))
	now = now.Add(a.cfg.SampleEvery)
	look("a file that is too large", &two)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	look("the file is gone", nil)
	a.cfg.SampleEvery = 0
	write(tree.Encode(one))
	look("never", nil)
	a.cfg.SampleEvery = time.Minute
	look("again", &one)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	look("the session has ended", nil)
}
