package presenter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// What policy sends by rings is no version at first: it is a trial, a delta on top of whatever
// is published, which rings of hosts answer and the canary stage judges. It is kept apart as a
// hold is, and others go on. One is tried at a time. It ends as a version, or as a hold with the
// evidence; when nobody judges it within the policy's limit it is held, too.

// rings is what is tried. The trial in the store is this stage's alone.
type rings struct {
	read   bool         // trial is what the store has
	trial  *trial.Trial // in the store; nil: none
	wanted *wanted      // of this turn; nil: nothing is to be tried
	// dirty tells that what the trial stands on may have changed since it was composed; footing is
	// what that is.
	dirty   bool
	footing footing
	// over tells that the time of the trial has run out, and that this is looked after.
	over  bool
	heard trial.Judgement // as the watch has it
	word  trial.Word      // of a person, as the watch has it

	policy []byte // as told to those who plan; nil: there is none
	told   []byte // as the store has it
}

// footing is what the composition of a trial depends on, so that what others change elsewhere does
// not have it composed anew: a name is decided by the claims for it and by the zones, cuts and
// DNAMEs above (package reconcile).
type footing struct {
	id    string // of the trial; "": it is not known
	all   bool   // the trial changes zones or cuts itself
	names map[record.Name]bool
}

// stand finds what the trial stands on: w is what its source claims, old what is admitted of it.
func (r *rings) stand(w *pending, old func(shard string) []record.Claim) {
	if r.footing.id == r.trial.ID {
		return
	}
	r.footing = footing{id: r.trial.ID, names: map[record.Name]bool{}}
	for name, claims := range w.shards {
		differing(old(name), claims, func(k record.Key) {
			r.footing.names[k.Owner] = true
			r.footing.all = r.footing.all || shapes(k)
		})
	}
}

// touch takes note that others' claims are in force otherwise.
func (r *rings) touch(old, now []record.Claim) {
	if r.trial == nil || r.dirty {
		return
	}
	differing(old, now, func(k record.Key) {
		if !snapshot.IsFreshness(k) && (r.footing.id != r.trial.ID || r.footing.all || r.footing.names[k.Owner] || shapes(k)) {
			r.dirty = true
		}
	})
}

// shapes tells whether a key decides about names below it.
func shapes(k record.Key) bool {
	return k.Type == record.TypeSOA || k.Type == record.TypeNS || k.Type == record.TypeDNAME
}

// differing gives the keys of claims that are in one of two and not in the other.
func differing(old, now []record.Claim, f func(record.Key)) {
	same := func(a, b *record.Claim) bool { return a.Fallback == b.Fallback && a.RRset.Equal(b.RRset) }
	was := make(map[record.Key]*record.Claim, len(old))
	for i := range old {
		c := &old[i]
		if other, twice := was[c.Key]; twice && !same(other, c) {
			f(c.Key)
		}
		was[c.Key] = c
	}
	for i := range now {
		c := &now[i]
		if other, is := was[c.Key]; !is || !same(other, c) {
			f(c.Key)
		}
		delete(was, c.Key)
	}
	for k := range was {
		f(k)
	}
}

// wanted is a change that is to be tried.
type wanted struct {
	id     string
	source record.Source
	why    string
	change reconcile.Change // empty: as it is composed already
	delta  []byte           // of it; nil: as it is composed already
	base   uint64           // on which it is composed
}

// recallTrial reads what an earlier leader, or a commit of which nothing was heard, has left.
func (p *Presenter) recallTrial(ctx context.Context) error {
	r := &p.gate.rings
	if r.read {
		return nil
	}
	told, err := p.deps.Store.Get(ctx, tree.RingsPath(p.cfg.Dataset))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("read the policy of rings: %w", err)
	}
	n, err := p.deps.Store.Get(ctx, tree.TrialPath(p.cfg.Dataset))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("read what is tried: %w", err)
	}
	r.trial, r.over, r.told = nil, false, told.Value
	if err == nil {
		t := new(trial.Trial)
		if err := tree.Decode(n, t); err != nil {
			p.log.Error("trial cannot be read: it begins anew", "error", err)
			t = &trial.Trial{} // to be taken away
		}
		r.trial = t
	}
	r.read, r.dirty, r.footing = true, true, footing{}
	return nil
}

// tried is the source whose change is tried now; "" when none is.
func (p *Presenter) tried() record.Source {
	t := p.gate.rings.trial
	if t == nil {
		return ""
	}
	w := p.gate.pending[t.Source]
	if w == nil || len(w.shards) == 0 || w.hold != nil || w.identify(t.Source) != t.ID || p.frozen(t.Source) != nil {
		return ""
	}
	if _, held := p.gate.nodes[t.ID]; held {
		return ""
	}
	return t.Source
}

