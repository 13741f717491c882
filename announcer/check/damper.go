package check

import (
	"fmt"
	"time"

	"github.com/zonecast/zonecast/announcer/state"
	"github.com/zonecast/zonecast/internal/freshness"
)

// Damping says how many results of a kind make a verdict.
type Damping struct {
	// Rise is how many good answers in a row bring a daemon up, Fall how many failures in a
	// row take it down.
	Rise int `option:"rise" help:"good answers in a row that bring a daemon up"`
	Fall int `option:"fall" help:"failures in a row that take it down"`
	// DeadFall is Fall for a daemon of which the kernel says that nobody listens: it may be
	// less, as nothing else looks like it but a restart.
	DeadFall int `option:"dead-fall" help:"failures in a row that take it down when nobody listens"`
	// StaleAfter is how long the freshness record may stand still.
	StaleAfter time.Duration `option:"stale-after" help:"how long the freshness record may stand still before answers are stale"`
}

// result is what one check found.
type result struct {
	err   error // nil: it answered rightly
	dead  bool  // nobody listens
	stamp *freshness.Stamp
}

// damper makes verdicts of results. Times are of a monotonic clock, as durations.
type damper struct {
	Damping
	health         state.Health
	why            string
	good, bad      int // in a row
	refused        int // of bad, in a row
	version        uint64
	stamped        time.Time     // by the mutator's clock: it is only compared with itself
	moved          time.Duration // when version or stamped last grew
	stampedBefore  bool
	behind         bool // the last answer was older than one before
	answersVersion uint64
}

// take gives the verdict after another result.
func (d *damper) take(r result, now time.Duration) {
	if r.err != nil {
		d.good = 0
		d.bad++
		d.why = r.err.Error()
		if d.refused++; !r.dead {
			d.refused = 0
		}
		switch {
		case d.refused >= d.DeadFall:
			d.health = state.Dead
		case d.bad >= d.Fall && (d.health != state.Dead || d.refused == 0):
			d.health = state.Bad
		}
		return
	}
	d.bad, d.refused = 0, 0
	d.good++
	if r.stamp != nil {
		d.answersVersion = r.stamp.Version
		d.behind = r.stamp.Version < d.version || r.stamp.Version == d.version && r.stamp.Time.Before(d.stamped)
		if !d.stampedBefore || !d.behind && (r.stamp.Version > d.version || r.stamp.Time.After(d.stamped)) {
			d.version, d.stamped, d.moved, d.stampedBefore = r.stamp.Version, r.stamp.Time, now, true
		}
	}
	if d.good < d.Rise && d.health != state.Good && d.health != state.Stale {
		return
	}
	d.health, d.why = state.Good, ""
	switch still := now - d.moved; {
	case d.behind:
		d.health, d.why = state.Stale, fmt.Sprintf("answers version %d after it answered %d: old data", d.answersVersion, d.version)
	case d.stampedBefore && still >= d.StaleAfter:
		d.health, d.why = state.Stale, fmt.Sprintf("its freshness record stands still at version %d since %s", d.version, still.Round(time.Second))
	}
}

// doubt tells that the next result may change the verdict: it is asked soon.
func (d *damper) doubt() bool {
	switch d.health {
	case state.Good, state.Stale:
		return d.bad > 0
	case state.Unknown:
		return true
	default:
		return d.good > 0
	}
}
