package main

import (
	"strings"
	"testing"

	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// TestOwnGroup: a group of the configuration is not changed by command, and one that is nobody's is.
func TestOwnGroup(t *testing.T) {
	st := memstore.New()
	defer st.Close()
	put := func(name string, value []byte) {
		t.Helper()
		if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.GroupPath(name), Value: value}}}); err != nil {
			t.Fatal(err)
		}
	}
	put("edge", tree.Encode(tree.Group{Datasets: []string{"edge"}, Hosts: []string{"x"}, Author: "alice", Reason: "Divide", Config: "groups/edge"}))
	put("inside", tree.Encode(tree.Group{Datasets: []string{"edge"}, Hosts: []string{"x"}, Author: "zoe"}))
	put("odd", []byte("{"))
	if _, err := ownGroup(t.Context(), st, "edge"); err == nil || !strings.Contains(err.Error(), "group edge is of the configuration groups/edge, where alice set it: Divide") {
		t.Errorf("error %v", err)
	}
	for name, there := range map[string]bool{"inside": true, "odd": true, "none": false} {
		if n, err := ownGroup(t.Context(), st, name); err != nil || (n.Path != "") != there {
			t.Errorf("%s: %v, %v", name, n, err)
		}
	}
}
