package agent

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/serving"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// newAgent makes an agent of host0 with a key of its own.
func newAgent(t *testing.T, st store.Store) *Agent {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if _, err := snapshot.LoadOrCreateKey(file); err != nil {
		t.Fatal(err)
	}
	c := DefaultConfig()
	c.Host, c.Labels, c.Journal, c.StatusDir, c.Keys, c.DNS = "host0", []string{"role=edge"}, filepath.Join(t.TempDir(), "journal"), t.TempDir(), []string{file + ".pub"}, "192.0.2.53:53"
	a, err := New(c, Deps{Store: st, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestGroupThatCannotBeRead: while a group cannot be read the host carries what it did, whatever
// else comes.
func TestGroupThatCannotBeRead(t *testing.T) {
	a := newAgent(t, nil)
	bubbletest.Run(t, func(t *testing.T) {
		st := memstore.New()
		defer st.Close()
		a.deps.Store = st
		ctx, cancel := context.WithCancel(t.Context())
		wants := make(chan []string)
		done := make(chan struct{})
		go func() { defer close(done); a.followGroups(ctx, wants) }()
		defer func() { cancel(); <-done }()
		put := func(name, value string) {
			t.Helper()
			op := store.Op{Path: tree.GroupPath(name), Value: []byte(value), Delete: value == ""}
			if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{op}}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		group := func(all ...string) string {
			return string(tree.Encode(tree.Group{Datasets: all, Hosts: []string{"*"}}))
		}
		wanted := func(what string, want ...string) {
			t.Helper()
			synctest.Wait()
			select {
			case got := <-wants:
				if !slices.Equal(got, want) {
					t.Errorf("%s: wanted are %q, want %q", what, got, want)
				}
			default:
				if want != nil {
					t.Errorf("%s: nothing is said, want %q", what, want)
				}
			}
		}
		wanted("no groups", "internal")
		put("a", group("internal", "edge"))
		wanted("a group", "internal", "edge")
		put("b", group("lab"))
		wanted("two groups", "internal", "edge", "lab")
		put("b", "{")
		wanted("one cannot be read")
		put("c", group("more"))
		wanted("another one comes while one cannot be read")
		put("b", group("lab", "other"))
		wanted("it can be read again", "internal", "edge", "lab", "other", "more")
		put("b", "{")
		put("b", "")
		wanted("it is taken away", "internal", "edge", "more")
	})
}

// TestDropAfterAnswered: a dataset is dropped when the authority answers its successor, and not
// when that is merely there; one that has no version yet is not in the list.
func TestDropAfterAnswered(t *testing.T) {
	st := memstore.New()
	defer st.Close()
	a := newAgent(t, st)
	all := map[string]*running{}
	ended := map[string]bool{}
	add := func(dataset string, r *running) {
		r.done = make(chan error, 1)
		r.done <- nil
		r.end = func() { ended[dataset] = true }
		all[dataset] = r
		if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.HeadPath(dataset), Value: tree.Encode(tree.Head{Version: 3})}}}); err != nil {
			t.Fatal(err)
		}
	}
	a.status.Version = 3
	var left []string
	a.deps.FetcherOf = func(dataset string) (follow.Fetcher, func()) {
		return follow.HTTP{}, func() { left = append(left, dataset) }
	}
	internal, err := a.takeUp("internal")
	if err != nil {
		t.Fatal(err)
	}
	add("internal", internal)
	edge, err := a.takeUp("edge")
	if err != nil {
		t.Fatal(err)
	}
	add("edge", edge)
	bring := func(carries []string, listed []string, trouble string) {
		t.Helper()
		_, err := a.bring(t.Context(), all, []string{"edge"}, nil)
		if err == nil != (trouble == "") || err != nil && !strings.Contains(err.Error(), trouble) {
			t.Errorf("trouble is %v, want %q", err, trouble)
		}
		var got []string
		for _, b := range a.carries() {
			got = append(got, b.cfg.Dataset)
		}
		list, err := datasets.ReadCarried(a.cfg.Journal, "internal")
		if err != nil || !slices.Equal(got, carries) || !slices.Equal(list, listed) {
			t.Errorf("carried are %q, listed %q, %v; want %q, %q", got, list, err, carries, listed)
		}
	}
	bring([]string{"edge", "internal"}, []string{"internal"}, "goes when the authority answers edge") // nothing of it is there
	edge.status.Version = 3
	bring([]string{"edge", "internal"}, []string{"edge", "internal"}, "goes when the authority answers edge")
	if ended["internal"] {
		t.Fatal("internal is dropped, and nobody answers edge")
	}
	if err := os.MkdirAll(edge.cfg.StatusDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := serving.Write(edge.cfg.StatusDir, tree.HostDataset{Version: 3, Time: time.Now().UnixMilli()}); err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("who fetches %v was told that it is dropped", left)
	}
	bring([]string{"edge"}, []string{"edge"}, "")
	if !ended["internal"] || ended["edge"] {
		t.Errorf("ended are %v", ended)
	}
	if !slices.Equal(left, []string{"internal"}) {
		t.Errorf("who fetches %v was told that it is dropped, want internal", left)
	}

	// Taken up again at once, it waits until the authority has forgotten what it answered.
	if err := serving.Write(a.cfg.StatusDir, tree.HostDataset{Version: 9}); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if !a.leaves("internal", now) || a.leaves("edge", now) {
		t.Error("what was dropped a moment ago is answered still, and can be taken up")
	}
	if a.leaves("internal", now.Add(leaveTime+time.Second)) {
		t.Error("a dead authority is waited for")
	}
	if _, err := a.readServing(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it begins with nothing below what was answered: %v", err)
	}
}

// besides gives what a test says.
type besides []store.Op

func (b *besides) Nodes() []store.Op        { return *b }
func (b *besides) Changed() <-chan struct{} { return nil }

// TestBeside: what is to be beside the host's node is there, is written when it changes, and goes when it is
// not to be there any more.
func TestBeside(t *testing.T) {
	st := memstore.New()
	defer st.Close()
	s, err := st.Session(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	a := newAgent(t, st)
	b := &besides{}
	a.deps.Beside = b
	r := &reporter{Agent: a}
	for i, now := range [][]store.Op{
		{{Path: "/swarm/internal/x", Value: []byte("1")}},
		{{Path: "/swarm/internal/x", Value: []byte("1")}, {Path: "/swarm/edge/x", Value: []byte("2")}},
		{{Path: "/swarm/edge/x", Value: []byte("3")}},
		{},
	} {
		*b = now
		if err := r.putBeside(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		nodes, _, err := st.List(t.Context(), tree.Swarm)
		if err != nil || len(nodes) != len(now) {
			t.Fatalf("step %d: %v, %v", i, nodes, err)
		}
		for _, op := range now {
			if n, err := st.Get(t.Context(), op.Path); err != nil || string(n.Value) != string(op.Value) {
				t.Errorf("step %d: %s is %q, %v", i, op.Path, n.Value, err)
			}
		}
	}
}
