//go:build interop && linux

package usertest

import (
	"fmt"
	"net/http"
	"net/netip"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/e2e"
	"github.com/zonecast/zonecast/rtt"
)

// pages are served at another origin than the beacon. The first is loaded again and again. The
// others are of users who do not want to be measured, frames of the first.
var pages = map[string]string{
	"/":    `<!doctype html><title>page</title><meta http-equiv="refresh" content="6"><script async src="http://beacon.example.net:8080/beacon.js"></script><iframe src="/gpc"></iframe><iframe src="/dnt"></iframe>`,
	"/gpc": `<!doctype html><script>Object.defineProperty(navigator, "globalPrivacyControl", {value: true})</script><script src="http://beacon.example.net:8080/beacon.js"></script>`,
	"/dnt": `<!doctype html><script>Object.defineProperty(navigator, "doNotTrack", {value: "1"})</script><script src="http://beacon.example.net:8080/beacon.js"></script>`,
}

// servePages serves them at page.example.net:8081, and counts the first.
func (l *lab) servePages() (loads *atomic.Int64) {
	l.t.Helper()
	ln, err := l.edge.Listen(netip.AddrPortFrom(l.edge.Addr, 8081))
	if err != nil {
		l.t.Fatal(err)
	}
	loads = new(atomic.Int64)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			loads.Add(1)
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, pages[r.URL.Path])
	})}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(ln) }()
	l.t.Cleanup(func() { server.Close(); <-done })
	return loads
}

// browse opens the page in Chromium, with the group's resolver as the machine's.
func (g *group) browse() *e2e.Process {
	l := g.lab
	l.t.Helper()
	name := fmt.Sprint("browser", g.number)
	l.write(name+"/resolv.conf", fmt.Sprintf("nameserver %s\n", g.resolver.Addr()))
	return e2e.StartCommand(l.t, name, g.Argv("unshare", "-m", "sh", "-c", `mount --bind "$1" /etc/resolv.conf && shift && exec "$@"`, "sh", l.path(name, "resolv.conf"),
		"chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update",
		// The addresses of this test are local ones to the browser, as those of a company's own.
		"--disable-features=LocalNetworkAccessChecks,OptimizationHints", "--user-data-dir="+l.path(name, "profile"), "--remote-debugging-port=0", "http://page.example.net:8081/")...)
}

// TestInteropBrowser: a real browser loads a page and measures, by resolvers that send the client
// subnet, that do not, and that are several; what is joined says how far the PoPs are.
func TestInteropBrowser(t *testing.T) {
	for _, tool := range []string{"chromium", "/usr/sbin/unbound"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not there: scripts/install-test-deps.sh installs it", tool)
		}
	}
	l := newLab(t, "--beacon-write", "300ms", "--beacon-grace", "3s")
	loads := l.servePages()
	l.seat()
	for _, g := range []*group{l.groups[0], l.groups[2], l.groups[3]} {
		began, before := time.Now(), loads.Load()
		browser := g.browse()
		l.eventually(fmt.Sprintf("group %d is measured", g.number), 2*time.Minute, func() error {
			table, err := l.times()
			if err != nil {
				return err
			}
			for _, k := range g.seen {
				if err := holds(table, k, g, 1); err != nil {
					return fmt.Errorf("%w; %s", err, l.outcomes())
				}
			}
			return nil
		})
		browser.Stop()
		t.Logf("group %d: measured by a browser after %v, %d loads of the page", g.number, time.Since(began).Round(100*time.Millisecond), loads.Load()-before)
	}
	// Only who wants to: of three pages of each load one may measure.
	got, err := l.counters("zonecast_beacon_starts_total")
	if err != nil || got["issued"] < 3 || int64(got["issued"]) > loads.Load() || len(got) != 1 {
		t.Errorf("starts %v, %v, of %d loads", got, err, loads.Load())
	}
	if got, err := l.counters("zonecast_beacon_reports_total"); err != nil || len(got) != 1 {
		t.Errorf("reports %v, %v: expected none that are not taken", got, err)
	}
	if got, err := l.counters("zonecast_beacon_joined_total"); err != nil || got["both"] < 3 {
		t.Errorf("joined %v, %v", got, err)
	}
}

// outcomes are all of the beacon's counters, for people.
func (l *lab) outcomes() string {
	text := ""
	for _, name := range []string{"starts", "reports", "queries", "joined"} {
		got, err := l.counters("zonecast_beacon_" + name + "_total")
		text += fmt.Sprint(name, " ", got)
		if err != nil {
			text += " " + err.Error()
		}
		text += " "
	}
	return text
}

// seat makes the groups and their resolvers.
func (l *lab) seat() {
	l.t.Helper()
	const ms = time.Millisecond
	subnet, _ := l.unbound(1, true)
	plain, plainKey := l.unbound(2, false)
	farm, farmKeys := l.farm(3, 2)
	for i, delays := range [][]time.Duration{{5 * ms, 30 * ms, 45 * ms}, {30 * ms, 5 * ms, 45 * ms}, {45 * ms, 30 * ms, 5 * ms}, {40 * ms, 10 * ms, 25 * ms}} {
		g := l.group(delays...)
		client, _ := rtt.OfAddr(rtt.Client, g.user(0))
		switch i {
		case 0, 1:
			g.resolver, g.seen = subnet, []rtt.Key{client}
		case 2:
			g.resolver, g.seen = plain, []rtt.Key{client, plainKey}
		case 3:
			g.resolver, g.seen = farm, append([]rtt.Key{client}, farmKeys...)
		}
	}
	for _, g := range l.groups {
		l.eventually(fmt.Sprintf("group %d resolves", g.number), 20*time.Second, func() error {
			_, err := g.steered()
			return err
		})
	}
}
