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
	rules   []rules.Rule
	servers map[string]server // by path
	members map[key]set
	dirty   map[key]bool
	written map[key]shard
	// blind are paths of servers that cannot be read and never could since this
	// process leads. Their claims in the store are the last good ones, and it is not
	// known which they are: while there is one, no shard is removed.
	blind map[string]bool
	// evaluations counts how often a rule was run.
	evaluations int
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

func newState(rs []rules.Rule) *state {
	return &state{
		rules: rs, servers: make(map[string]server), members: make(map[key]set),
		dirty: make(map[key]bool), written: make(map[key]shard), blind: make(map[string]bool),
	}
}

// load takes in a shard that the store has already. Until a server says otherwise it
// has no members and so must go.
func (s *state) load(rule int, n store.Node) {
	_, name, ok := tree.SplitClaim(n.Path)
	if !ok {
		return
	}
	k := key{rule, name}
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

// replace puts a server, or removes it when now has no name, and marks the shards
// of both its states.
func (s *state) replace(path string, now server) {
	delete(s.blind, path)
	if old, ok := s.servers[path]; ok {
		for _, k := range s.keys(old.Server) {
			s.dirty[k] = true
			if m := s.members[k].remove(path); m.first == "" {
				delete(s.members, k)
			} else {
				s.members[k] = m
			}
		}
	}
	if now.Name == "" {
		delete(s.servers, path)
		return
	}
	s.servers[path] = now
	for _, k := range s.keys(now.Server) {
		s.dirty[k] = true
		s.members[k] = s.members[k].add(path)
	}
}

func (s *state) keys(f fleet.Server) []key {
	var out []key
	for i, r := range s.rules {
		for _, name := range r.Shards(f) {
			out = append(out, key{i, name})
		}
	}
	return out
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

// withheld tells whether k must wait: it would be removed, and it may be that of a
// server that cannot be read.
func (s *state) withheld(k key) bool {
	_, some := s.members[k]
	return !some && len(s.blind) > 0
}

// evaluate runs the rule of k. ok is false when the store has the result already, or
// there is none. An error may stand beside a result: what the rule left out.
func (s *state) evaluate(k key) (w write, ok bool, err error) {
	r := s.rules[k.rule]
	var claims []record.Claim
	if m, some := s.members[k]; some {
		s.evaluations++
		claims, err = r.Claims(k.shard, func() []fleet.Server { return s.list(m) })
		if err != nil {
			err = fmt.Errorf("%s, shard %s: %w", r.Source(), k.shard, err)
			if len(claims) == 0 {
				return write{}, false, err
			}
		}
	}
	op := claimtree.Ops(r.Source(), k.shard, claims)
	old, there := s.written[k]
	if op.Delete {
		return write{key: k, op: op}, there, nil
	}
	if len(op.Value) > store.MaxValue {
		return write{}, false, fmt.Errorf("%s, shard %s: %d claims have %d octets, at most %d fit a node", r.Source(), k.shard, len(claims), len(op.Value), store.MaxValue)
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
