package fleettest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/simstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/answer"
	"github.com/zonecast/zonecast/api/registryapi"
	servers "github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/registry"
)

// promise is what is held, after DESIGN §10 and docs/design.md, Guarantees.
type promise string

const (
	kept      promise = "kept"      // 1: what was acknowledged is there
	verified  promise = "verified"  // 2: only what was published and signed is served
	whole     promise = "whole"     // 2: and no mixture
	forward   promise = "forward"   // 2: a host does not go back
	oneWay    promise = "one way"   // 2: there is one history, each version follows the one before
	static    promise = "static"    // 3: a host answers what it had, with nothing else alive
	converges promise = "converges" // 3: and follows again when the others are back
	equal     promise = "equal"     // 4: equal claims give equal datasets
	guarded   promise = "guarded"   // 5: a loss is not taken for a wish
	ringed    promise = "ringed"    // 5: a trial is answered by its rings, for as long as it is offered
	judged    promise = "judged"    // 5: what does harm in its rings becomes no version
	runs      promise = "runs"      // no process ends by itself
)

// promises is what the world has seen, and whether it is as promised. Everything is checked when
// it happens, at the cost of the change.
type promises struct {
	w *world

	mu        sync.Mutex // guards below
	first     promise    // that was broken; empty: none
	how       string
	all       map[promise]bool // that were broken
	published map[snapshot.Chain]made
	head      tree.Head
	signed    uint64   // newest version that was signed
	manifests [][]byte // the newest that were
	checks    int
	tried     tried
	laid      int               // times a host was found to answer a trial
	claims    map[string]*shard // by path
	robbed    bool              // a thief published with a key that hosts believed
	loot      snapshot.Chain    // of that
	rich      uint64            // version from which on everybody has what accidents take away; 0: not yet
}

// An accident takes wealth RRsets of one source at once, treasure among them.
const wealth = 60

var treasure = record.Key{Owner: mustName("g7.example.org."), Type: record.TypeA}

// made is a version as the presenter committed it.
type made struct {
	version uint64
	digest  snapshot.Digest
}

func newPromises(w *world) *promises {
	return &promises{w: w, all: map[promise]bool{}, published: map[snapshot.Chain]made{}, claims: map[string]*shard{}, tried: tried{made: map[uint64]string{}, offered: map[uint64]time.Time{}}}
}

// broken notes the first promise that is broken. It may be called with mu held by nobody.
func (p *promises) broken(what promise, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broke(what, format, args...)
}

func (p *promises) broke(what promise, format string, args ...any) {
	p.all[what] = true
	if p.first == "" {
		p.first, p.how = what, fmt.Sprintf(format, args...)
	}
}

func (p *promises) ok() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.first == ""
}

// committed is told of all that the store takes.
func (p *promises) committed(n store.Node, deleted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case n.Path == tree.HeadPath(dataset):
		p.newHead(n)
	case n.Path == tree.TrialPath(dataset) || n.Path == tree.OfferPath(dataset):
		p.trialNode(n, deleted)
	case !deleted && strings.HasPrefix(n.Path, tree.AllTrialParts(dataset)):
		if p.tried.parts = append(p.tried.parts, store.Op{Path: n.Path, Value: n.Value}); len(p.tried.parts) > 8 {
			p.tried.parts = p.tried.parts[1:]
		}
	case n.Path == tree.ManifestPath(dataset):
		m, err := snapshot.VerifyManifest(n.Value, p.w.publicKeys())
		if err != nil {
			return // a thief's
		}
		if got := p.published[m.Chain]; got.version != m.Version || got.digest != m.Digest {
			p.broke(verified, "signed is version %d chain %s, which nobody published", m.Version, m.Chain)
		}
		p.signed = max(p.signed, m.Version)
		if p.manifests = append(p.manifests, n.Value); len(p.manifests) > 400 {
			p.manifests = slices.Clone(p.manifests[200:])
		}
	case p.claims[n.Path] != nil:
		s := p.claims[n.Path]
		s.now = s.ids[string(n.Value)]
		if s.now < s.acked {
			p.broke(kept, "%s: change %d is in the store after change %d was acknowledged", n.Path, s.now, s.acked)
		}
	}
}

