package mapper

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/zonecast/zonecast/mapper/fill"
	"github.com/zonecast/zonecast/mapper/plan"
	"github.com/zonecast/zonecast/mapper/table"
)

// pins are where people want whom: a prefix counts more than an AS, that more than a country; of
// prefixes the longest.
type pins struct {
	prefixes  *table.Map
	systems   map[uint32]string
	countries map[[2]byte]string
}

// maxPins bounds a file of pins: our own choice.
const maxPins = 1 << 20

var (
	isSystem  = regexp.MustCompile(`^AS[0-9]+$`)
	isCountry = regexp.MustCompile(`^[A-Z]{2}$`)
)

func readPins(file string) (*pins, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parsePins(f, file)
}

// parsePins reads lines of match,pop; the file is for errors.
func parsePins(r io.Reader, file string) (*pins, error) {
	p := &pins{systems: map[uint32]string{}, countries: map[[2]byte]string{}}
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
		if n > maxPins {
			return nil, fmt.Errorf("%s:%d: more than %d pins", file, line, maxPins)
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

// of gives the pin of each prefix, by the number of the PoP; nil: there is none. unknown are pins
// to PoPs that there are not.
func (p *pins) of(prefixes []netip.Prefix, where []fill.Place, pops []table.PoP) (of []int16, unknown []string) {
	if p == nil {
		return nil, nil
	}
	number := map[string]int16{}
	for j, pop := range pops {
		number[pop.Name] = int16(j)
	}
	of = make([]int16, len(prefixes))
	told := map[string]bool{}
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
		if pop == "" {
			continue
		}
		if j, ok := number[pop]; ok {
			of[i] = j
		} else if !told[pop] {
			told[pop] = true
			unknown = append(unknown, pop)
		}
	}
	return of, unknown
}
