package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/plan"
	"github.com/zonecast/zonecast/internal/replay"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
)

// maxConsidered is how many claims changes may have together, those before and those after
// counted each; they are tried for some 10 µs a claim, in which nobody else is answered.
const maxConsidered = 2_000_000

// planned is the shard in which claims are tried that have no place in a shard yet.
const planned = "\x00planned" // no shard of the store has such a name

// Consider says what it would do if sources claimed something else. The changes are tried
// on what is in force and taken back, for the time of which nobody else is answered; the
// work is in proportion to what changes. Without deep neither guards nor the live traffic
// are asked.
//
// What each source claims before is what it is compared with: for its claims that come and
// go, and for the digest. What is in force of it may be something else, when it is held or
// frozen; the records are what changes against that.
func (c *Control) Consider(ctx context.Context, changes []plan.Change, configs []plan.Config, deep bool) (*plan.Plan, error) {
	defer c.observe("consider")()
	n, known := 0, map[record.Source]bool{}
	for _, ch := range changes {
		if err := ch.Source.Check(); err != nil {
			return nil, api.Refuse(api.Invalid, "", "plan: %v", err)
		}
		if known[ch.Source] {
			return nil, api.Refuse(api.Invalid, "a change has all that its source would claim", "plan: there are two changes of %s, expected one", ch.Source)
		}
		known[ch.Source] = true
		if n += len(ch.Before) + len(ch.Claims); n > maxConsidered {
			return nil, api.Refuse(api.TooMany, "plan it in parts", "plan: more than %d claims before and after", maxConsidered)
		}
	}
	t := &attempt{Control: c, plan: plan.New(), before: replay.Otherwise{}, told: map[record.Name]bool{}}
	t.changes = slices.SortedFunc(slices.Values(changes), func(a, b plan.Change) int { return cmp.Compare(a.Source, b.Source) })
	for i := range t.changes {
		ch := &t.changes[i]
		ch.Before = c.deps.Division.Claims(c.cfg.Dataset, ch.Source, "", ch.Before)
		ch.Claims = c.deps.Division.Claims(c.cfg.Dataset, ch.Source, "", ch.Claims)
		t.moves = append(t.moves, plan.Moves(*ch)...)
	}
	t.fates = make([]fate, len(t.moves))
	if deep {
		var err error
		if t.traffic, err = c.live(ctx); err != nil {
			return nil, err
		}
		if t.guards, err = c.readGuards(ctx); err != nil {
			return nil, err
		}
	}
	if err := t.try(ctx); err != nil {
		return nil, err
	}
	t.tell(configs)
	return t.plan, nil
}

// attempt is changes that are tried. What it finds out while nobody else is answered it keeps;
// it is put into words later.
type attempt struct {
	*Control
	changes []plan.Change // by source
	moves   []plan.Move
	plan    *plan.Plan
	traffic replay.Traffic
	guards  *guards // nil: they are not asked

	parts  []*part
	told   map[record.Name]bool // names whose conflicts were decided anew
	before replay.Otherwise     // what was, of all RRsets that are otherwise
	// What was found out.
	fates      []fate // of moves
	records    []otherwise
	touches    map[record.Name]bool
	begin, end []string
}

// part is the change of one source, shard by shard.
type part struct {
	source record.Source
	shards []tried
	growth int // claims more than are in force
	frozen bool
}

type tried struct {
	name     string
	old, now []record.Claim
}

// otherwise is an RRset that changes.
type otherwise struct {
	key     record.Key
	was, is *record.RRset // nil: there is none
	zone    record.Name   // "": none
}

// try finds everything out that has to do with what is in force, and leaves that as it was.
func (t *attempt) try(ctx context.Context) (err error) {
	c := &t.claims
	c.mu.Lock()
	defer c.mu.Unlock()
	if !t.explains() {
		return starting()
	}
	t.apart()
	if t.guards != nil {
		if err := t.guards.begin(t); err != nil {
			return err
		}
	}
	c.state.Tell(func(name record.Name) { t.told[name] = true })
	defer func() {
		for _, p := range t.parts {
			p.put(c.state, false)
		}
		c.state.Reconcile()
		c.state.Tell(nil)
		if err == nil {
			t.conclude()
		}
	}()
	var late []*part // held: not there when others are judged
	for i, p := range t.parts {
		if err := ctx.Err(); err != nil {
			return err
		}
		p.put(c.state, true)
		if !t.guards.judges() {
			continue
		}
		change := c.state.Reconcile()
		t.note(change)
		if t.guards.hold(p, change) && i < len(t.parts)-1 {
			p.put(c.state, false)
			t.note(c.state.Reconcile())
			late = append(late, p)
		}
	}
	for _, p := range late {
		p.put(c.state, true)
	}
	t.note(c.state.Reconcile())
	if err := t.judged(ctx); err != nil {
		return err
	}
	t.differ()
	if t.guards != nil {
		t.plan.Traffic = t.effect()
	}
	t.waits()
	return nil
}

