package reconcile

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

// source is an interned record.Source.
type source struct {
	name record.Source
	kind string
	rank int // place of the kind in the precedence, 0 the highest
	// claims counts those alive, so that a source without any can be forgotten.
	claims int
}

// claim is a record.Claim as it is kept: sources and provenances are shared, so
// that half a million claims take 120 octets each and not 184.
type claim struct {
	record.RRset
	src      *source
	prov     *record.Provenance
	place    string
	fallback bool
	bad      bool // invalid by rule 1: State.invalid says why
	// first is set only in an RRset that the policy united: the claim before all
	// others in it, which gives the TTL and stands in conflicts. Such a claim is a
	// result and never on a node's list.
	first *claim
}

// public is the claim as callers know it.
func (c *claim) public() *record.Claim {
	if c.first != nil {
		c = c.first
	}
	return &record.Claim{RRset: c.RRset, Source: c.src.name, Provenance: *c.prov, Place: c.place, Fallback: c.fallback}
}

// same tells whether r says nothing else than c.
func (c *claim) same(r *record.Claim) bool {
	return c.fallback == r.Fallback && c.place == r.Place && c.RRset.Equal(r.RRset) && *c.prov == r.Provenance && c.src.name == r.Source
}

// compare is the order of claims on one name: by key and then by rule 3, as far as
// it does not depend on the zone. The rest only serves to make the order total, so
// that it never depends on the order in which claims came.
func (c *claim) compare(d *claim) int {
	if c == d {
		return 0
	}
	if x := cmp.Or(cmp.Compare(c.Type, d.Type), cmp.Compare(c.Location, d.Location),
		cmp.Compare(c.src.rank, d.src.rank), cmp.Compare(c.src.name, d.src.name),
		cmp.Compare(c.TTL, d.TTL), slices.Compare(c.Data, d.Data)); x != 0 {
		return x
	}
	if c.fallback != d.fallback {
		if d.fallback {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(c.place, d.place), cmp.Compare(c.prov.Author, d.prov.Author), cmp.Compare(c.prov.Reason, d.prov.Reason),
		c.prov.Time.Compare(d.prov.Time), cmp.Compare(c.prov.Revision, d.prov.Revision))
}

// check is rule 1: why the claim is invalid, or "". said is the source the claim
// itself names, which must be the one under which it lies.
func (p *Policy) check(c *claim, said record.Source) string {
	if said != c.src.name {
		return fmt.Sprintf("the claim says it is from %q but lies among those of %s", said, c.src.name)
	}
	if err := c.src.name.Check(); err != nil {
		return err.Error()
	}
	if err := c.RRset.Check(); err != nil {
		return err.Error()
	}
	if highest := cmp.Or(p.MaxTTL, record.MaxTTL); c.TTL < p.MinTTL && !isFreshness(c.Key) || c.TTL > highest {
		return fmt.Sprintf("TTL is %d, the policy allows %d to %d", c.TTL, p.MinTTL, highest)
	}
	if single(c.Type) && len(c.Data) != 1 {
		return fmt.Sprintf("%d records, a %s has exactly one", len(c.Data), c.Type)
	}
	if c.Type == record.TypeSOA && c.Location != "" {
		return "a SOA has no location: a zone is there for everybody"
	}
	if c.Type == record.TypeNS && c.Owner.IsWildcard() {
		return "an NS at a wildcard delegates nothing (RFC 4592 §4.2)"
	}
	if c.Type.IsOwn() {
		if c.Type == record.TypeTerms {
			return terms(c)
		}
		if kind := c.src.name.Kind(); kind == record.KindUpdate || kind == record.KindRule {
			return fmt.Sprintf("a source of kind %s says nothing of maps and PoPs, expected map, zone, config or override", kind)
		}
		if err := geo.CheckRRset(c.RRset); err != nil {
			return err.Error()
		}
	}
	if c.Location != "" && (c.Type == record.TypeNS || c.Type == record.TypeDNAME || c.Type == record.TypeDS) {
		return fmt.Sprintf("a %s has no location: the shape of a zone is the same for everybody", c.Type)
	}
	for _, d := range c.Data {
		if err := checkRdata(c.Type, d); err != nil {
			return err.Error()
		}
	}
	return ""
}

// terms is check for RDATA of TypeTerms.
func terms(c *claim) string {
	for _, d := range c.Data {
		if err := record.CheckTerms(d); err != nil {
			return err.Error()
		}
	}
	return ""
}

// isFreshness tells whether the key is that of a freshness record (DESIGN §8), as
// snapshot.IsFreshness does: its TTL is 0 whatever the policy, or it would show the
// age of a cache.
func isFreshness(k record.Key) bool {
	return k.Type == record.TypeTXT && k.Owner.FirstLabel() == "_fresh"
}
