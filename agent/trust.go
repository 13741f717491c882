package agent

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/refused"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trust"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
)

// maxSkew is how far the publisher's clock may be ahead of this one before somebody is told:
// more than clocks that are set by a time server ever are, less than what makes the age of a
// record useless.
const maxSkew = time.Minute

// word is by whose word, and since and until when, the journal has what it has.
type word struct {
	manifest []byte
	// signedBy are those of the keys of set that signed it: a manifest can claim any.
	signedBy   []string
	set        *journal.KeySet
	validUntil time.Time // zero: the manifest does not say
	// ahead is how far the signer's clock was before this one when it was taken; 0 when it
	// was not.
	ahead time.Duration
}

func wordOf(manifest []byte) word {
	m, err := snapshot.DecodeManifest(manifest)
	if err != nil {
		return word{} // a journal that is new
	}
	w := word{manifest: manifest}
	if m.Signed > 0 {
		w.ahead = max(0, time.Until(time.UnixMilli(m.Signed)))
	}
	if m.ValidUntil > 0 {
		w.validUntil = time.UnixMilli(m.ValidUntil)
	}
	return w
}

// wordNow is the word with who signed it, as far as that is known now.
func (a *Agent) wordNow() word {
	set := a.ring.Keys()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.word.set != set {
		a.word.set, a.word.signedBy = set, set.SignedBy(a.word.manifest)
	}
	return a.word
}

// validFor is seconds until the manifest by which the journal has what it has is past its
// time, less than 0 when it is; infinite when it does not say.
func (a *Agent) validFor() float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.word.validUntil.IsZero() {
		return math.Inf(1)
	}
	return time.Until(a.word.validUntil).Seconds()
}

// Alarms is what a person should look at, though the host serves. The texts stay the same
// for as long as their reasons do.
func (a *Agent) Alarms() []string {
	w := a.wordNow()
	set := w.set
	alarms := a.ring.Problems()
	if len(set.Believed) == 0 {
		alarms = append(alarms, "every key is revoked: nothing new is believed")
	}
	if !w.validUntil.IsZero() && time.Now().After(w.validUntil) {
		alarms = append(alarms, fmt.Sprintf("manifest was valid until %s and nobody signed another: the publisher or the store is away, or somebody holds news back", stamp(w.validUntil)))
	}
	if w.ahead > maxSkew {
		alarms = append(alarms, fmt.Sprintf("manifest was signed %s ahead of this host's clock: one of both clocks is wrong", w.ahead.Round(time.Second)))
	}
	if set.Void(w.signedBy) {
		alarms = append(alarms, fmt.Sprintf("what is served was signed by key %s, whose word is void: it is served until a believed key signs something", strings.Join(w.signedBy, " and ")))
	} else if set.AllRevoked(w.signedBy) {
		alarms = append(alarms, fmt.Sprintf("what is served was signed by key %s, which is revoked: it is served until a believed key signs something newer", strings.Join(w.signedBy, " and ")))
	}
	return alarms
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// sayBeliefs has the reporter look when other keys are believed.
func (a *Agent) sayBeliefs(ctx context.Context) {
	changed, end := a.ring.Subscribe()
	defer end()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			a.poke()
		}
	}
}

// trusted is what the store is told of whom the host believes.
func (a *Agent) trusted() tree.Trust {
	w := a.wordNow()
	set := w.set
	t := tree.Trust{Host: a.cfg.Host, Believed: trust.IDs(set)}
	for _, r := range set.Revoked {
		t.Revoked = append(t.Revoked, tree.RevokedKey{ID: snapshot.KeyID(r.Key), Void: r.Void, Why: r.Why})
	}
	t.SignedBy = w.signedBy
	return t
}

// Kinds of what an agent refuses beside follow's.
const (
	kindJournal    = "journal"    // a journal that is damaged on the disk
	kindRevocation = "revocation" // a node that revokes nothing
)

// refusedRevocation notes a node that is no revocation.
func (a *Agent) refusedRevocation(err error, evidence []byte) {
	a.evidence.Keep(refused.Entry{Time: time.Now().UnixMilli(), Dataset: a.cfg.Dataset, Kind: kindRevocation, Way: "store", Why: err.Error(), Evidence: evidence})
	a.metrics.refused.WithLabelValues(kindRevocation).Inc()
	a.deps.Log.Warn("refused, the host keeps what it has", "dataset", a.cfg.Dataset, "kind", kindRevocation, "error", err)
}

// wayOf is where a refusal of this kind comes from.
func wayOf(kind follow.Kind) string {
	if kind == follow.KindSnapshot || kind == follow.KindDelta {
		return "peers" // or the publisher, who serves files as peers do
	}
	return "store"
}
