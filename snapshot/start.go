package snapshot

import "fmt"

// Start is the dataset that a full delta makes, for those who do not have the
// version before it. Unlike Apply it cannot check that Prev is the chain of that
// version: the caller has found the delta by its own chain.
func Start(full *Delta) (*Dataset, error) {
	if !full.Full {
		return nil, fmt.Errorf("start %s at version %d: the delta is not a full one", full.Dataset, full.Version)
	}
	d := NewDataset(full.Dataset)
	if full.Version > 0 {
		d.version, d.chain = full.Version-1, full.Prev
	}
	if err := d.Apply(full); err != nil {
		return nil, err
	}
	return d, nil
}
