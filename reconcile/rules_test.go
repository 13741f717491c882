package reconcile_test

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
)

// claim reads "source place owner ttl type data…"; "fallback" may end it, and
// "@location" may stand behind the owner.
func claim(t *testing.T, line string) record.Claim {
	t.Helper()
	f := strings.Fields(line)
	fallback := f[len(f)-1] == "fallback"
	if fallback {
		f = f[:len(f)-1]
	}
	owner, location, _ := strings.Cut(f[2], "@")
	ttl, err := strconv.ParseUint(f[3], 10, 32)
	if err != nil {
		t.Fatalf("claim %q: %v", line, err)
	}
	typ, err := record.ParseType(f[4])
	if err != nil {
		t.Fatalf("claim %q: %v", line, err)
	}
	var data []record.Rdata
	for _, d := range f[5:] {
		switch typ {
		case record.TypeA, record.TypeAAAA:
			data = append(data, record.Rdata(netip.MustParseAddr(d).AsSlice()))
		case record.TypeNS, record.TypeCNAME, record.TypeDNAME, record.TypePTR:
			data = append(data, record.Rdata(name(d)))
		case record.TypeSOA:
			data = append(data, soa(d[0]-'0'))
		default:
			data = append(data, record.Rdata([]byte{byte(len(d))})+record.Rdata(d))
		}
	}
	r := record.NewRRset(name(owner), typ, uint32(ttl), data...)
	r.Location = record.Location(location)
	return record.Claim{RRset: r, Source: record.Source(f[0]), Place: f[1], Fallback: fallback}
}

