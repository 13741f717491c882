package announcer

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/announcer/bgp"
	"github.com/zonecast/zonecast/announcer/check"
	"github.com/zonecast/zonecast/announcer/floor"
	"github.com/zonecast/zonecast/announcer/route"
	"github.com/zonecast/zonecast/internal/freshness"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// Speakers.
const (
	SpeakerBGP    = "bgp"    // the one in this process
	SpeakerExaBGP = "exabgp" // ExaBGP, which runs this process and reads its standard output
)

// Config is what a person may set.
type Config struct {
	// Host is the name under which the host is known, one path element.
	Host string `option:"host" help:"name of this host"`
	// VIPs are the addresses; those of one name come and go together.
	VIPs []route.VIP `option:"vips" help:"service addresses, each NAME=ADDRESS, or NAME=ADDRESS/LENGTH to announce the network around it; addresses of one name go together"`
	// Needs says which daemons a VIP needs, NAME=authority or NAME=recursor; a VIP that is not
	// there needs all that are checked.
	Needs []string `option:"needs" help:"what a VIP needs, NAME=authority or NAME=recursor; a VIP that is not named here needs all that is checked"`
	// Authority and Recursor are where this host's daemons are asked.
	Authority []netip.AddrPort `option:"authority" help:"address:port of this host's authority; it is asked for the freshness record"`
	Recursor  []netip.AddrPort `option:"recursor" help:"address:port of this host's recursor; empty checks none"`
	// RecursorQuery is what the recursor is asked, NAME TYPE; empty is the freshness record.
	RecursorQuery string `option:"recursor-query" help:"what the recursor is asked, NAME TYPE; empty is the freshness record"`
	// Dataset and FreshZone say which the freshness record is.
	Dataset string `option:"dataset" help:"name of the dataset"`
	// Journal is the directory of the host's journal of Dataset, beside which it is said which
	// datasets the host carries: each is asked for. Empty: Dataset alone is.
	Journal   string      `option:"journal" help:"directory of this host's journal, beside which it says which datasets it carries; each is asked for. Empty: the one dataset"`
	FreshZone record.Name `option:"fresh-zone" help:"zone with the freshness record"`

	Check check.Config `option:"check"`
	Floor floor.Config `option:"floor"`

	// Speaker is who speaks BGP.
	Speaker string     `option:"speaker" help:"who speaks BGP: bgp (this process), or exabgp, which runs this process and reads its standard output"`
	BGP     bgp.Config `option:"bgp"`

	// MED of a route: less is preferred, by routers that compare it (those of one AS).
	MED         uint64 `option:"med" help:"MED of a route"`
	DegradedMED uint64 `option:"degraded-med" help:"MED of a route while what is answered is stale"`
	LastMED     uint64 `option:"last-med" help:"MED of a route that is drained, or kept although checks fail"`
	// Prepends are how often the AS stands once more in the path: routers compare that
	// whatever the AS.
	Prepend         int `option:"prepend" help:"how often this AS is prepended to a route"`
	DegradedPrepend int `option:"degraded-prepend" help:"how often this AS is prepended while what is answered is stale"`
	LastPrepend     int `option:"last-prepend" help:"how often this AS is prepended to a route that is drained, or kept although checks fail"`
	// Communities are on every route, the others besides in that state.
	Communities         []route.Community      `option:"communities" help:"communities of a route, AS:VALUE, no-export, no-advertise or graceful-shutdown"`
	LargeCommunities    []route.LargeCommunity `option:"large-communities" help:"large communities of a route, AS:VALUE:VALUE"`
	DegradedCommunities []route.Community      `option:"degraded-communities" help:"communities besides while what is answered is stale"`
	LastCommunities     []route.Community      `option:"last-communities" help:"communities besides of a route that is drained, or kept although checks fail (RFC 8326)"`

	// DrainFor is how long a drained route is announced, least preferred, before it goes.
	DrainFor time.Duration `option:"drain-for" help:"how long a drained route is announced, least preferred, before it goes"`
	// Loopback is the device that gets the addresses; empty: somebody else sees to them.
	Loopback string `option:"loopback" help:"device that gets the addresses of VIPs; empty leaves them to you"`
	// State is a file in which is remembered what is announced: the next start announces it
	// again, be the checks what they may. Meanwhile routers keep it only with graceful
	// restart. Empty: every start is the first.
	State string `option:"state" help:"file in which is remembered what is announced, for the next start to announce it before its checks have a verdict; empty remembers nothing"`
	// SessionTTL is how long after its death the host counts as one that is there.
	SessionTTL time.Duration `option:"session-ttl" help:"how long after its death the host counts as there"`
}

