package publisher

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/store"
)

// What is tried is signed, too: a host believes a trial as little as a version that is not. It
// is offered to the rings that the canary stage says, and to none while that says nothing.

// trials is what is known of what is tried.
type trials struct {
	trial  *trial.Trial // nil: nothing is tried
	judged trial.Judgement
	said   []byte // the offer in the store; nil: there is none
	// signed is the offer of this life that said is; nil: it is of another life.
	signed []byte
	// leaves is the version whose manifest is waited for before an offer goes whose trial is gone,
	// until a bound; 0: it is not known yet.
	leaves uint64
	until  time.Time
}

const (
	// leavesFor is how long that is waited for at most, leavesLook how often it is looked.
	leavesFor  = 10 * time.Second
	leavesLook = 20 * time.Millisecond
	// offerPause is the longest pause before a trial is tried again to be offered: each time all of it is
	// read.
	offerPause = 10 * time.Second
)

// offerTrials keeps the offer of what is tried true until ctx ends.
func (s *signer) offerTrials(ctx context.Context) {
	path := tree.OfferPath(s.cfg.Dataset)
	var t trials
	known := false // t.said is what the store has
	batches := s.deps.Store.Watch(ctx, tree.Trials+s.cfg.Dataset+"/", 0)
	offers := s.deps.Store.Watch(ctx, tree.OffersPrefix(s.cfg.Dataset), 0)
	timer := time.NewTimer(0)
	timer.Stop()
	defer timer.Stop()
	pause, trouble := minPause, ""
	for {
		select {
		case <-ctx.Done():
			return
		case b, open := <-batches:
			if !open {
				return
			}
			t.take(s, b)
		case b, open := <-offers:
			if !open {
				return
			}
			if !t.another(path, b) {
				continue
			}
			known = false // somebody put an old one back, say
		case <-timer.C:
		}
		err := func() error {
			if !known {
				n, err := s.deps.Store.Get(ctx, path)
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					return err
				}
				t.said, t.signed, known = n.Value, nil, true
			}
			return s.offerTrial(ctx, path, &t)
		}()
		if err != nil && ctx.Err() == nil {
			known = false
			if text := err.Error(); text != trouble { // once: a part that is lost stays so
				trouble = text
				s.deps.Log.Warn("trial not offered, trying again", "dataset", s.cfg.Dataset, "pause", pause, "error", err)
			}
			timer.Reset(pause)
			pause = min(2*pause, offerPause)
			continue
		}
		pause, trouble = minPause, ""
		if t.trial == nil && t.said != nil {
			timer.Reset(leavesLook)
		} else if left := t.left(s.deps.Now()); left > 0 {
			timer.Reset(left)
		}
	}
}

// another tells whether the store has another offer than the one that is known.
func (t *trials) another(path string, b store.Batch) bool {
	there, said := []byte(nil), b.Reset || slices.Contains(b.Deletes, path)
	for _, n := range b.Puts {
		if n.Path == path {
			there, said = n.Value, true
		}
	}
	return said && !bytes.Equal(there, t.said)
}

// left is in what time the trial is over; 0: there is none, or it is.
func (t *trials) left(now time.Time) time.Duration {
	if t.trial == nil {
		return 0
	}
	return max(0, time.UnixMilli(t.trial.Until).Sub(now))
}

func (t *trials) take(s *signer, b store.Batch) {
	if b.Reset {
		t.trial, t.judged = nil, trial.Judgement{}
	}
	for _, path := range b.Deletes {
		switch path {
		case tree.TrialPath(s.cfg.Dataset):
			t.trial = nil
		case tree.JudgementPath(s.cfg.Dataset):
			t.judged = trial.Judgement{}
		}
	}
	for _, n := range b.Puts {
		var err error
		switch n.Path {
		case tree.TrialPath(s.cfg.Dataset):
			x := new(trial.Trial)
			if err = tree.Decode(n, x); err == nil {
				t.trial = x
			} else {
				t.trial = nil
			}
		case tree.JudgementPath(s.cfg.Dataset):
			var j trial.Judgement
			if err = tree.Decode(n, &j); err == nil {
				t.judged = j
			}
		}
		if err != nil {
			s.deps.Log.Warn("trial cannot be read: it is not offered", "error", err)
		}
	}
}

// offerTrial brings the store to what is to be offered now. What is passed stays offered until
// its version is signed, so that no host goes back between.
func (s *signer) offerTrial(ctx context.Context, path string, t *trials) error {
	x, j := t.trial, t.judged
	var signed, text []byte
	if x == nil && t.said != nil {
		if gone, err := s.mayLeave(ctx, t); !gone || err != nil {
			return err
		}
	}
	if x != nil {
		t.leaves, t.until = 0, time.Time{}
	}
	if x != nil && x.Dataset == s.cfg.Dataset && j.ID == x.ID && j.Begun == x.Since && j.State != trial.Withdrawn && t.left(s.deps.Now()) > 0 && j.Ring >= 0 && j.Ring < len(x.Policy.Rings) {
		o := trial.Offer{
			Dataset: x.Dataset, ID: x.ID, Number: x.Number, Base: x.Base, Rings: x.Policy.Rings[:j.Ring+1], Time: x.Since, Until: x.Until, Size: x.Size, SHA256: x.SHA256,
		}
		if text = tree.Encode(o); bytes.Equal(text, t.signed) {
			return nil // evidence came, or what it waits for: the offer is what it was
		}
		parts, _, err := s.deps.Store.List(ctx, tree.TrialPartsPrefix(s.cfg.Dataset, x.Number))
		if err != nil {
			return fmt.Errorf("read trial %s: %w", x.ID, err)
		}
		if _, err := o.Open(trial.Parts(parts)); err != nil {
			return fmt.Errorf("not signed: %w", err)
		}
		if signed, err = o.Sign(append([]ed25519.PrivateKey{s.key}, s.also...)...); err != nil {
			return err
		}
	}
	if bytes.Equal(signed, t.said) {
		t.signed = text
		return nil
	}
	if _, err := s.deps.Store.Commit(ctx, store.Txn{If: []store.Cond{s.fence}, Do: []store.Op{{Path: path, Value: signed, Delete: signed == nil}}}); err != nil {
		return err
	}
	t.said, t.signed = signed, text
	if signed == nil {
		s.deps.Log.Info("trial no longer offered", "dataset", s.cfg.Dataset)
	} else {
		s.deps.Log.Info("trial offered", "dataset", s.cfg.Dataset, "id", x.ID, "ring", x.RingName(j.Ring))
	}
	return nil
}

// mayLeave tells whether the offer of a trial that is gone may go: it may have become a version, and
// hosts are to have that first.
func (s *signer) mayLeave(ctx context.Context, t *trials) (bool, error) {
	now := s.deps.Now()
	if t.until.IsZero() {
		t.until = now.Add(leavesFor)
	}
	if t.leaves == 0 {
		var head tree.Head
		n, err := s.deps.Store.Get(ctx, tree.HeadPath(s.cfg.Dataset))
		if err == nil {
			err = tree.Decode(n, &head)
		}
		if errors.Is(err, store.ErrNotFound) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		t.leaves = head.Version
	}
	s.mu.Lock()
	signed := s.status.Signed
	s.mu.Unlock()
	if signed < t.leaves && now.Before(t.until) {
		return false, nil
	}
	t.leaves, t.until = 0, time.Time{}
	return true, nil
}
