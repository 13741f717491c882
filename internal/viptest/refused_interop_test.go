//go:build interop && linux

package viptest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zonecast/zonecast/internal/tree"
)

// TestInteropRefusals: every mistake that keeps a session from being is said by the host, in words that
// say what to mend, while another host's session is.
func TestInteropRefusals(t *testing.T) {
	cases := []struct {
		what   string
		change func(h *host)
		says   string // what the session's state has to say
	}{
		{"nothing is wrong", func(*host) {}, " established"},
		{"the router expects another AS of the host", func(h *host) { h.as = hostAS + 1 }, "mend --announcer-bgp-as"},
		{"the router is of another AS than the host believes", func(h *host) { h.peerAS = routerAS + 9 }, "mend --announcer-bgp-peers"},
		{"passwords differ", func(h *host) { h.password = "theirs"; h.passwords("ours") }, "is the password that of the router"},
		{"the router wants a password", func(h *host) { h.password = "theirs" }, "does it want a password"},
		{"the host has a password, the router none", func(h *host) { h.passwords("ours") }, "is the password that of the router"},
		{"the router does not know the host", func(h *host) { h.as = -1 }, "does it know this host as a neighbour, by"},
		{"nobody listens there", func(h *host) { h.peer = h.lab.router.Addr.String() + ":1790" }, "nobody listens on"},
		{"the local address is another's", func(h *host) {
			h.options = append(h.options, "--announcer-bgp-local", "192.0.2.1", "--announcer-bgp-router-id", h.Addr.String())
		}, "mend --announcer-bgp-local"},
		{"nobody is there", func(h *host) { h.peer = "198.18.0.250" }, "198.18.0.250:179 does not answer: is it there"},
	}
	i := 0
	l := newLab(t, options{hosts: len(cases), cold: true, change: func(h *host) {
		cases[i].change(h)
		i++
	}})
	for i, c := range cases {
		v := l.said(l.hosts[i], fmt.Sprintf("%q when %s", c.says, c.what), func(v tree.VIPHost) bool {
			return strings.Contains(strings.Join(v.Sessions, "; "), c.says)
		})
		t.Logf("%s: %s", c.what, v.Sessions)
	}
}

// passwords gives the host a file with a password for the router.
func (h *host) passwords(password string) {
	h.lab.t.Helper()
	file := filepath.Join(h.lab.dir, h.Name+".passwords")
	if err := os.WriteFile(file, fmt.Appendf(nil, "%s %s\n", h.lab.router.Addr, password), 0o600); err != nil {
		h.lab.t.Fatal(err)
	}
	h.options = append(h.options, "--announcer-bgp-passwords", file)
}

// TestInteropKilledAnnouncer: of an announcer that is killed the addresses stay, so that what is under
// way is answered; the next one takes them over, and away at its end.
func TestInteropKilledAnnouncer(t *testing.T) {
	l := newLab(t, options{hosts: 1})
	h := l.hosts[0]
	has := func() bool { return strings.Contains(l.on(h.Host, "ip", "-o", "addr", "show", "lo"), vip4+"/32") }
	h.announcer.Kill()
	if !has() {
		t.Error("the addresses went with an announcer that was killed")
	}
	l.await(0)
	h.startAnnouncer()
	l.await(1)
	h.announcer.Stop()
	if has() {
		t.Error("the addresses of a life before stay after the end")
	}
	l.await(0)
}
