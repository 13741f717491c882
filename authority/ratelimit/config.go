package ratelimit

import (
	"errors"
	"fmt"
	"net/netip"
)

// Class is what kind of response a limit is for.
type Class uint8

// The classes, and the name that the caller imputes each to.
const (
	Positive Class = iota // the owner of the answer, the wildcard when it is from one; and its type
	NoData                // the name asked for, or the wildcard
	NoName                // NXDOMAIN: the zone
	Referral              // the cut
	Error                 // REFUSED, FORMERR, SERVFAIL and so on: no name, it is left out
	All                   // every response to the prefix; Account counts it by itself
	Classes
)

// String is the class's name in metrics and logs.
func (c Class) String() string {
	return [...]string{"positive", "nodata", "nxdomain", "referral", "error", "all"}[c]
}

// Config is what is limited. The zero Config limits nothing.
type Config struct {
	// PerSecond is how many equal responses a client prefix gets a second. Zero turns
	// off all limits but that of AllPerSecond.
	PerSecond int
	// NoDataPerSecond, NoNamePerSecond, ReferralPerSecond and ErrorPerSecond are for
	// their classes. Zero means PerSecond; negative means no limit.
	NoDataPerSecond, NoNamePerSecond, ReferralPerSecond, ErrorPerSecond int
	// AllPerSecond is how many responses of any kind a client prefix gets a second.
	// Zero means no limit.
	AllPerSecond int
	// Window is for how many seconds at most a flood is remembered after it ended: 1
	// to 3600. Zero means 15.
	Window int
	// Slip makes each Slip-th response over the limit a truncated one: 1 truncates all.
	// Zero means 2; negative drops all, which locks honest clients of a prefix that is
	// attacked out until the window is over.
	Slip int
	// Leak makes each Leak-th response over the limit a whole one. Zero means none.
	Leak int
	// IPv4Prefix and IPv6Prefix are the lengths of the prefixes that are one client: 1
	// to 32 and 1 to 64. Zero means 24 and 56.
	IPv4Prefix, IPv6Prefix int
	// Exempt are clients that are never limited.
	Exempt []netip.Prefix
	// Buckets is the size of the table of each worker, in buckets of 16 octets, a
	// power of two from 64 to 2^28. Zero means 65536: 1 MiB.
	Buckets int
	// Workers is how many share the limit, each with a Limiter of its own: it refills
	// at 1/Workers of the rate. Zero means 1.
	Workers int
}

// Of a Config whose fields are zero.
const (
	defaultWindow     = 15
	defaultSlip       = 2
	defaultIPv4Prefix = 24
	defaultIPv6Prefix = 56
	defaultBuckets    = 1 << 16
	maxRate           = 1_000_000 // a second; more is no limit at all
	maxWorkers        = 4096
)

// off tells whether nothing is limited.
func (c *Config) off() bool { return c.PerSecond == 0 && c.AllPerSecond == 0 }

// rates are those of the classes, a second; zero: no limit.
func (c *Config) rates() (r [Classes]int) {
	if c.PerSecond > 0 {
		for class, v := range [...]int{Positive: 0, NoData: c.NoDataPerSecond, NoName: c.NoNamePerSecond, Referral: c.ReferralPerSecond, Error: c.ErrorPerSecond} {
			if v == 0 {
				v = c.PerSecond
			}
			r[class] = max(v, 0)
		}
	}
	r[All] = c.AllPerSecond
	return r
}

// Validate tells what is wrong, in the words of the authority's options.
func (c Config) Validate() error {
	var errs []error
	for _, f := range []struct {
		name               string
		value, least, most int
	}{
		{"rate-limit", c.PerSecond, 0, maxRate},
		{"rate-limit-nodata", c.NoDataPerSecond, -1, maxRate},
		{"rate-limit-nxdomain", c.NoNamePerSecond, -1, maxRate},
		{"rate-limit-referral", c.ReferralPerSecond, -1, maxRate},
		{"rate-limit-error", c.ErrorPerSecond, -1, maxRate},
		{"rate-limit-all", c.AllPerSecond, 0, maxRate},
		{"rate-limit-window", c.Window, 0, 3600},
		{"rate-limit-slip", c.Slip, -1, 1000},
		{"rate-limit-leak", c.Leak, 0, 1000},
		{"rate-limit-ipv4-prefix", c.IPv4Prefix, 0, 32},
		{"rate-limit-ipv6-prefix", c.IPv6Prefix, 0, 64},
		{"workers", c.Workers, 0, maxWorkers},
	} {
		if f.value < f.least || f.value > f.most {
			errs = append(errs, fmt.Errorf("%s: %d, expected %d to %d", f.name, f.value, f.least, f.most))
		}
	}
	if b := c.Buckets; b != 0 && (b < 64 || b > 1<<28 || b&(b-1) != 0) {
		errs = append(errs, fmt.Errorf("%s: %d, expected a power of two from 64 to %d", "rate-limit-buckets", b, 1<<28))
	}
	for _, p := range c.Exempt {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			errs = append(errs, fmt.Errorf("%s: %s is no prefix without bits behind its length, expected for example 192.0.2.0/24", "rate-limit-exempt", p))
		}
	}
	return errors.Join(errs...)
}
