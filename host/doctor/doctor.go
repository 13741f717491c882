package doctor

import (
	"context"
	"net/netip"
	"time"

	"github.com/zonecast/zonecast/host"
	"github.com/zonecast/zonecast/record"
)

// Verdict is how bad a finding is.
type Verdict string

// The verdicts.
const (
	OK      Verdict = "ok"
	Warn    Verdict = "warning" // it works, and somebody should look
	Bad     Verdict = "bad"     // it does not work, or will not after the next start
	Skipped Verdict = "skipped" // it does not apply here, or cannot be told
)

// Finding is what one check says.
type Finding struct {
	Check   string  `json:"check"`
	Verdict Verdict `json:"verdict"`
	Found   string  `json:"found"`
	Do      string  `json:"do,omitempty"` // empty when there is nothing to do
}

// Facts are what the host is configured to be. Empty fields do not apply.
type Facts struct {
	Config  host.Config
	Program string // the file of zonecast
	File    string // of --config; empty: there is none
	// Mistakes are what is wrong with the options of a part.
	Mistakes map[string]error

	Dataset   string
	FreshZone record.Name
	Journal   string
	StatusDir string
	Keys      []string
	Revoked   string
	HandOver  string
	MaxTCP    int
	Dirs      []string // that the parts write to

	Authority []netip.AddrPort // where it listens
	Recursor  []netip.AddrPort
	// RecursorDir has unbound.conf; Unbound is the program, empty looks for it.
	RecursorDir string
	Unbound     string

	VIPs  []netip.Addr
	Peers []netip.AddrPort
	// Loopback is the device that the announcer puts the VIPs on; empty: somebody else does.
	Loopback string

	// Store asks the store for something; nil: no part needs one.
	Store     func(ctx context.Context) error
	StoreName string
}

// checkTime bounds one check.
const checkTime = 10 * time.Second

// check is one thing to look at.
type check struct {
	name string
	look func(ctx context.Context, f Facts) Finding
}

// checks are all of them, in the order in which one explains the next.
var checks = []check{
	{"options", options},
	{"user", user},
	{"directories", directories},
	{"disk", disk},
	{"memory", memory},
	{"clock", clock},
	{"open files", openFiles},
	{"keys", keys},
	{"journal", journalSound},
	{"journal age", journalAge},
	{"refused", refusedData},
	{"store", reachStore},
	{"processes", processes},
	{"program", program},
	{"port 53", resolved},
	{"ports", ports},
	{"capabilities", capabilities},
	{"hand-over", handOver},
	{"authority", authorityAnswers},
	{"authority tcp", authorityTCP},
	{"serving", servingNewest},
	{"unbound", unbound},
	{"unbound.conf", unboundConf},
	{"unbound-control", unboundControl},
	{"recursor", recursorAnswers},
	{"vip addresses", vipAddresses},
	{"bgp peers", bgpPeers},
	{"status", status},
}

// Names are the checks that Examine makes.
func Names() []string {
	var out []string
	for _, c := range checks {
		out = append(out, c.name)
	}
	return out
}

// Examine makes all checks, one after the other.
func Examine(ctx context.Context, f Facts) []Finding {
	var out []Finding
	for _, c := range checks {
		now, cancel := context.WithTimeout(ctx, checkTime)
		found := c.look(now, f)
		cancel()
		found.Check = c.name
		out = append(out, found)
	}
	return out
}

func ok(found string) Finding       { return Finding{Verdict: OK, Found: found} }
func skip(why string) Finding       { return Finding{Verdict: Skipped, Found: why} }
func warn(found, do string) Finding { return Finding{Verdict: Warn, Found: found, Do: do} }
func bad(found, do string) Finding  { return Finding{Verdict: Bad, Found: found, Do: do} }
