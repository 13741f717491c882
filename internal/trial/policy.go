package trial

import (
	"errors"
	"fmt"
	"hash/fnv"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
)

// Bounds of a policy.
const (
	MaxRings     = 16
	maxSelectors = 100
	maxSoak      = 7 * 24 * time.Hour
)

// Ring is some of the hosts, which get a version after those of the rings before.
type Ring struct {
	Name string
	// Soak is how long all live hosts of the ring answer the trial before the next ring gets
	// it. Zero: as long as it takes to judge once.
	Soak time.Duration
	// Hosts select hosts: a name, which may have * and ?; KEY=VALUE, a label of the host; or
	// share:N%, hosts by the hash of their name, of which each share contains the smaller.
	Hosts []string
}

// String is the ring as UnmarshalText takes it.
func (r Ring) String() string {
	return strings.Join(append([]string{r.Name, r.Soak.String()}, r.Hosts...), " ")
}

// MarshalText implements encoding.TextMarshaler.
func (r Ring) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads NAME SOAK HOST...
func (r *Ring) UnmarshalText(text []byte) error {
	words := strings.Fields(string(text))
	if len(words) < 3 {
		return fmt.Errorf("ring %.80q: expected NAME SOAK HOST..., as in \"canary 10m dns1 site=ams\"", text)
	}
	soak, err := time.ParseDuration(words[1])
	if err != nil {
		return fmt.Errorf("ring %.80q: soak is %.40q, expected a duration such as 10m", text, words[1])
	}
	*r = Ring{Name: words[0], Soak: soak, Hosts: words[2:]}
	return r.check()
}

func (r Ring) check() error {
	switch {
	case r.Name == "" || len(r.Name) > 40:
		return fmt.Errorf("ring %.80q: the name has %d octets, expected 1 to 40", r.Name, len(r.Name))
	case r.Soak < 0 || r.Soak > maxSoak:
		return fmt.Errorf("ring %s: soak is %v, expected 0 to %v", r.Name, r.Soak, maxSoak)
	}
	if err := CheckSelectors(r.Hosts); err != nil {
		return fmt.Errorf("ring %s: %w", r.Name, err)
	}
	return nil
}

// CheckSelectors tells why these select no hosts, or nil; see Ring.Hosts.
func CheckSelectors(all []string) error {
	if len(all) == 0 || len(all) > maxSelectors {
		return fmt.Errorf("%d selectors of hosts, expected 1 to %d", len(all), maxSelectors)
	}
	for _, s := range all {
		if text, is := strings.CutPrefix(s, sharePrefix); is {
			if _, err := share(text); err != nil {
				return err
			}
		} else if _, err := path.Match(s, "x"); err != nil || len(s) > 200 {
			return fmt.Errorf("%.80q selects no hosts, expected a name with * and ?, KEY=VALUE or share:N%%", s)
		}
	}
	return nil
}

// sharePrefix begins a selector by hash; shares are counted in parts of shareParts.
const (
	sharePrefix = "share:"
	shareParts  = 10_000
)

func share(text string) (parts uint32, err error) {
	number, ok := strings.CutSuffix(text, "%")
	percent, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(percent > 0 && percent <= 100) {
		return 0, fmt.Errorf("share is %.40q, expected more than 0%% and at most 100%%", text)
	}
	return uint32(percent * shareParts / 100), nil
}

// Has tells whether a host is of the ring. Labels are KEY=VALUE.
func (r Ring) Has(host string, labels []string) bool {
	return slices.ContainsFunc(r.Hosts, func(s string) bool {
		if text, is := strings.CutPrefix(s, sharePrefix); is {
			parts, err := share(text)
			return err == nil && part(host) < parts
		}
		if strings.Contains(s, "=") {
			return slices.Contains(labels, s)
		}
		ok, err := path.Match(s, host)
		return err == nil && ok
	})
}

// part is where among shareParts a host is.
func part(host string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(host)) // does not fail
	return h.Sum32() % shareParts
}

// CheckLabel tells why a label of a host is none, or nil.
func CheckLabel(label string) error {
	key, value, ok := strings.Cut(label, "=")
	if !ok || key == "" || value == "" || len(label) > 200 || strings.ContainsFunc(label, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return fmt.Errorf("label is %.80q, expected KEY=VALUE of printable ASCII without spaces", label)
	}
	return nil
}

