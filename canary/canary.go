package canary

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/lead"
	"github.com/zonecast/zonecast/internal/replay"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// Config is what a person may set. What is tried and how it is judged is the presenter's policy.
type Config struct {
	// Dataset is the name of the dataset whose trials are judged.
	Dataset string `option:"dataset" help:"name of the dataset"`
	// Every is how often a trial is judged. Lower withdraws sooner; hosts report once a second.
	Every time.Duration `option:"every" help:"how often a trial is judged"`
	// SessionTTL is how long after the death of a leading judge another takes over. Rings soak
	// anew then.
	SessionTTL time.Duration `option:"session-ttl" help:"how long after the death of a judge another takes over"`
}

// DefaultConfig judges once a second.
func DefaultConfig() Config {
	return Config{Dataset: "internal", Every: time.Second, SessionTTL: 5 * time.Second}
}

// Validate tells what is wrong, by the option's name.
func (c Config) Validate() error {
	var errs []error
	if err := snapshot.CheckName(c.Dataset); err != nil {
		errs = append(errs, fmt.Errorf("dataset: %w", err))
	}
	if c.Every < 10*time.Millisecond || c.Every > time.Minute {
		errs = append(errs, fmt.Errorf("every is %v, expected 10ms to 1m", c.Every))
	}
	if c.SessionTTL < time.Second {
		errs = append(errs, fmt.Errorf("session-ttl is %v, at least 1s", c.SessionTTL))
	}
	return errors.Join(errs...)
}

// Deps is what the stage works with.
type Deps struct {
	Store   store.Store
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Fetcher follow.Fetcher
	Name    string // of this process
	// Answers makes a server without data, as hosts run it. Nil: nothing is replayed.
	Answers func() (replay.Server, error)
}

// Canary judges the trials of one dataset.
type Canary struct {
	cfg     Config
	deps    Deps
	judged  *prometheus.CounterVec
	replays prometheus.Counter
}

// New checks the configuration and registers metrics.
func New(cfg Config, deps Deps) (*Canary, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("canary: %w", err)
	}
	labels := prometheus.Labels{"dataset": cfg.Dataset}
	c := &Canary{
		cfg: cfg, deps: deps,
		judged: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "zonecast_canary_judgements_total", Help: "What became of trials: ring (went on to the next one), passed, withdrawn.", ConstLabels: labels,
		}, []string{"outcome"}),
		replays: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "zonecast_canary_replays_total", Help: "Times sampled queries were asked of the data before and after a trial.", ConstLabels: labels,
		}),
	}
	for _, outcome := range []string{"ring", "passed", "withdrawn"} {
		c.judged.WithLabelValues(outcome)
	}
	if err := errors.Join(deps.Metrics.Register(c.judged), deps.Metrics.Register(c.replays)); err != nil {
		return nil, fmt.Errorf("canary: %w", err)
	}
	return c, nil
}

// Run judges while this process leads, until ctx ends.
func (c *Canary) Run(ctx context.Context) error {
	lead.Run(ctx, lead.Election{
		Store: c.deps.Store, Path: tree.ElectCanary + "/" + c.cfg.Dataset, Value: []byte(c.deps.Name), TTL: c.cfg.SessionTTL, Log: c.deps.Log,
	}, c.judge)
	return ctx.Err()
}

// bench is one term of judging. All of it is of one goroutine.
type bench struct {
	*Canary
	fence store.Cond

	hosts map[string]tree.Host
	trial *trial.Trial // nil: there is none
	said  trial.Judgement
	saved time.Time // when said was written here
	// told is which hosts answered, as the store has it, by bucket.
	told map[int]trial.Answered
	// beats is what each host last said that it has counted, and since when it says that.
	beats map[string]beat
	// heard has the prefixes that were read once.
	heard map[string]bool

	// Of the ring that is judged now:
	ring     ringID
	soaking  time.Time // since when all its hosts answer; zero: they do not
	answered map[string]bool
	replayed *replayed // nil: not yet
	tried    time.Time // when it was tried last to replay
	trouble  string    // why that did not work; "": it did, or there was nothing to replay
}

