package site

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"
	"sync"

	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/wire"
)

// Bounds of a mirror's history: who is behind by more is given everything again.
const (
	maxIncrements = 10_000
	maxHistory    = 64 << 20 // octets
)

// perSize is octets of nodes for each of which one size may be kept while there is more than fits: a size
// takes 20 to 40 octets of memory, so that they take a quarter of what nodes may at most.
const perSize = 160

// mirror is all below a prefix, and how it came to be so. Watchers have places in its history
// and nothing else: one that is slow costs no memory and holds nobody.
type mirror struct {
	prefix string
	most   int64 // octets

	mu      sync.Mutex // guards below
	nodes   map[string]store.Node
	size    int64          // octets, as they are sent
	rev     store.Revision // up to which nodes has everything
	heard   bool           // there is a state
	life    int            // +1 when the store went back, or was given up: what watchers know is void
	floor   store.Revision // history has everything after it
	history []increment    // the oldest first
	first   uint64         // number of history[0]
	octets  int            // of history
	changed chan struct{}  // closed and replaced when anything above changes
	// whole has the state below prefixes that are watched as a Reset, for who comes now.
	whole map[string]*wire.Message
	lists map[string]*wire.Message // the same as answers to a List
	// full: there is more than fits. Nothing is served any more, and nothing kept but sizes: the octets
	// of each node, by a hash of its path, so that it shows when it fits again. nil: those are too many
	// as well, and it has to be looked for.
	full  bool
	sizes map[uint64]uint32
	seed  maphash.Seed
}

// increment is one batch as the store gave it.
type increment struct {
	store.Batch
	message *wire.Message
}

func newMirror(prefix string, most int64) *mirror {
	return &mirror{prefix: prefix, most: most, nodes: map[string]store.Node{}, changed: make(chan struct{}), whole: map[string]*wire.Message{}, lists: map[string]*wire.Message{}, seed: maphash.MakeSeed()}
}

// wake tells watchers to look. The caller holds mu.
func (m *mirror) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
	clear(m.whole)
	clear(m.lists)
}

// apply takes in a batch of the store's and gives what of it is new, as it is kept on the disk.
func (m *mirror) apply(b store.Batch) store.Batch {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b.Reset && octetsOf(b.Puts) > m.most || m.full && !b.Reset {
		m.measure(b)
		return b
	}
	if b.Reset {
		if !m.heard || m.full || b.Revision < m.rev {
			// The beginning, or what fits again, or a store that was put back.
			m.empty()
			m.full, m.sizes = false, nil
			m.put(b)
			m.heard, m.rev, m.floor = true, b.Revision, b.Revision
			m.wake()
			return b
		}
		b = m.difference(b)
	}
	m.put(b)
	if m.size > m.most {
		m.rev = b.Revision
		m.overflow()
		return b
	}
	m.rev = b.Revision
	inc := increment{Batch: b, message: wire.BatchMessage(b)}
	m.history = append(m.history, inc)
	m.octets += inc.message.Size()
	drop := 0
	for len(m.history)-drop > 1 && (len(m.history)-drop > maxIncrements || m.octets > maxHistory) {
		m.floor = m.history[drop].Revision
		m.octets -= m.history[drop].message.Size()
		drop++
	}
	m.history, m.first = slices.Delete(m.history, 0, drop), m.first+uint64(drop)
	m.wake()
	return b
}

// empty begins another life without nodes. The caller holds mu.
func (m *mirror) empty() {
	if m.heard {
		m.life++
	}
	m.nodes, m.size = map[string]store.Node{}, 0
	m.first, m.history, m.octets = m.first+uint64(len(m.history)), nil, 0
}

// overflow lets go of everything but the sizes. The caller holds mu.
func (m *mirror) overflow() {
	sizes := make(map[uint64]uint32, len(m.nodes))
	for p, n := range m.nodes {
		sizes[m.hash(p)] = uint32(sizeOf(n))
	}
	size := m.size
	m.empty()
	m.full, m.sizes, m.size = true, sizes, size
	m.bound()
	m.wake()
}

