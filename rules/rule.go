package rules

import (
	"fmt"
	"time"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/record"
)

// Rule makes the claims of one source.
type Rule interface {
	// Source names the rule: "rule/" and a noun.
	Source() record.Source
	// Shards are the shards that s is a member of, none twice. A shard's name is one
	// element of a store path that does not begin with "@". With an error those that are
	// given are certain, and of others it is not known (Uncertain).
	Shards(s fleet.Server) ([]string, error)
	// Claims are the claims of a shard that has members. They are ordered by name and
	// made when members is called: a rule for which their existence is enough does
	// not pay for them. An error beside claims says what they leave out; without
	// claims, why there are none.
	Claims(shard string, members func() []fleet.Server) ([]record.Claim, error)
}

// Params are what rules cannot know from servers.
type Params struct {
	// NS and Mailbox are the name server and the responsible person's mailbox
	// (RFC 1035 §3.3.13) in zones that rules make.
	NS      record.Name `option:"ns" help:"name server in zones made by rules"`
	Mailbox record.Name `option:"mailbox" help:"mailbox, as a domain name, in the SOA of zones made by rules"`
}

// DefaultParams uses a mailbox below zonecast.internal, a zone that zonecast makes
// itself (.internal is reserved for private use by ICANN's board, July 2024), and a
// name server that exists nowhere (RFC 6761 §6.4): one inside zonecast.internal would
// need an address there, without which BIND's named refuses to load the zone.
func DefaultParams() Params {
	return Params{NS: "\x02ns\x08zonecast\x07invalid\x00", Mailbox: "\x0ahostmaster\x08zonecast\x08internal\x00"}
}

// Validate names the parameter that is missing.
func (p Params) Validate() error {
	if p.NS == "" {
		return fmt.Errorf("ns is missing, expected a name such as ns.example.net")
	}
	if p.Mailbox == "" {
		return fmt.Errorf("mailbox is missing, expected a name such as hostmaster.example.net")
	}
	return nil
}

// BuiltIn gives the rules that come with zonecast.
func BuiltIn(p Params) ([]Rule, error) {
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	return []Rule{address{}, ptr{}, reverseZone{p}, service{}, srv{}}, nil
}

// provenance is that of a claim about one server.
func provenance(s fleet.Server) record.Provenance {
	return record.Provenance{Author: s.Author, Reason: s.Reason, Time: time.UnixMilli(s.Time).UTC()}
}

func place(s fleet.Server) string { return "server " + s.ID() }

// one gives the only member of a shard that is one server's.
func one(shard string, members func() []fleet.Server) (fleet.Server, error) {
	m := members()
	if len(m) != 1 {
		return fleet.Server{}, fmt.Errorf("shard %s has %d servers, expected the one of that name", shard, len(m))
	}
	return m[0], nil
}
