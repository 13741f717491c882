package follow

import (
	"testing"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// TestViewIsBounded: a store that is full of log nodes, empty or not, takes no more memory than
// is given to them, and gives it back.
func TestViewIsBounded(t *testing.T) {
	for _, size := range []int{0, store.MaxValue} {
		v := newView("internal")
		value := make([]byte, size)
		const nodes = 1 << 18
		for version := range uint64(nodes) {
			v.put([]store.Node{{Path: tree.LogPath("internal", version+1), Value: value, Modified: 1}}, 0)
		}
		if n := len(v.log) * (size + 256); n > maxCache {
			t.Errorf("%d nodes of %d octets are kept", len(v.log), size)
		}
		v.put([]store.Node{{Path: tree.LogPath("internal", 1), Value: value, Modified: 2}}, 0) // in place of another
		v.forget(1)
		v.drop(nodes)
		if v.size != 0 || len(v.log) != 0 {
			t.Errorf("%d nodes of %d octets are left", len(v.log), v.size)
		}
	}
}
