package mutator

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rules"
	"github.com/zonecast/zonecast/store"
)

// key is a shard of a rule.
type key struct {
	rule  int // index in state.rules
	shard string
}

// state is what the mutator knows: the servers, which shards they are members of,
// and what is written. It has no clock and no socket and belongs to one goroutine.
type state struct {
	rules   []ruleState       // a rule keeps its place for as long as the state lives
	servers map[string]server // by path
	in      map[string][]key  // the shards that a server is a member of, by its path
	members map[key]set
	dirty   map[key]bool
	written map[key]shard
	// blind are paths of servers that cannot be read and never could since this
	// process leads. Their claims in the store are the last good ones, and it is not
	// known which they are: while there is one, no shard is removed.
	blind map[string]bool
	// failedNew is whether a rule fails otherwise than it did to say the shards of a server.
	failedNew bool
	// unsure is why it is not known which rules there are; nil: it is.
	unsure error
	// evaluations counts how often a rule was run.
	evaluations int
}

// ruleState is a source of claims and the rule that makes them.
type ruleState struct {
	Ruled
	// failed has why it is not known which shards a server is a member of, by path. It
	// stays in those where it was; lost are servers that were in none that is known.
	failed map[string]error
	lost   map[string]bool
}

// Ruled is a source of claims, and the rule that makes them.
type Ruled struct {
	Source record.Source
	// Rule is nil when there is none: the source's claims go, unless it is Broken.
	Rule rules.Rule
	// Where says where the rule is from, for people; Folder stands before the places that it
	// and its errors name.
	Where, Folder string
	// Digest tells rules of one source apart; empty: built in.
	Digest string
	// Broken is why the newest of the rule is not in force. Without a Rule the claims
	// that it has written stay as they are.
	Broken error
}

// placed puts the folder before an error that begins with file:line.
func (r *Ruled) placed(err error) error {
	file, _, _ := strings.Cut(err.Error(), ":")
	if r.Folder == "" || !strings.HasSuffix(file, ".star") {
		return err
	}
	return fmt.Errorf("%s/%w", r.Folder, err)
}

func builtIn(rs []rules.Rule) (all []Ruled) {
	for _, r := range rs {
		all = append(all, Ruled{Source: r.Source(), Rule: r, Where: "built-in rule"})
	}
	return all
}

// server is a server as it was read last.
type server struct {
	fleet.Server
	modified store.Revision
}

// shard is what the store has of a shard.
type shard struct {
	sum    [16]byte // of its value: SHA-256, cut
	claims int      // 0: not known, it was written before this process led
}

func sumOf(value []byte) [16]byte {
	h := sha256.Sum256(value)
	return [16]byte(h[:16])
}

// set is paths of servers. Most sets have one element, so the first needs no map.
type set struct {
	first string // "": empty
	rest  map[string]bool
}

func (s set) add(p string) set {
	switch {
	case s.first == "":
		s.first = p
	case s.first != p:
		if s.rest == nil {
			s.rest = make(map[string]bool)
		}
		s.rest[p] = true
	}
	return s
}

func (s set) remove(p string) set {
	if s.first != p {
		delete(s.rest, p)
		return s
	}
	s.first = ""
	for q := range s.rest {
		delete(s.rest, q)
		s.first = q
		break
	}
	return s
}

func newState(rs []Ruled) *state {
	s := &state{
		servers: make(map[string]server), in: make(map[string][]key), members: make(map[key]set),
		dirty: make(map[key]bool), written: make(map[key]shard), blind: make(map[string]bool),
	}
	s.setRules(rs)
	return s
}

// setRules takes over all rules that there are now. Of a rule that changed all shards are
// looked at again.
func (s *state) setRules(now []Ruled) {
	s.unsure = nil
	for i := range s.rules {
		if !slices.ContainsFunc(now, func(n Ruled) bool { return n.Source == s.rules[i].Source }) && s.rules[i].Rule != nil {
			s.setRule(i, Ruled{Source: s.rules[i].Source, Where: s.rules[i].Where})
		}
	}
	for _, n := range now {
		i := slices.IndexFunc(s.rules, func(r ruleState) bool { return r.Source == n.Source })
		if i < 0 {
			i = s.addRule(Ruled{Source: n.Source})
		}
		s.setRule(i, n)
	}
}

// distrust notes that it is not known which rules there are besides the built-in ones: what
// others have written stays.
func (s *state) distrust(why error) {
	for i := range s.rules {
		if r := &s.rules[i]; r.Rule == nil || r.Digest != "" { // a built-in rule has none
			r.Broken = why
		}
	}
	s.unsure = why
}

// addRule gives a source a place.
func (s *state) addRule(r Ruled) int {
	s.rules = append(s.rules, ruleState{Ruled: r, failed: map[string]error{}, lost: map[string]bool{}})
	return len(s.rules) - 1
}