// apart finds what to replace in which shard: each claim where one of its key is, so that
// what does not change costs nothing. The presenter admits sources that claim more first,
// and none that is frozen: those are tried last.
func (t *attempt) apart() {
	state := t.claims.state
	names := map[record.Source][]string{} // of shards
	for _, ch := range t.changes {
		names[ch.Source] = nil
	}
	for s, name := range state.Shards() {
		if _, meant := names[s]; meant {
			names[s] = append(names[s], name)
		}
	}
	for _, ch := range t.changes {
		slices.Sort(names[ch.Source])
		p := &part{source: ch.Source}
		_, p.frozen = t.frozen(ch.Source)
		p.growth = len(ch.Claims)
		fresh := make(map[record.Key][]int, len(ch.Claims)) // claims by place
		for i := range ch.Claims {
			k := ch.Claims[i].Key
			fresh[k] = append(fresh[k], i)
		}
		placed := make([]bool, len(ch.Claims))
		for _, name := range names[ch.Source] {
			old := state.Shard(ch.Source, name)
			p.growth -= len(old)
			now := make([]record.Claim, 0, len(old))
			for i := range old {
				o := &old[i]
				with := fresh[o.Key]
				if len(with) == 0 {
					continue
				}
				// Of several of one key, the one that is the same already, if there is one.
				at := max(0, slices.IndexFunc(with, func(k int) bool { return sameClaim(&ch.Claims[k], o) }))
				if n := &ch.Claims[with[at]]; sameClaim(n, o) {
					now = append(now, *o)
				} else {
					now = append(now, *n)
				}
				placed[with[at]] = true
				fresh[o.Key] = slices.Delete(with, at, at+1)
			}
			if !claimtree.Same(old, now) {
				p.shards = append(p.shards, tried{name, old, now})
			}
		}
		var left []record.Claim
		for i, there := range placed {
			if !there {
				left = append(left, ch.Claims[i])
			}
		}
		if len(left) > 0 {
			p.shards = append(p.shards, tried{planned, nil, left})
		}
		t.parts = append(t.parts, p)
	}
	slices.SortStableFunc(t.parts, func(a, b *part) int {
		if a.frozen != b.frozen {
			if a.frozen {
				return 1
			}
			return -1
		}
		return cmp.Compare(b.growth, a.growth)
	})
}

func sameClaim(a, b *record.Claim) bool {
	return a.Source == b.Source && a.Fallback == b.Fallback && a.RRset.Equal(b.RRset)
}

// put puts what is tried in place of what is in force, or takes it back.
func (p *part) put(state *reconcile.State, now bool) {
	for _, s := range p.shards {
		if now {
			state.Replace(p.source, s.name, s.now)
		} else {
			state.Replace(p.source, s.name, s.old)
		}
	}
}

// note keeps what was before a change, unless something changed it before.
func (t *attempt) note(change reconcile.Change) {
	now := undone(change)
	if len(t.before) == 0 {
		t.before = now
		return
	}
	for k, was := range now {
		if _, known := t.before[k]; !known {
			t.before[k] = was
		}
	}
}

// differ finds the RRsets that are otherwise with all that is tried in force.
func (t *attempt) differ() {
	state := t.claims.state
	t.records = make([]otherwise, 0, len(t.before))
	for k, was := range t.before {
		var is *record.RRset
		if r, there := state.Get(k); there {
			is = &r
		}
		if was == nil && is == nil || was != nil && is != nil && was.Equal(*is) {
			delete(t.before, k)
			continue
		}
		o := otherwise{key: k, was: was, is: is}
		if is != nil {
			o.zone = state.Zone(k.Owner)
		}
		t.records = append(t.records, o)
	}
	t.touches = map[record.Name]bool{}
	for i := range t.moves {
		if m := &t.moves[i]; m.After != nil && !m.Derived {
			t.touches[state.Zone(m.After.Owner)] = true
		}
	}
	for name := range t.told {
		for _, x := range state.ConflictsOn(name) {
			t.begin = append(t.begin, x.String())
		}
	}
}