// putBack looks at what a store that was put back has of the claims.
func (p *promises) putBack() {
	all := p.w.people.all()
	values := make([]string, len(all))
	for i, s := range all { // before mu, which the store takes while it commits
		n, _ := p.w.c.Node(s.path)
		values[i] = string(n.Value)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, s := range all {
		if s.now = s.ids[values[i]]; s.now < s.acked {
			p.broke(kept, "%s: change %d was acknowledged, the store has change %d", s.path, s.acked, s.now)
		}
	}
}

func (p *promises) newHead(n store.Node) {
	var h tree.Head
	if err := tree.Decode(n, &h); err != nil {
		p.broke(oneWay, "head cannot be read: %v", err)
		return
	}
	chain, err := snapshot.ParseChain(h.Chain)
	digest, err2 := snapshot.ParseDigest(h.Digest)
	if err := errors.Join(err, err2); err != nil {
		p.broke(oneWay, "head: %v", err)
		return
	}
	old := p.head
	switch {
	case h.Version == old.Version && h.Chain == old.Chain: // more claims are in it
	case h.Version != old.Version+1:
		p.broke(oneWay, "head goes from version %d to %d", old.Version, h.Version)
	case h.Time < old.Time:
		p.broke(oneWay, "version %d is of %d, earlier than the one before, %d", h.Version, h.Time, old.Time)
	}
	p.head = h
	p.published[chain] = made{h.Version, digest}
}

// served is what a host serves. Only that is the host's: a lower version than before is a
// broken promise, unless its disk is.
type served struct {
	mu     sync.Mutex        // guards below
	d      *snapshot.Dataset // of which the server answers; nil: nothing yet
	at     uint64
	chain  snapshot.Chain
	digest snapshot.Digest
	floor  uint64 // version that must not be undercut
	began  time.Time
	turns  int
	top    top
	// signers are the ids of the keys that signed it.
	signers []string
}

// life begins a server's life.
func (s *served) life(h *simHost) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.rotten {
		s.floor = 0
	}
	s.d, s.at, s.chain, s.began, s.top = nil, 0, snapshot.Chain{}, time.Now(), top{}
}

// ended says that the process ended while the machine goes on: what was served and is in the
// journal durably is served again.
func (s *served) ended(durable uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.floor = max(s.floor, min(s.at, durable))
}

// crashed says that the machine did: what the agent had acknowledged is there.
func (s *served) crashed(durable uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.floor = durable
}

// takes has the host serve d, and tells whether it does.
func (s *served) takes(h *simHost, d *snapshot.Dataset) bool {
	if d.Version() == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.Version() < s.at || d.Version() == s.at && d.Chain() != s.chain {
		return false // as the authority does: what was served stays
	}
	s.turns++
	p := h.w.p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checks++
	pub, ok := p.published[d.Chain()]
	switch {
	case p.robbed && d.Chain() == p.loot: // until the thief's word is void
	case !ok || pub.version != d.Version():
		p.broke(verified, "%s serves version %d chain %s, which nobody published", h.name, d.Version(), d.Chain())
	case d.Version() > p.signed:
		p.broke(verified, "%s serves version %d, signed is up to %d", h.name, d.Version(), p.signed)
	case d.Digest() != pub.digest:
		p.broke(whole, "%s serves version %d with digest %s, published was %s", h.name, d.Version(), d.Digest(), pub.digest)
	case d.Version() < s.floor && !p.robbed:
		p.broke(forward, "%s serves version %d and had version %d", h.name, d.Version(), s.floor)
	case p.rich > 0 && d.Version() >= p.rich && !has(d, treasure):
		p.broke(guarded, "%s serves version %d without %s, which an accident took away and nobody released", h.name, d.Version(), treasure)
	case has(d, harm):
		p.broke(judged, "%s serves version %d with %s, which did harm in its rings and nobody released", h.name, d.Version(), harm)
	case s.turns%32 == 0 && count(d) != d.Digest():
		p.broke(whole, "%s serves version %d whose records have digest %s, it says %s", h.name, d.Version(), count(d), d.Digest())
	}
	s.d, s.at, s.chain, s.digest = d, d.Version(), d.Chain(), d.Digest()
	s.lay()
	return true
}

