package mmdb

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// Bounds: our own choice. The largest database of places that people have (GeoIP2
// Enterprise) has some 400 MB and 10 million networks; the nodes of a hostile file can
// be shared so that it says 2^128 networks.
const (
	maxSize     = 2 << 30 // octets
	maxNetworks = 1 << 26
	sampled     = 1000 // records that tell the layout
)

// DB is an open database. It may be used by many goroutines.
type DB struct {
	file   string
	reader *maxminddb.Reader
	fields map[string]bool // top-level fields of the first records
	flat   bool
}

// Open reads a database into memory and looks at its first records.
func Open(file string) (*DB, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if len(b) > maxSize {
		return nil, fmt.Errorf("%s has more than %d octets, expected a MaxMind database", file, maxSize)
	}
	return OpenBytes(file, b)
}

// OpenBytes is Open of what is in memory, which must not change; file names it in errors.
func OpenBytes(file string, b []byte) (db *DB, err error) {
	reader, err := maxminddb.OpenBytes(b)
	if err != nil {
		var invalid maxminddb.InvalidDatabaseError
		if errors.As(err, &invalid) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("%s is no MaxMind database (.mmdb), or only part of one: %d octets: %w; get the file anew", file, len(b), err)
		}
		return nil, fmt.Errorf("%s is no MaxMind database (.mmdb): %w", file, err)
	}
	if n := reader.Metadata.IPVersion; n != 4 && n != 6 {
		return nil, fmt.Errorf("%s is of IP version %d, expected 4 or 6", file, n)
	}
	db = &DB{file: file, reader: reader, fields: map[string]bool{}}
	count := 0
	for n, err := range db.Networks() {
		if err != nil {
			return nil, err
		}
		if !n.Found() {
			continue
		}
		var fields map[string]any
		if err := n.decode(&fields); err != nil {
			return nil, err
		}
		for name, value := range fields {
			db.fields[name] = true
			if _, text := value.(string); text && name == "country_code" {
				db.flat = true
			}
		}
		if count++; count == sampled {
			break
		}
	}
	if count == 0 {
		return nil, fmt.Errorf("%s (%s) says nothing of any network, expected a database of places or of autonomous systems", file, db.Type())
	}
	return db, nil
}

// Type is what the database says that it is, such as "GeoLite2-City".
func (db *DB) Type() string { return db.reader.Metadata.DatabaseType }

// Built is when the database was made.
func (db *DB) Built() time.Time { return db.reader.Metadata.BuildTime().UTC() }

// Only4 tells that the database has no IPv6.
func (db *DB) Only4() bool { return db.reader.Metadata.IPVersion == 4 }

// CheckPlaces is an error unless the database has countries, and, if coordinates is
// true, coordinates.
func (db *DB) CheckPlaces(coordinates bool) error {
	wrong := func(expected string) error {
		return fmt.Errorf("%s (%s) has no %s: its records have %s; expected a %s", db.file, db.Type(),
			map[bool]string{false: "places", true: "coordinates"}[coordinates], strings.Join(slices.Sorted(maps.Keys(db.fields)), ", "), expected)
	}
	if coordinates && !db.fields["location"] && !db.fields["latitude"] {
		return wrong("City database, such as GeoLite2-City")
	}
	if !db.fields["country"] && !db.fields["continent"] && !db.flat {
		return wrong("City or Country database, such as GeoLite2-City")
	}
	return nil
}

// Network is a part of the address space, and what the database says of it.
type Network struct {
	Prefix  netip.Prefix
	db      *DB
	result  maxminddb.Result
	outside bool // of the database's family
}

// Found tells that the database says something of the network.
func (n Network) Found() bool { return !n.outside && n.result.Found() }

// ID is the same for networks of which the database says the same; it is that of a
// record in the file.
func (n Network) ID() uint64 { return uint64(n.result.Offset()) }

func (n Network) decode(into any) error {
	if err := n.result.Decode(into); err != nil {
		return n.db.damaged(n.Prefix, err)
	}
	return nil
}

func (db *DB) damaged(where netip.Prefix, err error) error {
	return fmt.Errorf("%s (%s) is damaged at %s: %w; get the file anew", db.file, db.Type(), where, err)
}

// Networks gives all networks, those of which the database says nothing as well, in the
// order of their addresses, IPv4 first, and then ends, or ends with an error.
func (db *DB) Networks() iter.Seq2[Network, error] { return db.networks(maxNetworks) }

func (db *DB) networks(most int) iter.Seq2[Network, error] {
	return func(yield func(Network, error) bool) {
		count, last := 0, netip.Prefix{}
		for r := range db.reader.Networks(maxminddb.IncludeNetworksWithoutData()) {
			if err := r.Err(); err != nil {
				yield(Network{}, db.damaged(last, err))
				return
			}
			last = r.Prefix()
			if count++; count > most {
				yield(Network{}, fmt.Errorf("%s (%s) has more than %d networks: it is damaged, or made to do harm", db.file, db.Type(), most))
				return
			}
			if !yield(Network{Prefix: last, db: db, result: r}, nil) {
				return
			}
		}
	}
}

