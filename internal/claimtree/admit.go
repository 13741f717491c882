package claimtree

import (
	"cmp"
	"slices"

	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
)

// What a source claims is in force when it is admitted (docs/control.md). Overrides and
// freshness records are in force as they are claimed.

// Passes tells whether claims are in force without being admitted. A shard with a freshness
// record and others is like any other: or whoever adds one to a zone file gets past guards.
func Passes(s record.Source, claims []record.Claim) bool {
	return s.Kind() == record.KindOverride || len(claims) > 0 && !slices.ContainsFunc(claims, func(c record.Claim) bool { return !snapshot.IsFreshness(c.Key) })
}

// PassesOver tells whether claims are in force at once in the place of others.
func PassesOver(s record.Source, old, now []record.Claim) bool {
	switch {
	case len(old) == 0:
		return Passes(s, now)
	case len(now) == 0:
		return Passes(s, old)
	}
	return Passes(s, old) && Passes(s, now)
}

// Same tells whether two shards claim the same, in whatever order.
func Same(a, b []record.Claim) bool {
	if len(a) != len(b) {
		return false
	}
	return slices.EqualFunc(a, b, same) ||
		slices.EqualFunc(slices.SortedFunc(slices.Values(a), order), slices.SortedFunc(slices.Values(b), order), same)
}

func same(a, b record.Claim) bool {
	return a.RRset.Equal(b.RRset) && a.Source == b.Source && a.Provenance == b.Provenance && a.Place == b.Place && a.Fallback == b.Fallback
}

// order is any in which claims that are not the same have places of their own.
func order(a, b record.Claim) int {
	fallback := 0
	if a.Fallback != b.Fallback {
		fallback = 1
		if b.Fallback {
			fallback = -1
		}
	}
	return cmp.Or(a.Key.Compare(b.Key), cmp.Compare(a.TTL, b.TTL), slices.Compare(a.Data, b.Data), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Place, b.Place), fallback,
		cmp.Compare(a.Author, b.Author), cmp.Compare(a.Reason, b.Reason), a.Time.Compare(b.Time), cmp.Compare(a.Revision, b.Revision))
}
