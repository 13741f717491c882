package reconcile

import (
	"fmt"
	"slices"

	"github.com/zonecast/zonecast/record"
)

// Policy decides between claims. The zero value is DefaultPolicy.
type Policy struct {
	// Precedence has every kind of source once, the highest first. Nil means
	// DefaultPrecedence.
	Precedence []string
	// Merge says which claims unite instead of conflicting. Nil means none.
	Merge []Merge
	// MinTTL and MaxTTL bound the TTL of a claim, in seconds, both included; a
	// claim outside is invalid. MaxTTL zero means record.MaxTTL.
	MinTTL, MaxTTL uint32
}

// Merge selects claims that unite with each other on one key. A claim of kind
// override is selected only by name: it could otherwise take nothing away. SOA,
// CNAME and DNAME have one record and never unite.
type Merge struct {
	Kind  string      // of the source; empty means every kind but override
	Owner record.Name // this name; as wildcard *.x every name below x; empty means every name
	Type  record.Type // zero means every type
}

// DefaultPrecedence is people before robots.
func DefaultPrecedence() []string {
	return []string{record.KindOverride, record.KindConfig, record.KindZone, record.KindMap, record.KindUpdate, record.KindRule}
}

// DefaultPolicy has the default precedence, merges nothing and allows every TTL.
func DefaultPolicy() Policy {
	return Policy{Precedence: DefaultPrecedence(), MaxTTL: record.MaxTTL}
}

// Check tells why the policy cannot be used, or nil.
func (p Policy) Check() error {
	known := DefaultPrecedence()
	if p.Precedence != nil {
		if got := slices.Clone(p.Precedence); len(got) != len(known) || !sameKinds(got, known) {
			return fmt.Errorf("precedence is %q, expected each of %q once", p.Precedence, known)
		}
	}
	for i, m := range p.Merge {
		if m.Kind != "" && !slices.Contains(known, m.Kind) {
			return fmt.Errorf("merge %d is for sources of kind %q, expected one of %q or nothing", i+1, m.Kind, known)
		}
		if single(m.Type) {
			return fmt.Errorf("merge %d is for type %s, which has one record only", i+1, m.Type)
		}
	}
	if p.MaxTTL != 0 && p.MinTTL > p.MaxTTL || p.MinTTL > record.MaxTTL {
		return fmt.Errorf("lowest TTL is %d, highest %d", p.MinTTL, p.MaxTTL)
	}
	return nil
}

func sameKinds(got, want []string) bool {
	slices.Sort(got)
	return slices.Equal(got, slices.Sorted(slices.Values(want)))
}

// merges tells whether claims of this kind on this key unite with others that do.
func (p *Policy) merges(kind string, k record.Key) bool {
	if single(k.Type) {
		return false
	}
	for _, m := range p.Merge {
		switch {
		case m.Kind == "" && kind == record.KindOverride, m.Kind != "" && m.Kind != kind:
		case m.Type != 0 && m.Type != k.Type:
		case m.Owner == "", m.Owner == k.Owner:
			return true
		case m.Owner.IsWildcard() && k.Owner != m.Owner.Parent() && k.Owner.IsSubdomainOf(m.Owner.Parent()):
			return true
		}
	}
	return false
}

// single tells whether an RRset of the type has exactly one record: SOA (RFC 1035
// §5.2), CNAME (RFC 2181 §10.1), DNAME (RFC 6672 §2.4).
func single(t record.Type) bool {
	return t == record.TypeSOA || t == record.TypeCNAME || t == record.TypeDNAME
}