// beat is a sign of life of a host's authority: it counts as long as it lives.
type beat struct {
	counted int64 // TrialState.After.Milliseconds
	since   time.Time
}

// ringID tells apart what soaks anew.
type ringID struct {
	id     string
	begun  int64
	number uint64
	ring   int
}

// judge is a term.
func (c *Canary) judge(ctx context.Context, fence store.Cond) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b := &bench{Canary: c, fence: fence, hosts: map[string]tree.Host{}, told: map[int]trial.Answered{}, beats: map[string]beat{}, heard: map[string]bool{}}
	trials := c.deps.Store.Watch(ctx, tree.Trials+c.cfg.Dataset+"/", 0)
	hosts := c.deps.Store.Watch(ctx, tree.Hosts, 0)
	t := time.NewTicker(c.cfg.Every)
	defer t.Stop()
	for {
		var open bool
		var batch store.Batch
		select {
		case <-ctx.Done():
			return ctx.Err()
		case batch, open = <-trials:
			if open {
				b.takeTrial(batch)
			}
		case batch, open = <-hosts:
			if open {
				b.takeHosts(batch, time.Now())
			}
			continue // with the next tick
		case <-t.C:
			open = true
		}
		if !open {
			return ctx.Err()
		}
		if !b.heard[tree.Trials] || !b.heard[tree.Hosts] {
			continue
		}
		now := time.Now()
		if err := b.step(ctx, now); err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrConflict) {
			c.deps.Log.Warn("trial not judged, trying again", "dataset", c.cfg.Dataset, "error", err)
		}
		b.deaf(time.Since(now))
	}
}

// deaf takes note that for so long - a replay takes its time - nothing was heard of hosts: that is no
// silence of theirs.
func (b *bench) deaf(d time.Duration) {
	for name, x := range b.beats {
		x.since = x.since.Add(d)
		b.beats[name] = x
	}
}

func (b *bench) takeTrial(batch store.Batch) {
	b.heard[tree.Trials] = true
	if batch.Reset {
		b.trial, b.said = nil, trial.Judgement{}
		clear(b.told)
	}
	bucket := func(path string) (n int, ok bool) {
		text, ok := strings.CutPrefix(path, tree.AnsweredPrefix(b.cfg.Dataset))
		n, err := strconv.Atoi(text)
		return n, ok && err == nil
	}
	for _, path := range batch.Deletes {
		if n, ok := bucket(path); ok {
			delete(b.told, n)
		}
		switch path {
		case tree.TrialPath(b.cfg.Dataset):
			b.trial = nil
		case tree.JudgementPath(b.cfg.Dataset):
			b.said = trial.Judgement{}
		}
	}
	for _, n := range batch.Puts {
		var err error
		if i, ok := bucket(n.Path); ok {
			var a trial.Answered
			if err = tree.Decode(n, &a); err == nil {
				b.told[i] = a
			}
		}
		switch n.Path {
		case tree.TrialPath(b.cfg.Dataset):
			x := new(trial.Trial)
			if err = tree.Decode(n, x); err == nil {
				b.trial = x
			} else {
				b.trial = nil
			}
		case tree.JudgementPath(b.cfg.Dataset):
			var j trial.Judgement
			if err = tree.Decode(n, &j); err == nil {
				b.said = j
			}
		}
		if err != nil {
			b.deps.Log.Warn("trial cannot be read: it is not judged", "error", err)
		}
	}
}

