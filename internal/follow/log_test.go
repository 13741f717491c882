package follow_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

func TestLogOps(t *testing.T) {
	const inline = store.MaxValue - 1
	for _, size := range []int{1, inline - 1, inline, inline + 1, store.MaxValue + 1, 2 * store.MaxValue, 30*store.MaxValue + 7} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			st := memstore.New()
			want := bytes.Repeat([]byte("delta"), size/5+1)[:size]
			batches, log, err := follow.LogOps(dataset, 7, want)
			if err != nil {
				t.Fatal(err)
			}
			if (len(batches) == 0) != (size <= inline) {
				t.Errorf("%d batches of parts", len(batches))
			}
			for _, ops := range append(batches, []store.Op{log}) {
				if _, err := st.Commit(t.Context(), store.Txn{Do: ops}); err != nil {
					t.Fatal(err)
				}
			}
			got, err := follow.ReadLog(t.Context(), st, dataset, 7, log.Value)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("read %d octets, error %v; expected %d and none", len(got), err, size)
			}
			if size <= inline {
				return
			}
			last := (size+store.MaxValue-1)/store.MaxValue - 1
			path := tree.PartPath(dataset, 7, last)
			n, _ := st.Get(t.Context(), path)
			for name, op := range map[string]store.Op{
				"another octet": {Path: path, Value: append(bytes.Clone(n.Value[1:]), n.Value[0]+1)},
				"too short":     {Path: path, Value: n.Value[1:]},
			} {
				if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{op}}); err != nil {
					t.Fatal(err)
				}
				if _, err := follow.ReadLog(t.Context(), st, dataset, 7, log.Value); err == nil {
					t.Errorf("%s: taken", name)
				}
			}
			if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: path, Delete: true}}}); err != nil {
				t.Fatal(err)
			}
			if _, err := follow.ReadLog(t.Context(), st, dataset, 7, log.Value); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("part gone: error is %v, expected ErrNotFound", err)
			}
		})
	}
	for _, size := range []int{0, snapshot.MaxDelta + 1} {
		if _, _, err := follow.LogOps(dataset, 7, make([]byte, size)); err == nil {
			t.Errorf("%d octets were taken", size)
		}
	}
}

// parts answers every question for a part with as many octets.
type parts int

func (p parts) Get(_ context.Context, path string) (store.Node, error) {
	return store.Node{Path: path, Value: make([]byte, p)}, nil
}

func FuzzReadLog(f *testing.F) {
	f.Add([]byte("Ddelta"))
	f.Add([]byte(`P{"parts":2,"size":131072,"sha256":"fa43239bcee7b97ca62f007cc68487560a39e19f74f3dde7486db3f98df8e471"}`))
	f.Add([]byte(`P{"parts":-1,"size":-65536}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		got, err := follow.ReadLog(t.Context(), parts(store.MaxValue), dataset, 1, value)
		if err == nil && len(got) == 0 || err == nil && len(got) > snapshot.MaxDelta {
			t.Errorf("%q gives %d octets", value, len(got))
		}
	})
}