// settled tells that a trial goes on as it is: nothing was decided, and what it stands on is
// as it was.
func (r *rings) settled(now time.Time) bool {
	return r.trial != nil && !r.dirty && r.verdict(now) == nil
}

// verdict is how a trial ends; nil: not yet.
type verdict struct {
	pass bool
	word bool // a person's: of whatever it is composed of
	why  []string
}

// verdict looks at what people and the canary stage said, and at the clock.
func (r *rings) verdict(now time.Time) *verdict {
	t := r.trial
	mine := func(id string, begun int64) bool { return id == t.ID && begun == t.Since }
	j := r.heard
	if !mine(j.ID, j.Begun) {
		j = trial.Judgement{}
	}
	if mine(r.word.ID, r.word.Begun) {
		switch r.word.Decision {
		case trial.Pass:
			return &verdict{pass: true, word: true}
		case trial.Withdraw:
			return &verdict{why: append([]string{fmt.Sprintf("withdrawn from its rings by %s (%s)", r.word.Author, r.word.Reason)}, j.Evidence...)}
		}
	}
	switch j.State {
	case trial.Passed:
		if j.Number == t.Number {
			return &verdict{pass: true}
		}
	case trial.Withdrawn:
		return &verdict{why: append([]string{fmt.Sprintf("withdrawn in ring %s: %s", t.RingName(j.Ring), j.Text)}, j.Evidence...)}
	}
	if !ranOut(t, now) {
		return nil
	}
	text := "the canary stage has said nothing: does `zonecast run canary` run?"
	if j.ID != "" {
		text = fmt.Sprintf("in ring %s: %s", t.RingName(j.Ring), j.Text)
	}
	return &verdict{why: append([]string{fmt.Sprintf("not through its rings within %v: %s", t.Policy.Limit, text)}, j.Evidence...)}
}

// ranOut tells whether the time of a trial has run out, or it was begun by a clock that is so far ahead
// of this one that it would not for more than twice as long as it may take.
func ranOut(t *trial.Trial, now time.Time) bool {
	left := time.UnixMilli(t.Until).Sub(now)
	return left <= 0 || left > 2*t.Policy.Limit
}

// try tells whether a source's change, which is in the state, waits for its rings; held is the
// hold that it becomes, if it does. admitted are the source's shards without it.
func (p *Presenter) try(s record.Source, w *pending, admitted map[string][]record.Claim, change reconcile.Change, tried record.Source) (waits bool, held *tree.Hold) {
	r := &p.gate.rings
	if t := r.trial; t != nil && s == tried {
		if v := r.verdict(p.deps.Now()); v != nil && (!v.pass || v.word || t.Composes(change)) {
			if v.pass {
				p.trialNote("trial passed", t, r.outcome())
				p.metrics.trials.WithLabelValues("passed").Inc()
				return false, nil
			}
			p.metrics.trials.WithLabelValues("withdrawn").Inc()
			return true, p.holdOf(t, v.why)
		}
	}
	rrsets := len(change.Put) + len(change.Remove)
	why := p.cfg.Trial.Tries(s, rrsets)
	if s == tried && rrsets > 0 && len(p.cfg.Trial.Rings) > 0 {
		why = r.trial.Why // though less of it is left, or policy is another now
	}
	switch {
	case why == "" || s != tried && trial.BringsZones(change, p.state.Zone):
		return false, nil
	case tried != "" && s != tried || r.wanted != nil:
		w.waits = "goes by rings after the trial that is under way (`zonecast rings`)"
		return true, nil
	case p.pin.pin != nil || p.pin.was != nil:
		w.waits = "goes by rings when the dataset is released"
		return true, nil
	}
	r.wanted = &wanted{id: w.id, source: s, why: why, change: change}
	w.waits = "goes by rings"
	if t := r.trial; t != nil && s == tried {
		w.waits = r.trial.At(r.heard)
	}
	if t := r.trial; t != nil && s == tried && t.Composes(change) {
		r.stand(w, func(shard string) []record.Claim { return admitted[shard] })
		r.wanted.change, r.dirty = reconcile.Change{}, false // nothing but the version below is another
		return true, nil
	}
	if p.pos == nil {
		return true, nil // composed in the next turn, when it is known what is published
	}
	r.wanted.base = max(1, p.pos.version)
	delta, err := trial.Compose(p.cfg.Dataset, r.wanted.base, change)
	if err != nil {
		r.wanted = nil
		t := r.trial
		if t == nil || s != tried {
			t = &trial.Trial{ID: w.id, Dataset: p.cfg.Dataset, Source: s, Policy: p.cfg.Trial}
			t.Created, t.Replaced, t.Removed = counts(change)
		}
		return true, p.holdOf(t, []string{"cannot be tried by rings: " + err.Error()})
	}
	r.wanted.delta = delta
	return true, nil
}

