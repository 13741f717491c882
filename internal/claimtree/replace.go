package claimtree

import (
	"context"

	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// Replace makes claims all that the headed source claims; without claims the
// source is removed. Only shards that differ are written. With extra, its
// conditions guard every commit made here and its operations happen in the commit
// that makes the claims live (alone, when the claims are live already); changed
// tells whether the claims were not. ErrConflict means that somebody else replaced
// the same source at the same time, or that a condition of extra does not hold:
// nothing became live.
func Replace(ctx context.Context, st store.Store, source record.Source, claims []record.Claim, extra ...store.Txn) (rev store.Revision, changed bool, err error) {
	return 0, false, nil
}
