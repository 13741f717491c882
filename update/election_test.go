package update_test

import (
	"testing"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// The election's node can vanish although the session lives: a store put back from
// a copy, a person's hand. Files are imported all the same.
func TestLostElectionIsStoodForAgain(t *testing.T) {
	r := newRig(t)
	r.write("example.net", head+"a A 192.0.2.1\n")
	r.start()
	r.has("example.net", "a.example.net. A 300 example.net:4")
	if _, err := r.store.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.ElectZoneFiles, Delete: true}}}); err != nil {
		t.Fatal(err)
	}
	r.replace("example.net", head+"a A 192.0.2.1\nb A 192.0.2.2\n")
	r.has("example.net", "a.example.net. A 300 example.net:4", "b.example.net. A 300 example.net:5")
}