func has(d *snapshot.Dataset, key record.Key) bool {
	_, ok := d.Get(key)
	return ok
}

// apply changes a dataset that may be served.
func (s *served) apply(d *snapshot.Dataset, by *snapshot.Delta) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return d.Apply(by)
}

// answers is the version and the digest that are served.
func (s *served) answers() (uint64, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.d == nil {
		return 0, ""
	}
	return s.at, s.digest.String()
}

// count makes the digest of all records.
func count(d *snapshot.Dataset) (sum snapshot.Digest) {
	for r := range d.All() {
		if !snapshot.IsFreshness(r.Key) {
			sum = sum.Add(snapshot.HashRRset(r))
		}
	}
	return sum
}

// stillServes holds that a host which had something answers.
func (p *promises) stillServes(h *simHost) {
	h.served.mu.Lock()
	defer h.served.mu.Unlock()
	s := &h.served
	if s.d == nil && s.floor > 0 && !h.rotten && h.server.done != nil && time.Since(s.began) > 30*time.Second {
		p.broken(static, "%s had version %d and answers nothing since %s", h.name, s.floor, time.Since(s.began))
	}
}

// people are those who make claims and register servers, and remember what they were told.
type people struct {
	w        *world
	whole    store.Op // the claims that accidents take away
	bare     store.Op // what accidents leave of them
	client   *simstore.Client
	registry *stage
	reg      *registry.Registry // of the process that runs
	shards   []*shard
	servers  []*server
	ringed   *shard    // its changes go by rings
	amended  time.Time // when it was changed so that everything comes together
	calls    sync.WaitGroup
}

// shard is claims that are changed together, each time on condition of what they were.
type shard struct {
	source record.Source
	name   string
	path   string

	// Guarded by promises.mu.
	busy     bool
	known    bool // modified is right, as far as is known
	modified store.Revision
	next     int            // number of the last change
	ids      map[string]int // numbers of changes, by value
	acked    int            // newest change that was acknowledged
	now      int            // change that the store has
	open     bool           // the last change was not acknowledged
}

// server is a server that registers.
type server struct {
	name string
	// Guarded by promises.mu.
	busy  bool
	want  string // address; empty: gone
	acked bool   // the registry said so
}

func newPeople(w *world) *people {
	q := &people{w: w, client: w.c.Client("people"), ringed: newRinged()}
	w.p.claims[q.ringed.path] = q.ringed
	q.whole, q.bare = fortune()
	for i, source := range []record.Source{"zone/example.net", "config/web", "update/key"} {
		for k := range []int{1, 8, 8}[i] {
			s := &shard{source: source, name: fmt.Sprint("s", k), known: true, ids: map[string]int{}}
			s.path = claimtree.Path(source, s.name)
			q.shards = append(q.shards, s)
			w.p.claims[s.path] = s
		}
	}
	for i := range 12 {
		q.servers = append(q.servers, &server{name: fmt.Sprintf("srv%d.example.net", i), acked: true})
	}
	q.registry = w.newStage("registry", func(ctx context.Context, s *stage, st store.Store) error {
		r, err := registry.New(registry.DefaultConfig(), registry.Deps{Store: st, Log: w.log, Metrics: prometheus.NewRegistry()})
		if err != nil {
			return err
		}
		w.p.mu.Lock()
		q.reg = r
		w.p.mu.Unlock()
		return r.Run(ctx)
	})
	return q
}

