package configurator

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/plan"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rules"
	"github.com/zonecast/zonecast/rules/script"
)

// ruleChanges says what rules would claim for the servers that there are, of those rules that
// would claim something else than the store has. It is nothing that people agree to: servers
// come and go. failures says for which servers they fail.
func (t *term) ruleChanges(ctx context.Context, old, now *compiled) (changes []plan.Change, failures []string, err error) {
	nodes, _, err := t.deps.Store.List(ctx, tree.Servers)
	if err != nil {
		return nil, nil, fmt.Errorf("list servers: %w", err)
	}
	var servers []fleet.Server
	for _, n := range nodes {
		s, err := fleet.Decode(n.Value)
		if err != nil {
			continue // the mutator says so
		}
		servers = append(servers, s)
	}
	t.rulesTurn.Lock()
	defer t.rulesTurn.Unlock()
	claimed := map[record.Source]map[string][]record.Claim{} // by rules that there are, and were: what is claimed, by shard
	for _, c := range []*compiled{old, now} {
		i, has := find(c.configs, rulesPath)
		if !has {
			continue
		}
		for _, file := range c.configs[i].Sources {
			source, is := script.SourceOf(strings.TrimPrefix(file, rulesDir+"/"))
			if !is || claimed[source] != nil {
				continue
			}
			if claimed[source], err = t.claimed(ctx, source); err != nil {
				return nil, nil, err
			}
		}
	}
	after, fails := map[record.Source][]record.Claim{}, 0
	try := func(r rules.Rule, folder string) {
		source := r.Source()
		claims, failed := script.Fleet(r, servers)
		for i := range claims {
			claims[i].Place = folder + claims[i].Place
		}
		for _, f := range failed { // what it claims there stays
			claims = append(claims, claimed[source][f.Shard]...)
			if fails++; fails <= plan.MaxLines {
				failures = append(failures, plan.Clip(fmt.Sprintf("%s: %v", f.Source, f.Err)))
			}
		}
		slices.SortStableFunc(claims, func(a, b record.Claim) int { return a.Key.Compare(b.Key) })
		after[source] = claims
	}
	if _, has := find(now.configs, rulesPath); has {
		folder, err := fs.Sub(now.files, rulesDir)
		if err != nil {
			return nil, nil, err
		}
		loaded, err := t.rules.Load(folder)
		if err != nil {
			return nil, nil, err
		}
		for _, l := range loaded {
			if l.Rule != nil {
				try(l.Rule, rulesDir+"/")
			}
		}
	}
	for _, r := range t.builtIn { // takes over where a rule of its name goes
		if _, stays := after[r.Source()]; claimed[r.Source()] != nil && !stays {
			try(r, "")
		}
	}
	if more := fails - plan.MaxLines; more > 0 {
		failures = append(failures, fmt.Sprintf("and %d more", more))
	}
	for s, shards := range claimed {
		c := plan.Change{Source: s, Before: slices.Concat(slices.Collect(maps.Values(shards))...), Claims: after[s], Derived: true}
		if len(plan.Moves(c)) > 0 {
			changes = append(changes, c)
		}
	}
	slices.SortFunc(changes, func(a, b plan.Change) int { return cmp.Compare(a.Source, b.Source) })
	return changes, failures, nil
}

// claimed is what a rule claims in the store, by shard.
func (t *term) claimed(ctx context.Context, source record.Source) (map[string][]record.Claim, error) {
	nodes, _, err := t.deps.Store.List(ctx, tree.ClaimsPrefix(source))
	if err != nil {
		return nil, fmt.Errorf("list claims of %s: %w", source, err)
	}
	shards := map[string][]record.Claim{}
	for _, n := range nodes {
		s, shard, ok := tree.SplitClaim(n.Path)
		if !ok || s != source { // of a source below this one
			continue
		}
		if shards[shard], err = record.DecodeShard(n.Value); err != nil {
			return nil, fmt.Errorf("node %s: %w", n.Path, err)
		}
	}
	return shards, nil
}
