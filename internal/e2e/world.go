package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/internal/zonefile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rules"
)

// World is what hosts must answer, worked out from the zone files and the fleet file
// without zonecast's store, reconciliation or authority: what people wrote in a zone
// file wins, and the built-in rules add what it does not have.
type World struct {
	zones map[string]*zonefile.Zone // by file: its last good state
	sets  map[record.Key]record.RRset
	owner map[record.Name]int         // RRsets in sets, by owner
	apex  map[record.Name]string      // of zones, to the file
	ruled map[record.Key]record.Claim // what rules make of the fleet file
}

// NewWorld reads a directory of zone files, all of which must be good, and a fleet
// file, unless that is "".
func NewWorld(zones, fleetFile string) (*World, error) {
	w := &World{
		zones: map[string]*zonefile.Zone{}, sets: map[record.Key]record.RRset{}, owner: map[record.Name]int{},
		apex: map[record.Name]string{}, ruled: map[record.Key]record.Claim{},
	}
	files, err := os.ReadDir(zones)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		z, err := zonefile.Parse(os.DirFS(zones), f.Name(), record.Provenance{})
		if err != nil {
			return nil, err
		}
		w.take(f.Name(), z)
	}
	if fleetFile == "" {
		return w, nil
	}
	return w, w.rule(fleetFile)
}

// rule runs the rules on all of the fleet file.
func (w *World) rule(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	servers, err := fleet.ParseFleetFile(f, filepath.Base(file))
	if err != nil {
		return err
	}
	all, err := rules.BuiltIn(rules.DefaultParams())
	if err != nil {
		return err
	}
	for _, r := range all {
		shards := map[string][]fleet.Server{}
		for _, s := range servers {
			of, err := r.Shards(s)
			if err != nil {
				return err
			}
			for _, shard := range of {
				shards[shard] = append(shards[shard], s)
			}
		}
		for _, shard := range slices.Sorted(maps.Keys(shards)) {
			claims, err := r.Claims(shard, func() []fleet.Server { return shards[shard] })
			if err != nil {
				return err
			}
			for _, c := range claims {
				w.ruled[c.Key] = c
			}
		}
	}
	return nil
}

// take makes z, or nothing, the state of a file.
func (w *World) take(file string, z *zonefile.Zone) {
	if old := w.zones[file]; old != nil {
		for _, c := range old.Claims {
			delete(w.sets, c.Key)
			if w.owner[c.Key.Owner]--; w.owner[c.Key.Owner] == 0 {
				delete(w.owner, c.Key.Owner)
			}
		}
		delete(w.apex, old.Apex)
		delete(w.zones, file)
	}
	if z == nil {
		return
	}
	for _, c := range z.Claims {
		w.sets[c.Key] = c.RRset
		w.owner[c.Key.Owner]++
	}
	w.apex[z.Apex], w.zones[file] = file, z
}

// differences are the keys whose RRsets differ between two states of a zone, either
// of which may be nil.
func differences(old, now *zonefile.Zone) []record.Key {
	var a, b []record.Claim
	if old != nil {
		a = old.Claims
	}
	if now != nil {
		b = now.Claims
	}
	var keys []record.Key
	for len(a) > 0 || len(b) > 0 { // both are in canonical order
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Key.Compare(b[0].Key) < 0:
			keys, a = append(keys, a[0].Key), a[1:]
		case len(a) == 0 || a[0].Key.Compare(b[0].Key) > 0:
			keys, b = append(keys, b[0].Key), b[1:]
		default:
			if !a[0].RRset.Equal(b[0].RRset) {
				keys = append(keys, a[0].Key)
			}
			a, b = a[1:], b[1:]
		}
	}
	return keys
}

// Expected is what a host must say to the question of a key.
type Expected struct {
	Key  record.Key
	Kind ExpectedKind
	// Sets are the RRsets one of which must be in the answer; in the authority
	// section for a referral. When Kind is Wildcard there may be none, too.
	Sets []record.RRset
}

// ExpectedKind says why something is expected; reports count by it.
type ExpectedKind string

// Kinds of expectations.
const (
	Written  ExpectedKind = "written in a zone file"
	Ruled    ExpectedKind = "made by a rule of the fleet file"
	Gone     ExpectedKind = "gone"
	Wildcard ExpectedKind = "gone, but below a wildcard"
	Referred ExpectedKind = "at or below a zone cut: a referral"
	Foreign  ExpectedKind = "below the apex of another zone that is served: not answered from this one"
)

