package floor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zonecast/zonecast/announcer/state"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// Config says how many hosts of a VIP have to stay.
type Config struct {
	// Keep is how many hosts at least, KeepPercent which part of those that are there, rounded
	// up; the greater counts. Zero of both lets the last one go.
	Keep        int `option:"keep" help:"how many hosts of a VIP have to go on announcing it"`
	KeepPercent int `option:"keep-percent" help:"how many of a VIP's hosts have to go on announcing it, in percent, rounded up"`
}

// DefaultConfig keeps half of the hosts, and one at least.
func DefaultConfig() Config { return Config{Keep: 1, KeepPercent: 50} }

// Validate tells what is wrong, by the option's name.
func (c Config) Validate() error {
	var errs []error
	if c.Keep < 0 || c.Keep > 1_000_000 {
		errs = append(errs, fmt.Errorf("keep is %d, expected 0 to 1000000", c.Keep))
	}
	if c.KeepPercent < 0 || c.KeepPercent > 100 {
		errs = append(errs, fmt.Errorf("keep-percent is %d, expected 0 to 100", c.KeepPercent))
	}
	return errors.Join(errs...)
}

// Floor takes and gives back leases of one VIP for one host. It may be used by several
// goroutines.
type Floor struct {
	cfg       Config
	store     store.Store
	vip, host string
	now       func() time.Time
}

// New makes a Floor.
func New(cfg Config, st store.Store, vip, host string, now func() time.Time) *Floor {
	return &Floor{cfg, st, vip, host, now}
}

// attempts bounds how often a lease is tried against others that come first.
const attempts = 20

// Ask asks for a lease. able tells that this host could answer: then only hosts that can are
// counted among those that stay. why goes into the lease. The text says why it is not granted.
func (f *Floor) Ask(ctx context.Context, able bool, why string) (state.Lease, string) {
	for range attempts {
		lease, text, err := f.try(ctx, able, why)
		switch {
		case errors.Is(err, store.ErrConflict):
			continue
		case err != nil:
			return state.Unreachable, "the store does not answer, and without it nothing is withdrawn: " + err.Error()
		}
		return lease, text
	}
	return state.Unreachable, fmt.Sprintf("others were faster %d times", attempts)
}

func (f *Floor) try(ctx context.Context, able bool, why string) (state.Lease, string, error) {
	now, err := f.read(ctx)
	if err != nil {
		return 0, "", err
	}
	stay, keep := now.staying(f.host, able), f.cfg.keep(now.hosts, f.host)
	if stay < keep {
		what := "announce it"
		if able {
			what = "announce it and can answer"
		}
		return state.Refused, fmt.Sprintf("the floor keeps it: %d others of %d hosts %s, and %d have to stay", stay, now.members(f.host), what, keep), nil
	}
	return state.Granted, "", f.write(ctx, now, &tree.VIPLease{Host: f.host, Since: f.now().UnixMilli(), Why: why})
}

// Return gives the lease back: the host announces again.
func (f *Floor) Return(ctx context.Context) error {
	for {
		now, err := f.read(ctx)
		if err != nil || !now.leased(f.host) {
			return err
		}
		if err = f.write(ctx, now, nil); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// picture is a VIP in the store at one moment.
type picture struct {
	hosts map[string]tree.VIPHost
	floor tree.VIPFloor
	at    store.Revision // of the floor's node; 0: there is none
}

func (f *Floor) read(ctx context.Context) (picture, error) {
	nodes, _, err := f.store.List(ctx, tree.VIPPrefix(f.vip))
	if err != nil {
		return picture{}, err
	}
	p := picture{hosts: map[string]tree.VIPHost{}}
	for _, n := range nodes {
		if n.Path == tree.VIPFloorPath(f.vip) {
			p.at = n.Modified
			if err := tree.Decode(n, &p.floor); err != nil {
				return picture{}, err
			}
			continue
		}
		var h tree.VIPHost
		if err := tree.Decode(n, &h); err != nil {
			h = tree.VIPHost{} // it is a member, and nobody counts on it
		}
		p.hosts[strings.TrimPrefix(n.Path, tree.VIPPrefix(f.vip))] = h
	}
	return p, nil
}

// write puts the leases of p without those of hosts that are gone, and with this host's as
// lease says.
func (f *Floor) write(ctx context.Context, p picture, lease *tree.VIPLease) error {
	next := tree.VIPFloor{Leases: []tree.VIPLease{}}
	for _, l := range p.floor.Leases {
		if _, there := p.hosts[l.Host]; there && l.Host != f.host {
			next.Leases = append(next.Leases, l)
		}
	}
	if lease != nil {
		next.Leases = append(next.Leases, *lease)
	}
	path := tree.VIPFloorPath(f.vip)
	_, err := f.store.Commit(ctx, store.Txn{If: []store.Cond{{Path: path, Modified: p.at}}, Do: []store.Op{{Path: path, Value: tree.Encode(next)}}})
	return err
}

func (p picture) leased(host string) bool {
	return slices.ContainsFunc(p.floor.Leases, func(l tree.VIPLease) bool { return l.Host == host })
}

// staying is how many hosts besides this one announce it and have no lease.
func (p picture) staying(host string, able bool) (n int) {
	for name, h := range p.hosts {
		if name == host || !h.Announced || p.leased(name) {
			continue
		}
		if s, _ := state.Parse(h.State); able && s != state.Up && s != state.Degraded {
			continue
		}
		n++
	}
	return n
}

func (p picture) members(host string) int {
	n := len(p.hosts)
	if _, there := p.hosts[host]; !there {
		n++
	}
	return n
}

func (c Config) keep(hosts map[string]tree.VIPHost, host string) int {
	n := picture{hosts: hosts}.members(host)
	return max(c.Keep, (n*c.KeepPercent+99)/100)
}
