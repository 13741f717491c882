package rules

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/record"
)

// Bounds of a service's RRsets. What is beyond them would make an RRset that fits
// no DNS message (65,535 octets: 4,058 A, 2,319 AAAA) or a shard that fits no
// store node. The first ones in canonical order are taken, so that the claims stay
// a function of the set and one server's coming or going moves one record at most;
// the claim's place says how many were left out.
const (
	maxServiceAddresses = 2000     // of one family
	maxServiceSRV       = 32 << 10 // octets of RDATA
)

// service claims A and AAAA of a service name: the addresses of all servers of one
// role in one domain, whatever their cluster. A shard is a service name. Several
// clusters in one domain feed the same name; a rule that kept them apart would
// conflict with itself.
type service struct{}

func (service) Source() record.Source { return "rule/service" }

func (service) Shards(s fleet.Server) ([]string, error) {
	n, err := s.Service()
	if err != nil {
		return nil, nil // fleet.Server.Check refuses such a role
	}
	return []string{shardOf(n)}, nil
}

func (r service) Claims(shard string, members func() []fleet.Server) ([]record.Claim, error) {
	owner, err := record.ParseName(shard)
	if err != nil {
		return nil, fmt.Errorf("service: %w", err)
	}
	all := members()
	var v4, v6 []record.Rdata
	for _, s := range all {
		for _, a := range s.Addresses {
			if a.Is4() {
				v4 = append(v4, record.Rdata(a.AsSlice()))
			} else {
				v6 = append(v6, record.Rdata(a.AsSlice()))
			}
		}
	}
	var claims []record.Claim
	var cut []string
	for _, f := range []struct {
		t    record.Type
		data []record.Rdata
	}{{record.TypeA, v4}, {record.TypeAAAA, v6}} {
		c, left, ok := r.claim(owner, f.t, f.data, all)
		if ok {
			claims = append(claims, c)
		}
		if err := leftOut(owner, f.t, left, left+len(c.Data)); err != nil {
			cut = append(cut, err.Error())
		}
	}
	if len(cut) > 0 {
		return claims, errors.New(strings.Join(cut, ", "))
	}
	return claims, nil
}

// leftOut is the error beside claims that do not have all records; nil when they do.
func leftOut(owner record.Name, t record.Type, left, of int) error {
	if left <= 0 {
		return nil
	}
	return fmt.Errorf("%s %s: %d of %d records are left out, all of them fit no DNS message; split the role", owner, t, left, of)
}

func (r service) claim(owner record.Name, t record.Type, data []record.Rdata, members []fleet.Server) (c record.Claim, left int, ok bool) {
	set := record.NewRRset(owner, t, leastTTL(members), data...)
	left = max(0, len(set.Data)-maxServiceAddresses)
	set.Data = set.Data[:len(set.Data)-left]
	return united(r.Source(), set, members, left), left, len(set.Data) > 0
}

// srv claims the SRV records of servers that say a port (RFC 2782); a shard is an
// owner such as _web._tcp.example.net.
type srv struct{}

func (srv) Source() record.Source { return "rule/srv" }

func (srv) Shards(s fleet.Server) ([]string, error) {
	n, err := s.ServiceSRV()
	if n == "" || err != nil {
		return nil, nil // fleet.Server.Check refuses the error
	}
	return []string{shardOf(n)}, nil
}

func (r srv) Claims(shard string, members func() []fleet.Server) ([]record.Claim, error) {
	owner, err := record.ParseName(shard)
	if err != nil {
		return nil, fmt.Errorf("srv: %w", err)
	}
	all := members()
	var data []record.Rdata
	for _, s := range all {
		d, err := srvData(s)
		if err != nil {
			return nil, err
		}
		data = append(data, d)
	}
	set := record.NewRRset(owner, record.TypeSRV, leastTTL(all), data...)
	total := len(set.Data)
	size := 0
	for i, d := range set.Data {
		if size += len(d); size > maxServiceSRV {
			set.Data = set.Data[:i]
			break
		}
	}
	left := total - len(set.Data)
	return []record.Claim{united(r.Source(), set, all, left)}, leftOut(owner, record.TypeSRV, left, total)
}

// srvData is priority, weight, port (u16 each) and the target, uncompressed.
func srvData(s fleet.Server) (record.Rdata, error) {
	var b []byte
	for _, k := range []string{fleet.OptionPriority, fleet.OptionWeight, fleet.OptionPort} {
		v, err := strconv.ParseUint(cmp.Or(s.Options[k], "0"), 10, 16)
		if err != nil {
			return "", fmt.Errorf("server %s: option %s is %q, expected a number", s.ID(), k, s.Options[k])
		}
		b = binary.BigEndian.AppendUint16(b, uint16(v))
	}
	return record.Rdata(append(b, s.Name...)), nil
}

// leastTTL is the least of the members', so that nobody's answer is kept for
// longer than its server said.
func leastTTL(members []fleet.Server) uint32 {
	least := uint32(record.MaxTTL)
	for _, s := range members {
		least = min(least, s.TTL)
	}
	return least
}

// united is a claim of several servers: who, why and when are the newest member's,
// the place says which clusters and how many servers.
func united(source record.Source, set record.RRset, members []fleet.Server, left int) record.Claim {
	newest := slices.MaxFunc(members, func(a, b fleet.Server) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), a.Name.Compare(b.Name))
	})
	clusters := make(map[string]int)
	for _, s := range members {
		clusters[s.Cluster]++
	}
	const most = 8 // clusters named; a service of more is described well enough
	var sb strings.Builder
	for i, c := range slices.Sorted(maps.Keys(clusters)) {
		switch {
		case i == most:
			fmt.Fprintf(&sb, ", and %d more clusters", len(clusters)-most)
		case i > most:
			continue
		case i > 0:
			sb.WriteString(", ")
			fallthrough
		default:
			fmt.Fprintf(&sb, "cluster %s (%d)", c, clusters[c])
		}
	}
	fmt.Fprintf(&sb, ", newest server %s", newest.ID())
	if left > 0 {
		fmt.Fprintf(&sb, "; %d of %d records left out, they fit no DNS message", left, left+len(set.Data))
	}
	return record.Claim{RRset: set, Source: source, Provenance: provenance(newest), Place: sb.String()}
}