// Expect says what is to be answered to a question for key, which has no location.
func (w *World) Expect(key record.Key) Expected {
	apex, served := w.enclosing(key.Owner)
	if !served {
		return Expected{Key: key, Kind: Gone}
	}
	if ns, ok := w.cut(key.Owner, apex); ok {
		return Expected{Key: key, Kind: Referred, Sets: []record.RRset{ns}}
	}
	if set, ok := w.sets[key]; ok {
		if !slices.ContainsFunc(w.zones[w.apex[apex]].Claims, func(c record.Claim) bool { return c.Key == key }) {
			return Expected{Key: key, Kind: Foreign}
		}
		return Expected{Key: key, Kind: Written, Sets: []record.RRset{set}}
	}
	_, alias := w.sets[record.Key{Owner: key.Owner, Type: record.TypeCNAME}]
	_, written := w.apex[apex]
	if c, ok := w.ruled[key]; ok && !alias && !(c.Fallback && written) {
		return Expected{Key: key, Kind: Ruled, Sets: []record.RRset{c.RRset}}
	}
	e := Expected{Key: key, Kind: Gone}
	if w.owner[key.Owner] > 0 {
		return e
	}
	for n := key.Owner.Parent(); n != "" && n.IsSubdomainOf(apex); n = n.Parent() {
		star, err := n.Wildcard()
		if err != nil {
			continue
		}
		if set, ok := w.sets[record.Key{Owner: star, Type: key.Type}]; ok {
			set.Owner = key.Owner
			e.Kind, e.Sets = Wildcard, append(e.Sets, set)
		}
	}
	return e
}

// enclosing is the deepest zone that has the name: of those that people wrote, or,
// when there is none, of those that rules make.
func (w *World) enclosing(name record.Name) (record.Name, bool) {
	for n := name; n != ""; n = n.Parent() {
		if _, ok := w.apex[n]; ok {
			return n, true
		}
	}
	for n := name; n != ""; n = n.Parent() {
		if _, ok := w.ruled[record.Key{Owner: n, Type: record.TypeSOA}]; ok {
			return n, true
		}
	}
	return "", false
}

// cut is the NS RRset of the highest zone cut at or above n, below the apex.
func (w *World) cut(n, apex record.Name) (ns record.RRset, ok bool) {
	for ; n != apex && n != ""; n = n.Parent() {
		if set, found := w.sets[record.Key{Owner: n, Type: record.TypeNS}]; found {
			ns, ok = set, true
		}
	}
	return ns, ok
}

// Check holds an answer against the expectation.
func (e Expected) Check(r *dnswire.Response) error {
	section := r.Answer
	if e.Kind == Referred {
		section = r.Authority
	}
	if len(e.Sets) > 0 && e.Kind != Wildcard && (r.RcodeName != "NOERROR" || r.Authoritative == (e.Kind == Referred)) {
		return fmt.Errorf("%s: %s with AA %v (%s)", e.Key, r.RcodeName, r.Authoritative, e.Kind)
	}
	for _, want := range e.Sets {
		for _, got := range section {
			if got.Equal(want) || want.Type == record.TypeSOA && got.Key == want.Key && got.TTL == want.TTL && sameButSerial(got, want) {
				return nil
			}
		}
	}
	if e.Kind == Gone || e.Kind == Wildcard || e.Kind == Foreign {
		for _, got := range r.Answer {
			if got.Key == e.Key {
				return fmt.Errorf("%s: answered %v, expected none (%s)", e.Key, dnswire.FormatRRset(got), e.Kind)
			}
		}
		switch r.RcodeName {
		case "NOERROR", "NXDOMAIN", "REFUSED": // the last when no zone has the name any more
			return nil
		}
		return fmt.Errorf("%s: %s (%s)", e.Key, r.RcodeName, e.Kind)
	}
	return fmt.Errorf("%s: answered %v, expected %v (%s)", e.Key, section, e.Sets, e.Kind)
}

// sameButSerial compares SOA RRsets: zonecast counts serials up by itself. The
// serial is 20 octets before the end of the RDATA (RFC 1035 §3.3.13).
func sameButSerial(a, b record.RRset) bool {
	const fromEnd, size = 20, 4
	if len(a.Data) != 1 || len(b.Data) != 1 || len(a.Data[0]) != len(b.Data[0]) || len(a.Data[0]) < fromEnd {
		return false
	}
	x, y := a.Data[0], b.Data[0]
	at := len(x) - fromEnd
	return x[:at] == y[:at] && x[at+size:] == y[at+size:]
}
