package configurator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/configurator/compile"
	"github.com/zonecast/zonecast/configurator/repo"
	"github.com/zonecast/zonecast/configurator/review"
	"github.com/zonecast/zonecast/internal/plan"
	"github.com/zonecast/zonecast/record"
)

// Plan implements review.Planner: what is agreed to, and the zones that it touches.
func (t *term) Plan(ctx context.Context, base, result *repo.Tree, _ []string) (review.Plan, error) {
	p, err := t.plan(ctx, base, result, false)
	if err != nil {
		return review.Plan{}, err
	}
	out := review.Plan{Digest: p.Digest}
	for _, z := range p.Touches {
		name, err := record.ParseName(z)
		if err != nil {
			return review.Plan{}, fmt.Errorf("zone of a plan: %w", err)
		}
		out.Zones = append(out.Zones, name)
	}
	return out, nil
}

// plan compares what two trees compile to.
func (t *term) plan(ctx context.Context, base, result *repo.Tree, deep bool) (*plan.Plan, error) {
	before, err := t.compile(ctx, base)
	if err != nil {
		return nil, err
	}
	after, err := t.compile(ctx, result)
	if err != nil {
		return nil, err
	}
	if err := t.groupsOwned(ctx, after); err != nil {
		return nil, &review.SourceError{Err: err}
	}
	var changes []plan.Change
	var configs []plan.Config
	for old, now := range pairs(before.configs, after.configs) {
		var change plan.Change
		config := plan.Config{Kind: plan.Changed}
		var a, b []byte
		if old != nil {
			config.Path, config.Type, a, change.Before = old.Path, old.Type, old.JSON, old.Claims
		} else {
			config.Kind = plan.Added
		}
		if now != nil {
			config.Path, config.Type, b, change.Claims = now.Path, now.Type, now.JSON, now.Claims
		} else {
			config.Kind = plan.Removed
		}
		if old != nil && now != nil && equal(old, now) {
			continue
		}
		change.Source = compile.SourceOf(config.Path)
		if len(change.Before)+len(change.Claims) > 0 {
			changes = append(changes, change)
		} else if config.Change, err = differences(a, b); err != nil {
			return nil, fmt.Errorf("configuration %s: %w", config.Path, err)
		}
		if !bytes.Equal(a, b) || old.Type != now.Type {
			configs = append(configs, config)
		}
	}
	var failures []string
	if deep && slices.ContainsFunc(configs, func(c plan.Config) bool { return c.Path == rulesPath }) {
		var derived []plan.Change
		if derived, failures, err = t.ruleChanges(ctx, before, after); err != nil {
			return nil, err
		}
		changes = append(changes, derived...)
	}
	p, err := t.deps.Consider(ctx, changes, configs, deep)
	if err != nil {
		return nil, err
	}
	p.Fails = append([]string{}, failures...)
	return p, nil
}

// differences stands for what differs between two values, each JSON or nothing: members of
// objects are told apart, at any depth, so that changes of different ones have nothing to do
// with each other.
func differences(a, b []byte) (string, error) {
	var x, y any
	for _, v := range []struct {
		text []byte
		to   *any
	}{{a, &x}, {b, &y}} {
		if len(v.text) == 0 {
			continue
		}
		d := json.NewDecoder(bytes.NewReader(v.text))
		d.UseNumber()
		if err := d.Decode(v.to); err != nil {
			return "", err
		}
	}
	h := sha256.New()
	if err := differ(h, "", x, y); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func differ(w io.Writer, path string, x, y any) error {
	a, isObject := x.(map[string]any)
	b, both := y.(map[string]any)
	if isObject && both {
		names := map[string]bool{}
		for name := range a {
			names[name] = true
		}
		for name := range b {
			names[name] = true
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if err := differ(w, path+"/"+strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1"), a[name], b[name]); err != nil { // RFC 6901
				return err
			}
		}
		return nil
	}
	old, err := json.Marshal(x)
	if err != nil {
		return err
	}
	now, err := json.Marshal(y)
	if err != nil || bytes.Equal(old, now) {
		return err
	}
	_, err = fmt.Fprintf(w, "%q %s %s\n", path, old, now)
	return err
}