// TestRules shows each rule with what it says to people. A case is steps; a line of
// a step that begins with "-" takes that claim away again. After each step stand
// the keys of the dataset and the conflicts.
func TestRules(t *testing.T) {
	type step struct {
		claims    string
		dataset   string
		conflicts string
	}
	const zoneA = "zone/a a.zone:1 example.net. 300 SOA 1\n"
	for what, steps := range map[string][]step{
		"people before robots": {{
			zoneA + "zone/a a.zone:12 www.example.net. 300 A 192.0.2.1\nrule/web-vips rules/web.go:41 www.example.net. 60 A 192.0.2.2",
			"example.net. SOA 300, www.example.net. A 300",
			"www.example.net. A: rule/web-vips (rules/web.go:41) conflicts with zone/a (a.zone:12): people before robots (precedence zone > rule); zone/a wins",
		}},
		"equal data is no conflict, the first gives the TTL": {{
			zoneA + "rule/a r:1 www.example.net. 60 A 192.0.2.1\nzone/a a.zone:2 www.example.net. 300 A 192.0.2.1",
			"example.net. SOA 300, www.example.net. A 300", "",
		}},
		"locations are different keys": {{
			zoneA + "zone/a a.zone:2 www.example.net. 300 A 192.0.2.1\nmap/eu m:1 www.example.net.@eu 60 A 192.0.2.2",
			`example.net. SOA 300, www.example.net. A 300, www.example.net. A @"eu" 60`, "",
		}},
		"the zone's own source goes first among equals": {{
			zoneA + "zone/b b.zone:1 sub.example.net. 300 SOA 1\nzone/b b.zone:2 sub.example.net. 300 NS ns.example.net.\nzone/a a.zone:3 sub.example.net. 300 NS ns.example.org.\n" +
				"zone/b b.zone:4 www.sub.example.net. 30 A 192.0.2.1\nzone/a a.zone:4 www.sub.example.net. 40 A 192.0.2.2",
			"example.net. SOA 300, sub.example.net. NS 300, sub.example.net. SOA 300, www.sub.example.net. A 30",
			"sub.example.net. NS: zone/a (a.zone:3) conflicts with zone/b (b.zone:2): equal precedence (zone), the source of the SOA of sub.example.net. goes first; zone/b wins\n" +
				"www.sub.example.net. A: zone/a (a.zone:4) conflicts with zone/b (b.zone:4): equal precedence (zone), the source of the SOA of sub.example.net. goes first; zone/b wins",
		}, { // and no longer when the SOA is another's
			"override/1 o:1 sub.example.net. 300 SOA 2",
			"example.net. SOA 300, sub.example.net. NS 300, sub.example.net. SOA 300, www.sub.example.net. A 40",
			"sub.example.net. NS: zone/b (b.zone:2) conflicts with zone/a (a.zone:3): equal precedence (zone), the order of the sources' names decides; zone/a wins\n" +
				"sub.example.net. SOA: zone/b (b.zone:1) conflicts with override/1 (o:1): precedence override > zone; override/1 wins\n" +
				"www.sub.example.net. A: zone/b (b.zone:4) conflicts with zone/a (a.zone:4): equal precedence (zone), the order of the sources' names decides; zone/a wins",
		}},
		"invalid": {{
			zoneA + "zone/a a.zone:2 www.example.net. 300 CNAME a.example.net. b.example.net.\nzone/a a.zone:3 *.example.net. 300 NS ns.example.net.\nzone/a a.zone:4 x.example.net. 9999 A 192.0.2.1",
			"example.net. SOA 300",
			"*.example.net. NS: zone/a (a.zone:3) is left out: an NS at a wildcard delegates nothing (RFC 4592 §4.2)\n" +
				"www.example.net. CNAME: zone/a (a.zone:2) is left out: 2 records, a CNAME has exactly one\n" +
				"x.example.net. A: zone/a (a.zone:4) is left out: TTL is 9999, the policy allows 0 to 1000",
		}},
		"no zone": {{
			zoneA + "rule/a r:1 www.example.org. 60 A 192.0.2.1", "example.net. SOA 300",
			"www.example.org. A: rule/a (r:1) is left out: no zone holds the name",
		}},
		"a fallback zone yields and comes back": {{
			"rule/ptr p:1 2.0.192.in-addr.arpa. 60 SOA 1 fallback\nrule/ptr p:1 2.0.192.in-addr.arpa. 60 NS ns.example.net. fallback\nrule/ptr p:2 1.2.0.192.in-addr.arpa. 60 PTR www.example.net.",
			"2.0.192.in-addr.arpa. NS 60, 2.0.192.in-addr.arpa. SOA 60, 1.2.0.192.in-addr.arpa. PTR 60", "",
		}, {
			"zone/r r.zone:1 192.in-addr.arpa. 300 SOA 1",
			"192.in-addr.arpa. SOA 300, 1.2.0.192.in-addr.arpa. PTR 60", "",
		}, {
			"-zone/r r.zone:1 192.in-addr.arpa. 300 SOA 1",
			"2.0.192.in-addr.arpa. NS 60, 2.0.192.in-addr.arpa. SOA 60, 1.2.0.192.in-addr.arpa. PTR 60", "",
		}},
		"a CNAME and other types are decided as a whole": {{
			zoneA + "zone/a a.zone:2 www.example.net. 300 CNAME a.example.net.\nrule/a r:1 www.example.net. 60 A 192.0.2.1\nrule/a r:2 www.example.net. 60 TXT x\nzone/a a.zone:3 www.example.net. 300 NSEC x",
			"example.net. SOA 300, www.example.net. CNAME 300, www.example.net. NSEC 300",
			"www.example.net. A: rule/a (r:1) conflicts with www.example.net. CNAME of zone/a (a.zone:2): a CNAME stands alone at its name, and its side has the higher precedence: people before robots (precedence zone > rule); zone/a wins\n" +
				"www.example.net. TXT: rule/a (r:2) conflicts with www.example.net. CNAME of zone/a (a.zone:2): a CNAME stands alone at its name, and its side has the higher precedence: people before robots (precedence zone > rule); zone/a wins",
		}, {
			"zone/b b:1 www.example.net. 300 TXT y",
			"example.net. SOA 300, www.example.net. A 60, www.example.net. TXT 300, www.example.net. NSEC 300",
			"www.example.net. CNAME: zone/a (a.zone:2) conflicts with www.example.net. TXT of zone/b (b:1): a CNAME stands alone at its name, and at equal precedence it loses to other types; zone/b wins\n" +
				"www.example.net. TXT: rule/a (r:2) conflicts with zone/b (b:1): people before robots (precedence zone > rule); zone/b wins",
		}},
		"an apex has no CNAME": {{
			zoneA + "override/1 o:1 example.net. 60 CNAME a.example.net.", "example.net. SOA 300",
			"example.net. CNAME: override/1 (o:1) conflicts with example.net. SOA of zone/a (a.zone:1): the apex of a zone can have no CNAME; zone/a wins",
		}},
		"below a DNAME": {{
			zoneA + "zone/a a.zone:2 old.example.net. 300 DNAME new.example.net.\nzone/a a.zone:3 www.old.example.net. 300 A 192.0.2.1\nzone/a a.zone:4 old.example.net. 300 A 192.0.2.1",
			"example.net. SOA 300, old.example.net. A 300, old.example.net. DNAME 300",
			"www.old.example.net. A: zone/a (a.zone:3) conflicts with old.example.net. DNAME of zone/a (a.zone:2): names below old.example.net. are not there, its DNAME redirects them; zone/a wins",
		}, {
			"-zone/a a.zone:2 old.example.net. 300 DNAME new.example.net.",
			"example.net. SOA 300, old.example.net. A 300, www.old.example.net. A 300", "",
		}},
		"glue and what is below a zone cut": {{
			zoneA + "zone/a a.zone:2 sub.example.net. 300 NS ns.sub.example.net.\nzone/a a.zone:3 ns.sub.example.net. 300 A 192.0.2.1\nzone/a a.zone:4 ns.sub.example.net. 300 TXT x\n" +
				"zone/a a.zone:5 sub.example.net. 300 A 192.0.2.2\nzone/a a.zone:6 www.sub.example.net. 300 A 192.0.2.3",
			"example.net. SOA 300, sub.example.net. NS 300, ns.sub.example.net. A 300",
			"sub.example.net. A: zone/a (a.zone:5) conflicts with sub.example.net. NS of zone/a (a.zone:2): sub.example.net. is a zone cut: only NS, DS and glue stand there; zone/a wins\n" +
				"ns.sub.example.net. TXT: zone/a (a.zone:4) conflicts with sub.example.net. NS of zone/a (a.zone:2): it is below the zone cut sub.example.net. and no glue for an NS of the zone; zone/a wins\n" +
				"www.sub.example.net. A: zone/a (a.zone:6) conflicts with sub.example.net. NS of zone/a (a.zone:2): it is below the zone cut sub.example.net. and no glue for an NS of the zone; zone/a wins",
		}, { // sibling glue, and glue of the apex
			"-zone/a a.zone:4 ns.sub.example.net. 300 TXT x\n-zone/a a.zone:5 sub.example.net. 300 A 192.0.2.2\nzone/a a.zone:7 other.example.net. 300 NS www.sub.example.net.",
			"example.net. SOA 300, other.example.net. NS 300, sub.example.net. NS 300, ns.sub.example.net. A 300, www.sub.example.net. A 300", "",
		}, { // it is glue no longer when the NS that pointed to it goes
			"-zone/a a.zone:7 other.example.net. 300 NS www.sub.example.net.",
			"example.net. SOA 300, sub.example.net. NS 300, ns.sub.example.net. A 300",
			"www.sub.example.net. A: zone/a (a.zone:6) conflicts with sub.example.net. NS of zone/a (a.zone:2): it is below the zone cut sub.example.net. and no glue for an NS of the zone; zone/a wins",
		}, { // the cut is a zone of its own: everything below is there
			"zone/b b.zone:1 sub.example.net. 300 SOA 1",
			"example.net. SOA 300, sub.example.net. NS 300, sub.example.net. SOA 300, ns.sub.example.net. A 300, www.sub.example.net. A 300", "",
		}},
		"glue is for an NS of the same zone": {{ // the cut that points moves into another zone, the name does not
			zoneA + "zone/a a.zone:2 sub.example.net. 300 NS ns.example.org.\nzone/a a.zone:3 ns.sub.example.net. 300 A 192.0.2.1\nzone/a a.zone:4 x.deep.example.net. 300 NS ns.sub.example.net.",
			"example.net. SOA 300, x.deep.example.net. NS 300, sub.example.net. NS 300, ns.sub.example.net. A 300", "",
		}, {
			"zone/b b.zone:1 deep.example.net. 300 SOA 1",
			"example.net. SOA 300, deep.example.net. SOA 300, x.deep.example.net. NS 300, sub.example.net. NS 300",
			"ns.sub.example.net. A: zone/a (a.zone:3) conflicts with sub.example.net. NS of zone/a (a.zone:2): it is below the zone cut sub.example.net. and no glue for an NS of the zone; zone/a wins",
		}},
		"merged": {{
			zoneA + "rule/a r:1 web.example.net. 60 A 192.0.2.1\nrule/b r:2 web.example.net. 90 A 192.0.2.2 192.0.2.1\nupdate/u u:1 web.example.net. 10 A 192.0.2.9",
			"example.net. SOA 300, web.example.net. A 10",
			"web.example.net. A: rule/a (r:1) conflicts with update/u (u:1): precedence update > rule; update/u wins\n" +
				"web.example.net. A: rule/b (r:2) conflicts with update/u (u:1): precedence update > rule; update/u wins",
		}, {
			"-update/u u:1 web.example.net. 10 A 192.0.2.9",
			"example.net. SOA 300, web.example.net. A 60 (2)", "",
		}},
		"address and PTR": {{
			zoneA + "zone/r r.zone:1 2.0.192.in-addr.arpa. 300 SOA 1\nrule/a r:1 www.example.net. 60 A 192.0.2.1\nrule/svc r:2 service.example.net. 60 A 192.0.2.1\nzone/a a:9 people.example.net. 60 A 192.0.2.9",
			"2.0.192.in-addr.arpa. SOA 300, example.net. SOA 300, people.example.net. A 60, service.example.net. A 60, www.example.net. A 60",
			"service.example.net. A: rule/svc (r:2): warning: 1.2.0.192.in-addr.arpa. has no PTR\nwww.example.net. A: rule/a (r:1): warning: 1.2.0.192.in-addr.arpa. has no PTR",
		}, { // the claim's place is told as it is now
			"-rule/svc r:2 service.example.net. 60 A 192.0.2.1\n-rule/a r:1 www.example.net. 60 A 192.0.2.1\nrule/a r:7 www.example.net. 60 A 192.0.2.1\nzone/r r.zone:2 1.2.0.192.in-addr.arpa. 60 PTR people.example.net.",
			"2.0.192.in-addr.arpa. SOA 300, 1.2.0.192.in-addr.arpa. PTR 60, example.net. SOA 300, people.example.net. A 60, www.example.net. A 60",
			"www.example.net. A: rule/a (r:7) disagrees with zone/r (r.zone:2): warning: the PTR points to people.example.net., which does not have the address",
		}, {
			"-rule/a r:7 www.example.net. 60 A 192.0.2.1\nrule/a r:8 www.example.net. 60 A 192.0.2.1",
			"2.0.192.in-addr.arpa. SOA 300, 1.2.0.192.in-addr.arpa. PTR 60, example.net. SOA 300, people.example.net. A 60, www.example.net. A 60",
			"www.example.net. A: rule/a (r:8) disagrees with zone/r (r.zone:2): warning: the PTR points to people.example.net., which does not have the address",
		}, { // people's name has the address: the PTR is right
			"-zone/a a:9 people.example.net. 60 A 192.0.2.9\nzone/a a:9 people.example.net. 60 A 192.0.2.1",
			"2.0.192.in-addr.arpa. SOA 300, 1.2.0.192.in-addr.arpa. PTR 60, example.net. SOA 300, people.example.net. A 60, www.example.net. A 60", "",
		}},
	} {
		t.Run(what, func(t *testing.T) {
			s := reconcile.New(reconcile.Policy{MaxTTL: 1000, Merge: []reconcile.Merge{{Kind: record.KindRule, Owner: name("web.example.net."), Type: record.TypeA}}})
			for i, st := range steps {
				for _, line := range strings.Split(strings.TrimSpace(st.claims), "\n") {
					claimed, gone := strings.CutPrefix(line, "-")
					c := claim(t, claimed)
					if gone {
						s.Replace(c.Source, claimed, nil)
					} else {
						s.Replace(c.Source, claimed, []record.Claim{c})
					}
				}
				s.Reconcile()
				var dataset, conflicts []string
				for r := range s.All() {
					text := fmt.Sprintf("%s %d", r.Key, r.TTL)
					if len(r.Data) > 1 {
						text += fmt.Sprintf(" (%d)", len(r.Data))
					}
					dataset = append(dataset, text)
				}
				for c := range s.Conflicts() {
					conflicts = append(conflicts, c.String())
				}
				if d := cmp.Diff(st.dataset, strings.Join(dataset, ", ")); d != "" {
					t.Errorf("step %d: dataset (-want +got):\n%s", i+1, d)
				}
				if d := cmp.Diff(st.conflicts, strings.Join(conflicts, "\n")); d != "" {
					t.Errorf("step %d: conflicts (-want +got):\n%s", i+1, d)
				}
			}
		})
	}
}
