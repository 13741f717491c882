package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
)

// Of is the plan of the part that a dataset has of changes.
type Of struct {
	Dataset string
	Plan    *Plan
}

// Join makes one plan of those of all datasets, of the same configurations; one alone stays as it is.
// It is as bounded as one is in each dataset. What live traffic says is of the first dataset of which it
// is known.
func Join(all []Of) *Plan {
	if len(all) == 1 {
		return all[0].Plan
	}
	out, h := New(), sha256.New()
	told := ""
	for i, x := range all {
		p := x.Plan
		d := digest{h: h}
		d.part(x.Dataset)
		d.part(p.Digest)
		if i == 0 {
			out.Configurations, out.MoreConfigurations = p.Configurations, p.MoreConfigurations
		}
		out.Total.Added, out.Total.Changed = out.Total.Added+p.Total.Added, out.Total.Changed+p.Total.Changed
		out.Total.Removed, out.Total.TTL = out.Total.Removed+p.Total.Removed, out.Total.TTL+p.Total.TTL
		out.ZoneCount, out.Zones = out.ZoneCount+p.ZoneCount, append(out.Zones, p.Zones...)
		out.Come, out.Go = out.Come+p.Come, out.Go+p.Go
		out.Claims, out.MoreClaims = append(out.Claims, p.Claims...), out.MoreClaims+p.MoreClaims
		out.Losing, out.MoreLosing = append(out.Losing, p.Losing...), out.MoreLosing+p.MoreLosing
		out.Begin, out.MoreBegin = append(out.Begin, p.Begin...), out.MoreBegin+p.MoreBegin
		out.End, out.MoreEnd = append(out.End, p.End...), out.MoreEnd+p.MoreEnd
		out.Held, out.MoreHeld = append(out.Held, p.Held...), out.MoreHeld+p.MoreHeld
		out.Touches, out.Waits = join(out.Touches, p.Touches), join(out.Waits, p.Waits)
		out.Fails, out.Notes = join(out.Fails, p.Fails), join(out.Notes, p.Notes)
		switch t := p.Traffic; {
		case t == nil:
		case out.Traffic == nil || out.Traffic.Unknown != "" && t.Unknown == "":
			out.Traffic, told = t, x.Dataset
		}
	}
	if out.Traffic != nil && out.Traffic.Unknown == "" {
		out.Notes = append(out.Notes, fmt.Sprintf("the live traffic was asked of dataset %s alone", told))
	}
	slices.SortStableFunc(out.Zones, func(a, b Zone) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(out.Claims, func(a, b Claim) int { return cmp.Compare(a.Source, b.Source) })
	slices.SortStableFunc(out.Held, func(a, b Held) int { return cmp.Compare(a.Source, b.Source) })
	slices.Sort(out.Touches)
	out.Digest = hex.EncodeToString(h.Sum(nil))
	return out
}

// join adds lines that are not there yet.
func join(all, more []string) []string {
	for _, s := range more {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}
