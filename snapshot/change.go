package snapshot

import (
	"errors"
	"slices"

	"github.com/zonecast/zonecast/record"
)

// ErrMismatch is wrapped when Apply refuses a delta that is sound but does not
// follow this dataset, or does not lead to where it says.
var ErrMismatch = errors.New("delta does not fit")

// Change makes the delta that puts and removes these RRsets, in any order; what
// would change nothing is left out. The dataset stays as it is: Apply the delta.
// time is in unix milliseconds. A key twice, or in both, is an error.
func (d *Dataset) Change(time int64, put []record.RRset, remove []record.Key) (*Delta, error) {
	delta := &Delta{
		Dataset: d.name, Version: d.version + 1, Time: time,
		BaseDigest: d.digest, Prev: d.chain,
		Put: sortedSets(put), Remove: slices.SortedFunc(slices.Values(remove), record.Key.Compare),
	}
	if err := delta.Check(); err != nil {
		return nil, err
	}
	delta.Put = slices.DeleteFunc(delta.Put, func(r record.RRset) bool {
		old, ok := d.sets[r.Key]
		return ok && old.Equal(r)
	})
	delta.Remove = slices.DeleteFunc(delta.Remove, func(k record.Key) bool { return d.sets[k] == nil })
	delta.Digest = d.effect(delta, d.Get).digest
	return delta, nil
}

// Replace makes the full delta that makes put, in any order, the whole dataset.
func (d *Dataset) Replace(time int64, put []record.RRset) (*Delta, error) {
	return FullDelta(d.name, d.version+1, time, d.chain, put)
}

// FullDelta is Dataset.Replace for those who do not have the base: prev is the
// chain at version-1.
func FullDelta(dataset string, version uint64, time int64, prev Chain, put []record.RRset) (*Delta, error) {
	delta := &Delta{Dataset: dataset, Version: version, Time: time, Full: true, Prev: prev, Put: sortedSets(put)}
	if err := delta.Check(); err != nil {
		return nil, err
	}
	delta.Digest = digestOf(delta.Put)
	return delta, nil
}

// sortedSets is a sorted copy.
func sortedSets(sets []record.RRset) []record.RRset {
	return slices.SortedFunc(slices.Values(sets), func(a, b record.RRset) int { return a.Key.Compare(b.Key) })
}

func digestOf(sets []record.RRset) Digest {
	var sum Digest
	for _, r := range sets {
		if !IsFreshness(r.Key) {
			sum = sum.Add(HashRRset(r))
		}
	}
	return sum
}

// Apply moves the dataset to the delta's version, or changes nothing and says
// why. It checks the dataset's name, that the version is the next one, base
// digest (not of a full delta), chain, and that the digest comes out. The work
// depends on the delta's size only. What it refuses although the delta is sound
// wraps ErrMismatch.
func (d *Dataset) Apply(delta *Delta) error {
	e, err := d.follow(delta, d.Get)
	if err != nil {
		return err
	}
	if delta.Full {
		d.fill(delta.Put)
		return nil
	}
	d.put(e.put)
	for _, k := range e.removed {
		delete(d.sets, k)
	}
	d.unsettle(len(e.changed))
	return nil
}

// put takes RRsets in, as the next state.
func (d *Dataset) put(sets []record.RRset) {
	for _, r := range sets {
		if d.sets[r.Key] == nil && d.order != nil {
			d.added = append(d.added, r.Key)
		}
		d.sets[r.Key] = &r
	}
}

// unsettle notes that order is behind by n RRsets, and gives it up when catching
// up would cost as much as sorting.
func (d *Dataset) unsettle(n int) {
	d.stale += n
	if len(d.added) > 1024+len(d.sets)/4 {
		d.order, d.added, d.stale = nil, nil, 0
	}
}

// fill makes sets, which are sorted and from now on the dataset's, the whole
// content.
func (d *Dataset) fill(sets []record.RRset) {
	d.sets = make(map[record.Key]*record.RRset, len(sets))
	d.order, d.added, d.stale = make([]*record.RRset, len(sets)), nil, 0
	for i := range sets {
		r := &sets[i]
		d.order[i] = r
		d.sets[r.Key] = r
	}
}
