package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/answer"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/mapclaims"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/internal/steering"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// Bounds of what is told of maps.
const (
	maxUsesTold = 1000
	mapPage     = 8 << 20 // octets of a page before they are packed
)

// ImportMap implements controlapi.Control. No content takes the map away.
func (c *Control) ImportMap(ctx context.Context, name, file string, content []byte, by *controlapi.Doer, pops, addPoPs []string) (*answer.Change, error) {
	defer c.observe("import_map")()
	if err := (&geo.Map{Name: name}).Check(); err != nil {
		return nil, api.Refuse(api.Invalid, "", "%v", err)
	}
	if err := checkTexts(file); err != nil {
		return nil, err
	}
	source := mapclaims.Source(name)
	var signed once
	var err error
	if by == nil {
		by = &controlapi.Doer{}
	}
	if c.cfg.Operators != "" {
		signed, err = c.may(ctx, operator.ImportMap(string(source), content, addPoPs, by.Reason), by)
	} else {
		err = checkTexts(by.Author, by.Reason)
	}
	if err != nil {
		return nil, err
	}
	state := tree.Source{Source: source, Where: file, Time: c.deps.Now().UnixMilli()}
	text := "what it claimed is taken away"
	var claims []record.Claim
	if len(content) > 0 {
		c.imports.Lock() // one at a time: each may take hundreds of megabytes
		defer c.imports.Unlock()
		m, names, err := mapclaims.Decode(content)
		if err == nil && m.Name != name {
			err = fmt.Errorf("the map is %q, expected %q", m.Name, name)
		}
		if err != nil {
			return nil, api.Refuse(api.Invalid, "mend the map and import it again; what it claimed before still holds", "%v", err)
		}
		if err := c.ownUses(m); err != nil {
			return nil, err
		}
		who := record.Provenance{Author: by.Author, Reason: by.Reason, Time: c.deps.Now().UTC()}
		if claims, err = mapclaims.Claims(m, names, c.deps.Division.MapsZone(c.cfg.Dataset), who, file); err != nil {
			return nil, api.Refuse(api.Invalid, "mend the map and import it again; what it claimed before still holds", "%v", err)
		}
		before, err := claimtree.Load(ctx, c.deps.Store, source)
		if errors.Is(err, store.ErrUnavailable) {
			return nil, unavailable(err)
		}
		if err == nil { // otherwise damaged in the store, and written anew
			claims = inherit(claims, before)
		}
		if err := c.holdPoPs(ctx, name, pops, addPoPs, by); err != nil {
			return nil, err
		}
		state.Records = len(claims)
		text = fmt.Sprintf("%d prefixes, %d locations with an order, %d uses, %d RRsets of names", len(m.Entries), len(m.Orders), len(m.Uses), len(names))
	}
	mark := store.Op{Path: tree.SourcePath(source), Value: tree.Encode(state), Delete: len(content) == 0}
	_, note := tree.AuditOps(tree.AuditEntry{
		Time: state.Time, Action: "import", Subject: string(source), Text: text, Author: by.Author, Reason: by.Reason, From: api.Caller(ctx), Signed: signed.id,
	})
	rev, changed, err := claimtree.Replace(ctx, c.deps.Store, source, claims, store.Txn{Do: append([]store.Op{mark, note}, signed.ops...), If: signed.conds})
	switch {
	case errors.Is(err, store.ErrConflict):
		return nil, api.Refuse(api.Unavailable, "try again", "somebody else imports map %s at the same time", name)
	case err != nil:
		return nil, unavailable(err)
	}
	c.deps.Log.Info("map imported", "source", source, "records", state.Records, "changed", changed, "author", by.Author)
	return &answer.Change{Revision: int64(rev), Changed: changed}, nil
}

// ownUses refuses a map for names of another dataset, which would be looked up in that one's
// maps. A use of all names is one of all that the dataset has.
func (c *Control) ownUses(m *geo.Map) error {
	for _, u := range m.Uses {
		if d := c.deps.Division; u.Name != record.Root && !d.Has(c.cfg.Dataset, u.Name) {
			return api.Refuse(api.Invalid, fmt.Sprintf("--dataset %s imports it there", d.Of(u.Name)), "map %q holds for %s, which is in dataset %s, expected names of %s", m.Name, u.Name, d.Of(u.Name), c.cfg.Dataset)
		}
	}
	return nil
}

// holdPoPs refuses a map that names what is no PoP, and makes those of add that there are not.
func (c *Control) holdPoPs(ctx context.Context, name string, pops, add []string, by *controlapi.Doer) error {
	if len(pops) > steering.MaxPoPs || len(add) > steering.MaxPoPs {
		return api.Refuse(api.Invalid, "", "map %q names %d PoPs and makes %d, at most %d", name, len(pops), len(add), steering.MaxPoPs)
	}
	if len(pops)+len(add) == 0 {
		return nil
	}
	known, err := c.Pops(ctx)
	if err != nil {
		return err
	}
	for _, p := range pops {
		if !slices.Contains(known, p) && !slices.Contains(add, p) {
			return api.Refuse(api.Invalid, "`zonecast pop add` makes a PoP; what was claimed before still holds", "map %q names %.60q, which is no PoP, expected one of %.300q", name, p, known)
		}
	}
	for _, p := range add {
		if err := (geo.PoP{Name: p}).Check(); err != nil {
			return api.Refuse(api.Invalid, "what was claimed before still holds", "map %q: %v", name, err)
		}
	}
	now := c.deps.Now()
	for _, p := range add {
		if slices.Contains(known, p) {
			continue
		}
		_, _, err := steering.Do(ctx, c.deps.Store, p, steering.Change{
			Action: "pop add", Text: "named by map " + name,
			Apply: func(is *tree.PoP, there bool) error {
				if !there { // else somebody made it meanwhile
					*is = tree.PoP{Set: now.UnixMilli(), Author: by.Author, Reason: by.Reason, From: api.Caller(ctx)}
				}
				return nil
			},
		}, steering.By{Author: by.Author, Reason: by.Reason, From: api.Caller(ctx)}, now)
		switch {
		case errors.Is(err, store.ErrUnavailable):
			return unavailable(err)
		case err != nil:
			return api.Refuse(api.Invalid, "what was claimed before still holds", "make PoP: %v", err)
		}
	}
	return nil
}

