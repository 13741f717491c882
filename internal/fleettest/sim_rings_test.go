package fleettest

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"slices"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/canary"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// Rings: what one source claims is tried by host0 and then by half of the hosts before all have it,
// judged by canary stages. Some of it does harm, which shows in what hosts answer.

const (
	ringSource record.Source = "config/ring"
	soak                     = 2 * time.Second
	// trialLimit is when a trial is held that is not through its rings.
	trialLimit = 90 * time.Second
	// trialLook is how often a server looks at the file of its trial.
	trialLook = 500 * time.Millisecond
	// trialGone is within which time a host takes off what is no longer offered: the lease, and what
	// it takes to notice.
	trialGone = trial.Lease + 2*trialLook
)

// harm is answered by nobody but in rings: people never release it.
var harm = record.Key{Owner: mustName("harm.example.org."), Type: record.TypeA}

// rings tells whether there are any in the scene.
func (s scene) rings() bool { return s.only == nil || s.only["try"] > 0 }

func ringPolicy() trial.Policy {
	p := trial.DefaultPolicy()
	p.Rings = []trial.Ring{{Name: "canary", Soak: soak, Hosts: []string{"host0"}}, {Name: "half", Soak: soak, Hosts: []string{"share:50%"}}}
	p.Sources, p.Large, p.Limit = []string{string(ringSource)}, 0, trialLimit
	return p
}

func (w *world) canary(ctx context.Context, s *stage, st store.Store) error {
	c, err := canary.New(canary.DefaultConfig(), canary.Deps{Store: st, Log: w.log, Metrics: prometheus.NewRegistry(), Fetcher: w.fetcher(s), Name: s.name})
	if err != nil {
		return err
	}
	return c.Run(ctx)
}

// tried is what the world has seen of trials. Guarded by promises.mu.
type tried struct {
	made    map[uint64]string    // SHA-256 of what presenters made, by number
	offered map[uint64]time.Time // until when it was offered, by number
	now     uint64               // number of what is offered; 0: nothing is
	offers  []store.Op           // that were signed, the newest last
	parts   []store.Op           // of what was tried last
}

// trialNode takes note of a node that has to do with trials.
func (p *promises) trialNode(n store.Node, deleted bool) {
	t := &p.tried
	switch n.Path {
	case tree.TrialPath(dataset):
		var x trial.Trial
		if !deleted && tree.Decode(n, &x) == nil {
			t.made[x.Number] = x.SHA256
		}
	case tree.OfferPath(dataset):
		if t.now > 0 {
			t.offered[t.now] = time.Now()
		}
		t.now = 0
		if deleted {
			return
		}
		o, err := trial.Verify(n.Value, p.w.publicKeys(), dataset)
		if err != nil {
			return // a thief's
		}
		if t.made[o.Number] != o.SHA256 {
			p.broke(verified, "offered is trial %s, number %d, which no presenter has made", o.ID, o.Number)
		}
		t.now = o.Number
		if t.offers = append(t.offers, store.Op{Path: n.Path, Value: n.Value}); len(t.offers) > 40 {
			t.offers = t.offers[20:]
		}
	}
}

// try has people claim something that goes by rings.
func (q *people) try(draw func(int) int, harmful bool) {
	q.change(q.ringed, draw, func(n int) []record.Claim {
		claims := []record.Claim{}
		add := func(owner record.Name, data record.Rdata) {
			claims = append(claims, record.Claim{RRset: record.NewRRset(owner, record.TypeA, 60+uint32(n%1000), data), Source: ringSource, Place: fmt.Sprint("change ", n)})
		}
		for i := range 1 + draw(3) {
			add(mustName(fmt.Sprintf("r%d.example.org.", i)), record.Rdata([]byte{192, 0, 2, byte(draw(250))}))
		}
		if harmful {
			add(harm.Owner, record.Rdata([]byte{192, 0, 2, 251}))
		}
		return claims
	})
}

// untried tells what of rings is not over, and has people take back what does harm and claim anew what
// is held.
func (q *people) untried(draw func(int) int) string {
	if !q.w.rings() {
		return ""
	}
	p := q.w.p
	p.mu.Lock()
	busy, open := q.ringed.busy, q.ringed.open
	p.mu.Unlock()
	n, there := q.w.c.Node(q.ringed.path)
	held := false
	for _, h := range q.w.c.Nodes(tree.Holds) {
		var x tree.Hold
		held = held || tree.Decode(h, &x) == nil && x.Source == ringSource
	}
	again := held && time.Since(q.amended) > 5*time.Second
	switch {
	case busy:
		return q.ringed.path + " is not acknowledged"
	case open || there && harmful(n.Value) || again:
		q.amended = time.Now()
		q.try(draw, false)
		return q.ringed.path + " is amended"
	}
	if n, there := q.w.c.Node(tree.TrialPath(dataset)); there {
		j, _ := q.w.c.Node(tree.JudgementPath(dataset))
		return fmt.Sprintf("trial %s is under way, judged %s", n.Value, j.Value)
	}
	if held {
		return "what is tried is held"
	}
	return ""
}