// measure keeps the sizes of what does not fit. The caller holds mu.
func (m *mirror) measure(b store.Batch) {
	if b.Reset {
		m.empty()
		m.heard, m.full, m.sizes = true, true, map[uint64]uint32{}
	}
	m.rev = b.Revision
	if m.sizes != nil {
		for _, n := range b.Puts {
			h, size := m.hash(n.Path), sizeOf(n)
			m.size += size - int64(m.sizes[h])
			m.sizes[h] = uint32(size)
			if m.bound(); m.sizes == nil {
				break
			}
		}
		for _, p := range b.Deletes {
			h := m.hash(p)
			m.size -= int64(m.sizes[h])
			delete(m.sizes, h)
		}
	}
	m.wake()
}

// bound gives up sizes that are too many. The caller holds mu.
func (m *mirror) bound() {
	if int64(len(m.sizes)) > m.most/perSize {
		m.sizes = nil
	}
}

func (m *mirror) hash(path string) uint64 { return maphash.String(m.seed, path) }

// tooLarge tells whether there is more than fits; fits that it is no more, and is to be read again;
// unknown that this cannot be told.
func (m *mirror) tooLarge() (full, fits, unknown bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.full, m.full && m.sizes != nil && m.size <= m.most, m.full && m.sizes == nil
}

func octetsOf(nodes []store.Node) (size int64) {
	for _, n := range nodes {
		size += sizeOf(n)
	}
	return size
}

// put makes nodes what b says. The caller holds mu.
func (m *mirror) put(b store.Batch) {
	for _, n := range b.Puts {
		if old, ok := m.nodes[n.Path]; ok {
			m.size -= sizeOf(old)
		}
		m.size += sizeOf(n)
		m.nodes[n.Path] = n
	}
	for _, p := range b.Deletes {
		if old, ok := m.nodes[p]; ok {
			m.size -= sizeOf(old)
			delete(m.nodes, p)
		}
	}
}

// sizeOf is at least the octets that a node takes in an answer.
func sizeOf(n store.Node) int64 { return int64(len(n.Path) + len(n.Value) + wire.NodeOverhead) }

// difference is what a Reset changes: a store that forgot what happened meanwhile, and says
// all there is, must not make every agent read it. The caller holds mu.
func (m *mirror) difference(b store.Batch) store.Batch {
	d := store.Batch{Revision: b.Revision}
	there := make(map[string]bool, len(b.Puts))
	for _, n := range b.Puts {
		there[n.Path] = true
		if old, ok := m.nodes[n.Path]; !ok || old.Modified != n.Modified || old.Created != n.Created || string(old.Value) != string(n.Value) {
			d.Puts = append(d.Puts, n)
		}
	}
	for p := range m.nodes {
		if !there[p] {
			d.Deletes = append(d.Deletes, p)
		}
	}
	slices.Sort(d.Deletes)
	return d
}

// at is up to which revision everything is here; 0: nothing is.
func (m *mirror) at() store.Revision {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.heard || m.full {
		return 0
	}
	return m.rev
}

// state is everything, as a batch.
func (m *mirror) state() (b store.Batch, heard bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reset(""), m.heard
}

// reset is everything below prefix; all of it, if that is empty. The caller holds mu.
func (m *mirror) reset(prefix string) store.Batch {
	b := store.Batch{Revision: m.rev, Reset: true, Puts: make([]store.Node, 0, len(m.nodes))}
	for p, n := range m.nodes {
		if strings.HasPrefix(p, prefix) {
			b.Puts = append(b.Puts, n)
		}
	}
	inOrder(b.Puts)
	return b
}

func inOrder(nodes []store.Node) {
	slices.SortFunc(nodes, func(a, b store.Node) int {
		return cmp.Or(cmp.Compare(a.Modified, b.Modified), cmp.Compare(a.Path, b.Path))
	})
}

// get is the node at path. ok is false when nothing can be said yet.
func (m *mirror) get(path string) (n store.Node, found, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, found = m.nodes[path]
	return n, found, m.heard && !m.full
}

// list is what is below prefix, in order of path, as an answer; nil when nothing can be said yet.
func (m *mirror) list(prefix string) *wire.Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.heard || m.full {
		return nil
	}
	if m.lists[prefix] == nil {
		var nodes []store.Node
		for p, n := range m.nodes {
			if strings.HasPrefix(p, prefix) {
				nodes = append(nodes, n)
			}
		}
		slices.SortFunc(nodes, func(a, b store.Node) int { return strings.Compare(a.Path, b.Path) })
		if len(nodes) == 0 {
			return wire.ListMessage(nil, m.rev) // of these there is no end of prefixes
		}
		m.lists[prefix] = wire.ListMessage(nodes, m.rev)
	}
	return m.lists[prefix]
}

