package control

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zonecast/zonecast/guard"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// claims is the reconciliation of what is in force, and what is claimed and waits: what
// the presenter has not admitted. While no version says that claims are admitted, all are
// in force.
type claims struct {
	mu    sync.Mutex // guards below
	fold  *claimtree.Fold
	state *reconcile.State
	judge *guard.Judge   // knows how large everything in state is; nil until it is asked
	heard bool           // the claims were read
	seen  store.Revision // up to which
	gated bool           // what is admitted was read, too
	// waiting has the shards that are claimed otherwise than they are in force; no claims:
	// to be taken away. shards counts them by source.
	waiting map[shard][]record.Claim
	shards  map[record.Source]int
	// revisions are those at which a source that waits changed, the newest last; recent
	// has those of all sources, because a source may be found to wait after it changed.
	revisions map[record.Source][]store.Revision
	recent    []touch
}

// touch is a change of a source's claims.
type touch struct {
	source record.Source
	at     store.Revision
}

type shard struct {
	source record.Source
	name   string
}

// maxRevisions and maxRecent bound claims.revisions, of a source, and claims.recent: of
// older ones `zonecast holds` tells alone.
const (
	maxRevisions = 256
	maxRecent    = 1024
)

// reconcile decides what was replaced for good.
func (c *claims) reconcile(now time.Time) {
	change := c.state.Reconcile()
	if c.judge != nil {
		c.judge.Admit("", change, now)
	}
}

// wanted is what is claimed of a shard now. The caller holds mu, as for all below.
func (c *claims) wanted(k shard) []record.Claim {
	if w, waits := c.waiting[k]; waits {
		return w
	}
	return c.state.Shard(k.source, k.name)
}

// want notes what is claimed of a shard, after what is in force of it.
func (c *claims) want(k shard, claims []record.Claim) {
	_, waits := c.waiting[k]
	same := claimtree.Same(claims, c.state.Shard(k.source, k.name))
	switch {
	case same && waits:
		delete(c.waiting, k)
		if c.shards[k.source]--; c.shards[k.source] == 0 {
			delete(c.shards, k.source)
			delete(c.revisions, k.source)
		}
	case !same:
		if c.waiting[k] = claims; !waits {
			if c.shards[k.source]++; c.shards[k.source] == 1 {
				for _, t := range c.recent {
					if t.source == k.source {
						c.note(t)
					}
				}
			}
		}
	}
}

// claimed takes what a source claims.
func (c *claims) claimed(ch claimtree.Change) {
	k := shard{ch.Source, ch.Shard}
	if !c.gated || claimtree.PassesOver(ch.Source, c.state.Shard(k.source, k.name), ch.Claims) {
		c.state.Replace(k.source, k.name, ch.Claims)
	}
	c.want(k, ch.Claims)
}

// admitted takes what is in force of a shard.
func (c *claims) admitted(k shard, claims []record.Claim) {
	wanted := c.wanted(k)
	if len(claims) == 0 && claimtree.Passes(k.source, wanted) {
		claims = wanted
	}
	c.state.Replace(k.source, k.name, claims)
	c.want(k, wanted)
}

// adopt leaves in force what is admitted of shards that cannot be read.
func (c *claims) adopt() {
	if c.fold.Unread() == nil {
		return
	}
	for k, claims := range c.waiting {
		if len(claims) == 0 && c.fold.Adopt(k.source, k.name) {
			c.want(k, c.state.Shard(k.source, k.name))
		}
	}
}

// note takes a revision at which a source that waits changed.
func (c *claims) note(t touch) {
	if all := c.revisions[t.source]; !slices.Contains(all, t.at) {
		c.revisions[t.source] = append(all[max(0, len(all)+1-maxRevisions):], t.at)
	}
}

// touched notes at which revisions sources changed. Of several commits in one batch it is
// known of each node only when it was written last: the rest may have been anybody's.
func (c *claims) touched(b store.Batch, changes []claimtree.Change) {
	wrote := map[store.Revision]record.Source{}
	sources := map[record.Source]bool{}
	note := func(t touch) {
		c.recent = append(c.recent[max(0, len(c.recent)+1-maxRecent):], t)
		if c.shards[t.source] > 0 {
			c.note(t)
		}
	}
	for _, n := range b.Puts {
		s, _, _ := tree.SplitClaim(n.Path)
		if wrote[n.Modified] != s {
			note(touch{s, n.Modified})
		}
		wrote[n.Modified] = s
	}
	if !c.heard {
		return
	}
	for _, ch := range changes {
		sources[ch.Source] = true
	}
	for _, path := range b.Deletes { // also of what came and went between
		s, _, _ := tree.SplitClaim(path)
		sources[s] = true
	}
	for s := range sources {
		for at := max(c.seen, b.Revision-maxRevisions) + 1; at <= b.Revision; at++ {
			if _, known := wrote[at]; !known {
				note(touch{s, at})
			}
		}
	}
}

func (c *Control) followClaims(ctx context.Context) error {
	for b := range c.deps.Store.Watch(ctx, tree.Claims, 0) {
		c.claims.mu.Lock()
		changes, err := c.claims.fold.Apply(b)
		if err != nil {
			c.deps.Log.Warn("claims not read, the last good ones stay", "error", err)
		}
		for _, ch := range changes {
			c.claims.claimed(c.deps.Division.Part(c.cfg.Dataset, ch))
		}
		c.claims.adopt()
		c.claims.touched(b, changes)
		c.claims.reconcile(c.deps.Now())
		c.claims.heard, c.claims.seen = true, b.Revision
		c.claims.mu.Unlock()
		c.moved()
	}
	return ctx.Err()
}

