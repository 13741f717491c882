package presenter

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/zonecast/zonecast/guard"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// What a source claims is not in force at once: the presenter admits it, or holds it for
// a person. What is admitted lies in the store beside the claims, written with the version
// that has it, so that a source that is held, or frozen, stays where it was through
// restarts and changes of leader, and what it claims while nobody leads is judged like
// everything else.
//
// Overrides and freshness records pass: their claims are in force as they are.

// gate is what is claimed and not in force.
type gate struct {
	open    bool // what is admitted was read in this term: claims are judged
	pending map[record.Source]*pending
	// writes has the shards that are to be written as admitted with the next version; nil
	// claims: to be deleted.
	writes  map[shard][]record.Claim
	nodes   map[string]tree.Hold  // in the store, by id
	news    map[string]*tree.Hold // to be written; nil: to be deleted
	freezes map[string]tree.Freeze
	judge   *guard.Judge // of this term
}

// pending is what a source claims otherwise than what is admitted of it, by shard; nil
// claims: the shard is gone.
type pending struct {
	shards map[string][]record.Claim
	id     string // of the hold that it would be; "" is not computed yet
	hold   *tree.Hold
}

func newGate() gate {
	return gate{
		pending: map[record.Source]*pending{}, writes: map[shard][]record.Claim{},
		nodes: map[string]tree.Hold{}, news: map[string]*tree.Hold{}, freezes: map[string]tree.Freeze{},
	}
}

// passes tells whether claims are in force without being admitted.
func passes(s record.Source, claims []record.Claim) bool {
	return s.Kind() == record.KindOverride || slices.ContainsFunc(claims, func(c record.Claim) bool { return snapshot.IsFreshness(c.Key) })
}

// claimed takes what a source claims now.
func (p *Presenter) claimed(ch claimtree.Change) {
	g := &p.gate
	k := shard{ch.Source, ch.Shard}
	now := p.state.Shard(ch.Source, ch.Shard)
	if !g.open || passes(ch.Source, ch.Claims) || len(ch.Claims) == 0 && passes(ch.Source, now) {
		p.state.Replace(ch.Source, ch.Shard, ch.Claims)
		return
	}
	w := g.pending[ch.Source]
	if w == nil {
		w = &pending{shards: map[string][]record.Claim{}}
		g.pending[ch.Source] = w
	}
	w.id = ""
	if sameClaims(now, ch.Claims) {
		delete(w.shards, k.name)
	} else {
		w.shards[k.name] = ch.Claims
	}
}

func sameClaims(a, b []record.Claim) bool {
	return slices.EqualFunc(a, b, func(a, b record.Claim) bool {
		return a.RRset.Equal(b.RRset) && a.Source == b.Source && a.Provenance == b.Provenance && a.Place == b.Place && a.Fallback == b.Fallback
	})
}

// openGate reads what is admitted. Where the claims are otherwise, they wait.
func (p *Presenter) openGate(ctx context.Context) (err error) {
	nodes, _, err := p.deps.Store.List(ctx, tree.AdmittedPrefix(p.cfg.Dataset))
	if err != nil {
		return fmt.Errorf("read what is admitted: %w", err)
	}
	g := &p.gate
	clear(g.pending)
	clear(g.writes)
	clear(g.news)
	defer func() {
		if err == nil {
			p.state.Reconcile()
			g.judge, err = guard.New(p.cfg.Guard, p.state.All, p.state.Made())
		}
	}()
	if len(nodes) == 0 {
		// Nothing was published yet, or by a release without a gate.
		for s, name := range p.state.Shards() {
			if claims := p.state.Shard(s, name); !passes(s, claims) {
				g.writes[shard{s, name}] = claims
			}
		}
		g.open = true
		return nil
	}
	admitted := map[shard][]record.Claim{}
	for _, n := range nodes {
		s, name, ok := tree.SplitAdmitted(p.cfg.Dataset, n.Path)
		if !ok {
			continue
		}
		k := shard{s, name}
		claims, err := record.DecodeShard(n.Value)
		if err != nil {
			p.log.Error("what is admitted cannot be read: taken as it is claimed", "path", n.Path, "error", err)
			claims = p.state.Shard(s, name)
			g.writes[k] = claims
		}
		admitted[k] = claims
	}
	var all []shard
	for s, name := range p.state.Shards() {
		all = append(all, shard{s, name})
	}
	wait := func(k shard, wanted []record.Claim) {
		w := g.pending[k.source]
		if w == nil {
			w = &pending{shards: map[string][]record.Claim{}}
			g.pending[k.source] = w
		}
		w.shards[k.name] = wanted
		p.state.Replace(k.source, k.name, admitted[k])
	}
	for _, k := range all {
		wanted := p.state.Shard(k.source, k.name)
		if !passes(k.source, wanted) && !sameClaims(wanted, admitted[k]) {
			wait(k, wanted)
		}
		delete(admitted, k)
	}
	for k := range admitted {
		wait(k, nil)
	}
	g.open = true
	return nil
}