// fortune is a zone of wealth RRsets as one source claims it, and what an accident leaves of it.
func fortune() (whole, bare store.Op) {
	const source = record.Source("zone/example.org")
	soa := record.Rdata(mustName("ns.example.org.")) + record.Rdata(mustName("root.example.org.")) + record.Rdata(make([]byte, 20))
	claims := []record.Claim{{RRset: record.NewRRset(mustName("example.org."), record.TypeSOA, 300, soa), Source: source}}
	for i := range wealth {
		claims = append(claims, record.Claim{RRset: record.NewRRset(mustName(fmt.Sprintf("g%d.example.org.", i)), record.TypeA, 60, record.Rdata([]byte{192, 0, 2, byte(i)})), Source: source})
	}
	return claimtree.Ops(source, "s0", claims), claimtree.Ops(source, "s0", claims[:1])
}

// restored tells what an accident took and is not back yet, having put it back; and releases
// what else is held.
func (q *people) restored() string {
	n, _ := q.w.c.Node(q.whole.Path)
	if string(n.Value) != string(q.whole.Value) {
		q.w.put(q.whole)
		return q.whole.Path + " is not restored"
	}
	for _, n := range q.w.c.Nodes(tree.Holds) {
		var h tree.Hold
		if err := tree.Decode(n, &h); err != nil {
			return err.Error()
		}
		if h.Source != "zone/example.org" && h.Source != ringSource && h.Decision == "" {
			h.Decision, h.Author = "release", "people"
			q.w.put(store.Op{Path: n.Path, Value: tree.Encode(h)}, store.Cond{Path: n.Path, Modified: n.Modified})
		}
	}
	return ""
}

func (q *people) wait() { q.calls.Wait() }

func mustName(text string) record.Name {
	n, err := record.ParseName(text)
	if err != nil {
		panic(err) // a constant
	}
	return n
}

// content is what a shard claims after a change: a few addresses, some of which others claim, too.
func (s *shard) content(n int, draw func(int) int) []record.Claim {
	if s.source == "zone/example.net" {
		soa := record.Rdata(mustName("ns.example.net.")) + record.Rdata(mustName("root.example.net.")) + record.Rdata(make([]byte, 20))
		return []record.Claim{{RRset: record.NewRRset(mustName("example.net."), record.TypeSOA, 300+uint32(n), soa), Source: s.source}}
	}
	var claims []record.Claim
	for range 1 + draw(3) {
		owner := mustName(fmt.Sprintf("h%d.example.net.", draw(40)))
		claims = append(claims, record.Claim{
			RRset:  record.NewRRset(owner, record.TypeA, 60+uint32(n%1000), record.Rdata([]byte{192, 0, 2, byte(draw(250))})),
			Source: s.source, Place: fmt.Sprint("change ", n),
		})
	}
	// Two claims of a shard on one RRset: the later is kept.
	last := map[record.Key]int{}
	for i, c := range claims {
		last[c.Key] = i
	}
	var out []record.Claim
	for i, c := range claims {
		if last[c.Key] == i {
			out = append(out, c)
		}
	}
	return out
}

// claim changes a shard.
func (q *people) claim(i int, draw func(int) int) {
	s := q.shards[i]
	q.change(s, draw, func(n int) []record.Claim { return s.content(n, draw) })
}

// change changes a shard to what content says of its change of a number. Who is not answered reads
// what became of it before the next change.
func (q *people) change(s *shard, draw func(int) int, content func(n int) []record.Claim) {
	p := q.w.p
	p.mu.Lock()
	if s.busy {
		p.mu.Unlock()
		return
	}
	s.busy, s.open = true, true
	s.next++
	n, known, modified := s.next, s.known, s.modified
	op := claimtree.Ops(s.source, s.name, content(n))
	if s.ids[string(op.Value)] == 0 {
		s.ids[string(op.Value)] = n
	}
	p.mu.Unlock()
	q.calls.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		rev, err := store.Revision(0), error(nil)
		if !known {
			var node store.Node
			node, err = q.client.Get(ctx, s.path)
			modified = node.Modified
			if errors.Is(err, store.ErrNotFound) {
				err = nil
			}
		}
		if err == nil {
			rev, err = q.client.Commit(ctx, store.Txn{If: []store.Cond{{Path: s.path, Modified: modified}}, Do: []store.Op{op}})
			err = q.w.answered(err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		s.busy, s.known = false, err == nil
		if err == nil {
			s.modified, s.acked, s.open = rev, n, false
			if s.now < n {
				p.broke(kept, "%s: change %d was acknowledged, the store has change %d", s.path, n, s.now)
			}
		}
	})
}

