package geo

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/record"
)

// Entry says where the clients of a prefix are. Location "" is explicitly none, for a
// part of a larger prefix.
type Entry struct {
	Prefix   netip.Prefix
	Location record.Location
}

// Kind is by which address of a query a map is used.
type Kind uint8

// A map is used by the address that asks, or by the client subnet in the query (ECS).
const (
	ByResolver Kind = iota
	BySubnet
)

// String is the kind for people.
func (k Kind) String() string { return [...]string{"by resolver", "by subnet"}[k] }

// Use says which map holds for a name or, with Below, for all names below it, itself
// not counted, but for the root: below it are all names. The exact name counts more than the closest name above.
type Use struct {
	Name  record.Name
	Below bool
	Kind  Kind
	Map   string
}

// Atlas is maps and where they are used.
type Atlas struct {
	Maps map[string][]Entry
	Uses []Use
}

// Bounds of an atlas: our own choice.
const (
	maxMaps    = 1 << 16
	maxEntries = 1 << 26 // of all maps
	maxUses    = 1 << 24
)

// Check tells what is wrong with an atlas.
func (a *Atlas) Check() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	entries := 0
	for _, name := range a.names() {
		entries += len(a.Maps[name])
		seen := make(map[netip.Prefix]bool, len(a.Maps[name]))
		for _, e := range a.Maps[name] {
			switch p := e.Prefix; {
			case !p.IsValid() || p != p.Masked() || p.Addr().Is4In6():
				wrong("map %q: %s is no prefix without bits behind its length, expected for example 192.0.2.0/24", name, p)
			case seen[p]:
				wrong("map %q: %s is there twice, expected one location for a prefix", name, p)
			case len(e.Location) > record.MaxLocation:
				wrong("map %q: location of %s has %d octets, at most %d", name, p, len(e.Location), record.MaxLocation)
			default:
				seen[p] = true
			}
		}
	}
	used := make(map[Use]bool, len(a.Uses))
	for _, u := range a.Uses {
		if _, ok := a.Maps[u.Map]; !ok {
			wrong("%s: map %q is not there, expected one of %s", u, u.Map, list(a.names()))
		}
		if u.Kind > BySubnet {
			wrong("%s: kind %d, expected 0 or 1", u.Name, u.Kind)
		}
		if u.Name == "" {
			wrong("use of map %q: name is missing, expected for example that of the root", u.Map)
		}
		u.Map = ""
		if used[u] {
			wrong("%s: two maps, expected one", u)
		}
		used[u] = true
	}
	for _, b := range []struct {
		what    string
		n, most int
	}{{"maps", len(a.Maps), maxMaps}, {"prefixes", entries, maxEntries}, {"uses of maps", len(a.Uses), maxUses}} {
		if b.n > b.most {
			wrong("%d %s, at most %d", b.n, b.what, b.most)
		}
	}
	return errors.Join(errs...)
}

// String is the use without its map.
func (u Use) String() string {
	if u.Below {
		return "below " + u.Name.String() + " " + u.Kind.String()
	}
	return u.Name.String() + " " + u.Kind.String()
}

// list is some names for a message.
func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	more := ""
	if len(names) > 8 {
		names, more = names[:8], ", …"
	}
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = fmt.Sprintf("%q", n)
	}
	return strings.Join(quoted, ", ") + more
}

// names are those of the maps, in order.
func (a *Atlas) names() []string {
	names := make([]string, 0, len(a.Maps))
	for n := range a.Maps {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
