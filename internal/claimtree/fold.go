package claimtree

import (
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// Change is a shard's new content: all its claims, or nil when it is gone. For a
// headed source the shard's name is its node's, and a shard's content never
// changes: it comes, and it goes.
type Change struct {
	Source record.Source
	Shard  string
	Claims []record.Claim
}

// Fold turns batches of a watch of tree.Claims into changes. It belongs to one
// goroutine.
type Fold struct{}

// NewFold makes a fold that knows nothing: its first batch must be a Reset.
func NewFold() *Fold { return &Fold{} }

// Apply takes the next batch and returns what it changes, ordered by source and
// shard; all of it must be applied together. An error names the shards that could
// not be read, of which the last good state stays in force; the changes hold
// beside it.
func (f *Fold) Apply(b store.Batch) ([]Change, error) { return nil, nil }
