//go:build interop && linux

package viptest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zonecast/zonecast/internal/e2e"
	"github.com/zonecast/zonecast/internal/nettest"
)

// TestInteropExaBGP: ExaBGP runs the announcer; a host whose authority is killed is withdrawn, and
// comes back; with the announcer its routes go.
func TestInteropExaBGP(t *testing.T) {
	n := nettest.New(t)
	l := &lab{t: t, dir: t.TempDir(), router: n.Host("router", nettest.Line{})}
	h := &host{Host: n.Host("d1", nettest.Line{}), lab: l}
	l.hosts = []*host{h}
	l.startStore()
	bird(l)
	h.zone = filepath.Join(l.dir, h.Name)
	h.fresh("v=7 t=1790000000000 d=00")
	conf := filepath.Join(l.dir, "exabgp.conf")
	run := strings.Join(append(h.arguments(), "--announcer-speaker", "exabgp"), " ")
	text := fmt.Sprintf("process vip { run %s; encoder text; }\nneighbor %s { router-id %s; local-address %s; local-as %d; peer-as %d; hold-time 9; family { ipv4 unicast; ipv6 unicast; } api { processes [ vip ]; } }\n",
		run, l.router.Addr, h.Addr, h.Addr, hostAS, routerAS)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	e2e.StartCommand(t, "exabgp", h.Argv("env", "exabgp.daemon.user=root", "exabgp.api.cli=false", "exabgp.api.ack=true", "exabgp", conf)...)
	h.startAuthority()
	l.await(1)
	if out := l.birdc("show", "route", "all", "for", vip4); !strings.Contains(out, "BGP.med: 100") {
		t.Errorf("the router has\n%s", out)
	}
	h.authority.Kill()
	l.await(0)
	h.startAuthority()
	l.await(1)
}
