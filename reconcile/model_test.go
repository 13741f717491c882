package reconcile_test

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
)

// model makes the dataset from all claims at once, as the rules in doc.go read and
// with no thought of speed. It shares no code with the package but Merge's meaning,
// of which it knows only the two forms the tests use.
func model(p reconcile.Policy, claims []record.Claim) map[record.Key]record.RRset {
	rank := func(c record.Claim) int { return slices.Index(reconcile.DefaultPrecedence(), c.Source.Kind()) }
	mergeable := func(c record.Claim) bool {
		return slices.ContainsFunc(p.Merge, func(m reconcile.Merge) bool {
			return m.Type == c.Type && (m.Kind == "" && c.Source.Kind() != record.KindOverride || m.Kind == c.Source.Kind())
		})
	}
	// Rule 1.
	var valid []record.Claim
	for _, c := range claims {
		one := c.Type == record.TypeCNAME || c.Type == record.TypeSOA || c.Type == record.TypeDNAME
		if c.TTL < p.MinTTL || p.MaxTTL > 0 && c.TTL > p.MaxTTL || len(c.Data) == 0 || one && len(c.Data) > 1 ||
			c.Type == record.TypeSOA && c.Location != "" || c.Type == record.TypeNS && (c.Owner.IsWildcard() || c.Location != "") || c.Type == record.TypeDNAME && c.Location != "" || c.Type == record.TypeDS && c.Location != "" || c.Type == record.TypeA && len(c.Data[0]) != 4 {
			continue
		}
		valid = append(valid, c)
	}
	// Rule 2.
	people := map[record.Name]bool{}
	for _, c := range valid {
		if c.Type == record.TypeSOA && !c.Fallback {
			people[c.Owner] = true
		}
	}
	valid = slices.DeleteFunc(valid, func(c record.Claim) bool {
		if !c.Fallback {
			return false
		}
		for n := c.Owner; n != ""; n = n.Parent() {
			if people[n] {
				return true
			}
		}
		return false
	})
	apex := map[record.Name]bool{}
	for _, c := range valid {
		if c.Type == record.TypeSOA {
			apex[c.Owner] = true
		}
	}
	zone := func(n record.Name) record.Name {
		for ; n != "" && !apex[n]; n = n.Parent() {
		}
		return n
	}
	// Rule 3, first without the zone's own source, which needs the SOA first.
	group := map[record.Key][]record.Claim{}
	for _, c := range valid {
		group[c.Key] = append(group[c.Key], c)
	}
	own := map[record.Name]record.Source{}
	order := func(c, d record.Claim) int {
		mine := func(c record.Claim) int {
			if own[zone(c.Owner)] == c.Source {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(rank(c), rank(d)), cmp.Compare(mine(c), mine(d)), strings.Compare(string(c.Source), string(d.Source)),
			cmp.Compare(c.TTL, d.TTL), slices.Compare(c.Data, d.Data))
	}
	for z := range apex {
		own[z] = slices.MinFunc(group[record.Key{Owner: z, Type: record.TypeSOA}], order).Source
	}
	best := map[record.Key]record.RRset{}
	bestRank := map[record.Key]int{}
	for k, g := range group {
		slices.SortFunc(g, order)
		r := g[0].RRset
		for _, c := range g[1:] {
			if mergeable(g[0]) && mergeable(c) && r.Type != record.TypeSOA && r.Type != record.TypeCNAME && r.Type != record.TypeDNAME {
				r = record.NewRRset(r.Owner, r.Type, r.TTL, slices.Concat(r.Data, c.Data)...)
				r.Location = k.Location
			}
		}
		best[k], bestRank[k] = r, rank(g[0])
	}
	// Names from the top down: rules 5, 4, 6.
	names := slices.SortedFunc(maps.Keys(func() map[record.Name]bool {
		m := map[record.Name]bool{}
		for k := range best {
			m[k.Owner] = true
		}
		return m
	}()), func(a, b record.Name) int { return a.Labels() - b.Labels() })
	cut, dname := map[record.Name]bool{}, map[record.Name]bool{}
	out := map[record.Key]record.RRset{}
	maybeGlue := map[record.Key]record.RRset{}
	pointed := map[record.Name]map[record.Name]bool{} // zone → names its NS point to
	for _, n := range names {
		z := zone(n)
		if z == "" {
			continue
		}
		occluded, redirected := false, false
		if !apex[n] {
			for m := n.Parent(); ; m = m.Parent() {
				occluded, redirected = occluded || cut[m], redirected || dname[m]
				if m == z {
					break
				}
			}
		}
		at := map[record.Key]record.RRset{}
		for k, r := range best {
			if k.Owner == n {
				at[k] = r
			}
		}
		switch {
		case redirected:
			continue
		case occluded:
			maps.Copy(maybeGlue, at)
			continue
		}
		cname, other := 99, 99
		for k := range at {
			switch k.Type {
			case record.TypeCNAME:
				cname = min(cname, bestRank[k])
			case record.TypeRRSIG, record.TypeNSEC:
			default:
				other = min(other, bestRank[k])
			}
		}
		maps.DeleteFunc(at, func(k record.Key, _ record.RRset) bool {
			if cname == 99 || other == 99 || k.Type == record.TypeRRSIG || k.Type == record.TypeNSEC {
				return false
			}
			return (k.Type == record.TypeCNAME) == (apex[n] || other <= cname)
		})
		for k, r := range at {
			if k.Type == record.TypeNS {
				cut[n] = cut[n] || !apex[n]
				for _, d := range r.Data {
					if pointed[z] == nil {
						pointed[z] = map[record.Name]bool{}
					}
					pointed[z][record.Name(d)] = true
				}
			}
		}
		for k, r := range at {
			switch {
			case !cut[n] || k.Type == record.TypeNS || k.Type == record.TypeDS || k.Type == record.TypeRRSIG || k.Type == record.TypeNSEC:
				out[k] = r
				dname[n] = dname[n] || k.Type == record.TypeDNAME
			default:
				maybeGlue[k] = r
			}
		}
	}
	for k, r := range maybeGlue {
		if (k.Type == record.TypeA || k.Type == record.TypeAAAA) && pointed[zone(k.Owner)][k.Owner] {
			out[k] = r
		}
	}
	return out
}
