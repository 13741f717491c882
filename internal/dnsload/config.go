package dnsload

import (
	"fmt"
	"math"
	"net/netip"
	"time"
)

// What a run may be at the most.
const (
	maxThreads = 64
	maxSockets = 1000 // below the 1,024 descriptors that a process usually has
	maxWindow  = 1 << 20
	maxRate    = 100e6 // queries/s; beyond what any machine sends
	maxTime    = time.Hour
	maxTimeout = time.Minute // what the histogram tells apart

	minInterval = 100 * time.Millisecond
)

// Config of a run.
type Config struct {
	Target netip.AddrPort
	// Allowed is the address outside this machine's loopback that may be loaded.
	// The zero value: none.
	Allowed netip.Addr
	// TCP asks over TCP, each connection with many queries on the way.
	TCP bool
	// Rate is how many queries a second become due, whatever the answers do. Zero
	// means the closed loop: Window queries are kept outstanding.
	Rate   float64
	Window int // over all sockets; zero means 256
	// Threads share Rate, Window and Sockets; zero means 1.
	Threads int
	Sockets int // over all threads, at least one each; zero means 8
	// CPUs are those that the threads are pinned to, in turn; the rest of the
	// process may use these only. It stays pinned after the run. Nil: not pinned.
	CPUs []int
	// Time is how long queries are sent; zero means 10 s.
	Time time.Duration
	// Queries ends a run when as many have been sent; zero means no such bound.
	Queries uint64
	// First is the query of the file that is asked first, from 0.
	First int
	// Timeout is when a query counts as lost; zero means 1 s.
	Timeout time.Duration
	// Each is called every Interval with what happened in it; zero means never.
	Interval time.Duration
	Each     func(Interval)
	// ServerPIDs are the processes whose CPU time is set against the answers.
	ServerPIDs []int
}

// WithDefaults gives c with what zero means.
func (c Config) WithDefaults() Config {
	c.Target = netip.AddrPortFrom(c.Target.Addr().Unmap(), c.Target.Port())
	c.Allowed = c.Allowed.Unmap()
	defaultTo(&c.Window, 256)
	defaultTo(&c.Threads, 1)
	defaultTo(&c.Sockets, max(8, c.Threads))
	defaultTo(&c.Time, 10*time.Second)
	defaultTo(&c.Timeout, time.Second)
	return c
}

func defaultTo[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Validate says what is wrong with c, in the words of the command's options.
func (c Config) Validate() error {
	c = c.WithDefaults()
	for _, x := range []struct {
		option    string
		got, most int
	}{{"window", c.Window, maxWindow}, {"threads", c.Threads, maxThreads}, {"sockets", c.Sockets, maxSockets}} {
		if x.got < 1 || x.got > x.most {
			return fmt.Errorf("%s is %d, expected 1 to %d", x.option, x.got, x.most)
		}
	}
	if c.Sockets < c.Threads {
		return fmt.Errorf("sockets is %d with %d threads, expected at least one each", c.Sockets, c.Threads)
	}
	if math.IsNaN(c.Rate) || c.Rate < 0 || c.Rate > maxRate {
		return fmt.Errorf("rate is %g queries a second, expected 0 (as fast as answers come) to %g", c.Rate, float64(maxRate))
	}
	for _, x := range []struct {
		option          string
		got, least, top time.Duration
	}{{"time", c.Time, time.Millisecond, maxTime}, {"timeout", c.Timeout, time.Millisecond, maxTimeout}} {
		if x.got < x.least || x.got > x.top {
			return fmt.Errorf("%s is %v, expected %v to %v", x.option, x.got, x.least, x.top)
		}
	}
	if c.Interval < 0 || c.Interval > 0 && c.Interval < minInterval {
		return fmt.Errorf("interval is %v, expected 0 (none) or at least %v", c.Interval, minInterval)
	}
	if c.First < 0 {
		return fmt.Errorf("the first query is %d, expected 0 or more", c.First)
	}
	if err := checkTarget(c.Target, c.Allowed); err != nil {
		return err
	}
	return checkCPUs(c.CPUs)
}

// A TargetError is a target that must not be loaded.
type TargetError struct{ Target netip.AddrPort }

// Error implements error.
func (e *TargetError) Error() string {
	return fmt.Sprintf("target %s is not on this machine's loopback: load on it can hurt others", e.Target)
}

// checkTarget refuses what is neither loopback nor named.
func checkTarget(t netip.AddrPort, allowed netip.Addr) error {
	switch a := t.Addr(); {
	case !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" || t.Port() == 0:
		return fmt.Errorf("target %s, expected the address of one server and a port, without a zone", t)
	case !a.IsLoopback() && a != allowed:
		return &TargetError{t}
	}
	return nil
}

// share is the part of n that one of of gets; the parts of all make n.
func share(n, i, of int) int { return (i+1)*n/of - i*n/of }
