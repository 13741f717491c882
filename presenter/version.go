package presenter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// attempt is a version, or a head with newer Claims, on its way into the store.
type attempt struct {
	next    position
	version bool   // a new version; otherwise the head alone
	encoded []byte // its delta
	parts   []store.Txn
	txn     store.Txn
	staged  []store.Op // what takes its place when it is there
	tells   []byte     // the bounds of guards that the store has with it
	entry   *tree.History
	turn    int
	arrived time.Time // when the first change in it arrived; zero: it had none
	records int       // RRsets put and removed
}

// publish makes a version of the change that led from the last position to the
// state, if there is anything to publish. After an error the caller forgets the
// position, unless an attempt is left whose outcome is unknown.
func (p *Presenter) publish(ctx context.Context, change reconcile.Change, arrived time.Time) error {
	full := false
	if err := p.outrun(ctx); err != nil {
		return err
	}
	if p.pos == nil {
		p.pin.was = nil
	}
	var why string
	var err error
	if p.pin.unsettled = nil; p.pin.was != nil {
		change, why, err = p.goOver(ctx, change)
	} else {
		why, err = p.pinUp(ctx)
	}
	if why != "" || err != nil {
		p.hold(why)
		p.forgetPosition()
		return err
	}
	if p.pos == nil {
		pos, difference, whole, err := p.start(ctx)
		if err != nil {
			return err
		}
		p.pos, change, full = &pos, difference, whole
		p.credit(change)
		p.metrics.version.Set(float64(pos.version))
		p.note(func(s *Status) { s.Version, s.Digest = pos.version, pos.digest.String() })
	}
	why = p.guard(change)
	p.hold(why)
	if why != "" {
		p.forgetPosition() // what is held is found again by comparing, when claims come
		return nil
	}
	t, err := p.prepare(change, full)
	if err != nil || t == nil {
		return err
	}
	t.arrived = arrived
	if err := p.commit(ctx, t); err != nil {
		return err
	}
	if settle := p.pin.unsettled; settle != nil {
		if p.pin.unsettled = nil; !settle() {
			p.log.Error("the pin's content does not stand by itself: it is looked at again", "version", p.pin.version())
			p.forgetPosition()
		}
		p.wake()
	}
	p.forget(ctx)
	return nil
}

// forgetPosition has what is published read again before the next version.
func (p *Presenter) forgetPosition() {
	p.pos, p.pin.was, p.pin.unsettled, p.pin.turned = nil, nil, nil, false
}

// credit notes the overrides that have a part in a change that came while nobody led.
func (p *Presenter) credit(change reconcile.Change) {
	put := make(map[record.Key]bool, len(change.Put))
	for _, r := range change.Put {
		put[r.Key] = true
	}
	for k, claims := range p.pin.above {
		if k.source.Kind() == record.KindOverride && slices.ContainsFunc(claims, func(c record.Claim) bool { return put[c.Key] }) {
			p.caused(k.source, claims, "")
		}
	}
}

// guard tells why the change must not become a version without a person's consent,
// or "". This is where the guards of DESIGN §5 stand: they see every change before
// it is a version, and what they hold is found again when the next claims come.
func (p *Presenter) guard(reconcile.Change) string {
	switch {
	case p.state.Claims() == 0 && p.pos.version == 0:
		return "there are no claims yet, and no version is made of nothing"
	case p.state.Claims() == 0:
		return fmt.Sprintf("there are no claims at all: version %d stays, because that is rather a loss than a wish", p.pos.version)
	case p.seen < p.pos.claims && p.pos.claims < p.pos.modified:
		// Who led before us has seen more, or has read the same later. A version now would
		// go back. Reading them again takes us past. (A head older than the claims it
		// speaks of was copied from another store: its revisions mean nothing here.)
		p.reread = true
		return fmt.Sprintf("version %d has the claims up to revision %d, and this process has seen them up to %d", p.pos.version, p.pos.claims, p.seen)
	}
	return ""
}