// DefaultConfig needs Host, VIPs and a speaker's options yet.
func DefaultConfig() Config {
	return Config{
		Authority: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}, Dataset: "internal", FreshZone: "\x08zonecast\x08internal\x00",
		Check: check.DefaultConfig(), Floor: floor.DefaultConfig(), Speaker: SpeakerBGP, BGP: bgp.DefaultConfig(),
		MED: 100, DegradedMED: 200, LastMED: 1000, LastPrepend: 1, LastCommunities: []route.Community{route.GracefulShutdown},
		DrainFor: 10 * time.Second, Loopback: "lo", SessionTTL: 10 * time.Second,
	}
}

// maxPrepend is more than any router's policy lets through.
const maxPrepend = 20

// Validate tells what is wrong, by the option's name.
func (c Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := store.CheckPath(tree.HostPath(c.Host)); err != nil || filepath.Base(c.Host) != c.Host || strings.HasPrefix(c.Host, "@") {
		wrong("host is %.80q, expected one path element of printable ASCII that does not begin with @", c.Host)
	}
	if len(c.VIPs) == 0 {
		wrong("vips is empty, expected an address such as dns=192.0.2.53")
	}
	for i, v := range c.VIPs {
		for _, w := range c.VIPs[:i] {
			switch {
			case v.Address == w.Address:
				wrong("vips has the address %s twice, in %s and in %s: a VIP is configured once", v.Address, w, v)
			case v.Prefix == w.Prefix:
				wrong("vips has %s and %s, which are the same route %s: expected one", w, v, v.Prefix)
			}
		}
		if c.Speaker == SpeakerBGP {
			if err := c.BGP.Carries(v.Prefix); err != nil {
				wrong("vips: %w", err)
			}
		}
	}
	for _, n := range c.Needs {
		vip, what, _ := strings.Cut(n, "=")
		switch {
		case !slices.ContainsFunc(c.VIPs, func(v route.VIP) bool { return v.Name == vip }):
			wrong("needs has %.80q, and no VIP is called %.60q", n, vip)
		case what != "authority" && what != "recursor":
			wrong("needs has %.80q, expected NAME=authority or NAME=recursor", n)
		case what == "authority" && len(c.Authority) == 0 || what == "recursor" && len(c.Recursor) == 0:
			wrong("needs has %.80q, and no %s is checked: --announcer-%s says where it is", n, what, what)
		}
	}
	if len(c.Authority)+len(c.Recursor) == 0 {
		wrong("authority and recursor are empty: nothing would be checked")
	}
	if err := snapshot.CheckName(c.Dataset); err != nil {
		wrong("dataset: %w", err)
	}
	if _, err := c.targets(c.Dataset); err != nil {
		errs = append(errs, err)
	}
	for prefix, err := range map[string]error{"check-": c.Check.Validate(), "floor-": c.Floor.Validate()} {
		if err != nil {
			wrong("%s%w", prefix, err)
		}
	}
	switch c.Speaker {
	case SpeakerBGP:
		errs = append(errs, c.BGP.Validate())
	case SpeakerExaBGP:
		if c.BGP.AS == 0 && c.Prepend+c.DegradedPrepend+c.LastPrepend > 0 {
			wrong("bgp-as is 0, and routes are prepended: expected the AS of this host, as ExaBGP has it")
		}
	default:
		wrong("speaker is %.40q, expected bgp or exabgp", c.Speaker)
	}
	for _, n := range []struct {
		key string
		v   uint64
	}{{"med", c.MED}, {"degraded-med", c.DegradedMED}, {"last-med", c.LastMED}} {
		if n.v > 1<<32-1 {
			wrong("%s is %d, at most 4294967295", n.key, n.v)
		}
	}
	if c.MED > c.DegradedMED || c.DegradedMED > c.LastMED {
		wrong("med, degraded-med and last-med are %d, %d and %d: none may be less than the one before", c.MED, c.DegradedMED, c.LastMED)
	}
	for _, n := range []struct {
		key string
		v   int
	}{{"prepend", c.Prepend}, {"degraded-prepend", c.DegradedPrepend}, {"last-prepend", c.LastPrepend}} {
		if n.v < 0 || n.v > maxPrepend {
			wrong("%s is %d, expected 0 to %d", n.key, n.v, maxPrepend)
		}
	}
	if c.DrainFor < 0 || c.DrainFor > time.Hour {
		wrong("drain-for is %v, expected 0s to 1h", c.DrainFor)
	}
	if c.SessionTTL < time.Second {
		wrong("session-ttl is %v, at least 1s", c.SessionTTL)
	}
	return errors.Join(errs...)
}

