package difftest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zonecast/zonecast/record"
)

// ManyOptions of CompareMany.
type ManyOptions struct {
	// Zones are what all servers have.
	Zones []Zone
	Ours  netip.AddrPort
	Peers []*Server
	// Ask is what to ask.
	Ask iter.Seq[Question]
	// Allowed has the rules for each peer, by its name; those with an @ are decided by
	// the reasons of this package.
	Allowed map[string]*Allowed
	Workers int // zero means 3
	// Patience is how long an answer may take before the question is asked again; zero
	// means 2s.
	Patience time.Duration
	// Most is how many differences are kept in each Report; zero means 1000.
	Most int
}

// window is how many questions are under way at a time for each worker: answers of
// 1232 octets to all of them fit the receive buffer that Linux gives a socket.
const window = 64

// CompareMany is Compare for millions of questions: all servers are asked the same
// ones at the same time, many at once, and what is truncated is asked again over
// TCP. It also holds the octets that Compare does not look at: all header flags,
// EDNS, and that a response fits what the client offers. The Reports are in the
// order of the peers, and complete also when there is an error.
func CompareMany(ctx context.Context, o ManyOptions) ([]Report, error) {
	if o.Workers == 0 {
		o.Workers = 3
	}
	if o.Most == 0 {
		o.Most = 1000
	}
	if o.Patience == 0 {
		o.Patience = patience
	}
	started := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := &many{o: o, data: index(o.Zones), reports: make([]Report, len(o.Peers))}
	for i, p := range o.Peers {
		m.reports[i].Peer = p.Name
	}
	rounds := make(chan []Question, o.Workers)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(rounds)
		m.deal(ctx, rounds)
	})
	for range o.Workers {
		wg.Go(func() {
			if err := m.work(ctx, rounds); err != nil {
				m.mu.Lock()
				m.failed = errors.Join(m.failed, err)
				m.mu.Unlock()
				cancel()
			}
		})
	}
	wg.Wait()
	for i := range m.reports {
		r := &m.reports[i]
		r.Allowed, r.Unused = o.Allowed[r.Peer].use()
		r.Took = time.Since(started)
		slices.SortFunc(r.First, func(a, b Difference) int { return strings.Compare(a.String(), b.String()) })
	}
	return m.reports, m.failed
}

// many is one CompareMany.
type many struct {
	o    ManyOptions
	data *dataset

	mu      sync.Mutex // guards below
	reports []Report
	failed  error
}

// deal puts the questions into rounds.
func (m *many) deal(ctx context.Context, to chan<- []Question) {
	var qs []Question
	send := func() bool {
		select {
		case to <- qs:
			qs = nil
			return true
		case <-ctx.Done():
			return false
		}
	}
	for q := range m.o.Ask {
		if qs = append(qs, q); len(qs) == window && !send() {
			return
		}
	}
	if len(qs) > 0 {
		send()
	}
}

// worker asks rounds: ours by lanes[0], the peers by the others.
type worker struct {
	*many
	lanes  []*lane
	shapes []shape
	ask    []*client // of ours and the peers: what they have to be asked besides
	round  round
	next   uint16
	again  []Question // truncated: to be asked over TCP
}

func (m *many) work(ctx context.Context, rounds <-chan []Question) (err error) {
	w := worker{many: m, shapes: make([]shape, 1+len(m.o.Peers))}
	addresses := []netip.AddrPort{m.o.Ours}
	for _, p := range m.o.Peers {
		addresses = append(addresses, p.Addr)
	}
	for _, a := range addresses {
		l, err := newLane(a, m.o.Patience)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, l.close()) }()
		w.lanes = append(w.lanes, l)
		c, err := newClient(a)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.close()) }()
		w.ask = append(w.ask, c)
	}
	for qs := range rounds {
		if err := w.compare(ctx, qs); err != nil {
			return err
		}
		for len(w.again) >= window/4 {
			n := min(len(w.again), window)
			qs := slices.Clone(w.again[:n])
			w.again = append(w.again[:0], w.again[n:]...)
			if err := w.compare(ctx, qs); err != nil {
				return err
			}
		}
	}
	for len(w.again) > 0 {
		qs := w.again
		w.again = nil
		if err := w.compare(ctx, qs); err != nil {
			return err
		}
	}
	return nil
}

