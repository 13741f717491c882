package mapclaims

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"fmt"
	"io"
	"slices"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/internal/steering"
	"github.com/zonecast/zonecast/record"
)

// maxContent is how many octets a content may have, and maxUnpacked how many RRsets in
// it: a million prefixes are 25 MB of these, and some 5 MB as content.
const (
	maxContent  = 15 << 20 // below the frame of a call (api.ServerConfig.MaxFrame)
	maxUnpacked = 512 << 20
)

// Source is the source that a map is.
func Source(name string) record.Source { return record.Source(record.KindMap + "/" + name) }

// Encode gives map and sets as octets.
func Encode(m *geo.Map, sets []record.Set) ([]byte, error) {
	rrsets, err := m.RRsets(geo.Zone)
	if err != nil {
		return nil, err
	}
	more, err := Records(sets)
	if err != nil {
		return nil, err
	}
	b, err := Pack(append(rrsets, more...))
	if err == nil && len(b) > maxContent {
		err = fmt.Errorf("map %q has %d prefixes, which are %d octets packed, at most %d; make fewer or shorter ones", m.Name, len(m.Entries), len(b), maxContent)
	}
	return b, err
}

// Pack gives RRsets as record.RRset.AppendBinary has them, one behind the other, by gzip
// (RFC 1952).
func Pack(rrsets []record.RRset) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	var b []byte
	for _, r := range rrsets {
		b = r.AppendBinary(b[:0])
		if _, err := z.Write(b); err != nil {
			return nil, err
		}
	}
	err := z.Close()
	return out.Bytes(), err
}

// Unpack reads what Pack gave. Each RRset passes its check, and none is there twice.
func Unpack(content []byte) ([]record.RRset, error) {
	if len(content) > maxContent {
		return nil, fmt.Errorf("%d octets, at most %d", len(content), maxContent)
	}
	z, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("expected RRsets by gzip: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(z, maxUnpacked+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("expected RRsets by gzip: %w", err)
	case len(b) > maxUnpacked:
		return nil, fmt.Errorf("more than %d octets when unpacked", maxUnpacked)
	}
	var all []record.RRset
	seen := map[record.Key]bool{}
	for len(b) > 0 {
		var r record.RRset
		if r, b, err = record.DecodeRRset(b); err != nil {
			return nil, err
		}
		if seen[r.Key] {
			return nil, fmt.Errorf("%s is there twice", r.Key)
		}
		seen[r.Key] = true
		all = append(all, r)
	}
	return all, nil
}

// Records are sets as RRsets, with their terms beside them.
func Records(sets []record.Set) ([]record.RRset, error) {
	sets = slices.Clone(sets)
	place := func(s record.Set) record.Key { return record.Key{Owner: s.Owner, Location: s.Location} }
	slices.SortFunc(sets, func(a, b record.Set) int {
		if c := place(a).Compare(place(b)); c != 0 {
			return c
		}
		return a.Key.Compare(b.Key)
	})
	var out []record.RRset
	for from := 0; from < len(sets); {
		to := from
		for to < len(sets) && place(sets[to]) == place(sets[from]) {
			if err := sets[to].Check(); err != nil {
				return nil, err
			}
			out = append(out, sets[to].RRset)
			to++
		}
		terms, some, err := record.TermsRRset(sets[from:to]...)
		if err != nil {
			return nil, err
		}
		if some {
			out = append(out, terms)
		}
		from = to
	}
	return out, nil
}

// Decode reads what Encode gave: the map, and the RRsets of names. An error names what is
// wrong.
func Decode(content []byte) (*geo.Map, []record.RRset, error) {
	all, err := Unpack(content)
	if err != nil {
		return nil, nil, err
	}
	var own, names []record.RRset
	for _, r := range all {
		if r.Type.IsOwn() && r.Type != record.TypeTerms {
			own = append(own, r)
			continue
		}
		if r.Type == record.TypeTerms {
			for _, d := range r.Data {
				if err := record.CheckTerms(d); err != nil {
					return nil, nil, fmt.Errorf("%s: %w", r.Key, err)
				}
			}
		}
		names = append(names, r)
	}
	maps, pops, err := geo.ParseMaps(own)
	switch {
	case err != nil:
		return nil, nil, err
	case len(maps) != 1 || len(pops) != 0:
		return nil, nil, fmt.Errorf("%d maps and %d states of PoPs, expected one map", len(maps), len(pops))
	}
	return &maps[0], names, nil
}

// Claims are those of a map in a zone of maps: its RRsets, that zone where nobody else claims
// it, and the RRsets of names.
func Claims(m *geo.Map, names []record.RRset, zone record.Name, who record.Provenance, place string) ([]record.Claim, error) {
	source := Source(m.Name)
	claims, err := steering.Claims(m, zone, source, who)
	if err != nil {
		return nil, err
	}
	for _, r := range names {
		claims = append(claims, record.Claim{RRset: r, Source: source, Provenance: who})
	}
	for i := range claims {
		claims[i].Place = cmp.Or(place, claims[i].Place)
	}
	slices.SortFunc(claims, func(a, b record.Claim) int { return a.Key.Compare(b.Key) })
	return claims, nil
}