// holdOf is the hold that a trial becomes.
func (p *Presenter) holdOf(t *trial.Trial, why []string) *tree.Hold {
	for i, s := range why {
		why[i] = clipped(s, maxSentence)
	}
	const most = 20 // sentences, as guards say at most
	ring := t.RingName(0)
	if j := p.gate.rings.heard; j.ID == t.ID {
		ring = t.RingName(j.Ring)
	}
	return &tree.Hold{
		ID: t.ID, Dataset: p.cfg.Dataset, Source: t.Source, Since: p.deps.Now().UnixMilli(),
		Created: t.Created, Replaced: t.Replaced, Removed: t.Removed, Why: why[:min(len(why), most)], Ring: ring,
	}
}

// outcome says how a trial came to pass.
func (r *rings) outcome() string {
	if r.word.ID == r.trial.ID && r.word.Begun == r.trial.Since && r.word.Decision == trial.Pass {
		return fmt.Sprintf("by %s (%s)", r.word.Author, r.word.Reason)
	}
	return strings.Join(append([]string{r.heard.Text}, r.heard.Evidence...), "; ")
}

// trialNote notes in the audit, with the next transaction, what became of a trial.
func (p *Presenter) trialNote(action string, t *trial.Trial, text string) {
	_, note := tree.AuditOps(tree.AuditEntry{
		Time: p.deps.Now().UnixMilli(), Action: action, Subject: t.ID, Text: clipped(fmt.Sprintf("%s: %s", t.Source, text), maxSentence), Author: "presenter", From: p.deps.Name,
	})
	p.gate.notes = append(p.gate.notes, note)
	p.log.Info(action, "id", t.ID, "source", t.Source, "why", text)
}

// counts is how many RRsets a change creates, replaces and removes.
func counts(ch reconcile.Change) (created, replaced, removed int) {
	removed = len(ch.Remove)
	replaced = len(ch.Old) - removed
	return len(ch.Put) - replaced, replaced, removed
}

// offer brings the store to what is tried now, when the version of this turn is there.
func (p *Presenter) offer(ctx context.Context) error {
	r := &p.gate.rings
	if !r.read || !p.gate.open {
		return nil
	}
	err := p.tellRings(ctx)
	switch {
	case err != nil:
	case r.wanted == nil && r.trial != nil:
		err = p.endTrial(ctx)
	case r.wanted != nil && r.wanted.delta != nil:
		err = p.putTrial(ctx, r.wanted)
	}
	if err != nil {
		r.read = false
		return err
	}
	if r.dirty && r.wanted != nil {
		p.wake()
	}
	return nil
}

// tellRings says by which policy changes are tried.
func (p *Presenter) tellRings(ctx context.Context) error {
	r := &p.gate.rings
	if bytes.Equal(r.policy, r.told) {
		return nil
	}
	path := tree.RingsPath(p.cfg.Dataset)
	if err := p.doAll(ctx, []store.Op{{Path: path, Value: r.policy, Delete: r.policy == nil}}, 1); err != nil {
		return err
	}
	r.told = r.policy
	return nil
}

// endTrial takes away what was tried.
func (p *Presenter) endTrial(ctx context.Context) error {
	r := &p.gate.rings
	nodes, _, err := p.deps.Store.List(ctx, tree.AllTrialParts(p.cfg.Dataset))
	if err != nil {
		return fmt.Errorf("read parts of trials: %w", err)
	}
	answered, _, err := p.deps.Store.List(ctx, tree.AnsweredPrefix(p.cfg.Dataset))
	if err != nil {
		return fmt.Errorf("read who answered a trial: %w", err)
	}
	ops := []store.Op{{Path: tree.TrialPath(p.cfg.Dataset), Delete: true}, {Path: tree.JudgementPath(p.cfg.Dataset), Delete: true}, {Path: tree.WordPath(p.cfg.Dataset), Delete: true}}
	for _, n := range append(answered, nodes...) {
		ops = append(ops, store.Op{Path: n.Path, Delete: true})
	}
	if err := p.doAll(ctx, ops, 1); err != nil {
		return err
	}
	p.log.Info("trial ended", "id", r.trial.ID, "source", r.trial.Source)
	r.trial, r.over, r.footing = nil, false, footing{}
	for _, w := range p.gate.pending {
		if w.waits != "" {
			p.wake() // the next one
			break
		}
	}
	return nil
}