// closeGate ends with the term: who does not lead reconciles all that is claimed.
func (p *Presenter) closeGate() {
	for s, w := range p.gate.pending {
		for name, claims := range w.shards {
			p.state.Replace(s, name, claims)
		}
	}
	clear(p.gate.pending)
	clear(p.gate.writes)
	clear(p.gate.news)
	p.gate.open = false
}

// admit puts into force what waits and need not, and gives the change of it.
func (p *Presenter) admit() reconcile.Change {
	g := &p.gate
	var all []reconcile.Change
	for _, s := range p.waiting() {
		w := g.pending[s]
		if len(w.shards) == 0 { // it went back to what is admitted
			g.end(w)
			delete(g.pending, s)
			continue
		}
		if p.frozen(s) != nil {
			continue
		}
		id := w.identify(s)
		if w.hold != nil && w.hold.ID != id {
			g.end(w)
		}
		decision := ""
		if n, ok := g.nodes[id]; ok {
			w.hold, decision = &n, n.Decision
		}
		if w.hold != nil && decision != "release" {
			continue
		}
		old := map[string][]record.Claim{}
		for name, claims := range w.shards {
			old[name] = p.state.Shard(s, name)
			p.state.Replace(s, name, claims)
		}
		change := p.state.Reconcile()
		switch now := p.deps.Now(); {
		case decision == "release" || !p.cfg.Guards:
			g.judge.Admit(s, change, now)
		default:
			if v := g.judge.Judge(s, change, now); v.Held() {
				for name, claims := range old {
					p.state.Replace(s, name, claims)
				}
				p.state.Reconcile()
				p.holdBack(s, w, v)
				continue
			}
			g.judge.Accept(s, change, now)
		}
		for name, claims := range w.shards {
			g.writes[shard{s, name}] = claims
		}
		g.end(w)
		delete(g.pending, s)
		all = append(all, change)
	}
	// What went back to what is admitted while nobody led is held no more.
	waits := map[string]bool{}
	for s, w := range g.pending {
		waits[w.identify(s)] = true
	}
	for id := range g.nodes {
		if !waits[id] {
			g.news[id] = nil
		}
	}
	p.tellWaiting()
	return compose(all)
}

// waiting gives the sources that wait: who claims more than before first, so that what
// moves from one to another is there before it goes.
func (p *Presenter) waiting() []record.Source {
	growth := map[record.Source]int{}
	for s, w := range p.gate.pending {
		for name, claims := range w.shards {
			growth[s] += len(claims) - len(p.state.Shard(s, name))
		}
	}
	return slices.SortedFunc(maps.Keys(p.gate.pending), func(a, b record.Source) int {
		return cmp.Or(cmp.Compare(growth[b], growth[a]), cmp.Compare(a, b))
	})
}

