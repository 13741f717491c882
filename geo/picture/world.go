package picture

import (
	_ "embed"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
)

// worldFile has the outlines of countries (Natural Earth, public domain, 1:110,000,000);
// scripts/make-world.py makes it:
//
//	"zcworld1", uvarint countries, then each
//	  2 octets      ISO 3166-1 code, or "--"
//	  uvarint       rings, then each
//	    uvarint     points, then each
//	      2 varints longitude and latitude less those before, in 1/100 of a degree
//
//go:embed world.bin
var worldFile string

const worldMagic = "zcworld1"

// outline is a country.
type outline struct {
	code  string
	rings [][]point
}

// point is a place in degrees, or on the page.
type point struct{ x, y float64 }

var world = sync.OnceValue(func() []outline {
	all, err := parseWorld(worldFile)
	if err != nil {
		panic(err) // it is part of the program, and a test reads it
	}
	return all
})

func parseWorld(b string) ([]outline, error) {
	rest, ok := strings.CutPrefix(b, worldMagic)
	if !ok {
		return nil, fmt.Errorf("outlines begin with %.8q, expected %q", b, worldMagic)
	}
	r := strings.NewReader(rest)
	var failed error
	count := func() int {
		n, err := binary.ReadUvarint(r)
		if failed == nil && (err != nil || n > uint64(r.Len())) {
			failed = fmt.Errorf("outlines: a count at octet %d is damaged", len(b)-r.Len())
		}
		return int(n)
	}
	step := func() int64 {
		n, err := binary.ReadVarint(r)
		if failed == nil && err != nil {
			failed = fmt.Errorf("outlines end at octet %d, expected more", len(b)-r.Len())
		}
		return n
	}
	var all []outline
	for n := count(); n > 0 && failed == nil; n-- {
		code := make([]byte, 2)
		if m, _ := r.Read(code); m < 2 {
			return nil, fmt.Errorf("outlines end within a country")
		}
		o := outline{code: string(code)}
		for rings := count(); rings > 0 && failed == nil; rings-- {
			var ring []point
			x, y := int64(0), int64(0)
			for points := count(); points > 0 && failed == nil; points-- {
				x += step()
				y += step()
				ring = append(ring, point{float64(x) / 100, float64(y) / 100})
			}
			o.rings = append(o.rings, ring)
		}
		all = append(all, o)
	}
	return all, failed
}
