package storecopy_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/storecopy"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

func put(t *testing.T, s interface {
	Commit(context.Context, store.Txn) (store.Revision, error)
}, path, value string,
) {
	t.Helper()
	if _, err := s.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: path, Value: []byte(value)}}}); err != nil {
		t.Fatal(err)
	}
}

func session(t *testing.T, s store.Store) store.Session {
	t.Helper()
	ss, err := s.Session(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return ss
}

func values(t *testing.T, s store.Store) map[string]string {
	t.Helper()
	nodes, _, err := s.List(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for _, n := range nodes {
		out[n.Path] = string(n.Value)
	}
	return out
}

// newSource is a store of more than one transaction, with everything that is not
// copied as it is.
func newSource(t *testing.T) (*memstore.Store, map[string]string) {
	t.Helper()
	from := memstore.New()
	t.Cleanup(func() { from.Close() })
	want := make(map[string]string)
	for i := range 150 {
		p := fmt.Sprintf("/servers/ams/web%d", i)
		want[p] = strings.Repeat("v", i*400)
		put(t, from, p, want[p])
	}
	head := tree.Head{Version: 7, Digest: "d", Claims: 99, Content: 6}
	put(t, from, tree.HeadPath("internal"), string(tree.Encode(head)))
	head.Claims = 0
	want[tree.HeadPath("internal")] = string(tree.Encode(head))
	put(t, from, tree.MutatorProgress, `{"servers":5,"claims":4}`)
	put(t, session(t, from), "/services/api/1", "here")
	return from, want
}

func TestCopy(t *testing.T) {
	from, want := newSource(t)
	to := memstore.New()
	defer to.Close()
	last, total := 0, 0
	rep, err := storecopy.Copy(t.Context(), from, to, storecopy.Options{Progress: func(n, of int) { last, total = n, of }})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, values(t, to)); diff != "" {
		t.Errorf("target (-want +got):\n%s", diff)
	}
	size := int64(0)
	for _, v := range want {
		size += int64(len(v))
	}
	if diff := cmp.Diff(storecopy.Report{Nodes: len(want), Bytes: size, Ephemeral: 1}, rep); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	if last != len(want) || total != len(want) {
		t.Errorf("progress ended with %d of %d, expected %d", last, total, len(want))
	}

	// Not a second time, unless told so; then what the target has beyond goes.
	put(t, to, "/servers/ams/old", "x")
	put(t, to, "/servers/ams/web1", "changed")
	before := values(t, to)
	if _, err := storecopy.Copy(t.Context(), from, to, storecopy.Options{}); !errors.Is(err, storecopy.ErrNotEmpty) {
		t.Errorf("copy to a target that is not empty: %v", err)
	}
	if diff := cmp.Diff(before, values(t, to)); diff != "" {
		t.Errorf("a copy that was refused changed the target (-before +after):\n%s", diff)
	}
	rep, err = storecopy.Copy(t.Context(), from, to, storecopy.Options{Force: true})
	if err != nil || rep.Deleted != 1 {
		t.Errorf("forced copy: %+v, %v, expected one node deleted", rep, err)
	}
	if diff := cmp.Diff(want, values(t, to)); diff != "" {
		t.Errorf("target of a forced copy (-want +got):\n%s", diff)
	}

	// Never onto what runs.
	put(t, session(t, to), "/services/api/2", "here")
	if _, err := storecopy.Copy(t.Context(), from, to, storecopy.Options{Force: true}); !errors.Is(err, storecopy.ErrInUse) {
		t.Errorf("copy to a target on which processes run: %v", err)
	}
}

// disturbed is a target whose commits do something else as well.
type disturbed struct {
	store.Store
	commit func(n int) error
	n      int
}

func (d *disturbed) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	rev, err := d.Store.Commit(ctx, txn)
	if d.n++; err == nil {
		err = d.commit(d.n)
	}
	return rev, err
}

func TestCopyDisturbed(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		commit func(t *testing.T, from, to store.Store, n int) error
		want   error // nil: none
	}{
		"the source changes": {func(t *testing.T, from, _ store.Store, n int) error {
			if n == 1 {
				put(t, from, "/servers/ams/late", "x")
			}
			return nil
		}, storecopy.ErrMoved},
		"the target is written to": {func(t *testing.T, _, to store.Store, n int) error {
			if n == 1 {
				put(t, to, "/servers/ams/web99", "x")
			}
			return nil
		}, storecopy.ErrInUse},
		"the target gets more": {func(t *testing.T, _, to store.Store, n int) error {
			if n == 1 {
				put(t, to, "/servers/ams/more", "x")
			}
			return nil
		}, storecopy.ErrInUse},
		"an answer is lost": {func(_ *testing.T, _, _ store.Store, n int) error {
			if n == 2 {
				return store.ErrUnavailable
			}
			return nil
		}, nil},
		"an error": {func(*testing.T, store.Store, store.Store, int) error { return broken }, broken},
	} {
		t.Run(name, func(t *testing.T) {
			from, want := newSource(t)
			to := memstore.New()
			defer to.Close()
			_, err := storecopy.Copy(t.Context(), from, &disturbed{Store: to, commit: func(n int) error { return c.commit(t, from, to, n) }}, storecopy.Options{})
			if !errors.Is(err, c.want) {
				t.Fatalf("error is %v, expected %v", err, c.want)
			}
			if c.want == nil {
				if diff := cmp.Diff(want, values(t, to)); diff != "" {
					t.Errorf("target (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestCopyBrokenHead(t *testing.T) {
	from, to := memstore.New(), memstore.New()
	defer from.Close()
	defer to.Close()
	put(t, from, tree.HeadPath("internal"), "{")
	if _, err := storecopy.Copy(t.Context(), from, to, storecopy.Options{}); err == nil || !strings.Contains(err.Error(), "/head") {
		t.Errorf("error is %v, expected one that names the head", err)
	}
}