// harmful tells whether claims of the ringed source have what does harm.
func harmful(node []byte) bool {
	claims, err := record.DecodeShard(node)
	if err != nil {
		return false
	}
	for _, c := range claims {
		if c.Key == harm {
			return true
		}
	}
	return false
}

// word is what a person says of the trial that is under way: what does harm is not passed.
func (w *world) word(pass bool) string {
	n, there := w.c.Node(tree.TrialPath(dataset))
	var x trial.Trial
	if !there || tree.Decode(n, &x) != nil {
		return ""
	}
	d, err := snapshot.DecodeDelta(trial.Parts(w.c.Nodes(tree.TrialPartsPrefix(dataset, x.Number))))
	if err != nil {
		return ""
	}
	for _, r := range d.Put {
		pass = pass && r.Key != harm
	}
	word := trial.Word{ID: x.ID, Begun: x.Since, Decision: trial.Withdraw, Time: time.Now().UnixMilli(), Author: "people", Reason: "it is so"}
	if pass {
		word.Decision = trial.Pass
	}
	w.put(store.Op{Path: tree.WordPath(dataset), Value: tree.Encode(word)})
	return fmt.Sprintf("people %s trial %s", word.Decision, x.ID)
}

// desert cuts a host off that answers a trial, which people withdraw meanwhile.
func (w *world) desert() string {
	h := w.hosts[0] // of the first ring
	w.people.try(w.rng.IntN, false)
	for range 10 {
		time.Sleep(time.Second)
		if h.served.answersTrial() {
			break
		}
	}
	if h.agent.setCut(true); !h.served.answersTrial() {
		return h.name + " is cut off"
	}
	did := w.word(false)
	time.Sleep(trialGone + 5*time.Second)
	synctest.Wait()
	w.p.tries(h)
	return fmt.Sprintf("%s is cut off while it answers a trial; %s", h.name, did)
}

// lure offers a trial of a thief's to all hosts.
func (w *world) lure(key ed25519.PrivateKey) {
	w.p.mu.Lock()
	version := w.p.head.Version
	w.p.mu.Unlock()
	set := record.NewRRset(mustName("lure.example.org."), record.TypeA, 60, record.Rdata([]byte{203, 0, 113, 66}))
	d := snapshot.Delta{Dataset: dataset, Version: max(1, version), Put: []record.RRset{set}, Digest: snapshot.HashRRset(set)}
	b, err := d.Encode()
	if err != nil {
		panic(err) // it is well formed
	}
	now := time.Now()
	o := trial.Offer{
		Dataset: dataset, ID: "lure", Number: uint64(now.UnixMilli()), Base: d.Version, Rings: []trial.Ring{{Name: "all", Hosts: []string{"*"}}},
		Time: now.UnixMilli(), Until: now.Add(time.Hour).UnixMilli(), Size: len(b), SHA256: trial.Sum(b),
	}
	signed, err := o.Sign(key)
	if err != nil {
		panic(err)
	}
	w.put(store.Op{Path: tree.TrialPartPath(dataset, o.Number, 0), Value: b})
	w.put(store.Op{Path: tree.OfferPath(dataset), Value: signed})
}

// reoffer puts an offer that was signed before back into the store, with its parts if they are still
// had.
func (w *world) reoffer() string {
	w.p.mu.Lock()
	t := &w.p.tried
	if len(t.offers) == 0 {
		w.p.mu.Unlock()
		return ""
	}
	op := t.offers[w.rng.IntN(len(t.offers))]
	parts := t.parts
	w.p.mu.Unlock()
	for _, part := range parts {
		w.put(part)
	}
	w.put(op)
	return "an old offer comes again"
}

// top is what a host answers on top of its dataset, as package authority does it. Guarded by served.mu.
type top struct {
	offer   *trial.Offer // nil: nothing
	delta   *snapshot.Delta
	refused string // why it is not answered
	since   time.Time
	counts  bool // what goes wrong is counted
}

// on tells whether it is answered.
func (t *top) on() bool { return t.offer != nil && t.refused == "" && !t.since.IsZero() }

// lay finds out whether the trial fits what the host has now. The caller holds mu.
func (s *served) lay() {
	t := &s.top
	if t.offer == nil || s.d == nil {
		return
	}
	if t.refused = ""; s.at < t.offer.Base {
		t.refused = fmt.Sprintf("it stands on version %d, here is %d", t.offer.Base, s.at)
		return
	}
	var before snapshot.Digest
	look := func(k record.Key) {
		if r, ok := s.d.Get(k); ok {
			before = before.Add(snapshot.HashRRset(r))
		}
	}
	for _, r := range t.delta.Put {
		look(r.Key)
	}
	for _, k := range t.delta.Remove {
		look(k)
	}
	switch {
	case before != t.delta.BaseDigest:
		t.refused = "it is to be composed anew"
	case t.since.IsZero():
		t.since = time.Now()
	}
}

