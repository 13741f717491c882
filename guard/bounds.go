package guard

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zonecast/zonecast/record"
)

// Our own choices.
const (
	// defaultWindow is about what people take to notice: long enough to add up what a
	// robot does in small changes, short enough that one day's work of people is not
	// added up.
	defaultWindow = 10 * time.Minute
	// defaultFew is two servers: A, AAAA, SSHFP and a management address each.
	defaultFew = 8
	// fewTTLs is what Few is for TTLs: zones of five RRsets have a TTL of 0 everywhere
	// with the third.
	fewTTLs = 2
	// nearZero is the TTL, in seconds, below which a TTL counts as lowered when it is
	// less than a tenth of what it was. From 3600 to 60 or from 86400 to 300 is how
	// people prepare a move.
	nearZero = 60
)

// minWindow and maxWindow bound Bounds.Window: shorter, a burst is no burst any more;
// longer, a day's ordinary changes add up.
const (
	minWindow = time.Second
	maxWindow = 24 * time.Hour
)

// Bounds is what a source may change within a window without a person's consent.
type Bounds struct {
	// Window is the time over which changes add up, 1s to 24h. Longer catches slower
	// robots and lets less through in a day.
	Window time.Duration `json:"window_ns" option:"window" help:"time over which changes add up"`
	// Few is how many RRsets a source may always remove, replace, repoint or create
	// within the window, however small the zone; at least 1.
	Few     int    `json:"few" option:"few" help:"RRsets that may always change, however small the zone"`
	Zone    Limits `json:"zone" option:"zone"`       // of one source in one zone; of the zone's RRsets
	Source  Limits `json:"source" option:"source"`   // of one source in all zones; of the RRsets that it made
	Overall Limits `json:"overall" option:"overall"` // of all sources; of the dataset
	// Lowered bounds RRsets whose TTL falls to 0 or near it, by zone and by source.
	Lowered Bound `json:"ttl_lowered" option:"ttl-lowered" help:"RRsets whose TTL may fall to 0 or near it, by zone and by source: PERCENT% FLOOR..CEILING, or off"`
	// Moved bounds the prefixes of a map that get another order of PoPs, of those that it has.
	Moved Bound `json:"moved" option:"moved" help:"prefixes of a map that may get another order of PoPs: PERCENT% FLOOR..CEILING, or off"`
	// Reviewed has the kinds of sources, or sources, whose changes people look at
	// before they land: they may repoint aliases in numbers. Scripts that write zone
	// files are a reason to take zone out. Empty means none.
	Reviewed []string `json:"reviewed,omitempty" option:"reviewed" help:"kinds of sources, or sources, that people review: they may repoint aliases in numbers"`
	// Protect has names that no robot takes an RRset from, such as those of VIPs;
	// *.x is every name below x.
	Protect []record.Name `json:"protect,omitempty" option:"protect" help:"names that lose no RRset without a person's consent; *.x is all below x"`
}

// Limits has a bound for each way to change an RRset. Each counts RRsets.
type Limits struct {
	Removed  Bound `json:"removed" option:"removed" help:"RRsets that may be removed: PERCENT% FLOOR..CEILING, or off"`
	Replaced Bound `json:"replaced" option:"replaced" help:"RRsets that may get other data or another TTL: PERCENT% FLOOR..CEILING, or off"`
	// Repointed is for CNAMEs of a reviewed source that lead to another name; those of
	// other sources are replaced.
	Repointed Bound `json:"repointed" option:"repointed" help:"CNAMEs that reviewed sources may lead to other names: PERCENT% FLOOR..CEILING, or off"`
	Created   Bound `json:"created" option:"created" help:"RRsets that may be created where some were before: PERCENT% FLOOR..CEILING, or off"`
}

// Bound lets through Percent of what was there when the window began, but at least
// Floor and at most Ceiling. Of a zone the floor is at most half, except for what is
// created. The zero Bound is none: everything is let through.
type Bound struct {
	Percent int // 0 to 100
	Floor   int // RRsets
	Ceiling int // RRsets, at least 1
}

// DefaultBounds hold 4 of the 772 changes that people made of a real fleet's DNS in a
// year (60,000 RRsets in 198 zones), each of which takes a zone away; TestChurn replays
// them. With a Few of 4 it would be 6, because tiny zones get new contents; without
// Reviewed, 16, because 12 lead most aliases of a zone of 680 to another load balancer.
// The most that they remove without taking a zone away is 171 of the 9,494 RRsets of one
// zone (1.8 %), the most that they repoint is 16 % of everything, and the most that they
// create 19 %.
func DefaultBounds() Bounds {
	robot := Bound{Percent: 10, Floor: 25, Ceiling: 1000}
	created := Bound{Percent: 100, Floor: 10_000, Ceiling: 100_000}
	return Bounds{
		Window: defaultWindow, Few: defaultFew,
		Zone:   Limits{Removed: robot, Replaced: robot, Repointed: Bound{100, 25, 1000}, Created: created},
		Source: Limits{Removed: robot, Replaced: robot, Repointed: Bound{100, 25, 2000}, Created: created},
		Overall: Limits{
			Removed: Bound{10, 50, 5000}, Replaced: Bound{10, 50, 5000},
			Repointed: Bound{25, 1000, 25_000}, Created: Bound{50, 20_000, 200_000},
		},
		Lowered:  Bound{Percent: 1, Floor: 10, Ceiling: 100},
		Moved:    Bound{Percent: 20, Floor: 8, Ceiling: 10_000_000},
		Reviewed: []string{record.KindConfig, record.KindZone},
	}
}