// register registers a server, moves it, or takes it away; what was not acknowledged is asked
// for again.
func (q *people) register(i int, draw func(int) int) {
	p := q.w.p
	s := q.servers[i]
	p.mu.Lock()
	reg := q.reg
	if s.busy || reg == nil {
		p.mu.Unlock()
		return
	}
	s.busy = true
	if s.acked {
		s.want = ""
		if draw(4) > 0 {
			s.want = fmt.Sprintf("198.51.100.%d", 1+20*i+draw(20))
		}
	}
	s.acked = false
	want := s.want
	p.mu.Unlock()
	q.calls.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		var err error
		if want == "" {
			_, err = reg.DeregisterServer(ctx, s.name, "people", "moved")
		} else {
			_, err = reg.RegisterServer(ctx, &registryapi.Registration{
				Name: s.name, Addresses: []string{want}, Role: "web", Site: "ams", Cluster: "ams-web", TTL: 60, Author: "people", Reason: "here",
			})
		}
		var refused *answer.Refused
		if errors.As(err, &refused) && refused.Code == api.NotFound {
			err = nil // gone is what was wanted
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		s.busy, s.acked = false, err == nil
	})
}

// settled tells what is not acknowledged yet, and asks for it again.
func (q *people) settled(draw func(int) int) string {
	p := q.w.p
	for i, s := range q.shards {
		p.mu.Lock()
		open, busy := s.open, s.busy
		p.mu.Unlock()
		if open && !busy {
			q.claim(i, draw)
		}
		if open {
			return s.path + " is not acknowledged"
		}
	}
	for i, s := range q.servers {
		p.mu.Lock()
		acked, busy := s.acked, s.busy
		p.mu.Unlock()
		if !acked && !busy {
			q.register(i, draw)
		}
		if !acked {
			return s.name + " is not acknowledged"
		}
	}
	return ""
}

// held looks whether all that was acknowledged is in the store, and in the dataset that hosts
// serve.
func (p *promises) held() {
	nodes := p.w.c.Nodes(tree.Servers) // before mu, which the store takes while it commits
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.w.people.all() {
		if s.now < s.acked {
			p.broke(kept, "%s: change %d was acknowledged, the store has %d", s.path, s.acked, s.now)
		}
	}
	there := map[string]string{}
	for _, n := range nodes {
		s, err := servers.Decode(n.Value)
		if err != nil {
			p.broke(kept, "%s cannot be read: %v", n.Path, err)
			return
		}
		there[strings.TrimSuffix(s.Name.String(), ".")] = s.Addresses[0].String()
	}
	for _, s := range p.w.people.servers {
		if s.acked && there[s.name] != s.want {
			p.broke(kept, "server %s was acknowledged at %q, the store has it at %q", s.name, s.want, there[s.name])
		}
	}
}

// fromScratch reconciles all claims that the store has, at once.
func (p *promises) fromScratch() string {
	nodes := p.w.c.Nodes(tree.Claims)
	changes, err := claimtree.NewFold().Apply(store.Batch{Revision: p.w.c.Revision(), Reset: true, Puts: nodes})
	if err != nil {
		p.broken(equal, "claims cannot be read: %v", err)
		return ""
	}
	state := reconcile.New(reconcile.DefaultPolicy())
	for _, ch := range changes {
		state.Replace(ch.Source, ch.Shard, ch.Claims)
	}
	state.Reconcile()
	var sum snapshot.Digest
	for r := range state.All() {
		if !snapshot.IsFreshness(r.Key) {
			sum = sum.Add(snapshot.HashRRset(r))
		}
	}
	return sum.String()
}
