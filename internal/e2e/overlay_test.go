//go:build interop || acceptance

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/zonecast/zonecast/internal/difftest"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// overlay is what people wrote into zone files and what the fleet may add to it. It
// is worked out from the two kinds of files alone, by other code than zonecast's
// rules and reconciliation: names that are in it justify a difference from a server
// that has the zone files alone, nothing else does.
type overlay struct {
	people, all *names
	added       map[record.Key]record.RRset // in all and not in people
	yielded     []record.Key                // that the fleet would make, but people's data stands
}

// names is the data of some zones, and which names it makes exist.
type names struct {
	zones   []difftest.Zone
	sets    map[record.Key]record.RRset
	byOwner map[record.Name][]record.RRset
	exists  map[record.Name]bool // owners and the names above them in their zones
	apex    map[record.Name]bool
}

var (
	freshOwner = mustName("_fresh.internal.zonecast.internal")
	ownApex    = mustName("zonecast.internal")
)

func mustName(text string) record.Name {
	n, err := record.ParseName(text)
	if err != nil {
		panic(err) // constants of this test
	}
	return n
}

func newNames(zones []difftest.Zone) *names {
	n := &names{
		zones: zones, sets: map[record.Key]record.RRset{}, byOwner: map[record.Name][]record.RRset{},
		exists: map[record.Name]bool{}, apex: map[record.Name]bool{},
	}
	for _, z := range zones {
		n.apex[z.Apex] = true
		for _, s := range z.Sets {
			n.sets[s.Key] = s
			n.byOwner[s.Owner] = append(n.byOwner[s.Owner], s)
			for o := s.Owner; o != "" && o.IsSubdomainOf(z.Apex); o = o.Parent() {
				n.exists[o] = true
			}
		}
	}
	return n
}

func (n *names) has(o record.Name, t record.Type) bool {
	_, ok := n.sets[record.Key{Owner: o, Type: t}]
	return ok
}

func (n *names) zoneOf(o record.Name) record.Name {
	for o != "" && !n.apex[o] {
		o = o.Parent()
	}
	return o
}

// source is the name whose records answer for o: itself, the wildcard that makes it
// (RFC 4592 §3.3.1), or "".
func (n *names) source(o record.Name) record.Name {
	if n.exists[o] {
		return o
	}
	zone := n.zoneOf(o)
	for e := o.Parent(); e != "" && e.IsSubdomainOf(zone); e = e.Parent() {
		if n.exists[e] {
			if w, err := e.Wildcard(); err == nil && n.exists[w] {
				return w
			}
			break
		}
	}
	return ""
}

// covered tells why no address of the fleet can stand at o: "" when it can.
func (n *names) covered(o record.Name) string {
	zone := n.zoneOf(o)
	switch {
	case zone == "":
		return "no zone"
	case n.has(o, record.TypeCNAME):
		return "a CNAME"
	}
	for a := o; a != zone; a = a.Parent() {
		if n.has(a, record.TypeNS) {
			return "a zone cut"
		}
		if a != o && n.has(a, record.TypeDNAME) {
			return "a DNAME"
		}
	}
	if o != zone && n.has(zone, record.TypeDNAME) {
		return "a DNAME"
	}
	return ""
}

// newOverlay reads the directory of zone files and the fleet file.
func newOverlay(zoneDir, fleetFile string) (*overlay, error) {
	zones, err := difftest.LoadZones(os.DirFS(zoneDir))
	if err != nil {
		return nil, err
	}
	made, err := fleetRecords(fleetFile)
	if err != nil {
		return nil, err
	}
	return overlayOf(zones, made)
}

func overlayOf(zones []difftest.Zone, made *fleetData) (*overlay, error) {
	o := &overlay{people: newNames(zones), added: map[record.Key]record.RRset{}}
	byApex := map[record.Name][]record.RRset{}
	for _, z := range zones {
		byApex[z.Apex] = z.Sets
	}
	for apex := range made.zones {
		if o.people.zoneOf(apex) != "" {
			continue // people have it, or a zone above it
		}
		for _, s := range zoneOfRules(apex) {
			o.added[s.Key] = s
			byApex[apex] = append(byApex[apex], s)
		}
	}
	apexes := newNames(nil)
	for apex := range byApex {
		apexes.apex[apex] = true
	}
	for k, s := range made.sets {
		zone := apexes.zoneOf(k.Owner)
		why := o.people.covered(k.Owner)
		if why == "no zone" && zone != "" {
			why = ""
		}
		if _, written := o.people.sets[k]; written || why != "" {
			o.yielded = append(o.yielded, k)
			continue
		}
		o.added[k] = s
		byApex[zone] = append(slices.Clip(byApex[zone]), s)
	}
	byApex[ownApex] = append(byApex[ownApex], record.NewRRset(freshOwner, record.TypeTXT, 0, "\x05stamp"))
	all := make([]difftest.Zone, 0, len(byApex))
	for apex, sets := range byApex {
		all = append(all, difftest.Zone{Apex: apex, File: strings.TrimSuffix(apex.String(), "."), Sets: sets})
	}
	slices.SortFunc(all, func(a, b difftest.Zone) int { return a.Apex.Compare(b.Apex) })
	o.all = newNames(all)
	return o, nil
}

