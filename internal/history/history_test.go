package history_test

import (
	"errors"
	"testing"

	"github.com/zonecast/zonecast/internal/history"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

const dataset = "internal"

func address(t *testing.T, n byte) record.RRset {
	t.Helper()
	name, err := record.ParseName("www.example.net.")
	if err != nil {
		t.Fatal(err)
	}
	return record.NewRRset(name, record.TypeA, 300, record.Rdata([]byte{192, 0, 2, n}))
}

// TestBackFromEarlier holds that the way back leads from every version that somebody has,
// also while newer ones are there already.
func TestBackFromEarlier(t *testing.T) {
	st := memstore.New()
	defer st.Close()
	digest := map[uint64]snapshot.Digest{}
	for v := uint64(1); v <= 5; v++ {
		digest[v] = snapshot.HashRRset(address(t, byte(v)))
		undo := &snapshot.Delta{Dataset: dataset, Version: v, BaseDigest: digest[v], Digest: digest[v-1], Put: []record.RRset{address(t, byte(v-1))}}
		if v == 1 {
			undo = nil
		}
		_, ops, err := history.Ops(dataset, &tree.History{Version: v}, undo, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Commit(t.Context(), store.Txn{Do: ops}); err != nil {
			t.Fatal(err)
		}
	}
	for at := uint64(1); at <= 5; at++ {
		for to := uint64(1); to <= at; to++ {
			past, got, err := history.Back(t.Context(), st, dataset, history.At{Version: at, Digest: digest[at]}, to, false)
			if err != nil || got != digest[to] {
				t.Fatalf("from %d to %d: %v, %v", at, to, got, err)
			}
			if r := past[address(t, 0).Key]; to < at && (r == nil || !r.Equal(address(t, byte(to)))) {
				t.Errorf("from %d to %d: %v", at, to, r)
			}
		}
	}
	if _, _, err := history.Back(t.Context(), st, dataset, history.At{Version: 5, Digest: digest[4]}, 3, false); !errors.Is(err, history.ErrGone) {
		t.Errorf("from what never was: %v", err)
	}
}
