package snapshot

import (
	"errors"

	"github.com/zonecast/zonecast/record"
)

// Change makes the delta that puts and removes these RRsets, in any order; what
// would change nothing is left out. The dataset stays as it is: Apply the delta.
// time is in unix milliseconds. A key twice, or in both, is an error.
func (d *Dataset) Change(time int64, put []record.RRset, remove []record.Key) (*Delta, error) {
	return nil, errors.New("not yet")
}

// Replace makes the full delta that makes put, in any order, the whole dataset.
func (d *Dataset) Replace(time int64, put []record.RRset) (*Delta, error) {
	return nil, errors.New("not yet")
}

// Apply moves the dataset to the delta's version, or changes nothing and says
// why. It checks the dataset's name, that the version is the next one, base
// digest (not of a full delta), chain, and that the digest comes out. The work
// depends on the delta's size only.
func (d *Dataset) Apply(delta *Delta) error { return errors.New("not yet") }
