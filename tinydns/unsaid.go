package tinydns

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/internal/tinydns"
	"github.com/zonecast/zonecast/record"
)

// Reason is a class of what tinydns cannot say as the dataset says it.
type Reason string

// The reasons, in the order of unsaid.txt.
const (
	Format      Reason = "format"    // of tinydns-data; see tinydns.Problem
	NoNS        Reason = "no-ns"     // a zone without NS is none
	Empty       Reason = "empty"     // NXDOMAIN where there are names below (RFC 8020)
	Wildcard    Reason = "wildcard"  // matches past names that exist (RFC 4592 §2.2.1)
	Cut         Reason = "cut"       // DS is answered by a referral (RFC 4035 §3.1.4.1)
	DNAME       Reason = "dname"     // nothing is answered below it (RFC 6672)
	Truncated   Reason = "truncated" // beyond 512 octets: no EDNS (RFC 6891), no TCP
	LocatedZone Reason = "located"   // an SOA or NS for some clients alone
	Beside      Reason = "beside"    // another dataset of the host answers for the name
)

// Reasons are all.
func Reasons() []Reason {
	return []Reason{Format, NoNS, Empty, Wildcard, Cut, DNAME, Truncated, LocatedZone, Beside}
}

// explained says what a reason means for those who ask.
var explained = map[Reason]string{
	Format:      "tinydns-data has no line that says it so",
	NoNS:        "the zone has no NS records, and tinydns takes a name for a zone only by those: it does not answer",
	Empty:       "no records, but names below: tinydns answers NXDOMAIN, or what a wildcard above says",
	Wildcard:    "other names exist beside it: tinydns makes answers of it below those, too",
	Cut:         "DS of a delegation: tinydns answers by a referral",
	DNAME:       "tinydns gives the record itself, and does not lead names below it elsewhere",
	Truncated:   "the answer may have more than 512 octets: without EDNS it is cut, and there is no TCP to ask by",
	LocatedZone: "SOA or NS for clients of a location: tinydns takes the zone for theirs alone",
	Beside:      "another dataset of this host has a closer zone, or the same one: it answers, as by the authority",
}

// Unsaid is one thing that tinydns does not say, or says differently.
type Unsaid struct {
	Reason Reason
	What   string // name, or name and type
	Why    string // beyond the reason's; may be empty
	name   record.Name
}

// survey finds what tinydns's ways of answering make of RRsets. Those are given one
// after another, by add.
type survey struct {
	sets     map[record.Name]bool // owners
	soa, ns  map[record.Name]bool
	inner    map[record.Name]bool // names above owners
	wild     []record.Name
	children map[record.Name]bool // names that have a child which is no wildcard
	all      []Unsaid
}

func newSurvey() *survey {
	return &survey{sets: map[record.Name]bool{}, soa: map[record.Name]bool{}, ns: map[record.Name]bool{}, inner: map[record.Name]bool{}, children: map[record.Name]bool{}}
}

// maxAnswer is what a response of tinydns has at most, in octets.
const maxAnswer = 512

// mostAddresses is how many A records tinydns gives.
const mostAddresses = 8

func (s *survey) note(r Reason, k record.Key, why string) {
	s.all = append(s.all, Unsaid{Reason: r, What: k.String(), Why: why, name: k.Owner})
}

func (s *survey) add(r *record.RRset) {
	if !s.sets[r.Owner] {
		s.sets[r.Owner] = true
		if r.Owner.IsWildcard() {
			s.wild = append(s.wild, r.Owner)
		}
		for n := r.Owner; n != record.Root; n = n.Parent() {
			p := n.Parent()
			if !n.IsWildcard() {
				s.children[p] = true
			}
			if s.inner[p] {
				break
			}
			s.inner[p] = true
		}
	}
	switch r.Type {
	case record.TypeSOA:
		s.soa[r.Owner] = true
	case record.TypeNS:
		s.ns[r.Owner] = true
	case record.TypeDS:
		s.note(Cut, r.Key, "")
	case record.TypeDNAME:
		s.note(DNAME, r.Key, "")
	}
	if r.Location != "" && (r.Type == record.TypeSOA || r.Type == record.TypeNS) {
		s.note(LocatedZone, r.Key, "")
	}
	if size := answerSize(r); size > maxAnswer {
		s.note(Truncated, r.Key, fmt.Sprintf("%d octets, names in RDATA not compressed", size))
	}
}

