package claimtree

import (
	"bytes"
	"slices"
	"testing"
)

func FuzzHead(f *testing.F) {
	ids := []id{{1}, {2}, {3}}
	both, err := encodeBoth(7, ids[:1], ids[1:])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(both)
	f.Add(encodeHead(ids))
	f.Add(both[:len(both)-1])
	f.Add([]byte("H\x03"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHead(b)
		if err != nil {
			return
		}
		again := encodeHead(h.now)
		if h.number > 0 {
			if again, err = encodeBoth(h.number, h.now, h.next); err != nil {
				return // larger than a node
			}
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("% x is read and written as % x", b, again)
		}
	})
}

func TestHeadAtGate(t *testing.T) {
	b, err := encodeBoth(7, []id{{1}}, []id{{2}, {3}})
	if err != nil {
		t.Fatal(err)
	}
	h, err := decodeHead(b)
	if err != nil {
		t.Fatal(err)
	}
	for gate, want := range map[uint64][]id{0: {{1}}, 6: {{1}}, 7: {{2}, {3}}, 8: {{2}, {3}}} {
		if got := h.at(gate); !slices.Equal(got, want) {
			t.Errorf("at gate %d: %x, want %x", gate, got, want)
		}
	}
	if _, err := encodeBoth(1, make([]id, maxShards), []id{{1}}); err == nil {
		t.Error("a head larger than a node is no error")
	}
}
