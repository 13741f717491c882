package presenter

import (
	"context"
	"errors"
	"fmt"
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
	if ch.Source.Kind() != record.KindOverride && !slices.ContainsFunc(ch.Claims, func(c record.Claim) bool { return snapshot.IsFreshness(c.Key) }) {
		if _, known := p.above[k]; !known {
			return
		}
		ch.Claims = nil
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
	p.pin.state, p.pos, p.held = nil, nil, false
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

// pinUp makes the state of a new pin. why says that its content cannot be had: what is
// published stays then.
func (p *Presenter) pinUp(ctx context.Context) (why string, err error) {
	if p.pin.pin == nil || p.pin.state != nil {
		return "", nil
	}
	pin := p.pin.pin
	now, err := follow.Load(ctx, follow.Config{Dataset: p.cfg.Dataset, Store: p.deps.Store, Fetcher: p.deps.Fetcher, Log: p.log})
	if err != nil {
		return "", fmt.Errorf("pin at version %d: %w", pin.Version, err)
	}
	past, digest, err := history.Back(ctx, p.deps.Store, p.cfg.Dataset, now.Digest(), pin.Version)
	if errors.Is(err, history.ErrGone) {
		return fmt.Sprintf("pinned, but the content cannot be had: %v; version %d stays, `zonecast release` ends the pin", err, now.Version()), nil
	}
	if err != nil {
		return "", fmt.Errorf("pin at version %d: %w", pin.Version, err)
	}
	s := reconcile.New(reconcile.DefaultPolicy())
	who := record.Provenance{Author: pin.Author, Reason: pin.Reason, Time: time.UnixMilli(pin.Set).UTC()}
	var claims []record.Claim
	for _, r := range past.Apply(now) {
		claims = append(claims, record.Claim{RRset: r, Source: pinSource, Provenance: who, Place: fmt.Sprintf("version %d", pin.Version)})
	}
	s.Replace(pinSource, "0", claims)
	s.Reconcile()
	var got snapshot.Digest
	for r := range s.All() {
		got = got.Add(snapshot.HashRRset(r))
	}
	if got != digest {
		return fmt.Sprintf("pinned, but the content of version %d comes out at the digest %s instead of %s; version %d stays, `zonecast release` ends the pin", pin.Version, got, digest, now.Version()), nil
	}
	for k, claims := range p.pin.above {
		s.Replace(k.source, k.name, claims)
	}
	s.Reconcile()
	p.pin.state, p.pos = s, nil
	return "", nil
}

// maxSources bounds the sources in a History.
const maxSources = 16

// remember notes a version in the history, with the way back from it.
func (p *Presenter) remember(t *trial, d *snapshot.Delta, change reconcile.Change) error {
	e := &tree.History{Version: d.Version, Time: d.Time, Pinned: t.next.pinned}
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
	for s := range p.changed {
		e.Sources = append(e.Sources, s)
	}
	slices.Sort(e.Sources)
	if n := len(e.Sources); n > maxSources {
		e.Sources, e.Others = e.Sources[:maxSources], n-maxSources
	}
	if d.Full || p.pos.version == 0 {
		undo = nil
	}
	batches, ops, err := history.Ops(d.Dataset, *e, undo)
	if err != nil {
		return err
	}
	for _, b := range batches {
		t.parts = append(t.parts, store.Txn{If: t.txn.If, Do: b})
	}
	e.Pieces = len(ops) - 1
	for _, b := range batches {
		e.Pieces += len(b)
	}
	t.txn.Do, t.entry = append(t.txn.Do, ops...), e
	return nil
}

// forget takes the oldest versions out of the history, but for those that the way back to
// a pin needs. What cannot be taken out now is tried with the next version.
func (p *Presenter) forget(ctx context.Context) {
	const slack = 16 // so that it is not done with every version
	if len(p.past) <= p.cfg.History+slack {
		return
	}
	for len(p.past) > p.cfg.History {
		e := p.past[0]
		if v := p.pin.version(); v > 0 && e.Version > v {
			return
		}
		ops := history.Forget(p.cfg.Dataset, e)
		for len(ops) > 0 {
			n := min(store.MaxTxnOps-1, len(ops))
			if _, err := p.deps.Store.Commit(ctx, store.Txn{If: []store.Cond{p.term.fence}, Do: ops[:n]}); err != nil {
				p.log.Warn("old version not taken out of the history, trying again later", "version", e.Version, "error", err)
				return
			}
			ops = ops[n:]
		}
		p.past = p.past[1:]
	}
}
