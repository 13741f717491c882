package doctor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zonecast/zonecast/internal/daemon"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/internal/freshness"
	"github.com/zonecast/zonecast/record"
)

// reachable is where this machine asks what listens on a.
func reachable(a netip.AddrPort) netip.AddrPort {
	if !a.Addr().IsUnspecified() {
		return a
	}
	if a.Addr().Is6() {
		return netip.AddrPortFrom(netip.IPv6Loopback(), a.Port())
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port())
}

// asks asks for the freshness record.
func asks(ctx context.Context, f Facts, at netip.AddrPort, tcp bool) (freshness.Stamp, error) {
	owner, err := freshness.Name(f.FreshZone, f.Dataset)
	if err != nil {
		return freshness.Stamp{}, err
	}
	question := dnswire.Query
	if slices.Contains(f.Recursor, at) {
		question = dnswire.QueryRecursor
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r, err := question(ctx, reachable(at), owner, record.TypeTXT, tcp)
	if err != nil {
		return freshness.Stamp{}, err
	}
	return freshness.Of(r, owner)
}

// answers is the verdict on servers that should give the freshness record.
func answers(ctx context.Context, f Facts, at []netip.AddrPort, tcp bool, part string) Finding {
	if len(at) == 0 {
		return skip("no " + part + " runs here")
	}
	how := map[bool]string{false: "UDP", true: "TCP"}[tcp]
	found := ""
	for _, a := range at {
		stamp, err := asks(ctx, f, a, tcp)
		if err != nil {
			return bad(fmt.Sprintf("%s over %s: %v", a, how, err), "see whether the "+part+" runs and what its log says; a firewall may be between; no answer from one that runs: it hangs, and `zonecast run host` starts it again")
		}
		age := time.Since(stamp.Time)
		found = fmt.Sprintf("version %d, %s old, over %s", stamp.Version, age.Round(100*time.Millisecond), how)
		if age > ageWarn {
			return warn(found, "it answers what it has: see the checks of the journal and the store")
		}
		if age < -ageWarn {
			return warn(found, "this clock is behind, or that of the mutator ahead: see the check of the clock")
		}
	}
	return ok(found)
}

func authorityAnswers(ctx context.Context, f Facts) Finding {
	return answers(ctx, f, f.Authority, false, "authority")
}

func authorityTCP(ctx context.Context, f Facts) Finding {
	return answers(ctx, f, f.Authority, true, "authority")
}

func recursorAnswers(ctx context.Context, f Facts) Finding {
	return answers(ctx, f, f.Recursor, false, "recursor")
}

var unboundVersion = regexp.MustCompile(`(?m)^Version (\d+)\.(\d+)\S*`)

func unbound(ctx context.Context, f Facts) Finding {
	if len(f.Recursor) == 0 {
		return skip("no recursor runs here")
	}
	path := f.Unbound
	if path == "" {
		var err error
		if path, err = daemon.Find("unbound"); err != nil {
			return bad("Unbound is not installed", "apt-get install unbound; where Debian starts it by itself: systemctl disable --now unbound")
		}
	}
	out, err := exec.CommandContext(ctx, path, "-V").CombinedOutput()
	m := unboundVersion.FindStringSubmatch(string(out))
	if m == nil {
		return bad(fmt.Sprintf("%s -V does not say its version (%v)", path, err), "reinstall unbound, or set recursor.unbound")
	}
	major, _ := strconv.Atoi(m[1]) // the expression says that they are numbers
	minor, _ := strconv.Atoi(m[2])
	if major < 1 || major == 1 && minor < 13 {
		return bad(path+" is "+m[0]+", which does not know all options that are used", "install 1.13 or later")
	}
	return ok(path + " is " + m[0])
}

func unboundConf(ctx context.Context, f Facts) Finding {
	if len(f.Recursor) == 0 {
		return skip("no recursor runs here")
	}
	conf := filepath.Join(f.RecursorDir, "unbound.conf")
	if _, err := os.Stat(conf); err != nil {
		return bad(err.Error(), "start the recursor, which writes it; its log says why it did not")
	}
	path, err := daemon.Find("unbound-checkconf")
	if err != nil {
		return skip(err.Error())
	}
	if out, err := exec.CommandContext(ctx, path, conf).CombinedOutput(); err != nil {
		return bad(fmt.Sprintf("unbound-checkconf refuses %s: %s", conf, clip(string(out))), "the file was changed by somebody else, or Unbound was exchanged: start the recursor again, which writes it anew")
	}
	return ok(conf + " passes unbound-checkconf")
}

func unboundControl(ctx context.Context, f Facts) Finding {
	if len(f.Recursor) == 0 {
		return skip("no recursor runs here")
	}
	path, err := daemon.Find("unbound-control")
	if err != nil {
		return skip(err.Error())
	}
	out, err := exec.CommandContext(ctx, path, "-c", filepath.Join(f.RecursorDir, "unbound.conf"), "status").CombinedOutput()
	if err != nil {
		return bad("unbound-control: "+clip(string(out)), "without it changes are seen only when their TTL is over: see whether Unbound runs, and that its socket belongs to the recursor's user (or run the doctor as that)")
	}
	return ok("Unbound is under control")
}

// clip is a text as one line that is not too long.
func clip(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 300 {
		return text[:300] + "…"
	}
	return text
}

func vipAddresses(_ context.Context, f Facts) Finding {
	if len(f.VIPs) == 0 {
		return skip("no announcer runs here")
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return skip(err.Error())
	}
	have := map[netip.Addr]bool{}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			have[p.Addr().Unmap()] = true
		}
	}
	for _, v := range f.VIPs {
		if !have[v] {
			return bad(fmt.Sprintf("no interface has the VIP %s: queries to it are not taken", v), "the announcer adds it to announcer.loopback when it starts (CAP_NET_ADMIN); without: ip address add "+v.String()+" dev lo")
		}
		heard := slices.ContainsFunc(slices.Concat(f.Authority, f.Recursor), func(a netip.AddrPort) bool {
			return a.Port() == 53 && (a.Addr() == v || a.Addr().IsUnspecified())
		})
		if !heard {
			return bad(fmt.Sprintf("neither authority nor recursor listens on port 53 of the VIP %s", v), "add it to authority.listen or recursor.listen")
		}
	}
	return ok(fmt.Sprintf("%d, on an interface and listened on", len(f.VIPs)))
}

func bgpPeers(ctx context.Context, f Facts) Finding {
	if len(f.Peers) == 0 {
		return skip("no announcer runs here")
	}
	for _, p := range f.Peers {
		// A route is all that is looked at: a router that sees a third connection may end
		// the announcer's.
		var d net.Dialer
		c, err := d.DialContext(ctx, "udp", p.String())
		if err != nil {
			return bad(fmt.Sprintf("no way to the router %s: %v", p, err), "give this host an address of the router's network")
		}
		c.Close()
	}
	return ok(fmt.Sprintf("%d, all with a route; the check of the status says whether sessions are up", len(f.Peers)))
}