func (s *state) setRule(i int, now Ruled) {
	r := &s.rules[i]
	old := r.Ruled
	if now.Rule == nil && now.Broken != nil {
		now.Rule, now.Digest = old.Rule, old.Digest // the last good one
	}
	r.Ruled = now
	if (old.Rule == nil) == (now.Rule == nil) && old.Digest == now.Digest && (old.Broken == nil) == (now.Broken == nil) {
		return
	}
	clear(r.failed)
	clear(r.lost)
	for k := range s.written {
		if k.rule == i {
			s.dirty[k] = true
		}
	}
	if a, is := r.Rule.(aheader); is {
		var all []fleet.Server
		for _, f := range s.servers {
			all = append(all, f.Server)
		}
		a.Ahead(all)
	}
	for path, f := range s.servers {
		s.join(path, i, f.Server)
	}
}

// join makes a server a member of the shards of a rule that it is in now, and of no others.
func (s *state) join(path string, i int, f fleet.Server) {
	r := &s.rules[i]
	if _, did := r.failed[path]; did {
		delete(r.failed, path)
		s.failedNew = true
	}
	delete(r.lost, path)
	var names []string
	if r.Rule != nil && f.Name != "" {
		var err error
		if names, err = r.Rule.Shards(f); err != nil {
			r.failed[path], s.failedNew = r.placed(err), true
			known := false
			for _, k := range s.in[path] {
				if k.rule == i && r.uncertain(k.shard) {
					names, known = append(names, k.shard), true
				}
			}
			if !known {
				r.lost[path] = true
			}
		}
	}
	var rest []key
	for _, k := range s.in[path] {
		if k.rule != i {
			rest = append(rest, k)
			continue
		}
		s.dirty[k] = true
		if m := s.members[k].remove(path); m.first == "" {
			delete(s.members, k)
		} else {
			s.members[k] = m
		}
	}
	for _, name := range names {
		k := key{i, name}
		s.dirty[k] = true
		s.members[k] = s.members[k].add(path)
		rest = append(rest, k)
	}
	if len(rest) == 0 {
		delete(s.in, path)
	} else {
		s.in[path] = rest
	}
}

// uncertain tells whether a shard's members are not known while the rule fails to say
// which shards a server is in.
func (r *ruleState) uncertain(shard string) bool {
	u, is := r.Rule.(interface{ Uncertain(shard string) bool })
	return is && u.Uncertain(shard)
}

// load takes in a shard that the store has already. Until a server says otherwise it
// has no members and so must go; and so must all of a source that no rule makes any more.
func (s *state) load(n store.Node) {
	source, name, ok := tree.SplitClaim(n.Path)
	if !ok || source == freshSource {
		return
	}
	i := slices.IndexFunc(s.rules, func(r ruleState) bool { return r.Source == source })
	if i < 0 {
		i = s.addRule(Ruled{Source: source, Where: "a rule that is gone", Broken: s.unsure})
	}
	k := key{i, name}
	s.written[k] = shard{sum: sumOf(n.Value)}
	s.dirty[k] = true
}

// apply takes in a batch of the watch. Nodes that cannot be read are an error each,
// and the last good state of them stays in force.
func (s *state) apply(b store.Batch) error {
	var errs []error
	if b.Reset {
		there := make(map[string]bool, len(b.Puts))
		for _, n := range b.Puts {
			there[n.Path] = true
		}
		for p := range s.servers {
			if !there[p] {
				s.replace(p, server{})
			}
		}
		clear(s.blind) // those that still are there come again below
	}
	for _, p := range b.Deletes {
		s.replace(p, server{})
	}
	s.lookAhead(b.Puts)
	for _, n := range b.Puts {
		if s.servers[n.Path].modified == n.Modified {
			continue // known, and named again by a Reset
		}
		f, err := fleet.Decode(n.Value)
		if err != nil {
			errs = append(errs, fmt.Errorf("node %s: %w", n.Path, err))
			if _, known := s.servers[n.Path]; !known {
				s.blind[n.Path] = true
			}
			continue
		}
		s.replace(n.Path, server{f, n.Modified})
	}
	return errors.Join(errs...)
}

// aheader is a rule that evaluates elsewhere, and wants to know early for which servers.
// They are not changed afterwards.
type aheader interface{ Ahead(servers []fleet.Server) }

// manyServers are worth telling rules of beforehand.
const manyServers = 4