// Validate tells what is wrong, by the option's name.
func (b Bounds) Validate() error {
	var errs []error
	report := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if b.Window < minWindow || b.Window > maxWindow {
		report("window is %v, expected %v to %v", b.Window, minWindow, maxWindow)
	}
	if b.Few < 1 {
		report("few is %d, expected at least 1: with less every change of a small zone is held", b.Few)
	}
	for _, o := range b.options() {
		if o.effect == lowered && o.scope != ScopeZone {
			continue // the same option again
		}
		if err := o.bound.check(); err != nil {
			report("%s is %q: %w", o.name, o.bound, err)
			continue
		}
		if few := b.few(o.effect); o.bound != (Bound{}) && o.bound.Ceiling < few {
			report("%s is %q, expected a ceiling of at least %d, which are always let through", o.name, o.bound, few)
		}
	}
	if err := b.Moved.check(); err != nil {
		report("moved is %q: %w", b.Moved, err)
	}
	kinds := []string{record.KindConfig, record.KindZone, record.KindMap, record.KindUpdate, record.KindRule}
	for _, r := range b.Reviewed {
		if s := record.Source(r); !slices.Contains(kinds, r) && (s.Check() != nil || s.Kind() == record.KindOverride) {
			report("reviewed has %q, expected one of %s, or a source such as zone/example.net", r, strings.Join(kinds, ", "))
		}
	}
	for _, n := range b.Protect {
		if n == "" || n.IsWildcard() && n.Parent() == record.Root {
			report("protect has %q, expected a name such as www.example.net or *.vip.example.net", n.String())
		}
	}
	return errors.Join(errs...)
}

// limit is one bound by the name of its option.
type limit struct {
	name   string
	scope  Scope
	effect effect
	bound  Bound
}

// options has every bound.
func (b *Bounds) options() []limit {
	var all []limit
	for _, s := range []struct {
		scope  Scope
		limits Limits
	}{{ScopeZone, b.Zone}, {ScopeSource, b.Source}, {ScopeOverall, b.Overall}} {
		for _, l := range []limit{
			{effect: removed, bound: s.limits.Removed},
			{effect: replaced, bound: s.limits.Replaced},
			{effect: repointed, bound: s.limits.Repointed},
			{effect: created, bound: s.limits.Created},
		} {
			l.scope, l.name = s.scope, string(s.scope)+"-"+string(l.effect.kind())
			all = append(all, l)
		}
	}
	for _, scope := range []Scope{ScopeZone, ScopeSource} {
		all = append(all, limit{string(Lowered), scope, lowered, b.Lowered})
	}
	return all
}

// few is what is always let through.
func (b *Bounds) few(e effect) int {
	if e == lowered {
		return fewTTLs
	}
	return b.Few
}

// reviewed tells whether people look at what the source says before it does.
func (b *Bounds) reviewed(s record.Source) bool {
	kind := s.Kind()
	for _, r := range b.Reviewed {
		if r == kind || r == string(s) {
			return true
		}
	}
	return false
}

func (b Bound) check() error {
	switch {
	case b == Bound{}:
	case b.Percent < 0 || b.Percent > 100:
		return fmt.Errorf("%d %%, expected 0 to 100 %%", b.Percent)
	case b.Floor < 0:
		return fmt.Errorf("the floor is %d, expected 0 or more RRsets", b.Floor)
	case b.Ceiling < 1:
		return fmt.Errorf("the ceiling is %d, which holds everything; expected at least 1 RRset, or off for no bound", b.Ceiling)
	case b.Floor > b.Ceiling:
		return fmt.Errorf("the floor %d is above the ceiling %d", b.Floor, b.Ceiling)
	case b.Percent == 0 && b.Floor == 0:
		return fmt.Errorf("0 %% and a floor of 0 hold everything; expected one of both above 0, or off for no bound")
	}
	return nil
}

// let is how many RRsets the bound lets through, of size that were there.
func (b Bound) let(size, few int, halved bool) int {
	if b == (Bound{}) {
		return math.MaxInt
	}
	floor := b.Floor
	if halved {
		floor = min(floor, size/2)
	}
	return min(max(size*b.Percent/100, floor, few), b.Ceiling)
}

// String is what UnmarshalText reads.
func (b Bound) String() string {
	if b == (Bound{}) {
		return "off"
	}
	return fmt.Sprintf("%d%% %d..%d", b.Percent, b.Floor, b.Ceiling)
}

// MarshalText is String.
func (b Bound) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads "10% 25..1000", or "off". It leaves to Bounds.Validate whether
// the numbers make sense.
func (b *Bound) UnmarshalText(text []byte) error {
	if strings.TrimSpace(string(text)) == "off" {
		*b = Bound{}
		return nil
	}
	wrong := fmt.Errorf("bound is %q, expected PERCENT%% FLOOR..CEILING such as 10%% 25..1000 (10 %%, but at least 25 and at most 1000), or off", text)
	percent, rest, ok := strings.Cut(string(text), "%")
	floor, ceiling, more := strings.Cut(rest, "..")
	if !ok || !more {
		return wrong
	}
	var n [3]int
	for i, s := range []string{percent, floor, ceiling} {
		v, err := strconv.ParseInt(strings.TrimSpace(s), 10, 32)
		if err != nil {
			return wrong
		}
		n[i] = int(v)
	}
	if n == [3]int{} {
		return fmt.Errorf("bound is %q, which would hold everything; expected off for no bound", text)
	}
	*b = Bound{n[0], n[1], n[2]}
	return nil
}