// conclude compares with what is in force again.
func (t *attempt) conclude() {
	state := t.claims.state
	for i := range t.records {
		if o := &t.records[i]; o.is == nil {
			o.zone = state.Zone(o.key.Owner)
		}
	}
	for i := range t.moves {
		if m := &t.moves[i]; m.Before != nil && !m.Derived {
			t.touches[state.Zone(m.Before.Owner)] = true
		}
	}
	for name := range t.told {
		for _, x := range state.ConflictsOn(name) {
			t.end = append(t.end, x.String())
		}
	}
	t.begin, t.end = without(t.begin, t.end), without(t.end, t.begin)
}

// without gives what is in a and not in b, in order.
func without(a, b []string) (left []string) {
	in := make(map[string]int, len(b))
	for _, s := range b {
		in[s]++
	}
	for _, s := range a {
		if in[s]--; in[s] < 0 {
			left = append(left, s)
		}
	}
	slices.Sort(left)
	return left
}

// waits says what changes would wait for besides guards.
func (t *attempt) waits() {
	add := func(s string) {
		if s = plan.Clip(s); len(t.plan.Waits) < plan.MaxLines && !slices.Contains(t.plan.Waits, s) {
			t.plan.Waits = append(t.plan.Waits, s)
		}
	}
	if _, text := t.pinned(); text != "" {
		add("the dataset is " + text)
	}
	if t.guards != nil {
		for _, s := range t.guards.tried {
			add(s)
		}
	}
	for _, ch := range t.changes {
		if f, ok := t.frozen(ch.Source); ok {
			add(fmt.Sprintf("%s is frozen by %s (%s): `zonecast thaw %s`", cmp.Or(f.Source, "everything"), f.Author, f.Reason, f.ID))
		} else if t.claims.shards[ch.Source] > 0 {
			add(fmt.Sprintf("%s waits already: %s", ch.Source, t.obstacle(ch.Source)))
		}
	}
}

// effect is what happens to the live traffic, with all that is tried in force.
func (t *attempt) effect() *plan.Traffic {
	none := func(why string) *plan.Traffic {
		return &plan.Traffic{Unknown: plan.Clip(why), Kinds: []plan.Difference{}, Examples: []plan.Example{}}
	}
	if t.traffic.Drawn == 0 {
		return none(nobodySaid)
	}
	if t.deps.Answers == nil {
		return none(nobodyAnswers)
	}
	e, err := replay.Of(t.traffic, t.claims.state, t.before, nil, t.deps.Answers)
	if err != nil {
		t.deps.Log.Error("plan cannot be tried on the live traffic", "error", err)
		return none("the questions could not be asked: " + err.Error())
	}
	out := &plan.Traffic{
		Drawn: e.Drawn, Hosts: e.Hosts, Queries: e.Queries, NoName: e.NoName, Touched: e.Touched, Share: e.Share, Low: e.Low, High: e.High,
		Kinds: []plan.Difference{}, Examples: []plan.Example{}, More: e.More,
	}
	for _, k := range e.Kinds {
		out.Kinds = append(out.Kinds, plan.Difference{Kind: string(k.Kind), Share: k.Share})
	}
	for _, x := range e.Examples {
		out.Examples = append(out.Examples, plan.Example{Name: x.Name.String(), Type: x.Type.String(), Share: x.Share, Before: plan.Clip(x.Before), After: plan.Clip(x.After)})
	}
	return out
}

