//go:build interop && linux

package viptest

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/tree"
)

// TestInteropVIP: three hosts behind one VIP, ECMP in the router's kernel. Queries spread over all,
// over IPv4 and IPv6; one authority is killed, and comes back; a host is drained; all checks break
// at once, and the floor keeps two; the store dies, and nothing changes.
func TestInteropVIP(t *testing.T) {
	l := newLab(t, options{hosts: 3, announce: []string{"--announcer-drain-for", "500ms"}})
	all := []string{"d1", "d2", "d3"}

	// Routes of a router are taken from none, and given to none.
	if out := l.birdc("show", "route", "all", "for", vip4); !strings.Contains(out, "BGP.med: 100") || strings.Contains(l.on(l.hosts[0].Host, "ip", "route"), "203.0.113") {
		t.Errorf("the router has\n%s", out)
	}

	for _, vip := range []string{vip4, vip6} {
		q := startLoad(l, vip, 24, 20*time.Millisecond)
		l.poll("every host answers", func() bool {
			q.mu.Lock()
			defer q.mu.Unlock()
			return len(q.answered) == 3
		})
		if answered, lost, sent := q.end(); len(lost) > 0 || len(answered) != 3 {
			t.Errorf("%s: of %d queries %d are lost, answers are of %v", vip, sent, len(lost), answered)
		}
	}

	// One is killed.
	q := startLoad(l, vip4, 24, 20*time.Millisecond)
	killed := time.Now()
	l.hosts[0].authority.Kill()
	l.poll("nothing is sent to d1", func() bool {
		return slices.Equal(l.ways(vip4), all[1:]) && slices.Equal(l.ways(vip6), all[1:])
	})
	time.Sleep(300 * time.Millisecond) // of queries that must not be lost any more
	_, lost, sent := q.end()
	took := lastAfter(lost, killed)
	t.Logf("authority killed: %d of %d queries lost, the last one sent %v after", len(lost), sent, took)
	if took > 20*time.Second {
		t.Errorf("queries are lost until %v after the authority was killed", took)
	}
	l.said(l.hosts[0], "down, dead", func(v tree.VIPHost) bool { return v.State == "down" && v.Health == "dead" && !v.Announced })
	l.hosts[0].startAuthority()
	l.await(3)

	// One is drained, and comes back: not one query is lost.
	q = startLoad(l, vip4, 24, 20*time.Millisecond)
	l.order("d2", "drain")
	l.said(l.hosts[1], "down by an order", func(v tree.VIPHost) bool {
		return v.State == "down" && v.Health == "good" && strings.Contains(v.Why, "drain by alice")
	})
	l.poll("nothing is sent to d2", func() bool { return slices.Equal(l.ways(vip4), []string{"d1", "d3"}) })
	l.order("d2", "")
	l.await(3)
	if _, lost, sent := q.end(); len(lost) > 0 {
		t.Errorf("a drain lost %d of %d queries", len(lost), sent)
	}

	// The same record is missing everywhere: half of three hosts stay.
	for _, h := range l.hosts {
		h.fresh("")
	}
	l.poll("two are held and one is down", func() bool {
		held, down := 0, 0
		for _, h := range l.hosts {
			switch v := l.said(h, "anything", func(tree.VIPHost) bool { return true }); v.State {
			case "held":
				held++
			case "down":
				down++
			}
		}
		return held == 2 && down == 1
	})
	l.await(2)
	if out := l.birdc("show", "route", "all", "for", vip4); !strings.Contains(out, "BGP.community: (65535,0)") || !strings.Contains(out, "BGP.med: 1000") || !strings.Contains(out, "BGP.as_path: 65101 65101") {
		t.Errorf("held routes are\n%s", out)
	}

	// Without a store they mend, and one that hangs is kept.
	l.etcd.Kill()
	for _, h := range l.hosts {
		h.fresh("v=8 t=1790000000001 d=00")
	}
	l.poll("all are back, preferred", func() bool {
		return len(l.ways(vip4)) == 3 && !strings.Contains(l.birdc("show", "route", "all", "for", vip4), "65535")
	})
	l.hosts[2].authority.Signal(syscall.SIGSTOP)
	defer l.hosts[2].authority.Signal(syscall.SIGCONT)
	l.poll("d3 is announced, and not preferred", func() bool {
		return slices.Equal(l.ways(vip4), all[:2]) && strings.Contains(l.birdc("show", "route", "all", "for", vip4), "65535")
	})
}