// identify gives the id of the hold that a source's claims would be.
func (w *pending) identify(s record.Source) string {
	if w.id == "" {
		h := sha256.New()
		fmt.Fprintf(h, "%s\x00", s)
		for _, name := range slices.Sorted(maps.Keys(w.shards)) {
			fmt.Fprintf(h, "%s\x00", name)
			h.Write(record.EncodeShard(s, w.shards[name]))
		}
		w.id = hex.EncodeToString(h.Sum(nil)[:4])
	}
	return w.id
}

// end takes the hold of a source away, if there is one.
func (g *gate) end(w *pending) {
	if w.hold == nil {
		return
	}
	if _, there := g.nodes[w.hold.ID]; there {
		g.news[w.hold.ID] = nil
	} else {
		delete(g.news, w.hold.ID)
	}
	w.hold = nil
}

// maxWhy and maxSentence bound what a hold says: a node has room for it.
const (
	maxWhy      = 20
	maxSentence = 2000 // octets
)

func clipped(s string) string {
	if len(s) <= maxSentence {
		return s
	}
	return strings.ToValidUTF8(s[:maxSentence], "") + "..."
}

// holdBack notes that a source's change waits for a person.
func (p *Presenter) holdBack(s record.Source, w *pending, v guard.Verdict) {
	h := &tree.Hold{
		ID: w.id, Dataset: p.cfg.Dataset, Source: s, Since: p.deps.Now().UnixMilli(),
		Created: v.Created, Replaced: v.Replaced, Removed: v.Removed,
	}
	for i, t := range v.Trips {
		if i == maxWhy {
			h.Why = append(h.Why, fmt.Sprintf("and %d more of the kind", len(v.Trips)-maxWhy))
			break
		}
		h.Why = append(h.Why, clipped(t.Text))
	}
	w.hold = h
	p.gate.news[h.ID] = h
	p.log.Warn("change held", "id", h.ID, "source", s, "why", strings.Join(h.Why, "; "))
}

// frozen gives the freeze that a source is under, or nil.
func (p *Presenter) frozen(s record.Source) *tree.Freeze {
	for _, id := range slices.Sorted(maps.Keys(p.gate.freezes)) {
		f := p.gate.freezes[id]
		kind, whole := strings.CutSuffix(f.Source, "/*")
		if f.Source == "" || record.Source(f.Source) == s || whole && s.Kind() == kind {
			return &f
		}
	}
	return nil
}

// tellWaiting says in the status who waits, and why.
func (p *Presenter) tellWaiting() {
	var lines []string
	for _, s := range slices.Sorted(maps.Keys(p.gate.pending)) {
		w := p.gate.pending[s]
		if f := p.frozen(s); f != nil && len(w.shards) > 0 {
			lines = append(lines, fmt.Sprintf("%s is frozen by %s (%s) and has changes: `zonecast thaw %s`", s, f.Author, f.Reason, f.ID))
		} else if h := w.hold; h != nil && h.Decision != "drop" {
			lines = append(lines, fmt.Sprintf("hold %s: %s: `zonecast release %s` or `zonecast drop %s`", h.ID, strings.Join(h.Why, "; "), h.ID, h.ID))
		}
	}
	p.metrics.waiting.Set(float64(len(lines)))
	p.note(func(s *Status) { s.Waiting = lines })
}

// gateOps says what goes into the store with the next version: first in transactions of
// their own what is too much for one.
func (p *Presenter) gateOps() (batches [][]store.Op, ops []store.Op) {
	g := &p.gate
	const most, octets = 32, 256 << 10 // in the version's own
	var all []store.Op
	for k, claims := range g.writes {
		op := store.Op{Path: tree.AdmittedPath(p.cfg.Dataset, k.source, k.name), Delete: len(claims) == 0}
		if !op.Delete {
			op.Value = record.EncodeShard(k.source, claims)
		}
		all = append(all, op)
	}
	slices.SortFunc(all, func(a, b store.Op) int { return cmp.Compare(a.Path, b.Path) })
	for id, h := range g.news {
		op := store.Op{Path: tree.HoldPath(id), Delete: h == nil}
		if h != nil {
			op.Value = tree.Encode(h)
		}
		all = append(all, op)
	}
	size := 0
	for i, op := range all {
		if size += len(op.Path) + len(op.Value); i >= most || size > octets {
			batches = inBatches(all)
			return batches, nil
		}
	}
	return nil, all
}

