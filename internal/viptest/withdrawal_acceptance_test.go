//go:build acceptance && interop && linux

package viptest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/e2e"
)

// healthcheck starts ExaBGP with its own healthcheck, at its defaults, for both addresses. The file
// of drained disables it.
func healthcheck(h *host) {
	h.lab.t.Helper()
	run := func(ip, more string) string {
		return fmt.Sprintf(`/usr/bin/exabgp-healthcheck --no-syslog --name vip --ip %s %s --disable %s --cmd "dig +tries=1 +time=2 @127.0.0.1 who.example.net TXT"`, ip, more, h.drained())
	}
	text := fmt.Sprintf("process four { run %s; encoder text; }\nprocess six { run %s; encoder text; }\nneighbor %s { router-id %s; local-address %s; local-as %d; peer-as %d; hold-time 9; family { ipv4 unicast; ipv6 unicast; } api { processes [ four, six ]; } }\n",
		run(vip4+"/32", ""), run(vip6+"/128", "--next-hop "+h.Addr6.String()), h.lab.router.Addr, h.Addr, h.Addr, hostAS, routerAS)
	conf := filepath.Join(h.lab.dir, h.Name+".exabgp")
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		h.lab.t.Fatal(err)
	}
	h.announcer = e2e.StartCommand(h.lab.t, "exabgp "+h.Name, h.Argv("env", "exabgp.daemon.user=root", "exabgp.api.cli=false", "exabgp.api.ack=true", "exabgp", conf)...)
}

func (h *host) drained() string { return filepath.Join(h.lab.dir, h.Name+".drained") }

// TestWithdrawal measures, behind BIRD with three hosts, for how long queries are lost after one
// host's authority was killed, and how many a drain loses: of zonecast, and of ExaBGP with its own
// healthcheck at its defaults, over IPv4 and IPv6.
func TestWithdrawal(t *testing.T) {
	const rounds = 5
	speakers := []struct {
		name  string
		speak func(h *host)
		drain func(l *lab, h *host, on bool)
	}{
		{"zonecast", nil, func(l *lab, h *host, on bool) {
			l.order(h.Name, map[bool]string{true: "drain"}[on])
		}},
		{"ExaBGP healthcheck", healthcheck, func(l *lab, h *host, on bool) {
			var err error
			if on {
				err = os.WriteFile(h.drained(), nil, 0o644)
			} else {
				err = os.Remove(h.drained())
			}
			if err != nil {
				l.t.Fatal(err)
			}
		}},
	}
	for _, s := range speakers {
		l := newLab(t, options{hosts: 3, speak: s.speak})
		for _, vip := range []string{vip4, vip6} {
			var took []time.Duration
			lostAll := 0
			for i := range rounds {
				h := l.hosts[i%len(l.hosts)]
				q := startLoad(l, vip, 24, 20*time.Millisecond)
				time.Sleep(500 * time.Millisecond)
				killed := time.Now()
				h.authority.Kill()
				l.poll("nothing is sent to "+h.Name, func() bool { return !slices.Contains(l.ways(vip), h.Name) })
				time.Sleep(time.Second)
				_, lost, _ := q.end()
				took, lostAll = append(took, lastAfter(lost, killed)), lostAll+len(lost)
				h.startAuthority()
				l.await(3)
			}
			slices.Sort(took)
			h := l.hosts[0]
			q := startLoad(l, vip, 24, 20*time.Millisecond)
			time.Sleep(500 * time.Millisecond)
			s.drain(l, h, true)
			l.poll("nothing is sent to "+h.Name, func() bool { return !slices.Contains(l.ways(vip), h.Name) })
			s.drain(l, h, false)
			l.await(3)
			_, lost, sent := q.end()
			t.Logf("%s, %s: authority killed: queries are lost until p50 %v, most %v after (%d rounds, %d lost of 1,200 a second); drained and back: %d of %d lost; %s",
				s.name, vip, took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), rounds, lostAll, len(lost), sent, e2e.Machine())
			if s.speak == nil {
				if took[len(took)-1] > 20*time.Second {
					t.Errorf("%s: queries are lost until %v after the authority was killed", vip, took[len(took)-1])
				}
				if len(lost) > 0 {
					t.Errorf("%s: a drain lost %d of %d queries", vip, len(lost), sent)
				}
			}
		}
		for _, h := range l.hosts {
			h.announcer.Stop()
			h.authority.Stop()
		}
	}
}
