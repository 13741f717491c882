package simstore

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zonecast/zonecast/store"
)

// Config is how a cluster is made.
type Config struct {
	Seed uint64
	// Replicas is how many there are, of which a majority must be up. Zero means 3.
	Replicas int
	// Delay is how long a message is on its way at most, each time another while. Zero means
	// not at all.
	Delay time.Duration
	// Lag is how long at most a replica is behind the leader, which only watches see. Zero
	// means not at all.
	Lag time.Duration
	// Timeout is after how long a call gives up that gets no answer. Zero means 1 s.
	Timeout time.Duration
	// Reconnect is within which time after it can be reached again a client finds that out.
	// Zero means at once.
	Reconnect time.Duration
	// History is how many revisions are kept for watches. Zero means 4096.
	History int
}

// Faults are how often, of a thousand messages each, something happens to one.
type Faults struct {
	Lose   int // a request is lost
	Unsaid int // an answer is lost
	Late   int // a commit happens after its client was told that it is not known
	Twice  int // a commit is delivered again some time later
}

// Cluster is the store, its machines and its network.
type Cluster struct {
	cfg Config

	mu       sync.Mutex // guards below
	rng      *rand.Rand
	rev      store.Revision
	epoch    int // counts how often the cluster was put back
	nodes    map[string]entry
	history  []commit // of the revisions up to rev
	up       []bool
	applied  []store.Revision // by replica
	behind   []bool           // by replica: it will catch up
	electing bool
	faults   Faults
	slow     time.Duration
	blind    func(store.Cond) bool
	observe  func(node store.Node, deleted bool)
	clients  map[*Client]bool
	feeds    map[string]*feed
	waits    map[string]chan struct{} // closed when the node at the path changes
	load     meter
	immortal bool
}

type entry struct {
	store.Node
	owner *session // nil for a node that stays
}

// commit is one revision.
type commit struct {
	rev     store.Revision
	changes []change
}

// change is a node before and after; Path is empty where there is none.
type change struct {
	path     string
	old, now entry
}

// feed is what happened below a prefix that somebody watches.
type feed struct {
	revs     []store.Revision
	watchers map[*watcher]bool
}

// New is an empty cluster, all of whose replicas are up.
func New(cfg Config) *Cluster {
	if cfg.Replicas == 0 {
		cfg.Replicas = 3
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Second
	}
	if cfg.History == 0 {
		cfg.History = 4096
	}
	t := &Cluster{
		cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0)), rev: 1, nodes: map[string]entry{},
		up: make([]bool, cfg.Replicas), applied: make([]store.Revision, cfg.Replicas), behind: make([]bool, cfg.Replicas),
		clients: map[*Client]bool{}, feeds: map[string]*feed{}, waits: map[string]chan struct{}{},
	}
	for i := range t.up {
		t.up[i], t.applied[i] = true, 1
	}
	return t
}

// Client is a further client, as another process has. Its name is for people.
func (t *Cluster) Client(name string) *Client {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &Client{t: t, name: name, replica: t.rng.IntN(len(t.up)), closed: make(chan struct{}), sessions: map[*session]bool{}}
	if c.linked = t.reachable(c); !c.linked {
		c.lost = time.Now()
	}
	t.clients[c] = true
	return c
}

// SetFaults changes what happens to messages from now on.
func (t *Cluster) SetFaults(f Faults) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults = f
}

// SetSlow has each message be on its way for up to d longer from now on. A call gives up after
// Config.Timeout only where it gets no answer: d is to be less than half of that.
func (t *Cluster) SetSlow(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.slow = d
}

// delay is how long a message is on its way. The caller holds mu.
func (t *Cluster) delay() time.Duration { return t.upTo(t.cfg.Delay + t.slow) }

// Blind makes the cluster ignore some conditions: what a store without compare-and-set would
// be. It breaks the contract, to show that something relies on it.
func (t *Cluster) Blind(ignored func(store.Cond) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.blind = ignored
}

// KeepSessions has sessions whose owner is dead go on, as if it were not: against what a store
// promises.
func (t *Cluster) KeepSessions() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.immortal = true
}

