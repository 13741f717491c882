package presenter

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/history"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// While a dataset is pinned, what is published is the content of an earlier version with
// overrides and freshness above. The claims of everybody else are reconciled beside it,
// so that on release what they want by then is published at once. The content is found by
// undoing versions from the newest back, at every start anew.

// pinned is the pin and the dataset that it makes.
type pinned struct {
	pin   *tree.Pin // nil: there is none
	state *reconcile.State
	// above has the claims that hold although it is pinned.
	above map[shard][]record.Claim
	// was has what is published, as of its last Reconcile, when that is not what the pin
	// says; nil: it is, or it is not known what is published.
	was *reconcile.State
	// turned tells that the pin is another since a version whose outcome is unknown, and
	// that it is not known here what that published.
	turned bool
	// unsettled makes state, once what the pin says is published; nil: that is done.
	unsettled func() bool
}

type shard struct {
	source record.Source
	name   string
}

// pinSource makes the claims of the content: below overrides, above nobody else is asked.
const pinSource record.Source = record.KindConfig + "/pin"

func newPinned() pinned { return pinned{above: map[shard][]record.Claim{}} }

// version is the one at whose content it is pinned; zero: it is not.
func (p *pinned) version() uint64 {
	if p.pin == nil {
		return 0
	}
	return p.pin.Version
}

// take keeps what holds above.
func (p *pinned) take(ch claimtree.Change) {
	k := shard{ch.Source, ch.Shard}
	if ch.Source.Kind() != record.KindOverride {
		var signs []record.Claim
		for _, c := range ch.Claims {
			if !matters(c.RRset) {
				signs = append(signs, c)
			}
		}
		ch.Claims = signs
	}
	if _, known := p.above[k]; !known && len(ch.Claims) == 0 {
		return
	}
	if len(ch.Claims) == 0 {
		delete(p.above, k)
	} else {
		p.above[k] = ch.Claims
	}
	if p.state != nil {
		p.state.Replace(k.source, k.name, ch.Claims)
	}
}

// active is the state that is published.
func (p *Presenter) active() *reconcile.State {
	if p.pin.state != nil {
		return p.pin.state
	}
	return p.state
}

// takePins goes over to another pin, or to none.
func (p *Presenter) takePins(b store.Batch) {
	path := tree.PinPath(p.cfg.Dataset)
	was := p.pin.pin
	if b.Reset || slices.Contains(b.Deletes, path) {
		p.pin.pin = nil
	}
	for _, n := range b.Puts {
		if n.Path != path {
			continue
		}
		var pin tree.Pin
		if err := tree.Decode(n, &pin); err != nil {
			p.log.Error("pin cannot be read, what held before holds", "error", err)
			p.pin.pin = was
			continue
		}
		p.pin.pin = &pin
	}
	if was == nil && p.pin.pin == nil || was != nil && p.pin.pin != nil && *was == *p.pin.pin {
		return
	}
	switch {
	case p.pos == nil:
		p.pin.was = nil
	case p.pin.was != nil:
	case was == nil || p.pin.state != nil:
		p.pin.was = p.active()
	case p.attempt != nil: // of the pin before, whose state is not made yet
		p.pin.turned = true
	default:
		p.forgetPosition()
	}
	p.pin.state, p.held = nil, false
	p.wake()
	text := ""
	if pin := p.pin.pin; pin != nil {
		text = fmt.Sprintf("pinned at the content of version %d since %s by %s (%s): changes wait for `zonecast release`",
			pin.Version, time.UnixMilli(pin.Set).UTC().Format(time.RFC3339), pin.Author, pin.Reason)
		p.log.Warn("dataset is pinned", "dataset", p.cfg.Dataset, "version", pin.Version, "author", pin.Author)
	} else if was != nil {
		p.log.Info("dataset is released", "dataset", p.cfg.Dataset, "version", was.Version)
	}
	p.note(func(s *Status) { s.Pinned = text })
}

