package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"

	"github.com/zonecast/zonecast/record"
)

// Change is all that a source would claim, and what it claims by now as far as whoever asks
// knows; without claims the source claims nothing. In any order.
type Change struct {
	Source         record.Source
	Before, Claims []record.Claim
	// Derived changes follow from something else that people agree to, and from what moves
	// by itself, such as the fleet: they are shown and judged, and no part of the digest.
	Derived bool
}

// Move is a claim that comes (Before nil), goes (After nil) or is another. Fate says what
// becomes of After: it holds, or which source and rule keep it out.
type Move struct {
	Source        record.Source
	Before, After *record.RRset
	Fate          string
	// WasFallback and IsFallback are record.Claim.Fallback of Before and After.
	WasFallback, IsFallback bool
	Derived                 bool // see Change
}

// Key is what the claim is about.
func (m *Move) Key() record.Key {
	if m.After != nil {
		return m.After.Key
	}
	return m.Before.Key
}

// Moves compares what a source claims with what it would claim, key by key, in canonical
// order. Claims that differ in nothing but who brought them, or where they stand, do not
// move.
func Moves(c Change) (moves []Move) {
	a, b := inOrder(c.Before), inOrder(c.Claims)
	for len(a)+len(b) > 0 {
		var k record.Key
		if len(b) == 0 || len(a) > 0 && a[0].Key.Compare(b[0].Key) < 0 {
			k = a[0].Key
		} else {
			k = b[0].Key
		}
		var old, now []record.Claim
		old, a = cut(a, k)
		now, b = cut(b, k)
		if len(old) > 1 || len(now) > 1 {
			old, now = without(old, now), without(now, old)
		}
		for i := range max(len(old), len(now)) {
			m := Move{Source: c.Source, Derived: c.Derived}
			if i < len(old) {
				m.Before, m.WasFallback = &old[i].RRset, old[i].Fallback
			}
			if i < len(now) {
				m.After, m.IsFallback = &now[i].RRset, now[i].Fallback
			}
			if m.Before == nil || m.After == nil || compare(old[i], now[i]) != 0 {
				moves = append(moves, m)
			}
		}
	}
	return moves
}

// inOrder gives claims in canonical order.
func inOrder(claims []record.Claim) []record.Claim {
	if slices.IsSortedFunc(claims, compare) {
		return claims
	}
	return slices.SortedFunc(slices.Values(claims), compare)
}

// compare orders claims by what they say.
func compare(a, b record.Claim) int {
	if x := cmp.Or(a.Key.Compare(b.Key), cmp.Compare(a.TTL, b.TTL), slices.Compare(a.Data, b.Data)); x != 0 || a.Fallback == b.Fallback {
		return x
	}
	if a.Fallback {
		return 1
	}
	return -1
}

// cut takes the claims of a key from the front.
func cut(claims []record.Claim, k record.Key) (front, rest []record.Claim) {
	n := 0
	for n < len(claims) && claims[n].Key == k {
		n++
	}
	return claims[:n], claims[n:]
}

// without takes out of claims as many of each as others has. Both are in order.
func without(claims, others []record.Claim) (left []record.Claim) {
	for _, c := range claims {
		for len(others) > 0 && compare(others[0], c) < 0 {
			others = others[1:]
		}
		if len(others) > 0 && compare(others[0], c) == 0 {
			others = others[1:]
			continue
		}
		left = append(left, c)
	}
	return left
}

// DigestOf stands for configurations that change and claims that move, each in whatever
// order.
func DigestOf(configs []Config, moves []Move) string {
	d := digest{h: sha256.New()}
	d.part("zonecast plan 1")
	for _, c := range slices.SortedFunc(slices.Values(configs), func(a, b Config) int { return cmp.Compare(a.Path, b.Path) }) {
		d.part(c.Path)
		d.part(c.Type)
		d.part(string(c.Kind))
		d.part(c.Change)
	}
	d.part("claims")
	byKey := func(a, b Move) int { return cmp.Or(cmp.Compare(a.Source, b.Source), a.Key().Compare(b.Key())) }
	if !slices.IsSortedFunc(moves, byKey) {
		moves = slices.SortedStableFunc(slices.Values(moves), byKey)
	}
	for i := range moves {
		m := &moves[i]
		if m.Derived {
			continue
		}
		d.part(string(m.Source))
		d.set(m.Before, m.WasFallback)
		d.set(m.After, m.IsFallback)
		d.part(m.Fate)
	}
	return hex.EncodeToString(d.h.Sum(nil))
}

// digest is made of parts, each with its length before it.
type digest struct {
	h hash.Hash
	b []byte // scratch space
}

func (d *digest) part(s string) {
	d.b = append(fmt.Appendf(d.b[:0], "%d:", len(s)), s...)
	d.h.Write(d.b)
}

// set takes an RRset in, or that there is none.
func (d *digest) set(r *record.RRset, fallback bool) {
	if r == nil {
		d.part("")
		return
	}
	d.part(string(r.Owner))
	d.b = fmt.Appendf(d.b[:0], "%d %d %d %v ", r.Type, r.TTL, len(r.Data), fallback)
	d.h.Write(d.b)
	d.part(string(r.Location))
	for _, x := range r.Data {
		d.part(string(x))
	}
}