// write writes all zones into dir for another server; their freshness record has
// another value.
func (o *overlay) write(dir string) error {
	for _, z := range o.all.zones {
		var b bytes.Buffer
		if err := dnswire.WriteZone(&b, z.Apex, z.Sets); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, z.File), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// fleetData is what the servers of a fleet file ask for.
type fleetData struct {
	sets  map[record.Key]record.RRset
	zones map[record.Name]bool // reverse zones, and zonecast's own
}

// fleetRecords says, for every server: its addresses, their PTRs, and its addresses
// under <role>.<domain> with the least TTL of all that share the name.
func fleetRecords(file string) (*fleetData, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	d := &fleetData{sets: map[record.Key]record.RRset{}, zones: map[record.Name]bool{ownApex: true}}
	add := func(owner record.Name, t record.Type, ttl uint32, rd record.Rdata) {
		k := record.Key{Owner: owner, Type: t}
		s := d.sets[k]
		if len(s.Data) > 0 {
			ttl = min(ttl, s.TTL)
		}
		d.sets[k] = record.NewRRset(owner, t, ttl, append(slices.Clone(s.Data), rd)...)
	}
	s := bufio.NewScanner(bytes.NewReader(b))
	for line := 1; s.Scan(); line++ {
		var v struct {
			Name, Role, Site, Cluster string
			Addresses                 []netip.Addr
			TTL                       uint32
		}
		dec := json.NewDecoder(strings.NewReader(s.Text()))
		dec.DisallowUnknownFields() // such as options: SRV is not worked out here
		if err := dec.Decode(&v); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, line, err)
		}
		name, err := record.ParseName(v.Name)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, line, err)
		}
		service, err := name.Parent().Child(v.Role)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, line, err)
		}
		for _, a := range v.Addresses {
			t := record.TypeA
			if a.Is6() {
				t = record.TypeAAAA
			}
			add(name, t, v.TTL, record.Rdata(a.AsSlice()))
			add(service, t, v.TTL, record.Rdata(a.AsSlice()))
			labels, zone := reverseLabels(a)
			add(mustName(strings.Join(labels, ".")), record.TypePTR, v.TTL, record.Rdata(name))
			d.zones[mustName(strings.Join(labels[zone:], "."))] = true
		}
	}
	return d, s.Err()
}

// reverseLabels are the labels of an address's reverse name, and the index where the
// zone begins that rules make for it.
func reverseLabels(a netip.Addr) (labels []string, zone int) {
	if a.Is6() {
		text := strings.ReplaceAll(a.StringExpanded(), ":", "")
		for _, c := range text {
			labels = append(labels, string(c))
		}
		slices.Reverse(labels)
		return append(labels, "ip6", "arpa"), 32 - 48/4
	}
	b := a.As4()
	for _, v := range b {
		labels = append(labels, strconv.Itoa(int(v)))
	}
	slices.Reverse(labels)
	switch {
	case b[0] == 10:
		zone = 3
	case b[0] == 192 && b[1] == 168, b[0] == 172 && b[1] >= 16 && b[1] < 32:
		zone = 2
	default:
		zone = 1
	}
	return append(labels, "in-addr", "arpa"), zone
}

// zoneOfRules is the SOA and NS of a zone that nobody wrote a file for.
func zoneOfRules(apex record.Name) []record.RRset {
	soa, err := dnswire.ParseRdata(record.TypeSOA, "ns.zonecast.invalid. hostmaster.zonecast.internal. 1 900 300 1209600 60", record.Root)
	if err != nil {
		panic(err) // a constant
	}
	return []record.RRset{
		record.NewRRset(apex, record.TypeSOA, 3600, soa),
		record.NewRRset(apex, record.TypeNS, 3600, record.Rdata(mustName("ns.zonecast.invalid"))),
	}
}

// Names of rules in the files of allowed differences.
const (
	ruleFresh   = "fresh"    // the value of the freshness record
	ruleANY     = "any"      // another RRset to ANY over UDP
	ruleANYTCP  = "any-tcp"  // one RRset to ANY over TCP, where ours gives all
	ruleZone    = "zone"     // a zone that the fleet makes
	ruleRecord  = "record"   // an RRset that the fleet makes
	ruleNode    = "node"     // a name that exists because of such an RRset
	ruleAfterIt = "chained"  // a CNAME of people leads to one of these
	ruleShadow  = "wildcard" // people's wildcard does not reach past a name of the fleet
)

// explainAll explains a difference from a server that has all of the data.
func (o *overlay) explainAll(d difftest.Difference) string {
	switch {
	case d.Name == freshOwner && d.Kind == "answer" && freshAnswer.MatchString(d.Ours):
		return ruleFresh
	case d.Type == record.TypeANY && d.Via != difftest.TCP && d.Kind == "answer" && o.oneSet(d.Name, d.Ours):
		return ruleANY
	case d.Type == record.TypeANY && d.Via == difftest.TCP && d.Kind == "answer" && o.oneSet(d.Name, d.Theirs) && o.allSets(d.Name, d.Ours):
		return ruleANYTCP
	}
	return ""
}

