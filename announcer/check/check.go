package check

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zonecast/zonecast/announcer/state"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/internal/freshness"
	"github.com/zonecast/zonecast/record"
)

// Config says how daemons are asked.
type Config struct {
	// Interval is between two checks of a daemon of which nothing is in doubt. A check is a
	// query over UDP and one over TCP.
	Interval time.Duration `option:"interval" help:"time between two checks of a daemon"`
	// Fast is Interval while the next result may change the verdict.
	Fast time.Duration `option:"fast-interval" help:"time between two checks while the next one may change the verdict"`
	// Timeout is how long a daemon has to answer.
	Timeout time.Duration `option:"timeout" help:"how long a daemon has to answer"`
	Damping
}

// DefaultConfig takes a daemon down half a second after it died, and two seconds after it hung.
func DefaultConfig() Config {
	return Config{
		Interval: 500 * time.Millisecond, Fast: 100 * time.Millisecond, Timeout: 500 * time.Millisecond,
		Damping: Damping{Rise: 3, Fall: 3, DeadFall: 2, StaleAfter: 10 * time.Second},
	}
}

// Validate tells what is wrong, by the option's name.
func (c Config) Validate() error {
	var errs []error
	for _, d := range []struct {
		key string
		v   time.Duration
	}{{"interval", c.Interval}, {"fast-interval", c.Fast}, {"timeout", c.Timeout}} {
		if d.v < 10*time.Millisecond || d.v > time.Minute {
			errs = append(errs, fmt.Errorf("%s is %v, expected 10ms to 1m", d.key, d.v))
		}
	}
	for _, n := range []struct {
		key string
		v   int
	}{{"rise", c.Rise}, {"fall", c.Fall}, {"dead-fall", c.DeadFall}} {
		if n.v < 1 || n.v > 1000 {
			errs = append(errs, fmt.Errorf("%s is %d, expected 1 to 1000", n.key, n.v))
		}
	}
	if c.StaleAfter < time.Second {
		errs = append(errs, fmt.Errorf("stale-after is %v, at least 1s", c.StaleAfter))
	}
	return errors.Join(errs...)
}

// Target is a daemon, and the question that it is asked.
type Target struct {
	Name   string // "authority" or "recursor"
	Server netip.AddrPort
	// Recursor tells that recursion is desired.
	Recursor bool
	Owner    record.Name
	Type     record.Type
	// Fresh tells that the answer is a freshness record; otherwise any record will do.
	Fresh bool
	// Dataset is of which it is, for people; empty: of the host's first one, or of none.
	Dataset string
}

func (t Target) String() string {
	text := t.Name + " " + t.Server.String()
	if t.Dataset != "" {
		text += " of dataset " + t.Dataset
	}
	return text
}

// Verdict is what is known of a target.
type Verdict struct {
	Target  string       `json:"target"`
	Health  state.Health `json:"-"`
	Is      string       `json:"health"`
	Why     string       `json:"why,omitempty"`
	Version uint64       `json:"version,omitempty"` // that it answered last
}

// Checker asks one target.
type Checker struct {
	target Target
	cfg    Config
	now    func() time.Duration // monotonic

	mu     sync.Mutex // guards below
	damper damper
	asked  bool
}

// New makes a Checker.
func New(t Target, cfg Config) *Checker {
	began := time.Now()
	return &Checker{target: t, cfg: cfg, now: func() time.Duration { return time.Since(began) }, damper: damper{Damping: cfg.Damping}}
}

// Run asks until ctx ends, and calls changed after each result that changed the verdict.
func (c *Checker) Run(ctx context.Context, changed func()) error {
	for {
		r := c.ask(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.mu.Lock()
		was, first := c.damper.health, !c.asked
		c.asked = true
		c.damper.take(r, c.now())
		now, pause := c.damper.health, c.cfg.Interval
		if c.damper.doubt() {
			pause = min(c.cfg.Fast, c.cfg.Interval)
		}
		c.mu.Unlock()
		if was != now || first {
			changed()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// Verdict gives the present one. asked tells that there was a result at all.
func (c *Checker) Verdict() (v Verdict, asked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := &c.damper
	return Verdict{Target: c.target.String(), Health: d.health, Is: d.health.String(), Why: d.why, Version: d.answersVersion}, c.asked
}

// ask asks once, over UDP and TCP at the same time.
func (c *Checker) ask(ctx context.Context) result {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	var by [2]result
	var g errgroup.Group
	for i, tcp := range []bool{false, true} {
		g.Go(func() error {
			by[i] = c.exchange(ctx, tcp)
			return nil
		})
	}
	_ = g.Wait() // never an error: it is in by
	udp, tcp := by[0], by[1]
	switch {
	case udp.err != nil && tcp.err != nil:
		return result{err: udp.err, dead: udp.dead && tcp.dead}
	case udp.err != nil:
		return result{err: fmt.Errorf("by UDP: %w (TCP is answered)", udp.err)}
	case tcp.err != nil:
		return result{err: fmt.Errorf("by TCP: %w (UDP is answered)", tcp.err)}
	}
	return udp
}

func (c *Checker) exchange(ctx context.Context, tcp bool) result {
	t := c.target
	query := dnswire.Query
	if t.Recursor {
		query = dnswire.QueryRecursor
	}
	r, err := query(ctx, t.Server, t.Owner, t.Type, tcp)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return result{err: fmt.Errorf("nobody listens on %s", t.Server), dead: true}
	case errors.Is(err, context.DeadlineExceeded):
		return result{err: fmt.Errorf("%s does not answer within %v", t.Server, c.cfg.Timeout)}
	case err != nil:
		return result{err: err}
	}
	if t.Fresh {
		s, err := freshness.Of(r, t.Owner)
		if err != nil {
			return result{err: fmt.Errorf("%s %w", t.Server, err)}
		}
		return result{stamp: &s}
	}
	if r.Rcode == 0 {
		for _, rr := range r.Answer {
			if rr.Type == t.Type {
				return result{}
			}
		}
	}
	return result{err: fmt.Errorf("%s answers %s %s with %s and no such record", t.Server, t.Owner, t.Type, r.RcodeName)}
}

// Worst is the verdict on a VIP that needs all of vs: dead when all are, bad when one is bad or
// dead. One that is dead beside one that answers may be what the floor is for.
func Worst(vs []Verdict) (state.Health, string) {
	worst, why, dead := state.Good, "", 0
	rank := func(h state.Health) int {
		return [...]int{state.Good: 0, state.Stale: 1, state.Unknown: 2, state.Bad: 3, state.Dead: 3}[h]
	}
	for _, v := range vs {
		h := v.Health
		if h == state.Dead {
			dead++
		}
		if rank(h) > rank(worst) {
			worst, why = h, v.Target+": "+v.Why
		}
	}
	switch {
	case len(vs) == 0:
		return state.Unknown, "nothing is checked"
	case dead == len(vs):
		return state.Dead, why
	case worst == state.Dead:
		return state.Bad, why
	}
	return worst, why
}