// hold says that a version is held, or, without a reason, that none is.
func (p *Presenter) hold(why string) {
	p.held = why != ""
	if was := p.Status().Held; why != "" && why != was {
		level := slog.LevelWarn
		if p.pos != nil && p.pos.version == 0 {
			level = slog.LevelInfo // every first start begins so
		}
		p.log.Log(context.Background(), level, "version held", "why", why, "version", p.Status().Version)
	}
	p.metrics.held.Set(0)
	if p.held {
		p.metrics.held.Set(1)
	}
	p.note(func(s *Status) { s.Held = why })
}

// prepare makes the transactions that publish the change; nil when there is nothing
// to publish.
func (p *Presenter) prepare(change reconcile.Change, full bool) (*attempt, error) {
	head := store.Cond{Path: tree.HeadPath(p.cfg.Dataset), Modified: p.pos.modified}
	t := &attempt{next: *p.pos, turn: p.turn, tells: p.inForce}
	p.turn++
	t.next.claims, t.next.pinned, t.next.gated = max(p.seen, p.pos.claims), p.pin.version(), true
	t.txn.If = []store.Cond{head, p.term.fence}
	beside, large := p.gateOps()
	idle := len(beside) == 0
	if large {
		before := inBatches(beside, 1)
		if beside = nil; p.pos.gated { // otherwise nobody believes them before the version is there
			t.staged = slices.Concat(before...)
			before = p.stage(t.staged)
			beside = []store.Op{{Path: tree.AdmittingPath(p.cfg.Dataset), Value: tree.Encode(tree.Admitting{Version: p.pos.version + 1})}}
		}
		for _, ops := range before {
			t.parts = append(t.parts, store.Txn{If: t.txn.If, Do: ops})
		}
	}
	if !bytes.Equal(p.inForce, p.told) {
		beside = append(beside, store.Op{Path: tree.GuardsPath(p.cfg.Dataset), Value: p.inForce})
	}
	if change.Empty() && !full && p.pos.version > 0 {
		if t.next.claims == p.pos.claims && t.next.pinned == p.pos.pinned && p.pos.gated && idle {
			return nil, nil
		}
		t.txn.Do = append([]store.Op{{Path: head.Path, Value: tree.Encode(t.next.head())}}, beside...)
		return t, nil
	}
	d := &snapshot.Delta{
		Dataset: p.cfg.Dataset, Version: p.pos.version + 1, Time: max(p.deps.Now().UnixMilli(), p.pos.time),
		Full: full, Prev: p.pos.chain, Put: change.Put, Remove: change.Remove,
	}
	if !full {
		d.BaseDigest, d.Digest = p.pos.digest, p.pos.digest
		d.Digest = count(d.Digest, change.Old, snapshot.Digest.Sub)
	}
	d.Digest = count(d.Digest, change.Put, snapshot.Digest.Add)
	encoded, err := d.Encode()
	if err != nil {
		return nil, err
	}
	batches, log, err := follow.LogOps(p.cfg.Dataset, d.Version, encoded)
	if err != nil {
		return nil, err
	}
	for _, ops := range batches {
		t.parts = append(t.parts, store.Txn{If: t.txn.If, Do: ops})
	}
	t.version, t.encoded, t.records = true, encoded, len(change.Put)+len(change.Remove)
	t.next.version, t.next.time, t.next.digest, t.next.chain = d.Version, d.Time, d.Digest, snapshot.ChainOf(encoded)
	if full || slices.ContainsFunc(change.Put, matters) || slices.ContainsFunc(change.Old, matters) {
		t.next.content = d.Version
	}
	t.txn.Do = append([]store.Op{log, {Path: head.Path, Value: tree.Encode(t.next.head())}}, beside...)
	if t.next.content == d.Version && p.cfg.History > 0 {
		if err := p.remember(t, d, change); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// matters tells whether the RRset is more than a sign of freshness.
func matters(r record.RRset) bool { return !snapshot.IsFreshness(r.Key) }

// count adds or subtracts the shares of RRsets in a digest.
func count(d snapshot.Digest, sets []record.RRset, op func(snapshot.Digest, snapshot.Digest) snapshot.Digest) snapshot.Digest {
	for _, r := range sets {
		if matters(r) {
			d = op(d, snapshot.HashRRset(r))
		}
	}
	return d
}

// commit does an attempt. Unless the store says that it did not happen, an error
// leaves it as p.attempt.
func (p *Presenter) commit(ctx context.Context, t *attempt) error {
	began := time.Now()
	p.attempt = t
	for i, txn := range t.parts {
		if _, err := p.deps.Store.Commit(ctx, txn); err != nil {
			if !unknown(err) {
				p.attempt = nil
			}
			return fmt.Errorf("write part %d of %d of version %d of %s: %w", i+1, len(t.parts), t.next.version, p.cfg.Dataset, err)
		}
	}
	rev, err := p.deps.Store.Commit(ctx, t.txn)
	if err != nil {
		if !unknown(err) {
			p.attempt = nil
		}
		return fmt.Errorf("commit version %d of %s: %w", t.next.version, p.cfg.Dataset, err)
	}
	p.metrics.commit.Observe(time.Since(began).Seconds())
	return p.done(ctx, t, rev)
}

// unknown tells whether a commit with this error may have happened. Everything but
// a condition that did not hold or a lost session may.
func unknown(err error) bool {
	return !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrSessionLost)
}

// resolve finds out what became of an attempt, and does it again when it did not
// happen. It may still happen later, when it is on its way to the store: then the
// condition on the head lets only one of the two through, and they are the same.
func (p *Presenter) resolve(ctx context.Context) error {
	t := p.attempt
	now, err := p.readHead(ctx)
	switch {
	case err != nil:
		return err
	case now.modified == p.pos.modified:
		return p.commit(ctx, t)
	case now.version == t.next.version && now.chain == t.next.chain && now.claims == t.next.claims:
		p.log.Info("version was made although the store did not say so", "version", now.version)
		return p.done(ctx, t, now.modified)
	}
	p.attempt = nil
	return fmt.Errorf("head of %s is at version %d and was at %d: %w", p.cfg.Dataset, now.version, p.pos.version, store.ErrConflict)
}

// done takes an attempt that happened as the position. An error is of what follows from it:
// then what is admitted is read again.
func (p *Presenter) done(ctx context.Context, t *attempt, rev store.Revision) error {
	p.attempt = nil
	p.pos = &t.next
	p.pos.modified = rev
	p.told = t.tells
	p.written(rev)
	if !t.arrived.IsZero() {
		p.metrics.latency.Observe(time.Since(t.arrived).Seconds())
	}
	if t.version {
		p.made(t)
	}
	if len(t.staged) == 0 {
		return nil
	}
	err := p.unstage(ctx, t.staged)
	if err != nil {
		p.closeGate()
	}
	return err
}

// made notes a new version.
func (p *Presenter) made(t *attempt) {
	p.unsigned.keep(t.next.version, t.encoded)
	p.unsigned.leap = false
	if t.entry != nil {
		p.past = append(p.past, *t.entry)
		p.gate.counted = nil
	}
	maps.DeleteFunc(p.changed, func(s record.Source, c caused) bool {
		return c.turn <= t.turn && (t.next.pinned == 0 || s.Kind() == record.KindOverride) // of others, what they changed is still to come
	})
	p.metrics.versions.Inc()
	p.metrics.changed.Add(float64(t.records))
	p.metrics.version.Set(float64(t.next.version))
	p.note(func(s *Status) { s.Version, s.Digest = t.next.version, t.next.digest.String() })
	p.log.Debug("version published", "version", t.next.version, "digest", t.next.digest.String()[:16], "records", t.records)
}
