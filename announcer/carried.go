package announcer

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/zonecast/zonecast/announcer/check"
	"github.com/zonecast/zonecast/announcer/state"
	"github.com/zonecast/zonecast/internal/datasets"
)

// A host may carry several datasets (package datasets), and then its daemons are asked for the
// freshness record of each. What is answered of one counts from its first right answer on: a
// dataset that is taken up, or that nobody makes records of freshness for, takes no route back.

// joining is how long a VIP that is not announced waits for a dataset that was not answered yet.
const joining = time.Minute

// daemon is a daemon of this host, as it answers one dataset.
type daemon struct {
	checker
	target  string // "authority" or "recursor"
	dataset string // whose freshness record it is asked for; empty: it is asked something else
	since   time.Duration
	counts  bool // it has answered rightly, once
	end     context.CancelFunc
}

// begin is with what the host carries at the start. Of that the dataset of the options counts at
// once, and so do those that were answered in an earlier life.
func (a *Announcer) begin(answered []string) error {
	a.datasets = []string{a.cfg.Dataset}
	if a.cfg.Journal != "" {
		want, err := datasets.ReadCarried(a.cfg.Journal, a.cfg.Dataset)
		if err != nil {
			want, a.unread = append(a.datasets, slices.DeleteFunc(slices.Clone(answered), func(d string) bool { return d == a.cfg.Dataset })...), err.Error()
			a.deps.Log.Error("which datasets this host carries cannot be read; those that were answered are asked for", "datasets", want, "error", err)
		}
		a.datasets = want
	}
	for _, d := range a.datasets {
		all, err := a.daemonsOf(d)
		if err != nil {
			return fmt.Errorf("dataset %s: %w", d, err)
		}
		for _, x := range all {
			x.counts = d == a.cfg.Dataset || slices.Contains(answered, d)
		}
		a.daemons = append(a.daemons, all...)
	}
	others, err := a.cfg.targets(a.cfg.Dataset)
	for _, t := range others {
		if !t.Fresh {
			a.daemons = append(a.daemons, &daemon{checker: a.newChecker(t), target: t.Name, counts: true})
		}
	}
	return err
}

// lookCarried goes over to asking for what the host carries now. It is called before any
// verdict is acted on: the authority drops a dataset only after the list says so, so that
// what fails because it was dropped is asked for no more.
func (a *Announcer) lookCarried(ctx context.Context) {
	if a.cfg.Journal == "" {
		return
	}
	want, err := datasets.ReadCarried(a.cfg.Journal, a.cfg.Dataset)
	text := ""
	if err != nil {
		text = err.Error()
	}
	a.mu.Lock()
	news := text != a.unread
	a.unread = text
	now := a.datasets
	a.mu.Unlock()
	if err != nil && news {
		a.deps.Log.Error("which datasets this host carries cannot be read; those that are known are asked for", "error", err)
	}
	if err != nil || slices.Equal(want, now) {
		return
	}
	var fresh []*daemon
	for _, d := range want {
		if !slices.Contains(now, d) {
			all, err := a.daemonsOf(d)
			if err != nil { // the name of the record is too long
				a.deps.Log.Error("dataset cannot be asked for; its answers count for no VIP", "dataset", d, "error", err)
			}
			fresh = append(fresh, all...)
		}
	}
	a.mu.Lock()
	var kept []*daemon
	for _, d := range a.daemons {
		if d.dataset != "" && !slices.Contains(want, d.dataset) {
			d.end()
		} else {
			kept = append(kept, d)
		}
	}
	a.daemons, a.datasets = append(kept, fresh...), want
	a.mu.Unlock()
	for _, d := range fresh {
		a.start(ctx, d)
	}
	a.deps.Log.Info("host carries other datasets", "datasets", want)
	signal(a.moved)
	signal(a.told)
}

// daemonsOf are the daemons that are asked for a dataset.
func (a *Announcer) daemonsOf(dataset string) ([]*daemon, error) {
	targets, err := a.cfg.targets(dataset)
	var out []*daemon
	for _, t := range targets {
		if t.Fresh {
			out = append(out, &daemon{checker: a.newChecker(t), target: t.Name, dataset: dataset, since: a.now()})
		}
	}
	return out, err
}

// start asks a daemon until ctx ends, or d.end is called.
func (a *Announcer) start(ctx context.Context, d *daemon) {
	ctx, d.end = context.WithCancel(ctx)
	a.checks.Go(func() { _ = d.Run(ctx, func() { signal(a.kick) }) }) // which ends with ctx alone
}

// judge is the verdict on a VIP. The caller holds mu.
func (a *Announcer) judge(v *vip) (state.Health, string) {
	var counted, waiting []check.Verdict
	young, joins := false, ""
	for _, d := range a.daemons {
		if !a.cfg.needs(v.name, d.target) {
			continue
		}
		is, _ := d.Verdict()
		if !d.counts && (is.Health == state.Good || is.Health == state.Stale) {
			d.counts = true
			signal(a.moved)
			signal(a.told)
		}
		if d.counts {
			counted = append(counted, is)
			continue
		}
		waiting = append(waiting, is)
		if a.now()-d.since < joining {
			young, joins = true, is.Target
		}
	}
	if len(counted) == 0 && len(waiting) > 0 {
		health, why := check.Worst(waiting)
		if health == state.Bad && young {
			return state.Unknown, why
		}
		return health, why
	}
	health, why := check.Worst(counted)
	if young && !v.state.Announced() && (health == state.Good || health == state.Stale) {
		return state.Unknown, fmt.Sprintf("%s has not answered yet, and is waited for, %v at most", joins, joining)
	}
	return health, why
}

// unanswered says of which datasets nothing was answered yet, though they are carried for long.
func (a *Announcer) unanswered() (out []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range a.daemons {
		if is, _ := d.Verdict(); !d.counts && a.now()-d.since >= joining {
			out = append(out, fmt.Sprintf("%s has never answered, and counts for no VIP until it does: %s", is.Target, is.Why))
		}
	}
	return out
}

// answered are the datasets of which all daemons have answered once: at the next start they count
// from the beginning. The caller holds mu.
func (a *Announcer) answered() (out []string) {
	for _, d := range a.datasets {
		if !slices.ContainsFunc(a.daemons, func(o *daemon) bool { return o.dataset == d && !o.counts }) {
			out = append(out, d)
		}
	}
	return out
}