// Observe tells of every node that a commit puts or deletes, in order. It is called before
// any of the cluster's next messages, and must not call the cluster.
func (t *Cluster) Observe(f func(node store.Node, deleted bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.observe = f
}

// SetReplica takes a replica down, with all that only it has heard, or brings it back.
func (t *Cluster) SetReplica(i int, up bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.up[i] == up {
		return
	}
	t.up[i] = up
	if up {
		t.advance(i)
	}
	t.relink()
}

// Replicas is how many there are, and how many are up.
func (t *Cluster) Replicas() (all, up int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, u := range t.up {
		if u {
			up++
		}
	}
	return len(t.up), up
}

// Elect has the replicas choose another leader, and for so long nothing is answered.
func (t *Cluster) Elect(takes time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.electing {
		return
	}
	t.electing = true
	time.AfterFunc(takes, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.electing = false
	})
}

// PutBack makes the cluster what it was at an earlier revision, as a copy put back does, or as a
// store that acknowledged what it did not keep. It tells to which one: history has an end.
func (t *Cluster) PutBack(rev store.Revision) store.Revision {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.history) > 0 && t.rev > max(rev, 1) {
		c := t.history[len(t.history)-1]
		t.history = t.history[:len(t.history)-1]
		for _, ch := range slices.Backward(c.changes) {
			if ch.old.Path == "" {
				delete(t.nodes, ch.path)
			} else {
				t.nodes[ch.path] = ch.old
			}
			t.touched(ch.path)
		}
		t.rev--
	}
	t.history, t.epoch = nil, t.epoch+1
	for i := range t.applied {
		t.applied[i] = t.rev
	}
	for _, f := range t.feeds {
		f.revs = nil
		for w := range f.watchers {
			w.poke()
		}
	}
	return t.rev
}

// Revision is the newest one.
func (t *Cluster) Revision() store.Revision {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rev
}

// Compact forgets the history.
func (t *Cluster) Compact() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.history = nil
}

// Node is a node as it is, without asking as a client.
func (t *Cluster) Node(path string) (store.Node, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.nodes[path]
	return e.Node, ok
}

// Nodes are those below a prefix, in order of path.
func (t *Cluster) Nodes(prefix string) []store.Node {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.below(prefix, t.rev)
}

// quorum tells whether commits and reads are possible. The caller holds mu.
func (t *Cluster) quorum() bool {
	n := 0
	for _, up := range t.up {
		if up {
			n++
		}
	}
	return 2*n > len(t.up)
}

// reachable tells whether a client can have an answer. The caller holds mu.
func (t *Cluster) reachable(c *Client) bool {
	return !c.cut && !c.dead && t.up[c.replica] && t.quorum()
}

// relink notices what connectivity is after something changed. The caller holds mu.
func (t *Cluster) relink() {
	for c := range t.clients {
		if !t.up[c.replica] { // go to another one
			for i := range t.up {
				if at := (c.replica + i) % len(t.up); t.up[at] {
					c.replica = at
					break
				}
			}
		}
		now := t.reachable(c)
		switch {
		case !now:
			if c.linked {
				c.lost = time.Now()
			}
			c.linked, c.linking = false, c.linking+1
			for ss := range c.sessions {
				ss.unheard()
			}
		case !c.linked:
			c.linking++
			turn := c.linking
			link := func() {
				if c.linking != turn || !t.reachable(c) {
					return
				}
				c.linked = true
				t.load.count(&t.load.now.Connects, 1)
				for ss := range c.sessions {
					ss.heard()
				}
				for w := range c.watchers {
					w.poke()
				}
			}
			within := t.cfg.Reconnect
			if !c.lost.IsZero() {
				within = max(within, min(c.spread, time.Since(c.lost)/2))
			}
			if within == 0 {
				link()
				continue
			}
			time.AfterFunc(t.upTo(within), func() {
				t.mu.Lock()
				defer t.mu.Unlock()
				link()
			})
		}
	}
}

// upTo draws a time of at most d. The caller holds mu.
func (t *Cluster) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(t.rng.Int64N(int64(d) + 1))
}

// draws tells whether what happens n times in a thousand happens. The caller holds mu.
func (t *Cluster) draws(n int) bool { return n > 0 && t.rng.IntN(1000) < n }

