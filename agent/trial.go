package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// A trial is offered to some hosts. The agent verifies it and hands it to the authority in a
// file beside the journal, for as long as the store confirms the offer; the journal never has
// it. Who starts begins without.

const (
	// trialConfirm is how often the store is asked whether the trial that is on is still offered.
	trialConfirm = 2 * time.Second
	// trialBehind is for how long no version may have come while a trial is on: with the freshness
	// record there is one a second. Otherwise what says that it is offered may be a proxy that is
	// cut off itself, and has not heard that it was withdrawn.
	trialBehind = time.Minute
	// A trial that is no longer offered may be a version now: it stays until the authority answers
	// what is signed, looked at every trialLook, for trialLeave at most.
	trialLook  = 20 * time.Millisecond
	trialLeave = 2 * time.Second
)

// trying is what this host tries.
type trying struct {
	*Agent
	path    string
	offered []byte       // as the store has it; nil: nothing is offered
	judged  []byte       // the last one that was looked at for good
	on      *trial.Offer // in the file; nil: there is no file
	damage  string       // why the last delta was not the one that is offered; "": it was
	trouble string       // why the last one was not taken; "": it was
	leaves  uint64       // the version that is waited for before what is on goes; 0: none
	until   time.Time    // until when it is
}

// tryOffers takes offers until ctx ends.
func (a *Agent) tryOffers(ctx context.Context) {
	t := &trying{Agent: a, path: trial.Path(a.cfg.Journal)}
	t.drop("it is of an earlier life")
	defer t.drop("the agent ends")
	batches := a.deps.Store.Watch(ctx, tree.OffersPrefix(a.cfg.Dataset), 0)
	confirm := time.NewTimer(0)
	defer confirm.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case b, open := <-batches:
			if !open {
				return
			}
			t.take(b)
		case <-confirm.C:
			t.confirm(ctx)
		}
		err := t.act(ctx, time.Now())
		if err == nil {
			t.trouble = ""
		} else if text := err.Error(); text != t.trouble && ctx.Err() == nil { // once: a disk may be full for days
			t.trouble = text
			a.deps.Log.Warn("trial not taken, trying again", "dataset", a.cfg.Dataset, "error", err)
		}
		if confirm.Stop(); t.leaves > 0 {
			confirm.Reset(trialLook)
		} else if err != nil || t.on != nil || t.offered != nil && t.judged == nil {
			confirm.Reset(trialConfirm)
		}
	}
}

func (t *trying) take(b store.Batch) {
	path := tree.OfferPath(t.cfg.Dataset)
	if b.Reset {
		t.offered = nil
	}
	for _, p := range b.Deletes {
		if p == path {
			t.offered = nil
		}
	}
	for _, n := range b.Puts {
		if n.Path == path {
			t.offered = n.Value
		}
	}
}

// silent is for how long no version has come; none ever is for as long as this agent lives.
func (t *trying) silent(now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return now.Sub(t.came)
}

// still reads what is offered now, and tells whether that is what it was.
func (t *trying) still(ctx context.Context) (bool, error) {
	n, err := t.deps.Store.Get(ctx, tree.OfferPath(t.cfg.Dataset))
	if errors.Is(err, store.ErrNotFound) {
		t.offered = nil
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read what is offered: %w", err)
	}
	same := bytes.Equal(n.Value, t.offered)
	t.offered = n.Value
	return same, nil
}

// confirm asks whether what is on is still offered, and lets the authority know.
func (t *trying) confirm(ctx context.Context) {
	if t.on == nil || t.leaves > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, trial.Lease/2)
	defer cancel()
	still, err := t.still(ctx)
	switch {
	case err != nil || !still: // the authority answers without when it lasts
	case !bytes.Equal(t.offered, t.judged):
		// What is offered could not be taken yet: what is on is another one, and not confirmed.
	default:
		if _, err := trial.Verify(t.offered, t.ring.Keys().Believed, t.cfg.Dataset); err != nil {
			t.judged = nil // its key was revoked: it is looked at again
			return
		}
		now := time.Now()
		if err := os.Chtimes(t.path, now, now); err != nil {
			t.deps.Log.Warn("trial not confirmed to the authority", "path", t.path, "error", err)
			t.on, t.judged = nil, nil // to be written anew
		}
	}
}

