package configurator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/zonecast/zonecast/configurator/review"
	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// Groups of hosts, and the datasets that they carry, may come from configurations of the type
// zonecast.Group. A group has one owner: the configuration, or whoever set it by command; what
// the other one says of it is refused.

const (
	// groupType is of the configurations that say of groups; groupDir has them: the rest of the
	// path is the group's name.
	groupType = "zonecast.Group"
	groupDir  = "groups/"
	maxGroups = 1000
	// groupOps is how many groups are written in one commit.
	groupOps = 50
)

// group is a zonecast.Group.
type group struct {
	Hosts    []string `json:"hosts"`
	Datasets []string `json:"datasets"`
}

// groups gives those of a tree by name; a mistake is a *review.SourceError.
func (c *compiled) groups() (map[string]group, error) {
	all := map[string]group{}
	var errs []error
	for _, x := range c.configs {
		if x.Type != groupType {
			continue
		}
		var g group
		name, ok := strings.CutPrefix(x.Path, groupDir)
		err := json.Unmarshal(x.JSON, &g)
		switch {
		case err != nil:
		case !ok || name == "" || strings.Contains(name, "/"):
			err = fmt.Errorf("a Group is exported as %s, expected %sNAME: NAME is the group's", x.Path, groupDir)
		default:
			err = errors.Join(datasets.CheckCarried(g.Datasets), trial.CheckSelectors(g.Hosts))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", strings.Join(x.Sources, ", "), err))
			continue
		}
		all[name] = g
	}
	if len(all) > maxGroups {
		errs = append(errs, fmt.Errorf("%d groups of hosts, expected at most %d", len(all), maxGroups))
	}
	if len(errs) > 0 {
		return nil, &review.SourceError{Err: errors.Join(errs...)}
	}
	return all, nil
}

// groupsIn are the groups in the store, by name, with the nodes they are in.
func (t *term) groupsIn(ctx context.Context) (map[string]tree.Group, map[string]store.Node, error) {
	nodes, _, err := t.deps.Store.List(ctx, tree.Groups)
	if err != nil {
		return nil, nil, fmt.Errorf("list groups of hosts: %w", err)
	}
	all, in := map[string]tree.Group{}, map[string]store.Node{}
	for _, n := range nodes {
		name := strings.TrimPrefix(n.Path, tree.Groups)
		in[name] = n
		var g tree.Group
		if err := tree.Decode(n, &g); err != nil { // it is nobody's, and made anew if it is to be
			t.deps.Log.Warn("group of hosts cannot be read", "group", name, "error", err)
		}
		all[name] = g
	}
	return all, in, nil
}

// groupsOwned tells why a tree cannot have its groups: others own some of them.
func (t *term) groupsOwned(ctx context.Context, c *compiled) error {
	want, err := c.groups()
	if err != nil || len(want) == 0 {
		return err
	}
	there, in, err := t.groupsIn(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for name := range want {
		if g := there[name]; in[name].Path != "" && g.Config == "" && g.Set > 0 {
			errs = append(errs, fmt.Errorf("group %s was set by command, by %s at %s: `zonecast groups remove %s` gives it to the configuration, or leave out %s%s",
				name, g.Author, time.UnixMilli(g.Set).UTC().Format(time.RFC3339), name, groupDir, name))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// landGroups has the store's groups be those of a tree, but for those that were set by command.
func (t *term) landGroups(ctx context.Context, c *compiled, by func(files []string) record.Provenance) error {
	want, err := c.groups()
	if err != nil {
		return err
	}
	there, in, err := t.groupsIn(ctx)
	if err != nil {
		return unknown(err)
	}
	var ops []store.Op
	var conds []store.Cond
	add := func(op store.Op) {
		name := strings.TrimPrefix(op.Path, tree.Groups)
		ops = append(ops, op)
		conds = append(conds, store.Cond{Path: op.Path, Modified: in[name].Modified})
	}
	for _, x := range c.configs {
		if x.Type != groupType {
			continue
		}
		name := path.Base(x.Path)
		g, now := want[name], there[name]
		if now.Config == x.Path && slices.Equal(now.Hosts, g.Hosts) && slices.Equal(now.Datasets, g.Datasets) {
			continue
		}
		p := by(x.Sources)
		value := tree.Encode(tree.Group{Datasets: g.Datasets, Hosts: g.Hosts, Set: p.Time.UnixMilli(), Author: p.Author, Reason: p.Reason, From: p.Revision, Config: x.Path})
		if !bytes.Equal(value, in[name].Value) {
			add(store.Op{Path: tree.GroupPath(name), Value: value})
		}
	}
	for name, g := range there {
		if _, stays := want[name]; g.Config != "" && !stays {
			add(store.Op{Path: tree.GroupPath(name), Delete: true})
		}
	}
	for len(ops) > 0 {
		n := min(len(ops), groupOps)
		if _, err := t.deps.Store.Commit(ctx, store.Txn{If: append(conds[:n:n], t.fence), Do: ops[:n]}); err != nil {
			return fmt.Errorf("%w: groups of hosts: %w", errStore, err)
		}
		ops, conds = ops[n:], conds[n:]
	}
	return nil
}