// freshAnswer is the freshness record alone: version, milliseconds, digest.
var freshAnswer = regexp.MustCompile(`^\[_fresh\.internal\.zonecast\.internal\. 0 TXT "v=[1-9]\d* t=1\d{12} d=[0-9a-f]{16}"\]$`)

// oneSet tells whether an answer is exactly one RRset of those that name has.
func (o *overlay) oneSet(name record.Name, answer string) bool {
	for _, s := range o.setsOf(name) {
		if answer == section(name, s) {
			return true
		}
	}
	return false
}

// allSets tells whether an answer is all RRsets that name has.
func (o *overlay) allSets(name record.Name, answer string) bool {
	return answer == section(name, o.setsOf(name)...)
}

// setsOf are the RRsets that answer for name.
func (o *overlay) setsOf(name record.Name) []record.RRset {
	return o.all.byOwner[o.all.source(name)]
}

// section is an answer that has some RRsets, as Difference has it: serials are
// compared by themselves and zero here.
func section(name record.Name, sets ...record.RRset) string {
	var lines []string
	for _, s := range sets {
		for _, d := range s.Data {
			if n := len(d); s.Type == record.TypeSOA {
				d = d[:n-20] + "\x00\x00\x00\x00" + d[n-16:]
			}
			lines = append(lines, fmt.Sprintf("%s %d %s %s", name, s.TTL, s.Type, dnswire.FormatRdata(s.Type, d)))
		}
	}
	slices.Sort(lines)
	return "[" + strings.Join(lines, " | ") + "]"
}

// explain explains a difference from a server that has people's zone files alone:
// each rule says what both servers have to answer.
func (o *overlay) explain(d difftest.Difference) string {
	if rule := o.explainAll(d); rule != "" && o.people.zoneOf(d.Name) == o.all.zoneOf(d.Name) {
		return rule
	}
	name := d.Name
	for step := range 17 { // the question, and as many CNAMEs as are followed
		rule := o.touched(d, name, step > 0)
		if rule != "" {
			if step > 0 {
				return ruleAfterIt
			}
			return rule
		}
		from := o.all.source(name)
		cname, ok := o.all.sets[record.Key{Owner: from, Type: record.TypeCNAME}]
		if !ok || from != o.people.source(name) || d.Type == record.TypeCNAME || d.Type == record.TypeANY {
			return ""
		}
		name = record.Name(cname.Data[0])
	}
	return ""
}

func (o *overlay) touched(d difftest.Difference, name record.Name, chained bool) string {
	const noError, nameError, refused = "0", "3", "5"
	is := func(ours, theirs string) bool { return d.Ours == ours && d.Theirs == theirs }
	exists := o.all.source(name) != ""
	switch zone := o.all.zoneOf(name); {
	case zone != "" && o.people.zoneOf(name) != zone && !chained:
		// They refuse all of it; ours says what the zone has.
		code := nameError
		if exists {
			code = noError
		}
		switch {
		case d.Kind == "rcode" && is(code, refused), d.Kind == "aa" && is("true", "false"),
			(d.Kind == "answer" || d.Kind == "authority") && d.Theirs == "[]":
			return ruleZone
		}
		return ""
	case zone == "":
		return ""
	}
	set, added := o.added[record.Key{Owner: name, Type: d.Type}]
	if d.Type == record.TypeANY {
		for _, s := range o.all.byOwner[name] {
			if _, ok := o.added[s.Key]; ok {
				set, added = s, true
				if d.Kind != "answer" || strings.Contains(d.Ours, strings.Trim(section(name, s), "[]")) {
					break
				}
			}
		}
	}
	switch d.Kind {
	case "rcode":
		if exists && is(noError, nameError) && o.people.source(name) == "" {
			if added {
				return ruleRecord
			}
			return ruleNode
		}
	case "answer":
		// All lines of the fleet's RRset in ours, none in theirs.
		if added {
			for _, line := range strings.Split(strings.Trim(section(name, set), "[]"), " | ") {
				if !strings.Contains(d.Ours, line) || strings.Contains(d.Theirs, line) {
					return ""
				}
			}
			return ruleRecord
		}
	case "tc":
		// An RRset of the fleet does not fit where people's NODATA did: more octets than
		// the datagram may have, even with each owner compressed to two (RFC 1035 §4.1.4).
		most := map[difftest.Via]int{difftest.UDP512: 512, difftest.UDP1232: 1232, difftest.UDP4096: 1232}[d.Via]
		octets := 12 + len(name) + 4
		for _, rd := range set.Data {
			octets += 12 + len(rd)
		}
		if added && is("true", "false") && octets > most {
			return ruleRecord
		}
	case "authority":
		if added && d.Ours == "[]" && strings.Contains(d.Theirs, " SOA ") {
			return ruleRecord
		}
	}
	if from := o.people.source(name); from.IsWildcard() && from != o.all.source(name) {
		return ruleShadow
	}
	return ""
}
