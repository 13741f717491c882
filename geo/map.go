package geo

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/record"
)

// Zone is the apex below which maps are in a dataset: all of what RRsets gives is in it, or
// in a zone below it that is chosen for one dataset of several.
const Zone record.Name = "\x04maps\x08zonecast\x08internal\x00"

// Map is where clients are, which PoPs serve those, and for which names. It is what one
// source claims: docs/format/map.md draws its RRsets.
type Map struct {
	// Name is 1 to 63 of a-z, 0-9, hyphen and underscore, but not "pops".
	Name string
	// Entries are the prefixes, in any order, none twice. No prefix lies in ::ffff:0:0/96:
	// such addresses are looked up as IPv4.
	Entries []Entry
	// Orders says which PoPs serve a location, the first that is up counts. A location that
	// is not in it is a list of itself alone. "" has none.
	Orders map[record.Location][]record.Location
	// Uses are the names that the map holds for. Their Map may be empty: it is this one.
	Uses []Use
}

// Bounds of a map: our own choice.
const (
	maxMapEntries = 1 << 23
	maxLocations  = 1 << 14 // of a map, PoPs included
	maxOrder      = 64      // PoPs of a location
	maxMapUses    = 1 << 16
	maxErrors     = 20 // that Check tells
)

// Check tells what is wrong with the map, each error with the prefix, location or name that
// it is about: at most 20 of them.
func (m *Map) Check() error {
	_, err := m.check()
	return err
}

// check is Check, and gives the entries in order.
func (m *Map) check() ([]Entry, error) {
	f := faults{what: fmt.Sprintf("map %q", m.Name)}
	if err := checkName(m.Name); err != nil {
		f.add("its name %w", err)
	}
	if len(m.Entries) > maxMapEntries {
		f.add("%d prefixes, at most %d", len(m.Entries), maxMapEntries)
	}
	places := map[record.Location]bool{}
	for _, e := range m.Entries {
		if err := e.check(); err != nil {
			f.add("%w", err)
		}
		places[e.Location] = true
	}
	sorted := m.sorted()
	for i := 1; i < len(sorted); i++ {
		if a, b := sorted[i-1], sorted[i]; a.Prefix == b.Prefix {
			f.add("%s is there twice, for %q and %q, expected one location for a prefix", a.Prefix, string(a.Location), string(b.Location))
		}
	}
	for _, l := range slices.Sorted(maps.Keys(m.Orders)) {
		if err := checkOrder(l, m.Orders[l]); err != nil {
			f.add("%w", err)
		}
		places[l] = true
		for _, p := range m.Orders[l] {
			places[p] = true
		}
	}
	if len(places) > maxLocations {
		f.add("%d locations and PoPs, at most %d", len(places), maxLocations)
	}
	if len(m.Uses) > maxMapUses {
		f.add("%d uses, at most %d", len(m.Uses), maxMapUses)
	}
	seen := map[Use]bool{}
	for _, u := range m.Uses {
		switch u2 := (Use{Name: u.Name, Below: u.Below, Kind: u.Kind}); {
		case u.Map != "" && u.Map != m.Name:
			f.add("%s: it is a use of map %q, expected this one or none", u, u.Map)
		case u.Name == "":
			f.add("a use has no name, expected one such as www.example.net")
		case u.Kind > BySubnet:
			f.add("use of %s: kind %d, expected 0 (by resolver) or 1 (by subnet)", u.Name, u.Kind)
		case seen[u2]:
			f.add("%s: it is there twice", u)
		default:
			seen[u2] = true
		}
	}
	return sorted, f.err()
}

// CheckPoPs tells which PoPs of the orders, and which locations without an order, are none
// of the PoPs that there are.
func (m *Map) CheckPoPs(known []string) error {
	f := faults{what: fmt.Sprintf("map %q", m.Name)}
	is := make(map[record.Location]bool, len(known))
	for _, k := range known {
		is[record.Location(k)] = true
	}
	for _, l := range slices.Sorted(maps.Keys(m.Orders)) {
		for _, p := range m.Orders[l] {
			if !is[p] {
				f.add("location %q is served by %q, which is no PoP, expected one of %s", string(l), string(p), list(known))
			}
		}
	}
	told := map[record.Location]bool{"": true}
	for _, e := range m.Entries {
		if _, ordered := m.Orders[e.Location]; !ordered && !is[e.Location] && !told[e.Location] {
			told[e.Location] = true
			f.add("%s is at %q, which has no order and is no PoP, expected one of %s, or an order for it", e.Prefix, string(e.Location), list(known))
		}
	}
	return f.err()
}

