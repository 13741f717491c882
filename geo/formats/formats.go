package formats

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

// Import is what a file says.
type Import struct {
	Map   geo.Map
	Sets  []record.Set // by location, in order of their keys
	PoPs  []PoP
	Notes []Note
}

// PoP is one that a file names, and where first. A format that has locations of its own, as
// Knot's and tinydns's, names none.
type PoP struct {
	Name  string
	Place string // file:line
}

// named takes note of the PoPs that the map has, of which each stands at a place.
func (i *Import) named(place map[string]string) {
	seen := map[record.Location]bool{"": true}
	add := func(l record.Location) {
		if !seen[l] {
			seen[l] = true
			i.PoPs = append(i.PoPs, PoP{string(l), place[string(l)]})
		}
	}
	for _, pops := range i.Map.Orders {
		for _, p := range pops {
			add(p)
		}
	}
	for _, e := range i.Map.Entries {
		if i.Map.Orders[e.Location] == nil {
			add(e.Location)
		}
	}
	slices.SortFunc(i.PoPs, func(a, b PoP) int { return strings.Compare(a.Name, b.Name) })
}

// Note is something that the file says and that a dataset does not say exactly so.
type Note struct {
	Place string // file:line
	Text  string
}

// String is place and text.
func (n Note) String() string { return n.Place + ": " + n.Text }

// maxNotes bounds the notes that are kept of one kind of file.
const maxNotes = 100

func (i *Import) note(place, format string, args ...any) {
	if len(i.Notes) < maxNotes {
		i.Notes = append(i.Notes, Note{place, fmt.Sprintf(format, args...)})
	}
}

// order gives the location of clients that are served by pops, the first that is up. Its
// name is a function of them alone; that of one PoP is the PoP itself.
func (i *Import) order(pops []string, between string) record.Location {
	if len(pops) == 0 {
		return ""
	}
	l := record.Location(strings.Join(pops, between))
	if len(l) > record.MaxLocation {
		h := fnv.New64a()
		h.Write([]byte(l))
		first := strings.ToValidUTF8(pops[0][:min(len(pops[0]), 200)], "")
		l = record.Location(fmt.Sprintf("%s%s%016x", first, between, h.Sum64()))
	}
	if len(pops) > 1 {
		if i.Map.Orders == nil {
			i.Map.Orders = map[record.Location][]record.Location{}
		}
		if i.Map.Orders[l] == nil {
			for _, p := range pops {
				i.Map.Orders[l] = append(i.Map.Orders[l], record.Location(p))
			}
		}
	}
	return l
}

// For makes the map hold for names, by client subnet and by the address that asks: of a
// wildcard for all names below it.
func (i *Import) For(names ...record.Name) {
	for _, n := range names {
		u := geo.Use{Name: n}
		if n.IsWildcard() {
			u.Name, u.Below = n.Parent(), true
		}
		for _, u.Kind = range []geo.Kind{geo.ByResolver, geo.BySubnet} {
			i.Map.Uses = append(i.Map.Uses, u)
		}
	}
}

// popName is the name that a PoP of another's has here.
func popName(text string) (string, error) {
	n := strings.ToLower(text)
	if n == "" || len(n) > 63 || strings.Trim(n, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return "", fmt.Errorf("PoP %q, expected 1 to 63 letters, digits, hyphens and underscores", clip(text))
	}
	return n, nil
}

// clip shortens a text of a file for a message.
func clip(s string) string {
	if len(s) > 64 {
		return s[:61] + "…"
	}
	return s
}

// among is some texts for a message.
func among[T ~string](all []T) string {
	if len(all) == 0 {
		return "none"
	}
	more := ""
	if len(all) > 8 {
		all, more = all[:8], ", …"
	}
	quoted := make([]string, len(all))
	for i, s := range all {
		quoted[i] = fmt.Sprintf("%q", string(s))
	}
	return strings.Join(quoted, ", ") + more
}

// sortSets puts sets in the order of their keys.
func sortSets(sets []record.Set) {
	slices.SortFunc(sets, func(a, b record.Set) int { return a.Key.Compare(b.Key) })
}
