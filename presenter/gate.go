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
	nodes   map[string]own        // holds in the store, by id, as this process knows from itself
	said    map[string]own        // holds as the watch has them: for what people decided
	news    map[string]*tree.Hold // to be written; nil: to be deleted
	notes   []store.Op            // for the audit
	freezes map[string]tree.Freeze
	judge   *guard.Judge // of this term, or of the last one

	expects  map[string]expect     // by id
	left     map[string]tree.Left  // what the store has of them, and will have; absent: all
	leftNews map[string]*tree.Left // to be written; nil: to be deleted
	anew     bool                  // what is held is to be judged again
	counted  []tree.Counted        // what was accepted since the last History
	rings    rings
}

// pending is what a source claims otherwise than what is admitted of it, by shard; nil
// claims: the shard is gone.
type pending struct {
	shards map[string][]record.Claim
	id     string // of the hold that it would be; "" is not computed yet
	hold   *tree.Hold
	waits  string // what it waits for, when it is to be tried by rings; "" it is not
}

// own is a hold in the store. Only who leads makes and ends them; people decide.
type own struct {
	tree.Hold
	modified store.Revision
}

func newGate() gate {
	return gate{
		pending: map[record.Source]*pending{}, writes: map[shard][]record.Claim{},
		nodes: map[string]own{}, said: map[string]own{}, news: map[string]*tree.Hold{}, freezes: map[string]tree.Freeze{},
		expects: map[string]expect{}, left: map[string]tree.Left{}, leftNews: map[string]*tree.Left{},
	}
}

// claimed takes what a source claims now.
func (p *Presenter) claimed(ch claimtree.Change) {
	g := &p.gate
	k := shard{ch.Source, ch.Shard}
	now := p.state.Shard(ch.Source, ch.Shard)
	if !g.open || claimtree.PassesOver(ch.Source, now, ch.Claims) {
		g.rings.touch(now, ch.Claims)
		p.state.Replace(ch.Source, ch.Shard, ch.Claims)
		if w := g.pending[ch.Source]; w != nil {
			delete(w.shards, ch.Shard)
			w.id = ""
		}
		if g.open && ch.Source.Kind() == record.KindOverride {
			p.caused(ch.Source, ch.Claims, "")
		}
		return
	}
	w := g.pending[ch.Source]
	if w == nil {
		w = &pending{shards: map[string][]record.Claim{}}
		g.pending[ch.Source] = w
	}
	w.id = ""
	if claimtree.Same(now, ch.Claims) {
		delete(w.shards, k.name)
	} else {
		w.shards[k.name] = ch.Claims
	}
}

// caused is a source whose change is in force, and the turn in which it came.
type caused struct {
	tree.Cause
	turn int
}

// caused keeps who brought claims that are in force now, for the history of the next version.
// released is the hold that they were, if they were one.
func (p *Presenter) caused(s record.Source, claims []record.Claim, released string) {
	if len(claims) > 0 && !slices.ContainsFunc(claims, func(c record.Claim) bool { return matters(c.RRset) }) {
		return
	}
	cause, known := p.changed[s]
	if !known {
		cause.Source = s
	}
	if released != "" {
		cause.Released = released
	}
	var newest *record.Provenance
	for i := range claims {
		if at := &claims[i].Provenance; newest == nil || at.Time.After(newest.Time) {
			newest = at
		}
	}
	if newest != nil {
		cause.Author, cause.Reason, cause.Revision = clipped(newest.Author, maxCause), clipped(newest.Reason, maxCause), clipped(newest.Revision, maxCause)
	}
	cause.turn = p.turn
	p.changed[s] = cause
}

