package snapshot

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/zonecast/zonecast/record"
)

// Dataset is all RRsets of one view of the world at one version, in memory. Its
// methods that change nothing may run at the same time; Apply may run beside none.
type Dataset struct {
	Ledger
	sets map[record.Key]*record.RRset

	mu sync.Mutex // guards below: All sorts when it is asked to, beside other readers
	// order is sets in canonical order as it was when All last ran; its array is
	// never written again. Nil before the first All.
	order []*record.RRset
	// added has the keys that came since; those that went or were replaced are
	// found by looking. stale counts all three.
	added []record.Key
	stale int
}

// NewDataset is the empty dataset at version 0, before its first delta. The name
// must pass CheckName.
func NewDataset(name string) *Dataset {
	return &Dataset{Ledger: Ledger{name: name, zones: newZones()}, sets: map[record.Key]*record.RRset{}}
}

// CheckName tells why name cannot name a dataset, or nil. A name is one label of
// a domain name, because the freshness record has it as one: 1 to 63 octets of
// a-z, 0-9, - and _.
func CheckName(name string) error {
	if len(name) < 1 || len(name) > 63 {
		return fmt.Errorf("dataset name has %d octets, expected 1 to 63", len(name))
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return fmt.Errorf("dataset name %q has the octet 0x%02x, expected a-z, 0-9, - and _", name, c)
		}
	}
	return nil
}

// Len counts the RRsets, freshness records included.
func (d *Dataset) Len() int { return len(d.sets) }

// Get looks up one RRset.
func (d *Dataset) Get(k record.Key) (record.RRset, bool) {
	r, ok := d.sets[k]
	if !ok {
		return record.RRset{}, false
	}
	return *r, true
}

// All yields the RRsets in canonical order (record.Key.Compare) as they are when
// the iteration begins. The first iteration sorts, the next ones merge what
// changed since.
func (d *Dataset) All() iter.Seq[record.RRset] {
	return func(yield func(record.RRset) bool) {
		for _, r := range d.sorted() {
			if !yield(*r) {
				return
			}
		}
	}
}

// sorted is the RRsets in canonical order; the slice is not written again.
func (d *Dataset) sorted() []*record.RRset {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.order == nil {
		d.order = slices.SortedFunc(maps.Values(d.sets), func(a, b *record.RRset) int { return a.Key.Compare(b.Key) })
		return d.order
	}
	if d.stale == 0 {
		return d.order
	}
	slices.SortFunc(d.added, record.Key.Compare)
	d.added = slices.Compact(d.added)
	order := make([]*record.RRset, 0, len(d.sets))
	put := func(k record.Key) {
		if r, ok := d.sets[k]; ok && (len(order) == 0 || order[len(order)-1] != r) {
			order = append(order, r)
		}
	}
	rest := d.added
	for _, r := range d.order {
		for len(rest) > 0 && rest[0].Compare(r.Key) <= 0 {
			put(rest[0])
			rest = rest[1:]
		}
		put(r.Key)
	}
	for _, k := range rest {
		put(k)
	}
	d.order, d.added, d.stale = order, nil, 0
	return order
}

// Clone is an independent copy; the RRsets themselves, which nobody changes, are
// shared.
func (d *Dataset) Clone() *Dataset {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.Ledger
	l.zones = l.zones.clone()
	return &Dataset{
		Ledger: l, sets: maps.Clone(d.sets),
		order: d.order, added: slices.Clone(d.added), stale: d.stale,
	}
}
