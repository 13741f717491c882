package hardzone

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/record"
)

// TestNew holds what the package promises of every world: RRsets that can be in a
// dataset, all zones one set of them, nothing that a server refuses.
func TestNew(t *testing.T) {
	for seed := range uint64(60) {
		for _, only := range []Servers{0, BIND, NSD | Knot} {
			w := New(Options{Seed: seed, Only: only, Small: seed%4 > 0})
			all := map[record.Key]record.RRset{}
			for _, z := range w.Zones {
				checkZone(t, z)
				for _, s := range z.Sets {
					if err := s.Check(); err != nil {
						t.Errorf("seed %d: %v", seed, err)
					}
					if o, there := all[s.Key]; there && !o.Equal(s) {
						t.Errorf("seed %d: two zones have %s, and not the same", seed, s.Key)
					}
					all[s.Key] = s
					if s.Type == record.TypeNS && s.Owner.IsWildcard() && only&(NSD|Knot) != only {
						t.Errorf("seed %d: %s, which BIND refuses", seed, s.Key)
					}
				}
			}
			if only != BIND {
				for _, z := range w.Zones {
					checkHidden(t, z)
				}
			}
		}
	}
}

func checkZone(t *testing.T, z Zone) {
	t.Helper()
	types := map[record.Name][]string{}
	for _, s := range z.Sets {
		if !s.Owner.IsSubdomainOf(z.Apex) {
			t.Errorf("%s is not in %s", s.Key, z.Apex)
		}
		types[s.Owner] = append(types[s.Owner], s.Type.String())
		if (s.Type == record.TypeCNAME || s.Type == record.TypeDNAME || s.Type == record.TypeSOA) && len(s.Data) != 1 {
			t.Errorf("%s has %d records, expected 1", s.Key, len(s.Data))
		}
	}
	for owner, ts := range types {
		if has := strings.Join(ts, " "); strings.Contains(" "+has+" ", " CNAME ") && len(ts) > 1 {
			t.Errorf("%s has %s", owner, has)
		}
	}
	if at := strings.Join(types[z.Apex], " "); !strings.Contains(at, "SOA") || !strings.Contains(at, "NS") {
		t.Errorf("%s has %s at its apex, expected SOA and NS", z.Apex, at)
	}
}

func checkHidden(t *testing.T, z Zone) {
	t.Helper()
	dnames := map[record.Name]bool{}
	for _, s := range z.Sets {
		if s.Type == record.TypeDNAME {
			dnames[s.Owner] = true
		}
	}
	for _, s := range z.Sets {
		for up := s.Owner.Parent(); up != ""; up = up.Parent() {
			if dnames[up] {
				t.Errorf("%s is below the DNAME at %s", s.Key, up)
			}
		}
	}
}

// TestNewIsDeterministic holds that a seed is enough to get the same zones again.
func TestNewIsDeterministic(t *testing.T) {
	for seed := range uint64(10) {
		a, b := New(Options{Seed: seed}), New(Options{Seed: seed})
		if diff := cmp.Diff(a, b); diff != "" {
			t.Fatalf("seed %d gives two worlds:\n%.2000s", seed, diff)
		}
	}
	if cmp.Equal(New(Options{Seed: 1}), New(Options{Seed: 2})) {
		t.Error("two seeds give one world")
	}
}

// TestNewHasHardCases holds that what the package is for is in a handful of worlds.
func TestNewHasHardCases(t *testing.T) {
	found := map[string]bool{}
	for seed := range uint64(12) {
		for _, only := range []Servers{0, BIND, NSD | Knot} {
			for _, z := range New(Options{Seed: seed, Only: only}).Zones {
				note(z, found)
			}
		}
	}
	for _, want := range []string{
		"root zone", "zone below a zone", "wildcard apex", "127 labels", "255 octets", "63 octets", "64 KiB", "RDATA of 64000 octets",
		"wildcard in the middle", "wildcard below a wildcard", "wildcard CNAME", "wildcard DNAME", "wildcard NS", "DNAME at an apex",
		"DS without NS", "DS at a cut", "below a cut", "below a DNAME", "no RDATA", "octet 0", "octet 255", "minimum above TTL", "minimum below TTL",
	} {
		if !found[want] {
			t.Errorf("no world of 36 has: %s", want)
		}
	}
}

func note(z Zone, found map[string]bool) {
	cuts, dnames, owned := map[record.Name]bool{}, map[record.Name]bool{}, map[record.Key]bool{}
	for _, s := range z.Sets {
		owned[s.Key] = true
		cuts[s.Owner] = cuts[s.Owner] || s.Type == record.TypeNS && s.Owner != z.Apex
		dnames[s.Owner] = dnames[s.Owner] || s.Type == record.TypeDNAME
	}
	set := func(what string, is bool) { found[what] = found[what] || is }
	set("root zone", z.Apex == record.Root)
	set("zone below a zone", z.Apex == name("dense.example.net"))
	set("wildcard apex", z.Apex.IsWildcard())
	set("DNAME at an apex", dnames[z.Apex])
	for _, s := range z.Sets {
		wild, size := s.Owner.IsWildcard(), 0
		for _, d := range s.Data {
			size += len(d) + 12
			set("RDATA of 64000 octets", len(d) == 64000)
			set("no RDATA", d == "")
		}
		set("64 KiB", size > 60000)
		set("127 labels", s.Owner.Labels() == 127)
		set("255 octets", len(s.Owner) == 255)
		set("63 octets", len(s.Owner.FirstLabel()) == 63)
		set("octet 0", strings.Contains(s.Owner.FirstLabel(), "\x00"))
		set("octet 255", strings.Contains(s.Owner.FirstLabel(), "\xff"))
		set("wildcard in the middle", !wild && strings.Contains(string(s.Owner), "\x01*"))
		set("wildcard below a wildcard", strings.HasPrefix(string(s.Owner), "\x01*\x01*"))
		set("wildcard "+s.Type.String(), wild && s.Owner != z.Apex)
		if s.Type == record.TypeDS {
			at := owned[record.Key{Owner: s.Owner, Type: record.TypeNS}]
			set("DS at a cut", at)
			set("DS without NS", !at)
		}
		for up := s.Owner.Parent(); up != ""; up = up.Parent() {
			set("below a cut", cuts[up])
			set("below a DNAME", dnames[up])
		}
		if s.Type == record.TypeSOA {
			d := s.Data[0]
			minimum := uint32(d[len(d)-4])<<24 | uint32(d[len(d)-3])<<16 | uint32(d[len(d)-2])<<8 | uint32(d[len(d)-1])
			set("minimum above TTL", minimum > s.TTL)
			set("minimum below TTL", minimum < s.TTL)
		}
	}
}