// openGate reads what is admitted. Where the claims are otherwise, they wait.
func (p *Presenter) openGate(ctx context.Context) (err error) {
	if err := p.finish(ctx); err != nil {
		return err
	}
	if err := p.listen(ctx); err != nil {
		return err
	}
	pos, err := p.readHead(ctx)
	if err != nil {
		return err
	}
	nodes, _, err := p.deps.Store.List(ctx, tree.AdmittedPrefix(p.cfg.Dataset))
	if err != nil {
		return fmt.Errorf("read what is admitted: %w", err)
	}
	g := &p.gate
	clear(g.pending)
	clear(g.writes)
	clear(g.news)
	clear(g.nodes)
	maps.Copy(g.nodes, g.said)
	clear(g.leftNews)
	g.counted, g.notes = nil, nil
	g.rings.read = false
	clear(p.changed)
	defer func() {
		if err == nil {
			p.state.Reconcile()
			g.judge, err = guard.New(p.cfg.Guard, p.state.All, p.state.Made())
		}
		if err == nil {
			err = p.recall(ctx)
		}
		if err != nil {
			p.closeGate()
		}
	}()
	wait := func(k shard, wanted, admitted []record.Claim) {
		w := g.pending[k.source]
		if w == nil {
			w = &pending{shards: map[string][]record.Claim{}}
			g.pending[k.source] = w
		}
		w.shards[k.name] = wanted
		p.state.Replace(k.source, k.name, admitted)
	}
	var all []shard
	for s, name := range p.state.Shards() {
		all = append(all, shard{s, name})
	}
	if !pos.gated {
		// Nothing was published yet, or by a release without a gate; what lies there is of a
		// first version that was never made.
		for _, n := range nodes {
			if s, name, ok := tree.SplitAdmitted(p.cfg.Dataset, n.Path); ok {
				g.writes[shard{s, name}] = nil
			}
		}
		for _, k := range all {
			switch claims := p.state.Shard(k.source, k.name); {
			case claimtree.Passes(k.source, claims):
			case pos.version == 0 && p.frozen(k.source) != nil:
				wait(k, claims, nil)
			default:
				g.writes[k] = claims
				p.caused(k.source, claims, "")
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
	for _, k := range all {
		wanted := p.state.Shard(k.source, k.name)
		if !claimtree.PassesOver(k.source, admitted[k], wanted) && !claimtree.Same(wanted, admitted[k]) {
			wait(k, wanted, admitted[k])
		}
		delete(admitted, k)
	}
	for k := range admitted {
		if p.fold.Adopt(k.source, k.name) { // it cannot be read: the last good one stays
			p.state.Replace(k.source, k.name, admitted[k])
			continue
		}
		wait(k, nil, admitted[k])
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
	p.gate.rings.read, p.gate.rings.wanted = false, nil
	p.gate.open = false
}

// admit puts into force what waits and need not, and gives the change of it.
func (p *Presenter) admit() reconcile.Change {
	g := &p.gate
	var all []reconcile.Change
	g.rings.wanted = nil
	tried := p.tried()
	for _, s := range p.inOrder(tried) {
		w := g.pending[s]
		w.waits = ""
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
			if said := g.said[id]; said.modified > n.modified {
				n = said
			}
			w.hold, decision = &n.Hold, n.Decision
			delete(g.news, id) // it was to go, and the change has come again
		}
		looked := g.anew && w.hold != nil && g.announcedSince(w.hold.Since)
		if w.hold != nil && decision != "release" && (decision == "drop" || w.hold.Ring != "" || p.cfg.Guards && !looked) {
			continue
		}
		if s == tried && g.rings.settled(p.deps.Now()) {
			w.waits, g.rings.wanted = g.rings.trial.At(g.rings.heard), &wanted{id: id, source: s}
			continue
		}
		old := map[string][]record.Claim{}
		for name, claims := range w.shards {
			old[name] = p.state.Shard(s, name)
			p.state.Replace(s, name, claims)
		}
		change := p.state.Reconcile()
		undo := func() {
			for name, claims := range old {
				p.state.Replace(s, name, claims)
			}
			p.state.Reconcile()
		}
		now := p.deps.Now()
		if decision != "release" {
			if p.cfg.Guards {
				v := g.judge.Judge(s, change, now)
				v.Malformed(slices.Concat(slices.Collect(maps.Values(old))...), slices.Concat(slices.Collect(maps.Values(w.shards))...))
				if v.Held() {
					undo()
					p.holdBack(w, &tree.Hold{
						ID: w.id, Dataset: p.cfg.Dataset, Source: s, Since: now.UnixMilli(),
						Created: v.Created, Replaced: v.Replaced, Removed: v.Removed, Why: v.Why(),
					})
					continue
				}
			}
			if waits, held := p.try(s, w, old, change, tried); waits {
				undo()
				if held != nil {
					p.holdBack(w, held)
				}
				continue
			}
		}
		if decision == "release" || !p.cfg.Guards {
			g.judge.Admit(s, change, now)
		} else {
			g.count(g.judge.Accept(s, change, now))
			p.use(now)
		}
		released := ""
		if decision == "release" {
			released = id
		}
		for name, claims := range w.shards {
			g.rings.touch(old[name], claims)
			if claimtree.Passes(s, claims) {
				claims = nil
			}
			g.writes[shard{s, name}] = claims
			p.caused(s, claims, released)
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
	g.anew = false
	p.tellWaiting()
	return compose(all)
}

// inOrder is the order in which what waits is looked at: what is tried last, because it stands
// on what the others do.
func (p *Presenter) inOrder(tried record.Source) []record.Source {
	all := p.waiting()
	if i := slices.Index(all, tried); i >= 0 {
		all = append(slices.Delete(all, i, i+1), tried)
	}
	return all
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

// maxCause bounds what a History says of each source, in octets.
const maxCause = 200

// maxSentence bounds what the audit says of a hold, in octets.
const maxSentence = 2000

func clipped(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// holdBack notes that a source's change waits for a person.
func (p *Presenter) holdBack(w *pending, h *tree.Hold) {
	if old := w.hold; old != nil && old.ID == h.ID {
		h.Since = old.Since
		if slices.Equal(old.Why, h.Why) {
			return
		}
	}
	why := strings.Join(h.Why, "; ")
	if w.hold == nil || w.hold.ID != h.ID {
		_, note := tree.AuditOps(tree.AuditEntry{
			Time: h.Since, Action: "held", Subject: h.ID, Text: clipped(fmt.Sprintf("%s: %s", h.Source, why), maxSentence), Author: "presenter", From: p.deps.Name,
		})
		p.gate.notes = append(p.gate.notes, note)
	}
	w.hold = h
	p.gate.news[h.ID] = h
	p.log.Warn("change held", "id", h.ID, "source", h.Source, "why", why)
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
		} else if w.waits != "" {
			lines = append(lines, fmt.Sprintf("%s %s", s, w.waits))
		}
	}
	p.metrics.waiting.Set(float64(len(lines)))
	p.note(func(s *Status) { s.Waiting = lines })
}

// gateOps says what is to change of what is admitted and held, and whether that is too
// much for the transaction of the version.
func (p *Presenter) gateOps() (ops []store.Op, large bool) {
	g := &p.gate
	const most, octets = 96, 256 << 10 // beside log, head, history, undo and their conditions
	for k, claims := range g.writes {
		op := store.Op{Path: tree.AdmittedPath(p.cfg.Dataset, k.source, k.name), Delete: len(claims) == 0}
		if !op.Delete {
			op.Value = record.EncodeShard(k.source, claims)
		}
		ops = append(ops, op)
	}
	slices.SortFunc(ops, func(a, b store.Op) int { return cmp.Compare(a.Path, b.Path) })
	for id, h := range g.news {
		op := store.Op{Path: tree.HoldPath(id), Delete: h == nil}
		if h != nil {
			op.Value = tree.Encode(h)
		}
		ops = append(ops, op)
	}
	for _, id := range slices.Sorted(maps.Keys(g.leftNews)) {
		op := store.Op{Path: tree.ExpectedPath(id), Delete: g.leftNews[id] == nil}
		if !op.Delete {
			op.Value = tree.Encode(g.leftNews[id])
		}
		ops = append(ops, op)
	}
	ops = append(ops, g.notes...)
	size := 0
	for _, op := range ops {
		size += len(op.Path) + len(op.Value)
	}
	return ops, len(ops) > most || size > octets
}

// What is too much for the version's transaction is staged before it: all of it, or, when
// the version never comes, nothing of it takes its place.

// stage gives what writes ops to where they wait.
func (p *Presenter) stage(ops []store.Op) [][]store.Op {
	staged := make([]store.Op, len(ops))
	for i, op := range ops {
		staged[i] = store.Op{Path: tree.StagedPath(p.cfg.Dataset, op.Path), Value: op.Value} // without a value: to be deleted
	}
	return inBatches(staged, 1)
}

// unstage does ops, which are staged, and takes what was staged away. It may be done again
// where it was interrupted.
func (p *Presenter) unstage(ctx context.Context, ops []store.Op) error {
	var all []store.Op
	for _, op := range ops {
		all = append(all, op, store.Op{Path: tree.StagedPath(p.cfg.Dataset, op.Path), Delete: true})
	}
	if err := p.doAll(ctx, all, 2); err != nil { // what is in its place must not be put there again
		return err
	}
	return p.doAll(ctx, []store.Op{{Path: tree.AdmittingPath(p.cfg.Dataset), Delete: true}}, 1)
}

// doAll does ops in as many transactions as it takes, each run of the given length in one.
func (p *Presenter) doAll(ctx context.Context, ops []store.Op, run int) error {
	for _, b := range inBatches(ops, run) {
		if _, err := p.deps.Store.Commit(ctx, store.Txn{If: []store.Cond{p.term.fence}, Do: b}); err != nil {
			return fmt.Errorf("write what is admitted of %s: %w", p.cfg.Dataset, err)
		}
	}
	return nil
}

// finish does what is staged of a version that is there, or takes away what is staged of
// one that is not.
func (p *Presenter) finish(ctx context.Context) error {
	nodes, _, err := p.deps.Store.List(ctx, tree.AdmittingPrefix(p.cfg.Dataset))
	if err != nil {
		return fmt.Errorf("read what is staged: %w", err)
	}
	var ops, away []store.Op
	whole := false
	for _, n := range nodes {
		away = append(away, store.Op{Path: n.Path, Delete: true})
		if path, ok := tree.UnstagedPath(p.cfg.Dataset, n.Path); ok {
			ops = append(ops, store.Op{Path: path, Value: n.Value, Delete: len(n.Value) == 0})
		}
		whole = whole || n.Path == tree.AdmittingPath(p.cfg.Dataset)
	}
	if whole {
		return p.unstage(ctx, ops)
	}
	return p.doAll(ctx, away, 1)
}

// inBatches parts operations into what fits transactions with room for conditions, and
// leaves runs of the given length whole.
func inBatches(ops []store.Op, run int) (batches [][]store.Op) {
	const room = 4 << 10
	for len(ops) > 0 {
		n, size := 0, 0
		for n < len(ops) && n+run <= store.MaxTxnOps-4 {
			for _, op := range ops[n : n+run] {
				size += len(op.Path) + len(op.Value)
			}
			if size > store.MaxTxnBytes-room && n > 0 {
				break
			}
			n += run
		}
		batches, ops = append(batches, ops[:n]), ops[n:]
	}
	return batches
}

// written takes note that what gateOps said is in the store, at the revision or later.
func (p *Presenter) written(rev store.Revision) {
	g := &p.gate
	for id, h := range g.news {
		if h == nil {
			delete(g.nodes, id)
		} else {
			g.nodes[id] = own{*h, rev}
		}
	}
	clear(g.writes)
	clear(g.news)
	g.notes = nil
	for id, l := range g.leftNews {
		if l == nil {
			delete(g.left, id)
		}
	}
	clear(g.leftNews)
}

func (p *Presenter) takeHolds(b store.Batch) {
	g := &p.gate
	if b.Reset {
		clear(g.said)
	}
	for _, path := range b.Deletes {
		delete(g.said, strings.TrimPrefix(path, tree.Holds))
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
		g.said[h.ID] = own{h, n.Modified}
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
