package zookeeper

import (
	"slices"
	"testing"
)

// TestClientsSpread: each client begins at any server of the ensemble, and goes through all of
// them; else the first named would have the whole fleet.
func TestClientsSpread(t *testing.T) {
	servers := []string{"192.0.2.1:2181", "192.0.2.2:2181", "192.0.2.3:2181"}
	first := map[string]int{}
	for range 300 {
		h := &hosts{}
		if err := h.Init(servers); err != nil {
			t.Fatal(err)
		}
		var round []string
		for range h.Len() {
			s, again := h.Next()
			if again {
				t.Fatalf("a round is over after %v", round)
			}
			round = append(round, s)
		}
		first[round[0]]++
		slices.Sort(round)
		if !slices.Equal(round, servers) {
			t.Fatalf("a round is %v", round)
		}
		if _, again := h.Next(); !again {
			t.Fatal("no pause between rounds")
		}
	}
	for _, s := range servers {
		if n := first[s]; n < 50 { // of about 100: by chance once in 10^9 runs
			t.Errorf("%d of 300 clients begin at %s", n, s)
		}
	}
}
