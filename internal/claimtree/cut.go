package claimtree

import (
	"fmt"
	"slices"

	"github.com/zeebo/xxh3"

	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// A source's claims are cut into shards where the content says so, so that a
// change moves no boundary but those beside it: a shard ends after an owner whose
// hash has cutMask's bits clear, but is not cut below leastShard octets of
// estimated encoding, and is cut at mostShard in any case.
//
// The larger a shard, the better it compresses and the fewer a head must name; the
// smaller, the less is written and read again for one change. About 200 records in
// 16 KiB compress to about 2 KiB; 4,095 shards of them are 800,000 records, from
// where on shards are made larger.
const (
	leastShard = 8 << 10
	mostShard  = 128 << 10
	cutMask    = 1<<6 - 1 // one owner in 64
)

type shard struct {
	id    id
	value []byte
}

// cut sorts claims canonically and gives their shards in order of id. The claims
// slice stays as it is.
func cut(source record.Source, claims []record.Claim) ([]shard, error) {
	order := func(a, b record.Claim) int { return a.Key.Compare(b.Key) }
	if !slices.IsSortedFunc(claims, order) { // most callers have them so
		claims = slices.Clone(claims)
		slices.SortStableFunc(claims, order)
	}
	total := 0
	for i := range claims {
		total += weight(&claims[i])
	}
	least := leastShard
	for total/least > maxShards/3 && least < mostShard { // shards are 1 to 3 times least on average
		least *= 2
	}
	var shards []shard
	var err error
	from, size := 0, 0
	for i := range claims {
		size += weight(&claims[i])
		last := i+1 == len(claims)
		if !last && claims[i].Owner == claims[i+1].Owner && size < mostShard {
			continue
		}
		if last || size >= mostShard || size >= least && xxh3.HashString(string(claims[i].Owner))&cutMask == 0 {
			if shards, err = encode(shards, source, claims[from:i+1]); err != nil {
				return nil, err
			}
			from, size = i+1, 0
		}
	}
	if len(shards) > maxShards {
		return nil, fmt.Errorf("source %s has %d claims in %d shards, at most %d: split it into several sources", source, len(claims), len(shards), maxShards)
	}
	slices.SortFunc(shards, func(a, b shard) int { return slices.Compare(a.id[:], b.id[:]) })
	return slices.CompactFunc(shards, func(a, b shard) bool { return a.id == b.id }), nil
}

// encode appends claims as one shard, or as several when one does not fit a node.
func encode(to []shard, source record.Source, claims []record.Claim) ([]shard, error) {
	value := record.EncodeShard(source, claims)
	if len(value) <= store.MaxValue {
		return append(to, shard{idOf(value), value}), nil
	}
	if len(claims) == 1 {
		return nil, fmt.Errorf("claim of %s by %s has %d octets, a node of the store takes %d", claims[0].Key, source, len(value), store.MaxValue)
	}
	to, err := encode(to, source, claims[:len(claims)/2])
	if err != nil {
		return nil, err
	}
	return encode(to, source, claims[len(claims)/2:])
}

// weight estimates a claim's encoding, in octets before compression.
func weight(c *record.Claim) int {
	n := 24 + len(c.Owner) + len(c.Place)/4
	for _, d := range c.Data {
		n += 2 + len(d)
	}
	return n
}
