package difftest

import (
	"fmt"
	"io/fs"

	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// Zone is one zone file.
type Zone struct {
	Apex record.Name
	File string
	Sets []record.RRset // in the order of their first records
}

// LoadZones reads every file of fsys as the zone its name says.
func LoadZones(fsys fs.FS) ([]Zone, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, fmt.Errorf("list zone files: %w", err)
	}
	var zones []Zone
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		apex, err := record.ParseName(e.Name())
		if err != nil {
			return nil, fmt.Errorf("zone file %s: %w", e.Name(), err)
		}
		z := Zone{Apex: apex, File: e.Name()}
		type set struct {
			ttl  uint32
			data []record.Rdata
		}
		sets := map[record.Key]*set{}
		var order []record.Key
		_, err = dnswire.ParseZone(fsys, e.Name(), apex, func(owner record.Name, t record.Type, ttl uint32, rd record.Rdata, _ string) error {
			k := record.Key{Owner: owner, Type: t}
			if sets[k] == nil {
				sets[k] = &set{ttl: ttl}
				order = append(order, k)
			}
			sets[k].data = append(sets[k].data, rd)
			return nil
		})
		if err != nil {
			return nil, err
		}
		for _, k := range order {
			z.Sets = append(z.Sets, record.NewRRset(k.Owner, k.Type, sets[k].ttl, sets[k].data...))
		}
		zones = append(zones, z)
	}
	return zones, nil
}
