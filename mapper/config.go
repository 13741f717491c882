package mapper

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/mapper/plan"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
)

// zone is that of the maps.
func (c Config) zone() record.Name {
	if c.Dataset == "" {
		return geo.Zone
	}
	return datasets.MapsZone(c.Dataset)
}

// Config is what a person may set.
type Config struct {
	// Map is the name of the map, and map/<name> its source.
	Map string `option:"map" help:"name of the map"`
	// Uses are the names that are answered by the map.
	Uses []string `option:"uses" help:"names that are answered by the map: www.example.net, or *.example.net for all below"`

	// Dataset is that of the names, where it is beside the one that has maps.zonecast.internal.
	// Empty: that one.
	Dataset string `option:"dataset" help:"dataset that the names are in, of several; empty: that which has maps.zonecast.internal."`

	// RTT are where round-trip times are: directories, or URLs of beacons.
	RTT []string `option:"rtt" help:"where round-trip times are: directories that beacons write (--beacon-out), or their URLs, http://HOST:PORT/rtt"`
	// DemandFile takes the place of what was counted. Empty: that counts.
	DemandFile string `option:"demand" help:"file of demand, CSV with the columns prefix,weight, in place of what beacons count"`
	PinsFile   string `option:"pins" help:"file of pins, CSV with the columns match,pop: a prefix, AS64500, or a country as NL"`
	// ASN and City are asked where too little was measured.
	ASN  []string `option:"asn" help:"MaxMind databases (.mmdb) of autonomous systems"`
	City []string `option:"city" help:"MaxMind databases (.mmdb) of cities or countries"`

	// Everywhere gives who is in no prefix that was measured, or has demand, the order of his autonomous system, country
	// and place, and not that of all together. The map has as many prefixes as that takes.
	Everywhere bool `option:"everywhere" help:"of who is in no prefix that was measured ask the databases where he is, and not all together; the map is as large as that takes"`

	// Every is how often inputs are looked at. Lower follows sooner; a computation of a million
	// prefixes takes some seconds.
	Every time.Duration `option:"every" help:"how often inputs are looked at"`
	// MaxAge is how old a measurement may be to be used.
	MaxAge time.Duration `option:"max-age" help:"how old round-trip times may be to be used"`
	// Stale is how old the newest measurement may be for a new map to be made.
	Stale time.Duration `option:"stale" help:"how old the newest round-trip time may be: beyond it the map stays as it is"`
	// Measurements and Clients are how many a time must come from to be believed.
	Measurements int `option:"measurements" help:"how many measurements a round-trip time needs"`
	Clients      int `option:"clients" help:"how many clients a round-trip time needs"`
	// Enough is from how many newer measurements on older ones are not looked at.
	Enough int `option:"enough" help:"from how many newer measurements on older ones are not looked at; 0: all are"`
	// Weight is how many units of capacity one measured page load a second stands for.
	Weight float64 `option:"weight" help:"units of capacity that one measured page load a second stands for"`
	// Queries counts sampled queries in place of page loads.
	Queries bool `option:"queries" help:"take sampled queries for the demand, in place of page loads"`

	Algorithm       string        `option:"algorithm" help:"how to assign; zonecast map algorithms lists them"`
	Headroom        float64       `option:"headroom" help:"part of each capacity that is left free"`
	Hysteresis      time.Duration `option:"hysteresis" help:"least gain for which a prefix moves"`
	HysteresisShare float64       `option:"hysteresis-share" help:"the same, as a part of its round-trip time; the larger counts"`
	MaxChurn        float64       `option:"max-churn" help:"part of the demand that may move for a gain in one cycle"`
	// MaxEntries bounds the prefixes of a map, for hosts with little memory. Zero is no bound
	// but that of a map (2^23).
	MaxEntries int `option:"max-entries" help:"most prefixes that a map may have; the gains that are least are given up for it; 0: as many as it takes"`

	// SessionTTL is how long after the death of a leading mapper another takes over.
	SessionTTL time.Duration `option:"session-ttl" help:"how long after the death of a mapper another takes over"`
}

// DefaultConfig looks every 30 s.
func DefaultConfig() Config {
	p := plan.DefaultSettings()
	return Config{
		Map: "users", Every: 30 * time.Second, MaxAge: 24 * time.Hour, Stale: time.Hour, Measurements: 5, Clients: 3, Enough: 100, Weight: 1,
		Algorithm: p.Algorithm, Headroom: p.Headroom, Hysteresis: p.Hysteresis, HysteresisShare: p.HysteresisShare, MaxChurn: p.MaxChurn, SessionTTL: 10 * time.Second,
	}
}

// settings are those of the plan.
func (c Config) settings() plan.Settings {
	return plan.Settings{Algorithm: c.Algorithm, Headroom: c.Headroom, Hysteresis: c.Hysteresis, HysteresisShare: c.HysteresisShare, MaxChurn: c.MaxChurn}
}

// Validate tells what is wrong, by the option's name.
func (c Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := (&geo.Map{Name: c.Map}).Check(); err != nil || len(c.Map) > 53 || c.Map == "pops" {
		wrong("map is %q, expected 1 to 53 of a-z, 0-9, hyphen and underscore, and not pops", c.Map) // room for -resolvers
	}
	if strings.HasSuffix(c.Map, resolvers) {
		wrong("map is %q, expected a name that does not end in %s: that is the map by resolvers of another one", c.Map, resolvers)
	}
	if c.Dataset != "" {
		if err := snapshot.CheckName(c.Dataset); err != nil {
			wrong("dataset: %w", err)
		}
	}
	if _, err := c.uses(); err != nil {
		errs = append(errs, err)
	}
	for _, r := range c.RTT {
		if u, err := url.Parse(r); strings.Contains(r, "://") && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
			wrong("rtt is %q, expected a directory, or a URL such as http://192.0.2.1:7390/rtt", r)
		}
	}
	for _, d := range []struct {
		option      string
		is          time.Duration
		least, most time.Duration
	}{{"every", c.Every, time.Second, time.Hour}, {"max-age", c.MaxAge, time.Minute, 90 * 24 * time.Hour}, {"stale", c.Stale, time.Second, c.MaxAge}, {"session-ttl", c.SessionTTL, time.Second, time.Hour}} {
		if d.is < d.least || d.is > d.most {
			wrong("%s is %s, expected %s to %s", d.option, d.is, d.least, d.most)
		}
	}
	if c.Measurements < 1 || c.Clients < 1 || c.Enough < 0 {
		wrong("measurements is %d, clients %d, enough %d, expected at least 1, 1 and 0", c.Measurements, c.Clients, c.Enough)
	}
	if c.MaxEntries < 0 || c.MaxEntries == 1 {
		wrong("max-entries is %d, expected 0 or at least 2", c.MaxEntries)
	}
	if c.Everywhere && len(c.ASN)+len(c.City) == 0 {
		wrong("everywhere is true, and there is no database, expected asn, city or both")
	}
	if !(c.Weight > 0 && c.Weight <= 1e9) {
		wrong("weight is %v, expected above 0 and up to 1e9", c.Weight)
	}
	if err := c.settings().Check(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// uses are Uses parsed, for clients by subnet.
func (c Config) uses() ([]geo.Use, error) {
	var uses []geo.Use
	for _, text := range c.Uses {
		below := strings.HasPrefix(text, "*.")
		name, err := record.ParseName(strings.TrimPrefix(text, "*."))
		if err != nil {
			return nil, fmt.Errorf("uses: %q: %w", text, err)
		}
		uses = append(uses, geo.Use{Name: name, Below: below, Kind: geo.BySubnet})
	}
	return uses, nil
}
