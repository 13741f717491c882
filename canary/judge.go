package canary

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
)

// seen is how the hosts of a ring, and of those before it, stand to a trial.
type seen struct {
	on      []tree.Host // answer it
	off     []string    // do not yet, and why
	empty   bool        // the ring has no live host of its own
	dataset string
}

// silent is after how long an authority that counts nothing more is taken for dead: its agent goes
// on saying what it said last. It counts once a second, and its agent reports as often.
const silent = trial.Lease

// see looks at the hosts.
func (b *bench) see(t *trial.Trial, ring int, now time.Time) seen {
	s := seen{empty: true, dataset: b.cfg.Dataset}
	for _, name := range slices.Sorted(maps.Keys(b.hosts)) {
		h := b.hosts[name]
		h.Name = name
		of := t.Policy.RingOf(name, h.Labels)
		if of > ring || !h.Carry(b.cfg.Dataset) {
			continue
		}
		s.empty = s.empty && of != ring
		switch at := h.Datasets[b.cfg.Dataset].Trial; {
		case at == nil || at.ID != t.ID || at.Number != t.Number:
			s.off = append(s.off, name)
		case at.Refused != "":
			s.off = append(s.off, name+" ("+at.Refused+")")
		case at.Since == 0:
			s.off = append(s.off, name)
		case now.Sub(b.beats[name].since) > silent:
			s.off = append(s.off, fmt.Sprintf("%s (its authority has counted nothing for %v: is it dead?)", name, silent))
		default:
			s.on = append(s.on, h)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.answered)) {
		if _, live := b.hosts[name]; !live {
			s.off = append(s.off, name+" (answered it, and is gone)")
		}
	}
	return s
}

// maxNamed is how many hosts are named in a sentence.
const maxNamed = 5