// has tells whether what a commit did at revision rev shows, and, if not, what to wait for.
func (m *mirror) has(rev store.Revision, ops []store.Op) (bool, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range ops {
		n, there := m.nodes[o.Path]
		if strings.HasPrefix(o.Path, m.prefix) && (!o.Delete && n.Modified < rev || o.Delete && there && n.Modified <= rev) {
			return m.full, m.changed
		}
	}
	return true, nil
}

// place is where a watcher is in the history.
type place struct {
	prefix string
	from   store.Revision // where it wants to begin; used until it has begun
	begun  bool
	life   int
	next   uint64 // number of the increment that it needs next
}

// next gives a watcher what it does not have, or what to wait for. future tells that it asks
// for what is not here yet: perhaps the store has it, perhaps the store was put back.
func (m *mirror) next(p *place) (message *wire.Message, wait <-chan struct{}, future bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.heard || m.full {
		return nil, m.changed, false
	}
	end := m.first + uint64(len(m.history))
	if !p.begun {
		if p.from > m.rev {
			return nil, m.changed, true
		}
		p.begun, p.life, p.next = true, m.life, end
		if p.from == 0 || p.from < m.floor {
			return m.everything(p), nil, false
		}
		i, _ := slices.BinarySearchFunc(m.history, p.from+1, func(inc increment, rev store.Revision) int { return cmp.Compare(inc.Revision, rev) })
		p.next = m.first + uint64(i)
	}
	if p.life != m.life || p.next < m.first {
		p.life, p.next = m.life, end
		return m.everything(p), nil, false
	}
	news := m.history[p.next-m.first:]
	p.next = end
	message = m.fold(p, news)
	if message == nil {
		return nil, m.changed, false
	}
	return message, nil, false
}

// everything is the state as a Reset; many who come at the same time share it.
func (m *mirror) everything(p *place) *wire.Message {
	if m.whole[p.prefix] == nil {
		b := m.reset(p.prefix)
		if len(b.Puts) == 0 {
			return wire.BatchMessage(b) // of these there is no end of prefixes
		}
		m.whole[p.prefix] = wire.BatchMessage(b)
	}
	return m.whole[p.prefix]
}

// below tells whether all of the increment is below prefix, so that it is what all who watch
// that are sent.
func (i *increment) below(prefix string) bool {
	for _, n := range i.Puts {
		if !strings.HasPrefix(n.Path, prefix) {
			return false
		}
	}
	for _, p := range i.Deletes {
		if !strings.HasPrefix(p, prefix) {
			return false
		}
	}
	return true
}

// fold is several increments as one batch, nil when nothing of them is below the prefix.
func (m *mirror) fold(p *place, news []increment) *wire.Message {
	switch {
	case len(news) == 0:
		return nil
	case len(news) == 1 && deletes(news[0].Batch) <= wire.MaxDeletes && news[0].below(p.prefix):
		return news[0].message
	}
	type change struct {
		node    store.Node
		deleted bool
	}
	latest := map[string]change{}
	b := store.Batch{}
	for _, inc := range news {
		for _, n := range inc.Puts {
			if strings.HasPrefix(n.Path, p.prefix) {
				latest[n.Path], b.Revision = change{node: n}, inc.Revision
			}
		}
		for _, path := range inc.Deletes {
			if strings.HasPrefix(path, p.prefix) {
				latest[path], b.Revision = change{deleted: true}, inc.Revision
			}
		}
	}
	if len(latest) == 0 {
		return nil
	}
	for path, c := range latest {
		if c.deleted {
			b.Deletes = append(b.Deletes, path)
		} else {
			b.Puts = append(b.Puts, c.node)
		}
	}
	if deletes(b) > wire.MaxDeletes {
		return m.everything(p)
	}
	inOrder(b.Puts)
	slices.Sort(b.Deletes)
	return wire.BatchMessage(b)
}

// deletes is octets of the paths that a batch deletes.
func deletes(b store.Batch) int {
	n := 0
	for _, p := range b.Deletes {
		n += len(p) + 3
	}
	return n
}
