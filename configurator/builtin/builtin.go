package builtin

import (
	_ "embed"
	"fmt"
	"net/netip"

	"go.starlark.net/starlark"

	"github.com/zonecast/zonecast/configurator/idl"
	"github.com/zonecast/zonecast/configurator/star"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// Names of the files that are there without being in a tree of sources.
const (
	TypesFile     = "zonecast.thrift"
	FunctionsFile = "zonecast.star"
)

//go:embed zonecast.thrift
var typesText string

// TypesText is the text of zonecast.thrift.
func TypesText() string { return typesText }

// Library is zonecast.thrift and zonecast.star. It is safe for concurrent use.
type Library struct {
	File *idl.File

	RecordSet, SOA, Zone, Records, PoP, VIP, Policy, Merge *idl.Struct
}

// New reads zonecast.thrift.
func New() (*Library, error) {
	f, err := idl.Parse(TypesFile, typesText)
	if err != nil {
		return nil, err
	}
	if err := f.Resolve(nil); err != nil {
		return nil, err
	}
	l := &Library{File: f}
	for name, to := range map[string]**idl.Struct{
		"RecordSet": &l.RecordSet, "SOA": &l.SOA, "Zone": &l.Zone, "Records": &l.Records,
		"PoP": &l.PoP, "VIP": &l.VIP, "Policy": &l.Policy, "Merge": &l.Merge,
	} {
		s, ok := f.Lookup(name).(*idl.Struct)
		if !ok {
			return nil, fmt.Errorf("%s has no struct %s", TypesFile, name)
		}
		*to = s
	}
	return l, nil
}

// Checks are those of constructors, beyond what zonecast.thrift says: mistakes in a
// record are told where it is made.
func (l *Library) Checks() map[*idl.Struct]star.Check {
	return map[*idl.Struct]star.Check{
		l.RecordSet: checkRecordSet,
		l.SOA:       checkSOA,
		l.Zone:      checkOrigin,
		l.Records:   checkOrigin,
		l.PoP:       checkAddresses,
		l.VIP:       checkAddresses,
		l.Policy:    checkPolicy,
		l.Merge:     checkMerge,
	}
}

func text(x *idl.Instance, field string) string {
	s, _ := x.Get(field).(string)
	return s
}

func checkRecordSet(x *idl.Instance) error {
	t, err := record.ParseType(text(x, "type"))
	if err != nil {
		return err
	}
	if t == record.TypeSOA {
		return fmt.Errorf("the SOA is the zone's field soa and no record set")
	}
	// The zone is not known yet: whether names fit into it is checked with the zone.
	if _, err := dnswire.ParseName(text(x, "name"), record.Root); err != nil {
		return err
	}
	data, _ := x.Get("data").([]idl.Value)
	for _, d := range data {
		if _, err := dnswire.ParseRdata(t, d.(string), record.Root); err != nil {
			return fmt.Errorf("%s: %w", text(x, "name"), err)
		}
	}
	weights, said := x.Get("weights").([]idl.Value)
	if _, most := x.Get("most").(int64); (most || said) && t != record.TypeA && t != record.TypeAAAA {
		return fmt.Errorf("%s: weights or most beside %s, expected them beside A or AAAA: addresses alone are chosen", text(x, "name"), t)
	}
	if said && len(weights) != len(data) {
		return fmt.Errorf("%s: %d weights of %d records, expected one of each", text(x, "name"), len(weights), len(data))
	}
	return nil
}

func checkSOA(x *idl.Instance) error {
	_, err := soaRdata(x, record.Root)
	return err
}

func checkOrigin(x *idl.Instance) error {
	_, err := record.ParseName(text(x, "origin"))
	return err
}

func checkAddresses(x *idl.Instance) error {
	all, _ := x.Get("addresses").([]idl.Value)
	seen := map[netip.Addr]bool{}
	for _, v := range all {
		a, err := netip.ParseAddr(v.(string))
		if err != nil || a.Zone() != "" || a.Is4In6() {
			return fmt.Errorf("addresses: expected an IPv4 or IPv6 address, found %q", v)
		}
		if seen[a] {
			return fmt.Errorf("addresses: %s is there twice", a)
		}
		seen[a] = true
	}
	return nil
}

func checkPolicy(x *idl.Instance) error {
	seen := map[idl.Value]bool{}
	all, _ := x.Get("precedence").([]idl.Value)
	for _, v := range all {
		if seen[v] {
			return fmt.Errorf("precedence: %s is there twice, expected each kind of source once", idl.Describe(v))
		}
		seen[v] = true
	}
	low, _ := x.Get("min_ttl").(int64)
	high, _ := x.Get("max_ttl").(int64)
	if low > high {
		return fmt.Errorf("min_ttl is %d, max_ttl %d", low, high)
	}
	return nil
}

func checkMerge(x *idl.Instance) error {
	if owner := text(x, "owner"); owner != "" {
		if _, err := record.ParseName(owner); err != nil {
			return err
		}
	}
	if t := text(x, "type"); t != "" {
		if _, err := record.ParseType(t); err != nil {
			return err
		}
	}
	return nil
}

// Types gives what programs load from zonecast.thrift.
func (l *Library) Types() starlark.StringDict {
	all := star.Module(l.File, l.Checks())
	all.Freeze()
	return all
}
