package pins

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/zonecast/zonecast/mapper/fill"
	"github.com/zonecast/zonecast/mapper/plan"
	"github.com/zonecast/zonecast/mapper/table"
)

// Pins are those of a file. They do not change.
type Pins struct {
	prefixes  *table.Map
	systems   map[uint32]string
	countries map[[2]byte]string
}

// Most is how many pins a file may have: our own choice.
const Most = 1 << 20

var (
	isSystem  = regexp.MustCompile(`^AS[0-9]+$`)
	isCountry = regexp.MustCompile(`^[A-Z]{2}$`)
)

// Read reads a file as Parse does.
func Read(file string) (*Pins, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Parse(f, file)
}

// Parse reads CSV with the columns match,pop, which a first line may name: a match is a prefix, an autonomous
// system such as AS64500, or a country such as NL (ISO 3166-1). Each match is there once. # begins
// a comment; file is for errors, which say the line.
func Parse(r io.Reader, file string) (*Pins, error) {
	p := &Pins{systems: map[uint32]string{}, countries: map[[2]byte]string{}}
	in := csv.NewReader(r)
	in.FieldsPerRecord = 2
	in.Comment = '#'
	in.TrimLeadingSpace = true
	var lines []table.Line
	seen := map[any]int{}
	for n := 0; ; n++ {
		fields, err := in.Read()
		if errors.Is(err, io.EOF) {
			p.prefixes = table.NewMap(lines)
			return p, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w, expected match,pop", file, err)
		}
		line, _ := in.FieldPos(0)
		match, pop := strings.TrimSpace(fields[0]), strings.TrimSpace(fields[1])
		if n == 0 && match == "match" && pop == "pop" {
			continue
		}
		if n > Most {
			return nil, fmt.Errorf("%s:%d: more than %d pins", file, line, Most)
		}
		if err := (table.PoP{Name: pop}).Check(); err != nil {
			return nil, fmt.Errorf("%s:%d: PoP: %w", file, line, err)
		}
		var key any
		switch {
		case isSystem.MatchString(match):
			as, err := strconv.ParseUint(match[2:], 10, 32)
			if err != nil || as == 0 {
				return nil, fmt.Errorf("%s:%d: %s is no autonomous system, expected AS1 to AS4294967295", file, line, match)
			}
			key, p.systems[uint32(as)] = uint32(as), pop
		case isCountry.MatchString(match):
			c := [2]byte{match[0], match[1]}
			key, p.countries[c] = c, pop
		default:
			prefix, err := table.ParsePrefix(match)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: match is %.80q, expected a prefix such as 192.0.2.0/24, an autonomous system such as AS64500, or a country such as NL", file, line, match)
			}
			key = prefix
			lines = append(lines, table.Line{Prefix: prefix, Order: []string{pop}})
		}
		if first, ok := seen[key]; ok {
			return nil, fmt.Errorf("%s:%d: %s is on line %d already, expected each once", file, line, match, first)
		}
		seen[key] = line
	}
}

// Of gives the pin of each prefix, by the number of the PoP, plan.None where there is none. where are the
// places of the prefixes; nil: nothing is known, and pins of systems and countries hold for nobody. unknown
// are the PoPs of pins, that there are not. A nil p pins nobody, and of is nil.
func (p *Pins) Of(prefixes []netip.Prefix, where []fill.Place, pops []table.PoP) (of []int16, unknown []string) {
	if p == nil {
		return nil, nil
	}
	number := map[string]int16{}
	for j, pop := range pops {
		number[pop.Name] = int16(j)
	}
	of = make([]int16, len(prefixes))
	for i, prefix := range prefixes {
		of[i] = plan.None
		pop := ""
		if l, ok := p.prefixes.Lookup(prefix); ok {
			pop = l.Order[0]
		} else if where != nil {
			var ok bool
			if pop, ok = p.systems[where[i].AS]; !ok {
				pop = p.countries[where[i].Country]
			}
		}
		if j, ok := number[pop]; ok {
			of[i] = j
		}
	}
	for pop := range p.pops() {
		if _, ok := number[pop]; !ok && !slices.Contains(unknown, pop) {
			unknown = append(unknown, pop)
		}
	}
	slices.Sort(unknown)
	return of, unknown
}

// pops are those of all pins, some of them more than once.
func (p *Pins) pops() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, l := range p.prefixes.Lines() {
			if !yield(l.Order[0]) {
				return
			}
		}
		for _, pop := range p.systems {
			if !yield(pop) {
				return
			}
		}
		for _, pop := range p.countries {
			if !yield(pop) {
				return
			}
		}
	}
}

// Needs is an error when there are pins that hold for nobody because nothing says what is in an
// autonomous system, or in a country.
func (p *Pins) Needs(systems, countries bool) error {
	switch {
	case p == nil:
	case len(p.systems) > 0 && !systems:
		return fmt.Errorf("%d pins of autonomous systems hold for nobody, expected a database of them (--asn)", len(p.systems))
	case len(p.countries) > 0 && !countries:
		return fmt.Errorf("%d pins of countries hold for nobody, expected a database of places (--city)", len(p.countries))
	}
	return nil
}