// answerSize is the size of the response that has the RRset as its answer: header,
// question, and each record behind a pointer to the name.
func answerSize(r *record.RRset) int {
	size := 12 + len(r.Owner) + 4
	for i, d := range r.Data {
		if r.Type == record.TypeA && i == mostAddresses {
			break
		}
		size += 2 + 10 + len(d)
	}
	return size
}

// finish adds what is known only when all RRsets are.
func (s *survey) finish() []Unsaid {
	for apex := range s.soa {
		if !s.ns[apex] {
			s.note(NoNS, record.Key{Owner: apex, Type: record.TypeSOA}, "")
		}
	}
	for n := range s.inner {
		if !s.sets[n] && s.within(n) {
			s.all = append(s.all, Unsaid{Reason: Empty, What: n.String(), name: n})
		}
	}
	for _, w := range s.wild {
		if s.children[w.Parent()] {
			s.all = append(s.all, Unsaid{Reason: Wildcard, What: w.String(), name: w})
		}
	}
	return s.all
}

// within tells whether a name is in a zone.
func (s *survey) within(n record.Name) bool {
	for ; n != ""; n = n.Parent() {
		if s.soa[n] {
			return true
		}
	}
	return false
}

// sorted puts everything in the order of the file: by reason, then by name.
func sorted(all []Unsaid, problems []tinydns.Problem) []Unsaid {
	for _, p := range problems {
		why := "left out: " + p.Why
		if p.Written {
			why = "said differently: " + p.Why
		}
		all = append(all, Unsaid{Reason: Format, What: p.What, Why: why})
	}
	order := map[Reason]int{}
	for i, r := range Reasons() {
		order[r] = i
	}
	slices.SortStableFunc(all, func(x, y Unsaid) int {
		if d := order[x.Reason] - order[y.Reason]; d != 0 {
			return d
		}
		if d := x.name.Compare(y.name); d != 0 {
			return d
		}
		return strings.Compare(x.What, y.What)
	})
	return all
}

const always = `# What tinydns does not say as the dataset says it.
# Of all zones: no EDNS, so no client subnets, no cookies, and answers of 512 octets at most; no TCP, and so no
# transfers; an alias is answered without what it leads to; a name in no zone gets no answer at all; the SOA of a
# negative answer has its own TTL, not the lesser of that and its MINIMUM (RFC 2308 §3); the name of a wildcard is
# matched by itself, so that names below it get its answer, too.
`

// text is unsaid.txt.
func text(dataset string, all []Unsaid) []byte {
	b := bytes.NewBufferString(always)
	var last Reason
	for i, u := range all {
		if i == 0 || u.Reason != last {
			last = u.Reason
			n := 0
			for _, v := range all {
				if v.Reason == last {
					n++
				}
			}
			fmt.Fprintf(b, "\n# %s, %d: %s\n", last, n, explained[last])
		}
		if u.Why == "" {
			fmt.Fprintf(b, "%s %s\n", u.Reason, u.What)
		} else {
			fmt.Fprintf(b, "%s %s: %s\n", u.Reason, u.What, u.Why)
		}
	}
	if len(all) == 0 {
		fmt.Fprintf(b, "\n# Of %s: nothing more.\n", dataset)
	}
	return b.Bytes()
}

// count counts by reason.
func count(all []Unsaid) map[Reason]int {
	n := map[Reason]int{}
	for _, u := range all {
		n[u.Reason]++
	}
	return n
}

// summary is count in words, for the status.
func summary(n map[Reason]int) string {
	var parts []string
	for _, r := range Reasons() {
		if n[r] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", r, n[r]))
		}
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}
