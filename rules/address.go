package rules

import (
	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/record"
)

// address claims a server's A and AAAA; a shard is a server.
type address struct{}

func (address) Source() record.Source { return "rule/address" }

func (address) Shards(s fleet.Server) ([]string, error) { return []string{s.ID()}, nil }

func (r address) Claims(shard string, members func() []fleet.Server) ([]record.Claim, error) {
	s, err := one(shard, members)
	if err != nil {
		return nil, err
	}
	var v4, v6 []record.Rdata
	for _, a := range s.Addresses {
		if a.Is4() {
			v4 = append(v4, record.Rdata(a.AsSlice()))
		} else {
			v6 = append(v6, record.Rdata(a.AsSlice()))
		}
	}
	var claims []record.Claim
	if len(v4) > 0 {
		claims = append(claims, record.Claim{RRset: record.NewRRset(s.Name, record.TypeA, s.TTL, v4...)})
	}
	if len(v6) > 0 {
		claims = append(claims, record.Claim{RRset: record.NewRRset(s.Name, record.TypeAAAA, s.TTL, v6...)})
	}
	for i := range claims {
		claims[i].Source, claims[i].Provenance, claims[i].Place = r.Source(), provenance(s), place(s)
	}
	return claims, nil
}

// ptr claims the PTRs of a server's addresses; a shard is a server.
type ptr struct{}

func (ptr) Source() record.Source { return "rule/ptr" }

func (ptr) Shards(s fleet.Server) ([]string, error) { return []string{s.ID()}, nil }

func (r ptr) Claims(shard string, members func() []fleet.Server) ([]record.Claim, error) {
	s, err := one(shard, members)
	if err != nil {
		return nil, err
	}
	claims := make([]record.Claim, 0, len(s.Addresses))
	for _, a := range s.Addresses {
		claims = append(claims, record.Claim{
			RRset:  record.NewRRset(ReverseName(a), record.TypePTR, s.TTL, record.Rdata(s.Name)),
			Source: r.Source(), Provenance: provenance(s), Place: place(s),
		})
	}
	return claims, nil
}