// tell puts into words what was found out.
func (t *attempt) tell(configs []plan.Config) {
	p := t.plan
	sorted := slices.SortedFunc(slices.Values(configs), func(a, b plan.Config) int { return cmp.Compare(a.Path, b.Path) })
	p.Configurations = append(p.Configurations, sorted[:min(len(sorted), plan.MaxClaims)]...)
	p.MoreConfigurations = len(sorted) - len(p.Configurations)
	t.tellClaims()
	p.Digest = plan.DigestOf(configs, t.moves)
	t.tellRecords()
	for z := range t.touches {
		if z != "" {
			p.Touches = append(p.Touches, z.String())
		}
	}
	slices.Sort(p.Touches)
	p.Begin, p.MoreBegin = lines(p.Begin, t.begin)
	p.End, p.MoreEnd = lines(p.End, t.end)
	if t.guards != nil {
		p.Held, p.Notes = t.guards.held, append(p.Notes, t.guards.notes...)
		slices.SortStableFunc(p.Held, func(a, b plan.Held) int { return cmp.Compare(a.Source, b.Source) })
		if len(p.Held) > plan.MaxLines {
			p.Held, p.MoreHeld = p.Held[:plan.MaxLines], len(p.Held)-plan.MaxLines
		}
	}
}

// lines are the first of all, and how many more there are.
func lines(out, all []string) (_ []string, more int) {
	for _, s := range all[:min(len(all), plan.MaxLines)] {
		out = append(out, plan.Clip(s))
	}
	return out, len(all) - len(out)
}

// tellRecords says what changes of the dataset, by zone.
func (t *attempt) tellRecords() {
	p := t.plan
	slices.SortFunc(t.records, func(a, b otherwise) int { return cmp.Or(a.zone.Compare(b.zone), a.key.Compare(b.key)) })
	shown, room := 0, plan.MaxRoom
	var z *plan.Zone
	for i := range t.records {
		o := &t.records[i]
		if i == 0 || t.records[i-1].zone != o.zone {
			p.ZoneCount++
			z = &plan.Zone{Records: []plan.Record{}} // counts nowhere
			if o.zone != "" {
				z.Name = o.zone.String()
			}
			if len(p.Zones) < plan.MaxZones {
				p.Zones = append(p.Zones, *z)
				z = &p.Zones[len(p.Zones)-1]
			}
		}
		r := plan.Record{Owner: o.key.Owner.String(), Type: o.key.Type.String(), Location: string(o.key.Location), Kind: kindOf(o.was, o.is)}
		p.Total.Add(r.Kind)
		z.Add(r.Kind)
		if shown == plan.MaxRecords || room <= 0 {
			z.More++
			continue
		}
		shown++
		r.Before, r.After = setOf(o.was, &room), setOf(o.is, &room)
		z.Records = append(z.Records, r)
	}
}

func kindOf(was, is *record.RRset) plan.Kind {
	switch {
	case was == nil:
		return plan.Added
	case is == nil:
		return plan.Removed
	case was.SameData(*is):
		return plan.TTL
	}
	return plan.Changed
}

// setOf is an RRset as text, for which room is used up.
func setOf(r *record.RRset, room *int) *plan.Set {
	if r == nil {
		return nil
	}
	s := &plan.Set{TTL: r.TTL, Data: []string{}}
	few := *r
	if s.More = len(r.Data) - plan.MaxData; s.More > 0 {
		few.Data = r.Data[:plan.MaxData]
	} else {
		s.More = 0
	}
	for _, d := range rdataTexts(few) {
		d = plan.Clip(d)
		*room -= len(d)
		s.Data = append(s.Data, d)
	}
	return s
}

// fate is what becomes of a claim that comes.
type fate struct {
	verdict reconcile.Verdict // "": it does not come
	finding *reconcile.Finding
	place   string
	ttl     uint32 // in the dataset, when it is not the claim's; 0: it is
	other   bool   // it is in the dataset with another TTL
}

// judged finds what becomes of the claims that come.
func (t *attempt) judged(ctx context.Context) error {
	state := t.claims.state
	var owner record.Name
	var found []reconcile.Finding
	for i := range t.moves {
		m := &t.moves[i]
		if m.After == nil {
			continue
		}
		if i%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if found == nil || m.After.Owner != owner {
			owner, found = m.After.Owner, state.Findings(m.After.Owner)
		}
		at := slices.IndexFunc(found, func(f reconcile.Finding) bool {
			return f.Claim.Source == m.Source && f.Claim.Fallback == m.IsFallback && f.Claim.RRset.Equal(*m.After)
		})
		if at < 0 { // it says that it is somebody else's, which rule 1 rejects
			at = slices.IndexFunc(found, func(f reconcile.Finding) bool { return f.Verdict == reconcile.Loses && f.Claim.RRset.Equal(*m.After) })
		}
		if at < 0 {
			return fmt.Errorf("plan: claim %s of %s is not among those that were tried", m.After.Key, m.Source) // a bug
		}
		f := &found[at]
		t.fates[i] = fate{verdict: f.Verdict, place: f.Claim.Place}
		switch f.Verdict {
		case reconcile.Wins:
		case reconcile.Agrees, reconcile.United:
			if r, there := state.Get(m.After.Key); there && r.TTL != m.After.TTL {
				t.fates[i].ttl, t.fates[i].other, t.fates[i].finding = r.TTL, true, f
			}
		default:
			t.fates[i].finding = f
		}
	}
	return nil
}