func (b *bench) takeHosts(batch store.Batch, now time.Time) {
	b.heard[tree.Hosts] = true
	if batch.Reset {
		clear(b.hosts)
	}
	for _, path := range batch.Deletes {
		delete(b.hosts, strings.TrimPrefix(path, tree.Hosts))
		delete(b.beats, strings.TrimPrefix(path, tree.Hosts))
	}
	for _, n := range batch.Puts {
		var h tree.Host
		if err := tree.Decode(n, &h); err != nil {
			b.deps.Log.Warn("host cannot be read", "error", err)
			continue
		}
		name := strings.TrimPrefix(n.Path, tree.Hosts)
		b.hosts[name] = h
		counted := int64(0)
		if at := h.Datasets[b.cfg.Dataset].Trial; at != nil {
			counted = at.After.Milliseconds
		}
		if old, known := b.beats[name]; !known || old.counted != counted {
			b.beats[name] = beat{counted, now}
		}
	}
}

// replayAgain is how long it is waited at most until samples are looked for again where there were none.
const replayAgain = 10 * time.Second

// step judges once.
func (b *bench) step(ctx context.Context, now time.Time) error {
	t := b.trial
	if t == nil || t.Dataset != b.cfg.Dataset || len(t.Policy.Rings) == 0 {
		b.ring = ringID{}
		return nil
	}
	j := b.said
	if j.ID != t.ID || j.Begun != t.Since {
		j = trial.Judgement{ID: t.ID, Begun: t.Since}
	}
	if j.State == trial.Passed && j.Number != t.Number {
		j.State = trial.Offered // composed anew meanwhile: its last ring answers this one first
	}
	j.Number = t.Number
	if j.State == trial.Passed || j.State == trial.Withdrawn {
		return nil
	}
	j.Ring = min(max(j.Ring, 0), len(t.Policy.Rings)-1)
	if at := (ringID{t.ID, t.Since, t.Number, j.Ring}); at != b.ring {
		answered := b.answered
		if b.ring.id != t.ID || b.ring.begun != t.Since {
			answered = map[string]bool{}
			for _, a := range b.told { // before this process led
				if a.ID == t.ID && a.Begun == t.Since {
					for _, h := range a.Hosts {
						answered[h] = true
					}
				}
			}
		}
		b.ring, b.soaking, b.answered, b.replayed, b.tried, b.trouble = at, time.Time{}, answered, nil, time.Time{}, ""
	}
	s := b.see(t, j.Ring, now)
	for _, h := range s.on {
		b.answered[h.Name] = true
	}
	next := j
	next.State, next.Text = trial.Offered, s.waitsFor(t.RingName(j.Ring))
	next.Hosts = b.answeredNow()
	if next.Text == "" {
		if b.soaking.IsZero() {
			b.soaking = now
		}
		next.State, next.Text = trial.Soaking, fmt.Sprintf("%s of ring %s and those before answer it", plural(len(s.on), "host"), t.RingName(j.Ring))
	} else {
		b.soaking = time.Time{}
	}
	// Before any host answers it, nothing is judged: what is replayed is what hosts answer.
	again := min(replayAgain, max(b.cfg.Every, t.Policy.Rings[j.Ring].Soak/4))
	var err error
	if len(s.on) > 0 && (b.replayed == nil || b.replayed.none == noSamples) && (b.tried.IsZero() || now.Sub(b.tried) >= again) {
		b.tried = now
		var r *replayed
		switch r, err = b.replay(ctx, t); {
		case err != nil:
			b.replayed, b.trouble = nil, "sampled queries cannot be replayed: "+err.Error()
		case r != nil || b.replayed == nil:
			b.replayed, b.trouble = r, ""
		}
	}
	found := weigh(t.Policy, s, b.replayed)
	if next.Evidence = found.told; b.trouble != "" {
		next.Evidence = append(next.Evidence, b.trouble)
	}
	switch {
	case len(found.against) > 0:
		next.State, next.Evidence = trial.Withdrawn, slices.Concat(found.against, found.told)
		next.Text = found.against[0]
	case next.State == trial.Soaking && (s.empty && j.Ring > 0 || b.replayed != nil && now.Sub(b.soaking) >= t.Policy.Rings[j.Ring].Soak):
		if next.Ring+1 == len(t.Policy.Rings) {
			next.State, next.Text = trial.Passed, "nothing was found against it in any ring"
		} else {
			next.Ring++
			next.State, next.Text = trial.Offered, "goes on to ring "+t.RingName(next.Ring)
		}
	case next.State == trial.Soaking && b.trouble != "":
		next.Text += "; " + b.trouble
	case next.State == trial.Soaking && b.replayed == nil:
		next.Text += "; " + noSamples
	}
	return errors.Join(err, b.say(ctx, t, next, now))
}