// compare asks one round of all servers and compares the answers.
func (w *worker) compare(ctx context.Context, qs []Question) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w.round.encode(w.next, qs)
	w.next += uint16(len(qs))
	for _, l := range w.lanes {
		if err := l.begin(&w.round); err != nil {
			return err
		}
	}
	for _, l := range w.lanes {
		if err := l.finish(&w.round); err != nil {
			return err
		}
	}
	for i, q := range qs {
		truncated := false
		for k, l := range w.lanes {
			if err := w.shapes[k].read(l.response(i)); err != nil {
				return fmt.Errorf("%s answers %s %s by %s with %x: %w", l.server, q.Name, q.Type, q.Via, l.response(i), err)
			}
			truncated = truncated || w.shapes[k].truncated()
		}
		if truncated && !q.Via.way().tcp {
			again := q
			again.Via = q.Via.overTCP()
			w.again = append(w.again, again)
		}
		for k := range w.o.Peers {
			if w.shapes[0].same(&w.shapes[k+1]) && w.shapes[0].fits(q) {
				continue
			}
			if err := w.closely(ctx, q, i, k); err != nil {
				return err
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.reports {
		w.reports[i].Questions += len(qs)
	}
	return nil
}

// fits tells whether a response is at most what the client takes.
func (s *shape) fits(q Question) bool {
	w := q.Via.way()
	return w.tcp || s.size <= max(512, int(w.edns))
}

// closely looks at what the shapes could not call the same: the answers of ours and
// of peer k to question i of the round.
func (w *worker) closely(ctx context.Context, q Question, i, k int) error {
	id := w.round.first + uint16(i)
	ours, err := decode(w.lanes[0].response(i), id)
	if err != nil {
		return fmt.Errorf("ours answers %s %s by %s: %w", q.Name, q.Type, q.Via, err)
	}
	first, err := decode(w.lanes[k+1].response(i), id)
	if err != nil {
		return fmt.Errorf("%s answers %s %s by %s: %w", w.o.Peers[k].Name, q.Name, q.Type, q.Via, err)
	}
	theirs, followed, err := follow(ctx, w.ask[k+1], q, first, w.data.apexes)
	if err != nil {
		return err
	}
	found := append(differences(q, ours, theirs), w.shapes[0].differences(q, &w.shapes[k+1])...)
	if followed && !theirs.tc {
		found = append(found, Difference{Question: q, Kind: "chain", Ours: "one response", Theirs: "stops at the end of a zone"})
	}
	if len(found) == 0 {
		return nil
	}
	c := compared{data: w.data, q: q, ours: ours, theirs: theirs, first: first, us: w.ask[0], peer: w.ask[k+1]}
	for n := range found {
		found[n].Peer = w.o.Peers[k].Name
	}
	reasons := make([][]string, len(found))
	for n, d := range found {
		reasons[n] = c.reasons(ctx, d)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r := &w.reports[k]
	for n, d := range found {
		if w.o.Allowed[d.Peer].allows(d.String(), reasons[n]...) {
			continue
		}
		r.Differences++
		if len(r.First) < w.o.Most {
			r.First = append(r.First, d)
		}
	}
	return nil
}

// differences are those in what a response says besides its records.
func (s *shape) differences(q Question, o *shape) (ds []Difference) {
	const compared = 0xffff &^ (flagAA | flagTC | 15) // these have kinds of their own
	if a, b := s.flags&compared, o.flags&compared; a != b {
		ds = append(ds, Difference{Question: q, Kind: "flags", Ours: fmt.Sprintf("%04x", a), Theirs: fmt.Sprintf("%04x", b)})
	}
	if a, b := s.optFlags&0xffffff, o.optFlags&0xffffff; s.edns != o.edns || a != b {
		ds = append(ds, Difference{Question: q, Kind: "edns", Ours: fmt.Sprintf("%v %06x", s.edns, a), Theirs: fmt.Sprintf("%v %06x", o.edns, b)})
	}
	if !s.fits(q) {
		ds = append(ds, Difference{Question: q, Kind: "size", Ours: fmt.Sprint(s.size), Theirs: fmt.Sprint(o.size)})
	}
	return ds
}

// dataset is all RRsets of the zones.
type dataset struct {
	apexes map[record.Name]bool
	sets   map[record.Key]record.RRset
	types  map[record.Name][]record.Type
}

func index(zones []Zone) *dataset {
	d := &dataset{apexes: map[record.Name]bool{}, sets: map[record.Key]record.RRset{}, types: map[record.Name][]record.Type{}}
	for _, z := range zones {
		d.apexes[z.Apex] = true
		for _, s := range z.Sets {
			if _, there := d.sets[s.Key]; !there {
				d.types[s.Owner] = append(d.types[s.Owner], s.Type)
			}
			d.sets[s.Key] = s
		}
	}
	return d
}