// goOver gives the change from what is published to what the pin says now. change is what
// the claims did since what is published. why says that the pin's content cannot be had:
// what is published stays then.
//
// To go back is in proportion to what changed since, when no override stands above: the
// state of the pin is made when the version is out (settlePin).
func (p *Presenter) goOver(ctx context.Context, change reconcile.Change) (_ reconcile.Change, why string, err error) {
	was, pin := p.pin.was, p.pin.pin
	if pin == nil {
		p.pin.was = nil
		return difference(was.All(), p.state.All()), "", nil
	}
	past, digest, err := history.Back(ctx, p.deps.Store, p.cfg.Dataset, history.At{Version: p.pos.version, Digest: p.pos.digest}, pin.Version, true)
	if why := p.gone(err, p.pos.version); why != "" {
		return change, why, nil
	}
	if err != nil {
		return change, "", fmt.Errorf("pin at version %d: %w", pin.Version, err)
	}
	// published is what is otherwise in it than in was.
	published := history.Past{}
	if was == p.state {
		for _, k := range change.Remove {
			published[k] = nil
		}
		for _, r := range change.Put {
			published[r.Key] = nil
		}
		for i := range change.Old {
			published[change.Old[i].Key] = &change.Old[i]
		}
	}
	var back reconcile.Change
	got := p.pos.digest
	for _, k := range slices.SortedFunc(maps.Keys(past), record.Key.Compare) {
		old, other := published[k]
		if r, there := was.Get(k); there && !other {
			old = &r
		}
		now := past[k]
		published[k] = now
		if old == nil && now == nil || old != nil && now != nil && old.Equal(*now) {
			continue
		}
		if old != nil {
			back.Old = append(back.Old, *old)
			got = got.Sub(snapshot.HashRRset(*old))
		}
		if now != nil {
			back.Put = append(back.Put, *now)
			got = got.Add(snapshot.HashRRset(*now))
		} else {
			back.Remove = append(back.Remove, k)
		}
	}
	if got != digest {
		return change, p.wrong(got, digest, p.pos.version), nil
	}
	if len(p.ends.overrides) == 0 && !p.overridden() {
		p.pin.was, p.pin.unsettled = nil, func() bool { return p.settlePin(was, published) }
		return back, "", nil
	}
	p.pin.was = nil
	if !p.settlePin(was, published) {
		return change, fmt.Sprintf("pinned, but the content of version %d is not whole by itself; version %d stays, `zonecast release` ends the pin", pin.Version, p.pos.version), nil
	}
	return compose([]reconcile.Change{back, p.pin.state.Reconcile()}), "", nil
}

// overridden tells whether an override holds.
func (p *Presenter) overridden() bool {
	for k := range p.pin.above {
		if k.source.Kind() == record.KindOverride {
			return true
		}
	}
	return false
}

// settlePin makes the state of the pin: of what was, but for what is otherwise, with what
// stands above. False: it does not stand by itself.
func (p *Presenter) settlePin(was *reconcile.State, otherwise history.Past) bool {
	pin := p.pin.pin
	content := func(yield func(record.RRset) bool) {
		for r := range was.All() {
			if _, other := otherwise[r.Key]; !other && !snapshot.IsFreshness(r.Key) && !yield(r) {
				return
			}
		}
		for _, r := range otherwise {
			if r != nil && !snapshot.IsFreshness(r.Key) && !yield(*r) {
				return
			}
		}
	}
	s, claims := reconcile.New(reconcile.DefaultPolicy()), pinClaims(pin, content)
	s.Replace(pinSource, "0", claims)
	s.Reconcile()
	if s.Len() != len(claims) {
		return false
	}
	for k, claims := range p.pin.above {
		s.Replace(k.source, k.name, claims)
	}
	p.pin.state = s
	return true
}

// pinClaims makes the claims of a pin's content.
func pinClaims(pin *tree.Pin, content iter.Seq[record.RRset]) (claims []record.Claim) {
	who := record.Provenance{Author: pin.Author, Reason: pin.Reason, Time: time.UnixMilli(pin.Set).UTC()}
	place := fmt.Sprintf("version %d", pin.Version)
	for r := range content {
		claims = append(claims, record.Claim{RRset: r, Source: pinSource, Provenance: who, Place: place})
	}
	return claims
}

// gone and wrong say why a pin's content cannot be had.
func (p *Presenter) gone(err error, version uint64) string {
	if !errors.Is(err, history.ErrGone) {
		return ""
	}
	return fmt.Sprintf("pinned, but the content cannot be had: %v; version %d stays, `zonecast release` ends the pin", err, version)
}

func (p *Presenter) wrong(got, want snapshot.Digest, version uint64) string {
	return fmt.Sprintf("pinned, but the content of version %d comes out at the digest %s instead of %s; version %d stays, `zonecast release` ends the pin",
		p.pin.pin.Version, got, want, version)
}