// maxHosts bounds Judgement.Hosts.
const maxHosts = 100

// answeredBy is which hosts answered, by bucket, where the store does not say so yet.
func (b *bench) answeredBy(t *trial.Trial) map[int]trial.Answered {
	all := map[int]trial.Answered{}
	for h := range b.answered {
		i := tree.AnsweredBucket(h)
		all[i] = trial.Answered{ID: t.ID, Begun: t.Since, Hosts: append(all[i].Hosts, h)}
	}
	for i, a := range all {
		if slices.Sort(a.Hosts); slices.Equal(a.Hosts, b.told[i].Hosts) && b.told[i].ID == a.ID && b.told[i].Begun == a.Begun {
			delete(all, i)
		}
	}
	return all
}

// tellAnswered says which hosts answered, for whoever judges next.
func (b *bench) tellAnswered(ctx context.Context, t *trial.Trial) error {
	news := b.answeredBy(t)
	const most = 12 // of 64 KiB at most
	for some := range slices.Chunk(slices.Sorted(maps.Keys(news)), most) {
		var ops []store.Op
		for _, i := range some {
			ops = append(ops, store.Op{Path: tree.AnsweredPath(b.cfg.Dataset, i), Value: tree.Encode(news[i])})
		}
		if _, err := b.deps.Store.Commit(ctx, store.Txn{If: []store.Cond{b.fence}, Do: ops}); err != nil {
			return err
		}
		for _, i := range some {
			b.told[i] = news[i]
		}
	}
	return nil
}

func (b *bench) answeredNow() (all []string) {
	for h := range b.answered {
		all = append(all, h)
	}
	slices.Sort(all)
	return all[:min(len(all), maxHosts)]
}

// evidenceEvery is how often evidence alone is written.
const evidenceEvery = 10 * time.Second

// say writes a judgement that says something new.
func (b *bench) say(ctx context.Context, t *trial.Trial, j trial.Judgement, now time.Time) error {
	if err := b.tellAnswered(ctx, t); err != nil {
		return err
	}
	was := b.said
	same := was.ID == j.ID && was.Begun == j.Begun && was.Number == j.Number && was.Ring == j.Ring && was.State == j.State && was.Text == j.Text && slices.Equal(was.Hosts, j.Hosts)
	if same && (slices.Equal(was.Evidence, j.Evidence) || now.Sub(b.saved) < evidenceEvery) {
		return nil
	}
	if was.State != j.State || was.Ring != j.Ring || was.ID != j.ID || was.Begun != j.Begun {
		j.Since = now.UnixMilli()
	}
	j.By = b.deps.Name
	if _, err := b.deps.Store.Commit(ctx, store.Txn{If: []store.Cond{b.fence}, Do: []store.Op{{Path: tree.JudgementPath(b.cfg.Dataset), Value: tree.Encode(j)}}}); err != nil {
		return err
	}
	switch {
	case j.State == trial.Passed || j.State == trial.Withdrawn:
		b.judged.WithLabelValues(string(j.State)).Inc()
		b.deps.Log.Info("trial judged", "dataset", b.cfg.Dataset, "id", t.ID, "source", t.Source, "became", string(j.State), "why", j.Text)
	case was.ID == j.ID && was.Begun == j.Begun && j.Ring > was.Ring:
		b.judged.WithLabelValues("ring").Inc()
		b.deps.Log.Info("trial goes on", "dataset", b.cfg.Dataset, "id", t.ID, "source", t.Source, "next", t.RingName(j.Ring))
	}
	b.said, b.saved = j, now
	return nil
}
