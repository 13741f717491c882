package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
)

// followGroups sends what the host is to carry when the store says something else, until ctx
// ends. While the store is away the host carries what it did.
func (a *Agent) followGroups(ctx context.Context, wants chan<- []string) {
	groups := map[string]tree.Group{}
	bad := map[string]error{} // groups that cannot be read, by path
	var said []string
	for b := range a.deps.Store.Watch(ctx, tree.Groups, 0) {
		if b.Reset {
			clear(groups)
			clear(bad)
		}
		for _, path := range b.Deletes {
			delete(groups, path)
			delete(bad, path)
		}
		for _, n := range b.Puts {
			var g tree.Group
			err := tree.Decode(n, &g)
			if err == nil {
				err = datasets.CheckCarried(g.Datasets)
			}
			if delete(bad, n.Path); err != nil {
				bad[n.Path] = err
				a.deps.Log.Error("group cannot be read; the host carries what it did", "path", n.Path, "error", err)
				continue
			}
			groups[n.Path] = g
		}
		want := a.wantedBy(groups)
		if err := datasets.CheckCarried(want); err != nil {
			a.deps.Log.Error("groups of this host cannot be followed; it carries what it did", "error", fmt.Errorf("together: %w", err))
			continue
		}
		if len(bad) > 0 || slices.Equal(want, said) {
			continue
		}
		select {
		case wants <- want:
			said = want
		case <-ctx.Done():
			return
		}
	}
}

// wantedBy is what groups have this host carry, in order of their names; of none, what its
// options say.
func (a *Agent) wantedBy(groups map[string]tree.Group) (want []string) {
	for _, path := range slices.Sorted(maps.Keys(groups)) {
		g := groups[path]
		if !(trial.Ring{Hosts: g.Hosts}).Has(a.cfg.Host, a.cfg.Labels) {
			continue
		}
		for _, d := range g.Datasets {
			if !slices.Contains(want, d) {
				want = append(want, d)
			}
		}
	}
	if len(want) == 0 {
		return a.cfg.wanted()
	}
	return want
}