// Lookup gives what the database says of an address; the Network's Prefix is the part of
// the address space that it says it of.
func (db *DB) Lookup(a netip.Addr) (Network, error) {
	a = a.Unmap()
	if a.Is6() && db.Only4() {
		return Network{Prefix: netip.PrefixFrom(netip.IPv6Unspecified(), 0), db: db, outside: true}, nil
	}
	r := db.reader.Lookup(a)
	n := Network{Prefix: r.Prefix(), db: db, result: r}
	if err := r.Err(); err != nil {
		return Network{}, db.damaged(netip.PrefixFrom(a, a.BitLen()), err)
	}
	return n, nil
}

// Place is where a network is. Texts that the database does not say are empty.
type Place struct {
	Continent    string   // AF, AN, AS, EU, NA, OC or SA
	Country      string   // ISO 3166-1, two upper-case letters
	Subdivisions []string // ISO 3166-2 without the country, or names where a database has no codes; the largest first
	City         string   // in English
	Latitude     float64  // degrees north
	Longitude    float64  // degrees east
	Located      bool     // latitude and longitude are said
}

// Place reads where the network is; of a network that was not found it is empty.
func (n Network) Place() (Place, error) {
	var p Place
	if !n.Found() {
		return p, nil
	}
	if n.db.flat {
		return n.flatPlace()
	}
	var r struct {
		Continent struct {
			Code string `maxminddb:"code"`
		} `maxminddb:"continent"`
		Country struct {
			Code string `maxminddb:"iso_code"`
		} `maxminddb:"country"`
		Subdivisions []struct {
			Code string `maxminddb:"iso_code"`
		} `maxminddb:"subdivisions"`
		City struct {
			Names struct {
				English string `maxminddb:"en"`
			} `maxminddb:"names"`
		} `maxminddb:"city"`
		Location struct {
			Latitude  *float64 `maxminddb:"latitude"`
			Longitude *float64 `maxminddb:"longitude"`
		} `maxminddb:"location"`
	}
	if err := n.decode(&r); err != nil {
		return p, err
	}
	p = Place{Continent: r.Continent.Code, Country: r.Country.Code, City: r.City.Names.English}
	for _, s := range r.Subdivisions {
		p.Subdivisions = append(p.Subdivisions, s.Code)
	}
	p.at(r.Location.Latitude, r.Location.Longitude)
	return p, nil
}

func (p *Place) at(latitude, longitude *float64) {
	if latitude != nil && longitude != nil && *latitude >= -90 && *latitude <= 90 && *longitude >= -180 && *longitude <= 180 {
		p.Latitude, p.Longitude, p.Located = *latitude, *longitude, true
	}
}

// flatPlace is Place in the layout of ip-location-db: no continents, and regions by name.
func (n Network) flatPlace() (p Place, err error) {
	var r struct {
		Country   string   `maxminddb:"country_code"`
		State1    string   `maxminddb:"state1"`
		State2    string   `maxminddb:"state2"`
		City      string   `maxminddb:"city"`
		Latitude  *float64 `maxminddb:"latitude"`
		Longitude *float64 `maxminddb:"longitude"`
	}
	if err := n.decode(&r); err != nil {
		return p, err
	}
	p = Place{Continent: Continent(r.Country), Country: r.Country, City: r.City}
	for _, s := range []string{r.State1, r.State2} {
		if s != "" {
			p.Subdivisions = append(p.Subdivisions, cmp.Or(subdivisions[r.Country+" "+s], s))
		}
	}
	p.at(r.Latitude, r.Longitude)
	return p, nil
}

// System is an autonomous system.
type System struct {
	Number       uint32 // 0: not said
	Organization string
}

// System reads to which autonomous system the network belongs.
func (n Network) System() (System, error) {
	var r struct {
		Number       uint32 `maxminddb:"autonomous_system_number"`
		Organization string `maxminddb:"autonomous_system_organization"`
	}
	if !n.Found() {
		return System{}, nil
	}
	if err := n.decode(&r); err != nil {
		return System{}, err
	}
	return System(r), nil
}

// Value reads what stands at a path, such as country, iso_code, as text: a string as it
// is, a number in decimal. It is empty, and ok false, when nothing stands there or
// something else.
func (n Network) Value(path ...string) (value string, ok bool, err error) {
	if !n.Found() {
		return "", false, nil
	}
	var v any
	if err := n.decode(&v); err != nil {
		return "", false, err
	}
	for _, key := range path {
		switch in := v.(type) {
		case map[string]any:
			v = in[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(in) {
				return "", false, nil
			}
			v = in[i]
		default:
			return "", false, nil
		}
	}
	switch v := v.(type) {
	case string:
		return v, true, nil
	case uint64:
		return strconv.FormatUint(v, 10), true, nil
	}
	return "", false, nil
}