// state is what the host says of its trial. The caller holds mu.
func (t *top) state() *tree.TrialState {
	if t.offer == nil {
		return nil
	}
	out := &tree.TrialState{ID: t.offer.ID, Number: t.offer.Number, Refused: t.refused, Before: tree.Tally{Milliseconds: 300_000, Answers: 1000}}
	if t.since.IsZero() {
		return out
	}
	out.Since, out.After.Milliseconds, out.After.Answers = t.since.UnixMilli(), time.Since(t.since).Milliseconds(), 1000
	for _, r := range t.delta.Put {
		if r.Key == harm && t.counts {
			out.After.Servfail = 500
		}
	}
	return out
}

// put goes over to another trial, or to none, and tells whether that is one.
func (s *served) put(o *trial.Offer, d *snapshot.Delta, counts bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.top
	if o == nil && old.offer == nil {
		return false
	}
	if o != nil && old.offer != nil && o.ID == old.offer.ID && o.Number == old.offer.Number {
		s.top.offer = o
		return true
	}
	s.top = top{offer: o, delta: d, counts: counts}
	if o != nil && old.offer != nil && old.offer.ID == o.ID {
		s.top.since = old.since
	}
	s.lay()
	return true
}

// followTrial keeps on top what the file beside the journal has, as package authority does.
func (h *simHost) followTrial(ctx context.Context, disk *simDisk) {
	path := trial.Path(h.path("journal"))
	var seen os.FileInfo
	var confirmed time.Time
	for first := true; ; first = false {
		st, err := os.Stat(path)
		if err != nil {
			st = nil
		}
		news := false
		switch {
		case st == nil:
			news = h.served.put(nil, nil, false)
			seen, confirmed = nil, time.Time{}
		case first:
			seen = st
		case seen == nil || !st.ModTime().Equal(seen.ModTime()) || !os.SameFile(st, seen):
			seen, confirmed = st, time.Now()
			o, d, err := h.readTrial(path)
			if err != nil {
				o, d, confirmed = nil, nil, time.Time{}
			}
			news = h.served.put(o, d, h.w.without != counted)
		case !confirmed.IsZero() && time.Since(confirmed) > trial.Lease && h.w.without != lease:
			news = h.served.put(nil, nil, false)
			confirmed = time.Time{}
		}
		if d := h.served.data(); d != nil && (news || h.served.tries()) {
			h.say(disk, d)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(trialLook):
		}
	}
}

func (h *simHost) readTrial(path string) (*trial.Offer, *snapshot.Delta, error) {
	signed, encoded, err := trial.Read(path)
	if err != nil {
		return nil, nil, err
	}
	o, err := trial.Verify(signed, h.keys(), dataset)
	if err != nil {
		return nil, nil, err
	}
	if err := o.InTime(time.Now()); err != nil {
		return nil, nil, err
	}
	d, err := o.Open(encoded)
	return o, d, err
}

// data is the dataset that is served; nil: none.
func (s *served) data() *snapshot.Dataset {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.d
}

// tries tells whether there is a trial.
func (s *served) tries() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.top.offer != nil
}

// answersTrial tells whether one is answered.
func (s *served) answersTrial() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.top.on()
}

// tries holds that what a host answers on top of its dataset was made by a presenter, is for it, and
// is offered, or was until lately.
func (p *promises) tries(h *simHost) {
	h.served.mu.Lock()
	defer h.served.mu.Unlock()
	t := &h.served.top
	if !t.on() || h.server.done == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.laid++
	o := t.offer
	switch {
	case p.tried.made[o.Number] != o.SHA256:
		p.broke(verified, "%s tries %s, number %d, which no presenter has made", h.name, o.ID, o.Number)
	case !o.For(h.name, nil):
		p.broke(ringed, "%s tries %s, which is offered to %v", h.name, o.ID, o.Rings)
	case p.tried.now != o.Number && time.Since(p.tried.offered[o.Number]) > trialGone:
		p.broke(ringed, "%s tries %s, number %d, which is not offered since %s", h.name, o.ID, o.Number, time.Since(p.tried.offered[o.Number]))
	}
}

// all are the shards that people change.
func (q *people) all() []*shard { return append(slices.Clone(q.shards), q.ringed) }

func newRinged() *shard {
	s := &shard{source: ringSource, name: "s0", known: true, ids: map[string]int{}}
	s.path = claimtree.Path(s.source, s.name)
	return s
}