// pinUp makes the state of a pin when it is not known what is published, as at a start. why
// says that its content cannot be had: what is published stays then.
func (p *Presenter) pinUp(ctx context.Context) (why string, err error) {
	if p.pin.pin == nil || p.pin.state != nil {
		return "", nil
	}
	pin := p.pin.pin
	now, err := follow.Load(ctx, follow.Config{Dataset: p.cfg.Dataset, Store: p.deps.Store, Fetcher: p.deps.Fetcher, Log: p.log})
	if err != nil {
		return "", fmt.Errorf("pin at version %d: %w", pin.Version, err)
	}
	past, digest, err := history.Back(ctx, p.deps.Store, p.cfg.Dataset, history.At{Version: now.Version(), Digest: now.Digest()}, pin.Version, true)
	if why := p.gone(err, now.Version()); why != "" {
		return why, nil
	}
	if err != nil {
		return "", fmt.Errorf("pin at version %d: %w", pin.Version, err)
	}
	s := reconcile.New(reconcile.DefaultPolicy())
	s.Replace(pinSource, "0", pinClaims(pin, slices.Values(past.Apply(now))))
	s.Reconcile()
	var got snapshot.Digest
	for r := range s.All() {
		got = got.Add(snapshot.HashRRset(r))
	}
	if got != digest {
		return p.wrong(got, digest, now.Version()), nil
	}
	for k, claims := range p.pin.above {
		s.Replace(k.source, k.name, claims)
	}
	s.Reconcile()
	p.pin.state, p.pos = s, nil
	return "", nil
}

// maxCauses and maxKeys bound what a History names.
const (
	maxCauses = 16
	maxKeys   = 3
)

// remember notes a version in the history, with the way back from it.
func (p *Presenter) remember(t *attempt, d *snapshot.Delta, change reconcile.Change) error {
	e := &tree.History{Version: d.Version, Time: d.Time, Pinned: t.next.pinned, Counted: p.gate.countedNodes()}
	undo := &snapshot.Delta{Dataset: d.Dataset, Version: d.Version, Time: d.Time, BaseDigest: d.Digest, Digest: d.BaseDigest}
	old := make(map[record.Key]bool, len(change.Old))
	for _, r := range change.Old {
		if matters(r) {
			undo.Put = append(undo.Put, r)
			old[r.Key] = true
		}
	}
	for _, r := range change.Put {
		switch {
		case !matters(r):
		case old[r.Key]:
			e.Replaced++
		default:
			e.Created++
			undo.Remove = append(undo.Remove, r.Key)
		}
	}
	e.Removed = len(undo.Put) - e.Replaced
	for _, keys := range []iter.Seq[record.Key]{slices.Values(change.Remove), keysOf(change.Put)} {
		for k := range keys {
			if len(e.Keys) < maxKeys && !snapshot.IsFreshness(k) {
				e.Keys = append(e.Keys, clipped(k.String(), maxCause))
			}
		}
	}
	for _, s := range slices.Sorted(maps.Keys(p.changed)) {
		switch {
		case p.pin.pin != nil && s.Kind() != record.KindOverride: // what they changed is still to come
		case len(e.Causes) == maxCauses:
			e.Others++
		default:
			e.Causes = append(e.Causes, p.changed[s].Cause)
		}
	}
	if d.Full || p.pos.version == 0 {
		undo = nil
	}
	batches, ops, err := history.Ops(d.Dataset, e, undo, p.under(d))
	if err != nil {
		return err
	}
	for _, b := range batches {
		t.parts = append(t.parts, store.Txn{If: t.txn.If, Do: b})
	}
	t.txn.Do, t.entry = append(t.txn.Do, ops...), e
	return nil
}

func keysOf(sets []record.RRset) iter.Seq[record.Key] {
	return func(yield func(record.Key) bool) {
		for i := range sets {
			if !yield(sets[i].Key) {
				return
			}
		}
	}
}

// under leads from a version that is the state now to what lies below the overrides; nil
// when that is the same. It takes them out of the state for a moment.
func (p *Presenter) under(d *snapshot.Delta) *snapshot.Delta {
	if !p.overridden() {
		return nil
	}
	s := p.active()
	overrides := func(claims func(shard) []record.Claim) reconcile.Change {
		for k := range p.pin.above {
			if k.source.Kind() == record.KindOverride {
				s.Replace(k.source, k.name, claims(k))
			}
		}
		return s.Reconcile()
	}
	change := overrides(func(shard) []record.Claim { return nil })
	overrides(func(k shard) []record.Claim { return p.pin.above[k] })
	under := &snapshot.Delta{Dataset: d.Dataset, Version: d.Version, Time: d.Time, BaseDigest: d.Digest, Digest: d.Digest}
	under.Digest = count(under.Digest, change.Old, snapshot.Digest.Sub)
	under.Digest = count(under.Digest, change.Put, snapshot.Digest.Add)
	for _, r := range change.Put {
		if matters(r) {
			under.Put = append(under.Put, r)
		}
	}
	for _, k := range change.Remove {
		if !snapshot.IsFreshness(k) {
			under.Remove = append(under.Remove, k)
		}
	}
	if len(under.Put)+len(under.Remove) == 0 {
		return nil
	}
	return under
}