// commit does txn; what it puts belongs to owner unless that is nil. The caller holds mu.
func (t *Cluster) commit(txn store.Txn, owner *session) (store.Revision, error) {
	for _, c := range txn.If {
		if found := t.nodes[c.Path].Modified; found != c.Modified && (t.blind == nil || !t.blind(c)) {
			return 0, fmt.Errorf("commit: %s is at revision %d, expected %d: %w", c.Path, found, c.Modified, store.ErrConflict)
		}
	}
	rev := t.rev + 1
	var done []change
	for _, o := range txn.Do {
		old, exists := t.nodes[o.Path]
		if o.Delete {
			if exists {
				delete(t.nodes, o.Path)
				old.disown()
				done = append(done, change{path: o.Path, old: old})
			}
			continue
		}
		n := store.Node{Path: o.Path, Value: slices.Clone(o.Value), Created: rev, Modified: rev, Ephemeral: owner != nil}
		if exists {
			n.Created = old.Created
			old.disown()
		}
		now := entry{n, owner}
		if owner != nil {
			owner.nodes[o.Path] = true
		}
		t.nodes[o.Path] = now
		done = append(done, change{path: o.Path, old: old, now: now})
	}
	if len(done) == 0 {
		return t.rev, nil
	}
	t.rev = rev
	t.history = append(t.history, commit{rev, done})
	if len(t.history) > 2*t.cfg.History {
		t.history = slices.Clone(t.history[len(t.history)-t.cfg.History:])
		for _, f := range t.feeds {
			i, _ := slices.BinarySearch(f.revs, t.history[0].rev)
			f.revs = slices.Clone(f.revs[i:])
		}
	}
	for prefix, f := range t.feeds {
		if slices.ContainsFunc(done, func(c change) bool { return strings.HasPrefix(c.path, prefix) }) {
			f.revs = append(f.revs, rev)
		}
	}
	for _, c := range done {
		t.touched(c.path)
		if t.observe != nil {
			t.observe(store.Node{Path: c.path, Value: c.now.Value, Modified: rev}, c.now.Path == "")
		}
	}
	for i := range t.up {
		t.advance(i)
	}
	return rev, nil
}

func (e entry) disown() {
	if e.owner != nil {
		delete(e.owner.nodes, e.Path)
	}
}

// touched wakes who waits for a node. The caller holds mu.
func (t *Cluster) touched(path string) {
	if ch := t.waits[path]; ch != nil {
		close(ch)
		delete(t.waits, path)
	}
}

// advance brings a replica up to date, some time later. The caller holds mu.
func (t *Cluster) advance(i int) {
	if t.behind[i] || !t.up[i] {
		return
	}
	catch := func() {
		t.behind[i] = false
		if !t.up[i] {
			return
		}
		from := t.applied[i]
		t.applied[i] = t.rev
		for _, f := range t.feeds {
			if len(f.revs) == 0 || f.revs[len(f.revs)-1] <= from {
				continue
			}
			for w := range f.watchers {
				if w.c.replica == i {
					w.poke()
				}
			}
		}
	}
	if t.cfg.Lag == 0 {
		catch()
		return
	}
	t.behind[i] = true
	time.AfterFunc(t.upTo(t.cfg.Lag), func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		catch()
	})
}

// below copies the nodes below prefix as they were at a revision of the history. The caller
// holds mu.
func (t *Cluster) below(prefix string, at store.Revision) []store.Node {
	past := map[string]entry{}
	for _, c := range slices.Backward(t.history) {
		if c.rev <= at {
			break
		}
		for _, ch := range c.changes {
			if strings.HasPrefix(ch.path, prefix) {
				past[ch.path] = ch.old
			}
		}
	}
	var out []store.Node
	for p, e := range t.nodes {
		if _, changed := past[p]; !changed && strings.HasPrefix(p, prefix) {
			out = append(out, e.Node)
		}
	}
	for _, e := range past {
		if e.Path != "" {
			out = append(out, e.Node)
		}
	}
	for i := range out {
		out[i].Value = slices.Clone(out[i].Value)
	}
	slices.SortFunc(out, func(a, b store.Node) int { return strings.Compare(a.Path, b.Path) })
	return out
}