// waitsFor tells in words which hosts are waited for; "" for none.
func (s seen) waitsFor(ring string) string {
	switch {
	case len(s.on)+len(s.off) == 0:
		return fmt.Sprintf("no host of ring %s is live", ring)
	case len(s.off) == 0:
		return ""
	}
	names := strings.Join(s.off[:min(len(s.off), maxNamed)], ", ")
	if more := len(s.off) - maxNamed; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("waits for %d of %s to answer it: %s", len(s.off), plural(len(s.on)+len(s.off), "host"), names)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// finding is what speaks against a trial, and what else is told of it.
type finding struct{ against, told []string }

const (
	// minAnswers is of how many answers a share is told.
	minAnswers = 100
	// minRate is from how many answers a second on the processor time is theirs rather than that
	// of what runs beside.
	minRate = 100
	// sigmas: a rise beyond the bound must be larger than so many standard deviations of what
	// chance does; 3 is 1 of 700 judgements of equal shares.
	sigmas = 3
)

// weigh judges what hosts answered, and what was replayed (nil: nothing). It is pure.
func weigh(p trial.Policy, s seen, r *replayed) (f finding) {
	var before, after tree.Tally
	for _, h := range s.on {
		at := h.Datasets[s.dataset].Trial
		before, after = sum(before, at.Before), sum(after, at.After)
	}
	if len(s.on) > 0 {
		f.rate("SERVFAIL", p.Servfail, before.Servfail, before.Answers, after.Servfail, after.Answers)
		f.rate("NXDOMAIN", p.NXDomain, before.NXDomain, before.Answers, after.NXDomain, after.Answers)
		f.load(p.Load, before, after)
	}
	if r != nil {
		f.against, f.told = append(f.against, r.against(p)...), append(f.told, r.told()...)
	}
	return f
}

func sum(a, b tree.Tally) tree.Tally {
	return tree.Tally{
		Milliseconds: a.Milliseconds + b.Milliseconds, Answers: a.Answers + b.Answers, Servfail: a.Servfail + b.Servfail,
		NXDomain: a.NXDomain + b.NXDomain, CPU: a.CPU + b.CPU,
	}
}

// rate compares the shares of an RCODE. Before with few answers it is taken for none: of what
// was not counted no rise is told, but of SERVFAIL, which nobody means.
func (f *finding) rate(rcode string, bound float64, was, of, is, ofNow uint64) {
	if ofNow < minAnswers {
		f.told = append(f.told, fmt.Sprintf("%s: %d answers so far, from %d on their share is told", rcode, ofNow, minAnswers))
		return
	}
	now := float64(is) / float64(ofNow)
	if of < minAnswers {
		if rcode != "SERVFAIL" {
			f.told = append(f.told, fmt.Sprintf("%s: %s of %d answers; before there were %d answers, too few to compare", rcode, percent(now), ofNow, of))
			return
		}
		was, of = 0, minAnswers
	}
	then := float64(was) / float64(of)
	pooled := float64(was+is) / float64(of+ofNow)
	chance := sigmas * math.Sqrt(pooled*(1-pooled)*(1/float64(of)+1/float64(ofNow)))
	text := fmt.Sprintf("%s: %s of %d answers, before %s of %d", rcode, percent(now), ofNow, percent(then), of)
	if now-then > bound+chance {
		f.against = append(f.against, fmt.Sprintf("%s; it may rise by %s", text, percent(bound)))
		return
	}
	f.told = append(f.told, text)
}

// load compares the processor time of a query.
func (f *finding) load(bound float64, before, after tree.Tally) {
	busy := func(t tree.Tally) bool {
		return t.Answers >= minAnswers && t.Milliseconds > 0 && float64(t.Answers)*1000/float64(t.Milliseconds) >= minRate
	}
	if bound == 0 || !busy(before) || !busy(after) || before.CPU <= 0 {
		return
	}
	then, now := float64(before.CPU)/float64(before.Answers), float64(after.CPU)/float64(after.Answers)
	text := fmt.Sprintf("processor time: %.1f µs an answer, before %.1f µs", now, then)
	if now > bound*then {
		f.against = append(f.against, fmt.Sprintf("%s; it may take %g times as much", text, bound))
		return
	}
	f.told = append(f.told, text)
}

func percent(share float64) string {
	return fmt.Sprintf("%s %%", strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", 100*share), "0"), "."))
}

// replayed is what came of asking sampled queries of old and new data.
type replayed struct {
	none     string // why nothing was asked; "" it was
	drawn    int64
	hosts    int
	share    float64 // would be answered otherwise
	failing  float64 // would get SERVFAIL
	lost     float64 // would lose their answer, those with SERVFAIL included
	zones    map[string]*zoneShare
	examples []string
}

// zoneShare is which share of all queries loses its answer in a zone, by what they get.
type zoneShare struct {
	share float64
	kinds map[string]float64
}

// noSamples is said while there is nothing to replay.
const noSamples = "no sampled queries to replay yet (--authority-sample, --agent-sample-every)"

// maxZones is how many zones are told of.
const maxZones = 5

func (r *replayed) against(p trial.Policy) (out []string) {
	if r.none != "" {
		return nil
	}
	if r.failing > p.Servfail {
		out = append(out, fmt.Sprintf("replayed: %s of %d sampled queries would get SERVFAIL; at most %s may", percent(r.failing), r.drawn, percent(p.Servfail)))
	}
	if r.lost > p.Lost {
		out = append(out, fmt.Sprintf("replayed: %s of %d sampled queries would lose their answer; at most %s may", percent(r.lost), r.drawn, percent(p.Lost)))
	}
	return out
}

func (r *replayed) told() (out []string) {
	if r.none != "" {
		return []string{r.none}
	}
	out = append(out, fmt.Sprintf("replayed: %s of %d sampled queries of %s would be answered otherwise", percent(r.share), r.drawn, plural(r.hosts, "host")))
	names := slices.SortedFunc(maps.Keys(r.zones), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.zones[b].share, r.zones[a].share), cmp.Compare(a, b))
	})
	for i, name := range names {
		if i == maxZones {
			out = append(out, fmt.Sprintf("and %d more zones", len(names)-maxZones))
			break
		}
		z := r.zones[name]
		var kinds []string
		for _, k := range slices.Sorted(maps.Keys(z.kinds)) {
			kinds = append(kinds, fmt.Sprintf("%s %s", strings.ToUpper(k), percent(z.kinds[k])))
		}
		out = append(out, fmt.Sprintf("in zone %s, of all queries: %s", name, strings.Join(kinds, ", ")))
	}
	return append(out, r.examples...)
}