// followAdmitted follows what is in force, from the first version that says so.
func (c *Control) followAdmitted(ctx context.Context) error {
	for {
		c.marks.mu.Lock()
		gated, changed := c.marks.head.Gated, c.marks.changed
		c.marks.mu.Unlock()
		if gated {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	prefix := tree.AdmittedPrefix(c.cfg.Dataset)
	for b := range c.deps.Store.Watch(ctx, prefix, 0) {
		c.claims.mu.Lock()
		c.takeAdmitted(b)
		c.claims.reconcile(c.deps.Now())
		c.claims.mu.Unlock()
		c.moved()
	}
	return ctx.Err()
}

// takeAdmitted takes a batch of what is in force. The caller holds c.claims.mu.
func (c *Control) takeAdmitted(b store.Batch) {
	at := func(path string) (k shard, ok bool) {
		k.source, k.name, ok = tree.SplitAdmitted(c.cfg.Dataset, path)
		return k, ok
	}
	if b.Reset {
		gone := map[shard]bool{}
		for s, name := range c.claims.state.Shards() {
			gone[shard{s, name}] = true
		}
		for _, n := range b.Puts {
			if k, ok := at(n.Path); ok {
				delete(gone, k)
			}
		}
		for k := range gone {
			c.claims.admitted(k, nil)
		}
		c.claims.gated = true
	}
	for _, path := range b.Deletes {
		if k, ok := at(path); ok {
			c.claims.admitted(k, nil)
		}
	}
	for _, n := range b.Puts {
		k, ok := at(n.Path)
		if !ok {
			continue
		}
		claims, err := record.DecodeShard(n.Value)
		if err != nil {
			c.deps.Log.Warn("what is admitted cannot be read: taken as it is claimed", "path", n.Path, "error", err)
			claims = c.claims.wanted(k)
		}
		c.claims.admitted(k, claims)
	}
	c.claims.adopt()
}

// explains tells whether enough was read to explain what is in force. The caller holds
// c.claims.mu.
func (c *Control) explains() bool {
	c.marks.mu.Lock()
	defer c.marks.mu.Unlock()
	return c.claims.heard && c.marks.heard && c.claims.gated == c.marks.head.Gated
}

// moved has everybody look again who waits for something.
func (c *Control) moved() {
	c.marks.mu.Lock()
	defer c.marks.mu.Unlock()
	c.marks.move()
}

// read is the revision up to which claims were read here.
func (c *Control) read() store.Revision {
	c.claims.mu.Lock()
	defer c.claims.mu.Unlock()
	return c.claims.seen
}

// awaits says what the change of claims at a revision waits for, and by which source; ""
// when it is in force, as far as was read up to now.
func (c *Control) awaits(at store.Revision) string {
	c.claims.mu.Lock()
	defer c.claims.mu.Unlock()
	if c.claims.seen < at {
		return unreadClaims
	}
	for _, s := range slices.Sorted(maps.Keys(c.claims.revisions)) {
		if slices.Contains(c.claims.revisions[s], at) {
			return fmt.Sprintf("%s waits: %s", s, c.obstacle(s))
		}
	}
	return ""
}

const unreadClaims = "the claims are not read yet here"

// obstacle says why what a source claims is not in force, and what ends that.
func (c *Control) obstacle(s record.Source) string {
	if f, ok := c.frozen(s); ok {
		return fmt.Sprintf("frozen by %s (%s): `zonecast thaw %s`", f.Author, f.Reason, f.ID)
	}
	c.marks.mu.Lock()
	defer c.marks.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(c.marks.holds)) {
		switch h := c.marks.holds[id]; {
		case h.Source != s:
		case h.Decision == "drop":
			return fmt.Sprintf("kept out by %s (hold %s, drop) until the source claims something else; `zonecast release %s` lets it through", h.Author, id, id)
		case h.Decision == "":
			return fmt.Sprintf("hold %s: %s: `zonecast release %s` or `zonecast drop %s`", id, strings.Join(h.Why, "; "), id, id)
		}
	}
	if t := c.marks.trial; t != nil && t.Source == s {
		return fmt.Sprintf("%s: `zonecast rings`", t.At(c.marks.judged))
	} else if t != nil && t.Policy.Tries(s, 1) != "" {
		return fmt.Sprintf("it goes by rings after trial %s of %s: `zonecast rings`", t.ID, t.Source)
	}
	return "the presenter has not taken it up yet: does `zonecast run presenter` run?"
}

// frozen gives the freeze that a source is under, if there is one.
func (c *Control) frozen(s record.Source) (f tree.Freeze, ok bool) {
	c.marks.mu.Lock()
	defer c.marks.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(c.marks.freezes)) {
		f := c.marks.freezes[id]
		f.ID = id
		if kind, whole := strings.CutSuffix(f.Source, "/*"); f.Source == "" || f.Source == string(s) || whole && s.Kind() == kind {
			return f, true
		}
	}
	return f, false
}

// pinned is the pin, and what people are told of it; nil when there is none.
func (c *Control) pinned() (*tree.Pin, string) {
	c.marks.mu.Lock()
	defer c.marks.mu.Unlock()
	pin := c.marks.pin
	if pin == nil {
		return nil, ""
	}
	return pin, fmt.Sprintf("pinned at the content of version %d since %s by %s (%s): `zonecast release`", pin.Version, time.UnixMilli(pin.Set).UTC().Format(time.RFC3339), pin.Author, pin.Reason)
}