// inBatches parts operations into what fits transactions with room for conditions.
func inBatches(ops []store.Op) (batches [][]store.Op) {
	const room = 4 << 10
	for len(ops) > 0 {
		n, size := 0, 0
		for n < len(ops) && n < store.MaxTxnOps-4 {
			if size += len(ops[n].Path) + len(ops[n].Value); size > store.MaxTxnBytes-room && n > 0 {
				break
			}
			n++
		}
		batches, ops = append(batches, ops[:n]), ops[n:]
	}
	return batches
}

// written takes note that what gateOps said is in the store.
func (p *Presenter) written() {
	clear(p.gate.writes)
	clear(p.gate.news)
}

func (p *Presenter) takeHolds(b store.Batch) {
	g := &p.gate
	if b.Reset {
		clear(g.nodes)
	}
	for _, path := range b.Deletes {
		delete(g.nodes, strings.TrimPrefix(path, tree.Holds))
	}
	for _, n := range b.Puts {
		var h tree.Hold
		if err := tree.Decode(n, &h); err != nil {
			p.log.Warn("hold cannot be read", "error", err)
			continue
		}
		if h.Dataset != p.cfg.Dataset {
			continue
		}
		g.nodes[h.ID] = h
		if h.Decision != "" {
			p.wake()
		}
	}
}

func (p *Presenter) takeFreezes(b store.Batch) {
	g := &p.gate
	if b.Reset {
		clear(g.freezes)
	}
	for _, path := range b.Deletes {
		delete(g.freezes, strings.TrimPrefix(path, tree.Freezes))
	}
	for _, n := range b.Puts {
		var f tree.Freeze
		if err := tree.Decode(n, &f); err != nil {
			// What was meant is not known: everything stops rather than nothing.
			f = tree.Freeze{Author: "somebody", Reason: "cannot be read: " + err.Error()}
			p.log.Error("freeze cannot be read: all sources are frozen", "error", err)
		}
		f.ID = strings.TrimPrefix(n.Path, tree.Freezes)
		g.freezes[f.ID] = f
	}
	p.wake()
}

// wake has what waits looked at again.
func (p *Presenter) wake() {
	now := time.Now()
	if p.first.IsZero() {
		p.first = now
	}
	p.last = now
}

// compose makes one change of several, one after the other.
func compose(all []reconcile.Change) reconcile.Change {
	if len(all) == 1 {
		return all[0]
	}
	type ends struct{ was, is *record.RRset }
	keys := map[record.Key]*ends{}
	for c := range all {
		change := &all[c]
		at := func(k record.Key, was *record.RRset) *ends {
			e := keys[k]
			if e == nil {
				e = &ends{was: was}
				keys[k] = e
			}
			return e
		}
		old := make(map[record.Key]*record.RRset, len(change.Old))
		for i := range change.Old {
			old[change.Old[i].Key] = &change.Old[i]
		}
		for i := range change.Put {
			r := &change.Put[i]
			at(r.Key, old[r.Key]).is = r
		}
		for _, k := range change.Remove {
			at(k, old[k]).is = nil
		}
	}
	var out reconcile.Change
	for _, k := range slices.SortedFunc(maps.Keys(keys), record.Key.Compare) {
		e := keys[k]
		switch {
		case e.was != nil && e.is != nil && e.was.Equal(*e.is), e.was == nil && e.is == nil:
			continue
		case e.is == nil:
			out.Remove = append(out.Remove, k)
		default:
			out.Put = append(out.Put, *e.is)
		}
		if e.was != nil {
			out.Old = append(out.Old, *e.was)
		}
	}
	return out
}