// faults gathers errors, the first few of them.
type faults struct {
	what string
	errs []error
	more int
}

func (f *faults) add(format string, args ...any) {
	if len(f.errs) == maxErrors {
		f.more++
		return
	}
	f.errs = append(f.errs, fmt.Errorf(f.what+": "+format, args...))
}

func (f *faults) err() error {
	if f.more > 0 {
		return errors.Join(append(f.errs, fmt.Errorf("%s: and %d errors more", f.what, f.more))...)
	}
	return errors.Join(f.errs...)
}

// check tells why an entry cannot be in a map, or nil.
func (e Entry) check() error {
	switch p := e.Prefix; {
	case !p.IsValid():
		return fmt.Errorf("%s is no prefix, expected for example 192.0.2.0/24", p)
	case mapped.Overlaps(p) && p.Bits() >= mapped.Bits():
		return fmt.Errorf("%s is in ::ffff:0:0/96, expected the IPv4 prefix %s: such addresses are looked up as IPv4", p, unmapped(p))
	case p != p.Masked():
		return fmt.Errorf("%s has bits behind its length, expected %s", p, p.Masked())
	case len(e.Location) > record.MaxLocation:
		return fmt.Errorf("location of %s has %d octets, at most %d", p, len(e.Location), record.MaxLocation)
	}
	return nil
}

// mapped are the IPv4-mapped addresses (RFC 4291 §2.5.5.2).
var mapped = netip.PrefixFrom(netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff}), 96)

// unmapped is the IPv4 prefix that a prefix in mapped is.
func unmapped(p netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mapped.Bits()).Masked()
}

// checkOrder tells why pops cannot be the order of a location, or nil.
func checkOrder(l record.Location, pops []record.Location) error {
	switch {
	case l == "":
		return errors.New("an order is for the location \"\", expected a name: who has no location has no PoPs")
	case len(l) > record.MaxLocation:
		return fmt.Errorf("an order's location has %d octets, at most %d", len(l), record.MaxLocation)
	case len(pops) == 0 || len(pops) > maxOrder:
		return fmt.Errorf("order of location %q has %d PoPs, expected 1 to %d", string(l), len(pops), maxOrder)
	}
	for i, p := range pops {
		if p == "" || len(p) > record.MaxLocation {
			return fmt.Errorf("order of location %q: PoP %d has %d octets, expected 1 to %d", string(l), i+1, len(p), record.MaxLocation)
		}
		if k := slices.Index(pops[:i], p); k >= 0 {
			return fmt.Errorf("order of location %q: PoP %q is there twice, as number %d and %d, expected it once", string(l), string(p), k+1, i+1)
		}
	}
	return nil
}

// checkLabel tells why a text cannot be a label of an owner name here, or nil.
func checkLabel(s string) error {
	if s == "" || len(s) > 63 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return fmt.Errorf("is %q, expected 1 to 63 of a-z, 0-9, hyphen and underscore", s)
	}
	return nil
}

// checkName is checkLabel for the name of a map.
func checkName(s string) error {
	switch s {
	case popsLabel:
		return fmt.Errorf("is %q, under which PoPs are, expected another", s)
	case DatasetsLabel:
		return fmt.Errorf("is %q, under which maps of other datasets are, expected another", s)
	}
	return checkLabel(s)
}

// sorted has the entries in the order of a walk through the tree of prefixes: a prefix
// before what lies in it, IPv4 first.
func (m *Map) sorted() []Entry {
	if slices.IsSortedFunc(m.Entries, compareEntries) {
		return m.Entries
	}
	sorted := slices.Clone(m.Entries)
	slices.SortFunc(sorted, compareEntries)
	return sorted
}

func compareEntries(a, b Entry) int {
	if c := a.Prefix.Addr().Compare(b.Prefix.Addr()); c != 0 {
		return c
	}
	return cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits())
}

// State is what a PoP can do now.
type State uint8

// The states. Drained and Down are the same for answers: the one was decided by people,
// the other was found.
const (
	Up State = iota
	Drained
	Down
)

// String is the state for people, and in JSON.
func (s State) String() string {
	if s > Down {
		return fmt.Sprintf("state %d", uint8(s))
	}
	return [...]string{"up", "drained", "down"}[s]
}

// PoP is the state of a point of presence; Name is that in orders: 1 to 63 of a-z, 0-9, hyphen
// and underscore. A PoP of which nothing is said is up.
type PoP struct {
	Name  string
	State State
}
