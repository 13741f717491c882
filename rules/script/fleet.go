package script

import (
	"maps"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rules"
)

// Failure is a shard of a rule that could not be evaluated, of which the last good claims
// stay in force.
type Failure struct {
	Source record.Source
	// Shard is the one whose last good claims stay; empty where claims came all the same, or
	// when it is not known which shards a server is in.
	Shard string
	Err   error
}

// Fleet evaluates a rule for all servers: what it claims, in canonical order of the keys, and
// where it fails.
func Fleet(r rules.Rule, servers []fleet.Server) (claims []record.Claim, failures []Failure) {
	if a, is := r.(interface{ Ahead([]fleet.Server) }); is {
		a.Ahead(servers)
	}
	fail := func(shard string, err error) { failures = append(failures, Failure{r.Source(), shard, err}) }
	members := map[string][]fleet.Server{}
	for _, s := range servers {
		shards, err := r.Shards(s)
		if err != nil {
			fail("", err)
		}
		for _, shard := range shards {
			members[shard] = append(members[shard], s)
		}
	}
	for _, in := range members {
		slices.SortFunc(in, func(a, b fleet.Server) int { return strings.Compare(string(a.Name), string(b.Name)) })
	}
	all := slices.Sorted(maps.Keys(members))
	if a, is := r.(interface {
		AheadOf(shards []string, members func(shard string) []fleet.Server)
	}); is {
		a.AheadOf(all, func(shard string) []fleet.Server { return members[shard] })
	}
	for _, shard := range all {
		in := members[shard]
		some, err := r.Claims(shard, func() []fleet.Server { return in })
		switch {
		case err != nil && len(some) > 0: // it left something out
			fail("", err)
		case err != nil:
			fail(shard, err)
		}
		claims = append(claims, some...)
	}
	slices.SortStableFunc(claims, func(a, b record.Claim) int { return a.Key.Compare(b.Key) })
	return claims, failures
}
