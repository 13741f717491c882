package claimtree

import (
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// Path is the path of an independent shard. The shard's name is one element of a
// store path and must not begin with "@", which is for headed sources.
func Path(source record.Source, shard string) string { return tree.ClaimsPrefix(source) + shard }

// Ops puts an independent shard; without claims it deletes it. Whether the value
// fits a node is checked by the commit: a shard should stay far below
// store.MaxValue, some hundreds of claims.
func Ops(source record.Source, shard string, claims []record.Claim) store.Op {
	if len(claims) == 0 {
		return store.Op{Path: Path(source, shard), Delete: true}
	}
	return store.Op{Path: Path(source, shard), Value: record.EncodeShard(source, claims)}
}