// lookAhead tells rules that evaluate elsewhere which servers they will be asked for.
func (s *state) lookAhead(puts []store.Node) {
	if len(puts) < manyServers {
		return
	}
	var all []fleet.Server
	for i := range s.rules {
		a, is := s.rules[i].Rule.(aheader)
		if !is {
			continue
		}
		if all == nil {
			for _, n := range puts {
				if f, err := fleet.Decode(n.Value); err == nil && s.servers[n.Path].modified != n.Modified {
					all = append(all, f)
				}
			}
		}
		a.Ahead(all)
	}
}

// aheadOf tells rules that evaluate elsewhere for which shards they will be asked.
func (s *state) aheadOf(keys []key) {
	if len(keys) < manyServers {
		return
	}
	shards := make([][]string, len(s.rules))
	for _, k := range keys {
		if _, some := s.members[k]; some && !s.withheld(k) {
			shards[k.rule] = append(shards[k.rule], k.shard)
		}
	}
	for i, names := range shards {
		a, is := s.rules[i].Rule.(interface {
			AheadOf(shards []string, members func(shard string) []fleet.Server)
		})
		if is && len(names) >= manyServers {
			a.AheadOf(names, func(shard string) []fleet.Server { return s.list(s.members[key{i, shard}]) })
		}
	}
}

// replace puts a server, or removes it when now has no name, and marks the shards
// of both its states.
func (s *state) replace(path string, now server) {
	delete(s.blind, path)
	if now.Name == "" {
		delete(s.servers, path)
	} else {
		s.servers[path] = now
	}
	for i := range s.rules {
		s.join(path, i, now.Server)
	}
}

// changed gives the dirty keys in order: by shard first, so that what is about one
// server stands together and is written together.
func (s *state) changed() []key {
	out := make([]key, 0, len(s.dirty))
	for k := range s.dirty {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b key) int {
		return cmp.Or(strings.Compare(a.shard, b.shard), cmp.Compare(a.rule, b.rule))
	})
	return out
}

// tidy gives back the room of a large burst: going through a map costs what it once
// held.
func (s *state) tidy(burst int) {
	if burst > 1000 && len(s.dirty) == 0 {
		s.dirty = make(map[key]bool)
	}
}

// write is a shard that is not in the store as it should be.
type write struct {
	key
	op  store.Op
	now shard
}

// withheld tells whether k must wait: what the store has of it is the last good state, and
// it is not known what would take its place.
func (s *state) withheld(k key) bool {
	r := &s.rules[k.rule]
	if r.Rule == nil {
		return r.Broken != nil
	}
	_, some := s.members[k]
	return !some && len(s.blind) > 0 || len(r.lost) > 0 && r.uncertain(k.shard)
}

// evaluate runs the rule of k. ok is false when the store has the result already, or
// there is none. An error may stand beside a result: what the rule left out.
func (s *state) evaluate(k key) (w write, ok bool, err error) {
	r := &s.rules[k.rule]
	var claims []record.Claim
	if m, some := s.members[k]; some {
		s.evaluations++
		claims, err = r.Rule.Claims(k.shard, func() []fleet.Server { return s.list(m) })
		if err != nil {
			if r.Digest != "" {
				err = r.placed(err) // says the shard in words
			} else {
				err = fmt.Errorf("%s, shard %s: %w", r.Source, k.shard, err)
			}
			if len(claims) == 0 {
				return write{}, false, err
			}
		}
	}
	if r.Folder != "" {
		claims = slices.Clone(claims)
		for i := range claims {
			claims[i].Place = r.Folder + "/" + claims[i].Place
		}
	}
	op := claimtree.Ops(r.Source, k.shard, claims)
	old, there := s.written[k]
	if op.Delete {
		return write{key: k, op: op}, there, nil
	}
	if len(op.Value) > store.MaxValue {
		return write{}, false, fmt.Errorf("%s, shard %s: %d claims have %d octets, at most %d fit a node", r.Source, k.shard, len(claims), len(op.Value), store.MaxValue)
	}
	now := shard{sumOf(op.Value), len(claims)}
	if there && old.sum == now.sum {
		s.written[k] = now
		return write{}, false, err
	}
	return write{key: k, op: op, now: now}, true, err
}

// list gives the members ordered by name.
func (s *state) list(m set) []fleet.Server {
	out := make([]fleet.Server, 0, 1+len(m.rest))
	out = append(out, s.servers[m.first].Server)
	for p := range m.rest {
		out = append(out, s.servers[p].Server)
	}
	slices.SortFunc(out, func(a, b fleet.Server) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return out
}

// done says that w is in the store.
func (s *state) done(w write) {
	if w.op.Delete {
		delete(s.written, w.key)
	} else {
		s.written[w.key] = w.now
	}
}

// claims counts the claims written, by rule.
func (s *state) claims() []int {
	n := make([]int, len(s.rules))
	for k, w := range s.written {
		n[k.rule] += w.claims
	}
	return n
}
