package presenter

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/zonecast/zonecast/internal/tree"
)

// A store that was lost or put back has an older head than what the hosts answer, and
// hosts go back for nobody: they would wait until the versions have come as far again,
// which after a month is a month. A whole version above theirs ends that - and takes
// from them what is not claimed again yet, so that a person must ask for it
// (Config.AboveHosts).

// askEvery is how often the hosts' versions are read while versions are made. Hosts
// report to a new store within their session's ttl.
const askEvery = 10 * time.Second

// maxAnswered bounds what is believed of hosts: 2^53, the largest number that is exact
// in any JSON. Whoever may write to the store may make versions jump, but not run out.
const maxAnswered = 1 << 53

// answered is the newest version that a host says it answers, and which host.
func (p *Presenter) answered(ctx context.Context) (newest uint64, host string, err error) {
	nodes, _, err := p.deps.Store.List(ctx, tree.Hosts)
	if err != nil {
		return 0, "", fmt.Errorf("read what hosts answer: %w", err)
	}
	p.asked = time.Now()
	for _, n := range nodes {
		var h tree.Host
		if tree.Decode(n, &h) != nil {
			continue // the monitor says so
		}
		if v := h.Datasets[p.cfg.Dataset].Version; v > newest && v <= maxAnswered {
			newest, host = v, strings.TrimPrefix(n.Path, tree.Hosts)
		}
	}
	return newest, host, nil
}

// outrun looks whether a host is ahead of the position. With consent it forgets the
// position, and start finds one above the hosts; without it says so.
func (p *Presenter) outrun(ctx context.Context) error {
	if p.pos == nil || time.Since(p.asked) < askEvery {
		return nil
	}
	newest, host, err := p.answered(ctx)
	if err != nil {
		return err
	}
	if p.behind(newest, host, p.pos.version) && p.cfg.AboveHosts {
		p.pos = nil
	}
	return nil
}

// behind tells whether hosts are ahead of a version, and people when that changes.
func (p *Presenter) behind(newest uint64, host string, version uint64) bool {
	was := p.Status().Behind != ""
	why := ""
	if newest > version {
		why = fmt.Sprintf("host %s answers version %d and the store is at %d: it was lost or put back, and hosts keep what they have; "+
			"when its claims are complete again, restart the presenter once with --presenter-above-hosts", host, newest, version)
		if !was {
			p.log.Error("the store is older than what hosts answer", "dataset", p.cfg.Dataset, "host", host, "answered", newest, "version", version, "above-hosts", p.cfg.AboveHosts,
				"hint", "when the claims are complete again, restart the presenter once with --presenter-above-hosts")
		}
	}
	p.note(func(s *Status) { s.Behind = why })
	return why != ""
}