// act brings the file to what is offered. An error is tried again with the next confirmation.
func (t *trying) act(ctx context.Context, now time.Time) error {
	if t.on != nil {
		err := t.on.InTime(now)
		if since := t.silent(now); since > trialBehind {
			err = fmt.Errorf("no version has come for %v: what is offered may be old", since.Round(time.Second))
		}
		if err != nil {
			t.drop(err.Error())
			t.judged = nil
			return nil
		}
	}
	if t.offered == nil {
		if t.on == nil || t.gone(ctx, now) {
			t.drop("it is no longer offered")
			t.judged, t.leaves = nil, 0
		}
		return nil
	}
	t.leaves = 0
	if t.judged != nil && bytes.Equal(t.offered, t.judged) || t.silent(now) > trialBehind {
		return nil
	}
	refuse := func(kind follow.Kind, err error) {
		t.judged = t.offered
		t.Refused(follow.Refusal{Kind: kind, Err: err, Time: now, Evidence: t.offered})
		t.drop("another one was offered and refused")
	}
	o, err := trial.Verify(t.offered, t.ring.Keys().Believed, t.cfg.Dataset)
	if err == nil {
		err = o.InTime(now)
	}
	if err != nil {
		refuse(follow.KindSignature, err)
		return nil
	}
	if !o.For(t.cfg.Host, t.cfg.Labels) {
		t.judged = t.offered
		t.drop("it is for other hosts")
		return nil
	}
	// What a watch says may be old, when it began at a replica of the store that lags.
	if still, err := t.still(ctx); err != nil || !still { // another one is looked at next
		return err
	}
	parts, err := t.parts(ctx, o)
	if err != nil {
		if t.on != nil && (t.on.ID != o.ID || t.on.Number != o.Number) {
			t.drop("another one was offered, and cannot be read")
		}
		return fmt.Errorf("read trial %s: %w", o.ID, err)
	}
	if _, err := trial.Verify(t.offered, t.ring.Keys().Believed, t.cfg.Dataset); err != nil {
		refuse(follow.KindSignature, err)
		return nil
	}
	delta := trial.Parts(parts)
	if _, err := o.Open(delta); err != nil {
		// It is looked at again: a proxy may not have all of it yet.
		t.drop("another one was offered")
		if text := err.Error(); text != t.damage {
			t.damage = text
			t.Refused(follow.Refusal{Kind: follow.KindDigest, Err: err, Time: now, Evidence: slices.Clone(delta[:min(len(delta), follow.MaxEvidence)])})
		}
		return nil
	}
	t.damage = ""
	if err := trial.Write(t.path, t.offered, delta); err != nil {
		return err
	}
	if t.on == nil || t.on.ID != o.ID || t.on.Number != o.Number {
		t.deps.Log.Info("trial taken", "dataset", t.cfg.Dataset, "id", o.ID, "version", o.Base)
	}
	t.on, t.judged = o, t.offered
	return nil
}

// parts reads the parts of a delta that is offered, after the store's revocations: what tells that a key
// is revoked may come later than what it signed.
func (t *trying) parts(ctx context.Context, o *trial.Offer) ([]store.Node, error) {
	if err := t.ring.Read(ctx, t.deps.Store); err != nil {
		return nil, fmt.Errorf("revocations: %w", err)
	}
	parts, _, err := t.deps.Store.List(ctx, tree.TrialPartsPrefix(t.cfg.Dataset, o.Number))
	if err == nil && len(parts) == 0 {
		err = errors.New("its delta is not there (composed anew?)")
	}
	return parts, err
}

// gone tells whether what is on may go: the authority answers what was signed when it was no longer
// offered, or that lasts too long.
func (t *trying) gone(ctx context.Context, now time.Time) bool {
	if t.leaves == 0 {
		ctx, cancel := context.WithTimeout(ctx, trialLeave)
		defer cancel()
		n, err := t.deps.Store.Get(ctx, tree.ManifestPath(t.cfg.Dataset))
		if err != nil {
			return true
		}
		m, err := snapshot.DecodeManifest(n.Value) // not verified: at worst it is waited
		if err != nil {
			return true
		}
		t.leaves, t.until = m.Version, now.Add(trialLeave)
	}
	s, err := t.readServing()
	return err == nil && s.Version >= t.leaves || !now.Before(t.until)
}

// drop takes the file away.
func (t *trying) drop(why string) {
	err := os.Remove(t.path)
	if err == nil {
		t.deps.Log.Info("trial dropped", "dataset", t.cfg.Dataset, "why", why)
	} else if !errors.Is(err, fs.ErrNotExist) {
		t.deps.Log.Error("trial cannot be dropped; the authority answers without it when it is not confirmed", "path", t.path, "error", err)
	}
	t.on = nil
}