// Policy says which changes are tried on some hosts before all have them, and how.
type Policy struct {
	// Rings in the order in which they get a version; all other hosts get it after the last.
	// None: nothing is tried, every change goes to all hosts at once.
	Rings []Ring `json:"rings" option:"rings" help:"rings in their order, each NAME SOAK HOST...; HOST is a name with * and ?, KEY=VALUE (a label of the host) or share:N%; none: no change is tried"`
	// Sources are kinds of sources, or sources, whose changes go by rings. Overrides never do.
	Sources []string `json:"sources" option:"sources" help:"kinds of sources, or sources, whose changes are tried"`
	// Large is how many RRsets a change of any source has that goes by rings. Zero: none does for
	// its size.
	Large int `json:"large" option:"large" help:"RRsets from which on the change of any source is tried; 0 is never"`
	// Limit is how long a trial takes at most: then it is held for a person, whatever the reason.
	Limit time.Duration `json:"limit_ns" option:"limit" help:"how long a trial takes at most before it is held"`
	// Servfail and NXDomain are by how much the share of such answers may rise, of 1. Zero: any
	// rise withdraws, as far as it can be told from chance.
	Servfail float64 `json:"servfail" option:"servfail" help:"by how much the share of SERVFAIL among answers may rise, 0 to 1"`
	NXDomain float64 `json:"nxdomain" option:"nxdomain" help:"by how much the share of NXDOMAIN among answers may rise, 0 to 1"`
	// Load is how many times as much processor time a query may take. Zero: it is not looked at.
	Load float64 `json:"load" option:"load" help:"how many times as much processor time a query may take as before; 0 is not looked at"`
	// Lost is which share of the sampled queries may lose their answer (become NXDOMAIN, NODATA,
	// REFUSED or SERVFAIL) when they are asked of old and new data.
	Lost float64 `json:"lost" option:"lost" help:"share of sampled queries that may lose their answer when replayed, 0 to 1"`
}

// DefaultPolicy has no rings. What people claim would be tried; a zone of which 1 % of the
// queries go is rather a mistake than a wish.
func DefaultPolicy() Policy {
	return Policy{
		Sources: []string{record.KindConfig, record.KindZone}, Large: 1000,
		Limit: 24 * time.Hour, Servfail: 0.001, NXDomain: 0.02, Load: 3, Lost: 0.01,
	}
}

// Validate tells what is wrong, by the option's name.
func (p Policy) Validate() error {
	var errs []error
	report := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(p.Rings) > MaxRings {
		report("rings are %d, at most %d", len(p.Rings), MaxRings)
	}
	names := map[string]bool{}
	total := time.Duration(0)
	for _, r := range p.Rings {
		if err := r.check(); err != nil {
			report("rings: %w", err)
		}
		if names[r.Name] {
			report("rings: there are two called %s", r.Name)
		}
		names[r.Name] = true
		total += r.Soak
	}
	if p.Large < 0 {
		report("large is %d, expected 0 or more", p.Large)
	}
	if len(p.Rings) > 0 && (p.Limit <= total || p.Limit > maxSoak*MaxRings) {
		report("limit is %v, expected more than the %v that the rings soak together", p.Limit, total)
	}
	for _, share := range []struct {
		name  string
		value float64
	}{{"servfail", p.Servfail}, {"nxdomain", p.NXDomain}, {"lost", p.Lost}} {
		if !(share.value >= 0 && share.value <= 1) {
			report("%s is %v, expected 0 to 1", share.name, share.value)
		}
	}
	if !(p.Load >= 0) {
		report("load is %v, expected 0 or more", p.Load)
	}
	for _, s := range p.Sources {
		if s == "" || s == record.KindOverride || strings.HasPrefix(s, record.KindOverride+"/") {
			report("sources has %.80q: overrides do not wait, expected kinds such as config, or sources", s)
		}
	}
	return errors.Join(errs...)
}

// Tries tells why a change of a source with so many RRsets is tried on rings, or "".
func (p Policy) Tries(s record.Source, rrsets int) string {
	switch {
	case len(p.Rings) == 0 || s.Kind() == record.KindOverride || rrsets == 0:
		return ""
	case slices.Contains(p.Sources, s.Kind()) || slices.Contains(p.Sources, string(s)):
		return fmt.Sprintf("changes of %s are tried by rings", s)
	case p.Large > 0 && rrsets >= p.Large:
		return fmt.Sprintf("%d RRsets change, and from %d on a change is tried by rings", rrsets, p.Large)
	}
	return ""
}

// BringsZones tells whether a change does nothing but bring zones where none was: nobody was
// answered anything there, and it is not tried. So a dataset begins, zone by zone. zone gives the
// apex of the zone that a name is in with the change, "" for none.
func BringsZones(ch reconcile.Change, zone func(record.Name) record.Name) bool {
	if len(ch.Old) > 0 || len(ch.Remove) > 0 {
		return false
	}
	apexes := map[record.Name]bool{}
	for _, r := range ch.Put {
		if r.Type == record.TypeSOA {
			above := r.Owner.Parent()
			apexes[r.Owner] = above == "" || zone(above) == ""
		}
	}
	return !slices.ContainsFunc(ch.Put, func(r record.RRset) bool { return !apexes[zone(r.Owner)] })
}

// String is the way of a version.
func (p Policy) String() string {
	if len(p.Rings) == 0 {
		return "no rings: every change goes to all hosts at once"
	}
	var words []string
	for _, r := range p.Rings {
		words = append(words, fmt.Sprintf("%s (%s)", r.Name, r.Soak))
	}
	return strings.Join(append(words, "all hosts"), " → ")
}

// RingOf is the first ring that has a host; len(p.Rings): none has.
func (p Policy) RingOf(host string, labels []string) int {
	if i := slices.IndexFunc(p.Rings, func(r Ring) bool { return r.Has(host, labels) }); i >= 0 {
		return i
	}
	return len(p.Rings)
}
