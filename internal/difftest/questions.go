package difftest

import (
	"iter"

	"github.com/zonecast/zonecast/record"
)

// askedOfAll are the types asked of every name, owned or not.
var askedOfAll = []record.Type{
	record.TypeA, record.TypeAAAA, record.TypeNS, record.TypeCNAME, record.TypeSOA, record.TypePTR, record.TypeMX,
	record.TypeTXT, record.TypeSRV, record.TypeDS, record.TypeCAA, 65280,
}

// Questions gives what to ask about the zones, each question once:
//
//   - every owner and every empty non-terminal: the types of askedOfAll, the types
//     it owns, and ANY, over UDP; what it owns, A and ANY also in the other ways;
//   - below every owner and empty non-terminal, one and two names that are not
//     there: NXDOMAIN, wildcards, below a delegation, below a DNAME;
//   - beside every wildcard the name that it makes, in the ways of an owner;
//   - one name in no zone.
//
// Every other name is asked in mixed case.
func Questions(zones []Zone) iter.Seq[Question] {
	return func(yield func(Question) bool) {
		types := map[record.Name][]record.Type{}
		var names []record.Name
		enter := func(n record.Name) {
			if _, known := types[n]; !known {
				types[n] = nil
				names = append(names, n)
			}
		}
		for _, z := range zones {
			for _, s := range z.Sets {
				for n := s.Owner; n != "" && n.IsSubdomainOf(z.Apex); n = n.Parent() {
					enter(n)
				}
				types[s.Owner] = append(types[s.Owner], s.Type)
				if s.Owner.IsWildcard() {
					for _, label := range []string{"zz-made", "zz-other"} {
						if made, err := s.Owner.Parent().Child(label); err == nil {
							enter(made)
							types[made] = append(types[made], s.Type)
						}
					}
				}
			}
		}
		mixed := false
		ask := func(n record.Name, t record.Type, via Via) bool {
			return yield(Question{Name: n, Type: t, Via: via, Mixed: mixed})
		}
		for _, n := range names {
			mixed = !mixed
			asked := map[record.Type]bool{}
			for _, t := range append([]record.Type{record.TypeANY}, append(types[n], askedOfAll...)...) {
				if asked[t] {
					continue
				}
				asked[t] = true
				if !ask(n, t, UDP1232) {
					return
				}
			}
			for _, via := range []Via{UDP4096, UDP512, TCP} {
				clear(asked)
				for _, t := range append([]record.Type{record.TypeA, record.TypeANY}, types[n]...) {
					if !asked[t] && !ask(n, t, via) {
						return
					}
					asked[t] = true
				}
			}
			if absent, err := n.Child("zz-absent"); err == nil {
				for _, t := range []record.Type{record.TypeA, record.TypeNS, record.TypeDS, record.TypeCNAME, record.TypeANY} {
					if !ask(absent, t, UDP1232) {
						return
					}
				}
				if !ask(absent, record.TypeA, TCP) || !ask(absent, record.TypeANY, TCP) {
					return
				}
				if deeper, err := absent.Child("*"); err == nil && !ask(deeper, record.TypeTXT, UDP1232) {
					return
				}
			}
		}
		mixed = false
		ask("\x09zz-nobody\x07invalid\x00", record.TypeA, UDP1232)
	}
}