// putTrial offers a trial, or its new composition.
func (p *Presenter) putTrial(ctx context.Context, w *wanted) error {
	r := &p.gate.rings
	now := p.deps.Now().UnixMilli()
	t := trial.Trial{ID: w.id, Dataset: p.cfg.Dataset, Source: w.source, Since: now, Until: now + p.cfg.Trial.Limit.Milliseconds(), Why: w.why, Policy: p.cfg.Trial}
	var prev uint64
	goesOn := false
	if old := r.trial; old != nil {
		prev = old.Number
		if goesOn = old.ID == w.id && old.Source == w.source; goesOn {
			t.Since, t.Until, t.Policy = old.Since, old.Until, old.Policy
		}
	}
	t.Number, t.Base, t.Size, t.SHA256 = max(uint64(now), prev+1), w.base, len(w.delta), trial.Sum(w.delta)
	t.Created, t.Replaced, t.Removed = counts(w.change)
	t.Author, t.Reason = p.authorOf(w.source)
	for _, ops := range trial.PartOps(p.cfg.Dataset, t.Number, w.delta) {
		if err := p.doAll(ctx, ops, 1); err != nil {
			return err
		}
	}
	ops := []store.Op{{Path: tree.TrialPath(p.cfg.Dataset), Value: tree.Encode(t)}}
	if !goesOn {
		_, note := tree.AuditOps(tree.AuditEntry{
			Time: now, Action: "trial begun", Subject: t.ID, Author: "presenter", From: p.deps.Name,
			Text: clipped(fmt.Sprintf("%s: %d RRsets created, %d replaced, %d removed go by rings: %s", t.Source, t.Created, t.Replaced, t.Removed, t.Policy), maxSentence),
		})
		ops = append(ops, store.Op{Path: tree.JudgementPath(p.cfg.Dataset), Delete: true}, store.Op{Path: tree.WordPath(p.cfg.Dataset), Delete: true}, note)
	}
	if err := p.doAll(ctx, ops, 1); err != nil {
		return err
	}
	if !goesOn {
		p.metrics.trials.WithLabelValues("begun").Inc()
		p.log.Info("trial begun", "id", t.ID, "source", t.Source, "rrsets", t.Created+t.Replaced+t.Removed)
	}
	r.trial, r.dirty, r.over = &t, false, false
	r.stand(p.gate.pending[w.source], func(shard string) []record.Claim { return p.state.Shard(w.source, shard) })
	p.gate.pending[w.source].waits = r.trial.At(r.heard)
	p.tellWaiting()
	return p.trimTrials(ctx, t.Number)
}

// trimTrials takes the parts of earlier compositions away.
func (p *Presenter) trimTrials(ctx context.Context, number uint64) error {
	nodes, _, err := p.deps.Store.List(ctx, tree.AllTrialParts(p.cfg.Dataset))
	if err != nil {
		return fmt.Errorf("read parts of trials: %w", err)
	}
	var ops []store.Op
	for _, n := range nodes {
		if !strings.HasPrefix(n.Path, tree.TrialPartsPrefix(p.cfg.Dataset, number)) {
			ops = append(ops, store.Op{Path: n.Path, Delete: true})
		}
	}
	return p.doAll(ctx, ops, 1)
}

// authorOf is who claims what waits of a source, and why: of its newest claim.
func (p *Presenter) authorOf(s record.Source) (author, reason string) {
	w := p.gate.pending[s]
	if w == nil {
		return "", ""
	}
	var newest *record.Provenance
	for _, claims := range w.shards {
		for i := range claims {
			if at := &claims[i].Provenance; newest == nil || at.Time.After(newest.Time) {
				newest = at
			}
		}
	}
	if newest == nil {
		return "", ""
	}
	return clipped(newest.Author, maxCause), clipped(newest.Reason, maxCause)
}

// takeTrials takes what the canary stage and people said.
func (p *Presenter) takeTrials(b store.Batch) {
	r := &p.gate.rings
	if b.Reset {
		r.heard, r.word = trial.Judgement{}, trial.Word{}
	}
	for _, path := range b.Deletes {
		switch path {
		case tree.JudgementPath(p.cfg.Dataset):
			r.heard = trial.Judgement{}
		case tree.WordPath(p.cfg.Dataset):
			r.word = trial.Word{}
		}
	}
	for _, n := range b.Puts {
		var err error
		switch n.Path {
		case tree.JudgementPath(p.cfg.Dataset):
			var j trial.Judgement
			if err = tree.Decode(n, &j); err == nil {
				r.heard = j
			}
		case tree.WordPath(p.cfg.Dataset):
			var w trial.Word
			if err = tree.Decode(n, &w); err == nil {
				r.word = w
			}
		default:
			continue
		}
		if err != nil {
			p.log.Warn("what is said of a trial cannot be read", "error", err)
			continue
		}
		p.wake()
	}
}

// encodeTrial gives the policy of rings as it is told; none is not told.
func (c *Config) encodeTrial() ([]byte, error) {
	if len(c.Trial.Rings) == 0 {
		return nil, nil
	}
	b := tree.Encode(c.Trial)
	if len(b) > trial.MaxOffer {
		return nil, fmt.Errorf("trial: the policy has %d octets as JSON, at most %d: name hosts by labels or shares", len(b), trial.MaxOffer)
	}
	return b, nil
}