// targets are the daemons that are asked for a dataset; what is asked for whatever the dataset
// is not Fresh.
func (c Config) targets(dataset string) ([]check.Target, error) {
	fresh, err := freshness.Name(c.FreshZone, dataset)
	if err != nil {
		return nil, fmt.Errorf("fresh-zone: %w", err)
	}
	beside := ""
	if dataset != c.Dataset {
		beside = dataset
	}
	var out []check.Target
	for _, a := range c.Authority {
		out = append(out, check.Target{Name: "authority", Server: a, Owner: fresh, Type: record.TypeTXT, Fresh: true, Dataset: beside})
	}
	asks := check.Target{Name: "recursor", Recursor: true, Owner: fresh, Type: record.TypeTXT, Fresh: true, Dataset: beside}
	if c.RecursorQuery != "" {
		words := strings.Fields(c.RecursorQuery)
		if len(words) != 2 {
			return nil, fmt.Errorf("recursor-query is %.80q, expected NAME TYPE", c.RecursorQuery)
		}
		if asks.Owner, err = record.ParseName(words[0]); err != nil {
			return nil, fmt.Errorf("recursor-query: %w", err)
		}
		if asks.Type, err = record.ParseType(words[1]); err != nil {
			return nil, fmt.Errorf("recursor-query: %w", err)
		}
		asks.Fresh = false
	}
	for _, a := range c.Recursor {
		asks.Server = a
		out = append(out, asks)
	}
	return out, nil
}

// needs tells whether a VIP needs a daemon that is called so.
func (c Config) needs(vip, target string) bool {
	named := false
	for _, n := range c.Needs {
		of, what, _ := strings.Cut(n, "=")
		if of == vip {
			named = true
			if what == target {
				return true
			}
		}
	}
	return !named
}

// Deps is what the stage works with.
type Deps struct {
	Store   store.Store
	Log     *slog.Logger
	Metrics prometheus.Registerer
	// Speaker says how to make one, given what to call when a session comes or goes.
	Speaker func(changed func()) (Speaker, error)
	// Addresses gives the device its addresses, and says which of them go again by remove:
	// those that it added, and those that an earlier life did (ours). Nil: nothing is done.
	Addresses func(device string, addrs, ours []netip.Addr) (added []netip.Addr, remove func() error, err error)
	Now       func() time.Time // nil means time.Now
}