// Pops implements controlapi.Control.
func (c *Control) Pops(ctx context.Context) ([]string, error) {
	defer c.observe("pops")()
	all, err := steering.Read(ctx, c.deps.Store)
	if err != nil {
		return nil, unavailable(err)
	}
	names := []string{}
	for _, p := range all {
		names = append(names, p.Name)
	}
	return names, nil
}

// inherit gives each claim whose RRset was claimed before the provenance of then. Both are
// in the order of their keys.
func inherit(claims, before []record.Claim) []record.Claim {
	for i := range claims {
		k, found := slices.BinarySearchFunc(before, claims[i].Key, func(c record.Claim, k record.Key) int { return c.Key.Compare(k) })
		if found && before[k].RRset.Equal(claims[i].RRset) && before[k].Fallback == claims[i].Fallback {
			claims[i] = before[k]
		}
	}
	return claims
}

// Maps implements controlapi.Control.
func (c *Control) Maps(ctx context.Context) ([]*controlapi.MapState, error) {
	defer c.observe("maps")()
	all, err := c.mapStates()
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		n, err := c.deps.Store.Get(ctx, tree.SourcePath(mapclaims.Source(m.Name)))
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, unavailable(err)
		}
		var s tree.Source
		if tree.Decode(n, &s) == nil {
			m.Where, m.TimeMs = s.Where, s.Time
		}
	}
	return all, nil
}

func (c *Control) mapStates() ([]*controlapi.MapState, error) {
	p := &c.published
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dataset == nil {
		return nil, starting()
	}
	byName := map[string]*controlapi.MapState{}
	all := []*controlapi.MapState{}
	for _, keys := range p.keys {
		for _, k := range keys {
			if !k.Type.IsOwn() || k.Type == record.TypeTerms || k.Type == record.TypePoP {
				continue
			}
			part, err := geo.PartOf(k)
			r, ok := p.dataset.Get(k)
			if err != nil || !ok {
				continue
			}
			m := byName[part.Map]
			if m == nil {
				m = &controlapi.MapState{Name: part.Map, Uses: []string{}}
				byName[part.Map] = m
				all = append(all, m)
			}
			switch k.Type {
			case record.TypeMapBlock:
				m.Blocks++
				m.Prefixes += int64(len(r.Data))
			case record.TypeMapOrder:
				m.Orders += int64(len(r.Data))
			case record.TypeMapUse:
				if maps, _, err := geo.ParseMaps([]record.RRset{r}); err == nil {
					for _, u := range maps[0].Uses {
						if m.UseCount++; m.UseCount <= maxUsesTold {
							m.Uses = append(m.Uses, u.String())
						}
					}
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b *controlapi.MapState) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// MapContent implements controlapi.Control.
func (c *Control) MapContent(_ context.Context, name, after string) (*controlapi.MapPage, error) {
	defer c.observe("map_content")()
	return c.mapContent(name, after, mapPage)
}

// mapContent is MapContent with pages of a size. The cursor is "version/index".
func (c *Control) mapContent(name, after string, most int) (*controlapi.MapPage, error) {
	p := &c.published
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dataset == nil {
		return nil, starting()
	}
	var version uint64
	var from int
	if after == "" {
		version = p.dataset.Content()
	} else if _, err := fmt.Sscanf(after, "%d/%d", &version, &from); err != nil || from < 0 || strings.Count(after, "/") != 1 {
		return nil, api.Refuse(api.Invalid, "pass next_after of the page before", "cursor is %q", after)
	}
	if version != p.dataset.Content() {
		return nil, api.Refuse(api.NotFound, "start again", "version %d is no longer published", version)
	}
	var keys []record.Key
	for _, of := range p.keys {
		for _, k := range of {
			if !k.Type.IsOwn() {
				continue
			}
			if part, err := geo.PartOf(k); err == nil && part.Map == name {
				keys = append(keys, k)
			}
		}
	}
	if len(keys) == 0 {
		return nil, api.Refuse(api.NotFound, "`zonecast map list` shows those that there are", "there is no map %q", name)
	}
	if from > len(keys) {
		return nil, api.Refuse(api.Invalid, "pass next_after of the page before", "cursor is %q", after)
	}
	slices.SortFunc(keys, record.Key.Compare)
	page := &controlapi.MapPage{Version: int64(version)}
	var rrsets []record.RRset
	size, to := 0, from
	for ; to < len(keys) && size < most; to++ {
		r, _ := p.dataset.Get(keys[to])
		for _, d := range r.Data {
			size += len(d)
		}
		rrsets = append(rrsets, r)
	}
	if to < len(keys) {
		page.NextAfter = fmt.Sprintf("%d/%d", version, to)
	}
	var err error
	if page.Content, err = mapclaims.Pack(rrsets); err != nil {
		return nil, err
	}
	return page, nil
}