// tellClaims says what becomes of each claim that moves, and notes it for the digest.
func (t *attempt) tellClaims() {
	p := t.plan
	for i := range t.moves {
		m, f := &t.moves[i], &t.fates[i]
		if m.Before != nil {
			p.Go++
		}
		if m.After != nil {
			p.Come++
			m.Fate = f.words()
		}
		shown, losing := len(p.Claims) < plan.MaxClaims, f.finding != nil
		if shown || losing && len(p.Losing) < plan.MaxLosing {
			x := claimMoves(m, f)
			if shown {
				p.Claims = append(p.Claims, x)
			}
			if losing && len(p.Losing) < plan.MaxLosing {
				p.Losing, losing = append(p.Losing, x), false
			}
		}
		if !shown {
			p.MoreClaims++
		}
		if losing {
			p.MoreLosing++
		}
	}
}

// words are what is agreed to of a claim's fate.
func (f *fate) words() string {
	switch {
	case f.finding == nil:
		return "holds"
	case f.other:
		return fmt.Sprintf("holds with TTL %d", f.ttl)
	case f.finding.Against == nil:
		return fmt.Sprintf("%s: %s", f.verdict, f.finding.Rule)
	}
	return fmt.Sprintf("%s against %s: %s", f.verdict, f.finding.Against.Source, f.finding.Rule)
}

func claimMoves(m *plan.Move, f *fate) plan.Claim {
	k := m.Key()
	x := plan.Claim{
		Source: string(m.Source), Place: plan.Clip(f.place), Owner: k.Owner.String(), Type: k.Type.String(), Location: string(k.Location),
		Kind: kindOf(m.Before, m.After), Fate: string(f.verdict),
	}
	if m.After == nil {
		x.Fate = plan.Goes
	}
	if f.finding == nil {
		return x
	}
	x.Rule = plan.Clip(f.finding.Rule)
	if f.other {
		x.Rule = plan.Clip(fmt.Sprintf("its TTL is %d and not %d: %s", f.ttl, m.After.TTL, f.finding.Rule))
	}
	if a := f.finding.Against; a != nil {
		x.Against, x.At = string(a.Source), plan.Clip(a.Place)
	}
	x.Hint = plan.Clip(hint(f.finding))
	return x
}

// hint says what to do about a claim that does not hold as it is.
func hint(f *reconcile.Finding) string {
	at := func(c *record.Claim) string {
		if c.Place != "" {
			return c.Place
		}
		return string(c.Source)
	}
	a := f.Against
	switch {
	case f.Kind == reconcile.Invalid:
		return "correct it"
	case f.Kind == reconcile.Homeless:
		return "make a zone of which it is part, or correct the name"
	case a == nil:
		return ""
	case a.Source.Kind() == record.KindOverride:
		return fmt.Sprintf("it holds when the override ends or is cleared: `zonecast override clear %s`", strings.TrimPrefix(string(a.Source), record.KindOverride+"/"))
	case f.Kind == reconcile.Occluded && f.Claim.Owner != a.Owner:
		return fmt.Sprintf("the servers of %s answer for it: put it there, or take the delegation away at %s", a.Owner, at(a))
	case f.Kind == reconcile.Occluded:
		return fmt.Sprintf("%s is delegated: take it out, or the delegation at %s", a.Owner, at(a))
	case f.Kind == reconcile.Below:
		return fmt.Sprintf("take it out, or the DNAME at %s", at(a))
	case f.Verdict == reconcile.Agrees || f.Verdict == reconcile.United:
		return fmt.Sprintf("change the TTL at %s, too", at(a))
	case f.Verdict == reconcile.Yields:
		return ""
	}
	return fmt.Sprintf("take it out, or what stands at %s", at(a))
}
