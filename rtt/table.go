package rtt

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"time"
)

// Limit bounds a Table. Rows without a measurement go before all others: whoever sends queries with
// addresses that are made up can add those, and not measurements. Of each kind what was touched
// longest ago goes first.
type Limit struct {
	// Rows is how many prefixes there are at most. Zero means no bound.
	Rows int
	// Octets is the memory that rows, cells and bins take at most, about. Zero means no
	// bound. One row always has room.
	Octets int
}

// Bounds of every table, with and without a limit: our choice.
const (
	// MaxPoPs is how many PoPs a table may have.
	MaxPoPs = 1 << 12
	// MaxName is how many octets the name of a PoP has at most: a label (RFC 1035 §2.3.4).
	MaxName = 63
)

// What things take in memory, about: a row with its place in the index and in the order,
// a cell, a bin. A row of five PoPs and ten bins each takes 750 octets.
const (
	rowSize  = 192
	cellSize = 56
	binSize  = 8
)

// Table holds what was measured over some time. It is for one goroutine at a time.
type Table struct {
	// Begin and End are when the first and the last of what is in it was measured, in
	// seconds. Both are the zero Time in an empty table.
	Begin, End time.Time
	// Evicted is how many rows went because of the limit.
	Evicted uint64

	limit  Limit
	pops   []string // in the order in which they came
	number map[string]uint16
	index  map[Key]int32
	rows   []row
	free   []int32 // rows that went
	// heard and measured are the rows without and with cells.
	heard, measured list
	octets          int
}

// list is rows by when they were touched; -1: there is none.
type list struct{ newest, oldest int32 }

type row struct {
	key             Key
	demand, queries uint64
	cells           []cell // by number of the PoP
	newer, older    int32  // -1: none
}

type cell struct {
	pop     uint16
	clients Clients
	last    int64 // Unix seconds
	times   Sketch
}

// New makes an empty table.
func New(limit Limit) *Table {
	return &Table{limit: limit, number: map[string]uint16{}, index: map[Key]int32{}, heard: list{-1, -1}, measured: list{-1, -1}}
}

// Measurement is one round trip that was measured.
type Measurement struct {
	Key Key
	PoP string
	RTT time.Duration
	// Client is a hash of who measured, for Clients.
	Client uint64
	At     time.Time
}

// Check tells what is wrong with a measurement.
func (m Measurement) Check() error {
	return errors.Join(m.Key.Check(), CheckPoP(m.PoP), checkTime(m.RTT))
}

func checkTime(d time.Duration) error {
	if !Valid(d) {
		return fmt.Errorf("round-trip time %v, expected above 0 and up to %v", d, Longest)
	}
	return nil
}

// CheckPoP tells what is wrong with the name of a PoP: it is a label of printable ASCII without
// space, comma and dot.
func CheckPoP(name string) error {
	if name == "" || len(name) > MaxName || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '.' || r == ',' }) {
		return fmt.Errorf("PoP %.80q, expected a name of 1 to %d characters without spaces, commas and dots", name, MaxName)
	}
	return nil
}

// Add notes a measurement.
func (t *Table) Add(m Measurement) error {
	if err := m.Check(); err != nil {
		return err
	}
	pop, err := t.pop(m.PoP)
	if err != nil {
		return err
	}
	r := t.touch(m.Key)
	c := t.cell(r, pop)
	if len(c.times.bins) == 0 {
		c.last = math.MinInt64
	}
	c.clients.Add(m.Client)
	c.last = max(c.last, m.At.Unix())
	before := len(c.times.bins)
	c.times.Add(m.RTT)
	t.octets += (len(c.times.bins) - before) * binSize
	t.cover(m.At, m.At)
	t.bound()
	return nil
}

// AddDemand notes what a prefix wants: loaded is loads of measured pages, sampled is sampled
// queries to the authorities.
func (t *Table) AddDemand(k Key, loaded, sampled uint64, at time.Time) error {
	if err := k.Check(); err != nil {
		return err
	}
	r := t.touch(k)
	r.demand, r.queries = sum(r.demand, loaded), sum(r.queries, sampled)
	t.cover(at, at)
	t.bound()
	return nil
}

func sum(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

// Merge adds what o holds, which stays as it is.
func (t *Table) Merge(o *Table) error {
	if o.Empty() {
		t.Evicted += o.Evicted
		return nil
	}
	numbers := make([]uint16, len(o.pops))
	for i, name := range o.pops {
		var err error
		if numbers[i], err = t.pop(name); err != nil {
			return err
		}
	}
	for from := range o.touched() { // what o touched last is touched last here, too
		to := t.touch(from.key)
		to.demand, to.queries = sum(to.demand, from.demand), sum(to.queries, from.queries)
		for _, c := range from.cells {
			t.mergeCell(to, numbers[c.pop], c)
		}
		t.bound()
	}
	t.cover(o.Begin, o.End)
	t.Evicted += o.Evicted
	return nil
}

func (t *Table) mergeCell(r *row, pop uint16, from cell) {
	c := t.cell(r, pop)
	if len(c.times.bins) == 0 {
		c.last = math.MinInt64
	}
	c.clients.Merge(from.clients)
	c.last = max(c.last, from.last)
	before := len(c.times.bins)
	c.times.Merge(from.times)
	t.octets += (len(c.times.bins) - before) * binSize
}

// Len is how many rows there are, Octets the memory that they take, about.
func (t *Table) Len() int    { return len(t.index) }
func (t *Table) Octets() int { return t.octets }

// Empty tells whether nothing is in it.
func (t *Table) Empty() bool { return len(t.index) == 0 }

// PoPs are the names of those that were measured, sorted.
func (t *Table) PoPs() []string { return slices.Sorted(slices.Values(t.pops)) }

// Row is what is known of one prefix. Its cells are the caller's.
type Row struct {
	Key
	// Demand is how often a measured page was loaded from there, Queries how many sampled
	// queries came from there. They have no common unit: what one of them stands for is known by who
	// sampled.
	Demand, Queries uint64
	Cells           []Cell // by name of the PoP
}

// Cell is what is known of one prefix to one PoP.
type Cell struct {
	PoP     string
	Times   Sketch // shared with the table: to be read before the table changes
	Clients Clients
	Last    time.Time // of the newest measurement, in seconds
}

// All gives the rows in the order of their keys. The table must not change meanwhile.
func (t *Table) All() iter.Seq[Row] {
	return func(yield func(Row) bool) {
		order := make([]int32, 0, len(t.index))
		for _, i := range t.index {
			order = append(order, i)
		}
		slices.SortFunc(order, func(a, b int32) int { return t.rows[a].key.compare(t.rows[b].key) })
		for _, i := range order {
			if !yield(t.row(&t.rows[i])) {
				return
			}
		}
	}
}

// Get gives the row of a key; ok is false when there is none.
func (t *Table) Get(k Key) (r Row, ok bool) {
	i, ok := t.index[k]
	if !ok {
		return Row{}, false
	}
	return t.row(&t.rows[i]), true
}

func (t *Table) row(r *row) Row {
	cells := make([]Cell, len(r.cells))
	for i, c := range r.cells {
		cells[i] = Cell{PoP: t.pops[c.pop], Times: c.times, Clients: c.clients, Last: time.Unix(c.last, 0)}
	}
	slices.SortFunc(cells, func(a, b Cell) int { return strings.Compare(a.PoP, b.PoP) })
	return Row{Key: r.key, Demand: r.demand, Queries: r.queries, Cells: cells}
}

// pop gives the number of a PoP, which may be new.
func (t *Table) pop(name string) (uint16, error) {
	if n, ok := t.number[name]; ok {
		return n, nil
	}
	if len(t.pops) == MaxPoPs {
		return 0, fmt.Errorf("PoP %q is one more than %d, the most that a table has", name, MaxPoPs)
	}
	n := uint16(len(t.pops))
	t.pops, t.number[name] = append(t.pops, name), n
	return n, nil
}

// touch gives the row of a key, which may be new, and makes it the newest. It is good until
// the next call.
func (t *Table) touch(k Key) *row {
	i, ok := t.index[k]
	if ok {
		t.unlink(i)
	} else {
		if n := len(t.free); n > 0 {
			i, t.free = t.free[n-1], t.free[:n-1]
		} else {
			i, t.rows = int32(len(t.rows)), append(t.rows, row{})
		}
		t.rows[i] = row{key: k}
		t.index[k] = i
		t.octets += rowSize
	}
	t.link(i)
	return &t.rows[i]
}

// listOf is the list that a row is in.
func (t *Table) listOf(r *row) *list {
	if len(r.cells) == 0 {
		return &t.heard
	}
	return &t.measured
}

// touched gives all rows, from the one that would go first on.
func (t *Table) touched() iter.Seq[*row] {
	return func(yield func(*row) bool) {
		for _, l := range []list{t.heard, t.measured} {
			for i := l.oldest; i >= 0; i = t.rows[i].newer {
				if !yield(&t.rows[i]) {
					return
				}
			}
		}
	}
}

// link makes a row the newest of its list.
func (t *Table) link(i int32) {
	r := &t.rows[i]
	l := t.listOf(r)
	r.newer, r.older = -1, l.newest
	if l.newest >= 0 {
		t.rows[l.newest].newer = i
	} else {
		l.oldest = i
	}
	l.newest = i
}

func (t *Table) unlink(i int32) {
	r := &t.rows[i]
	l := t.listOf(r)
	if r.newer >= 0 {
		t.rows[r.newer].older = r.older
	} else {
		l.newest = r.older
	}
	if r.older >= 0 {
		t.rows[r.older].newer = r.newer
	} else {
		l.oldest = r.newer
	}
}

// cell gives the cell of a PoP, which may be new and is then without bins. It is good until
// the next call.
func (t *Table) cell(r *row, pop uint16) *cell {
	i, found := slices.BinarySearchFunc(r.cells, pop, func(c cell, pop uint16) int { return int(c.pop) - int(pop) })
	if !found {
		at := int32(-1)
		if len(r.cells) == 0 { // it goes to the other list
			at = t.index[r.key]
			t.unlink(at)
		}
		r.cells = slices.Insert(r.cells, i, cell{pop: pop})
		if at >= 0 {
			t.link(at)
		}
		t.octets += cellSize
	}
	return &r.cells[i]
}

// cover makes Begin and End enclose what was measured from a to b.
func (t *Table) cover(a, b time.Time) {
	a, b = time.Unix(a.Unix(), 0), time.Unix(b.Unix(), 0)
	if t.Begin.IsZero() {
		t.Begin, t.End = a, b
		return
	}
	if a.Before(t.Begin) {
		t.Begin = a
	}
	if b.After(t.End) {
		t.End = b
	}
}

// full tells whether there is no room for one more row.
func (t *Table) full() bool {
	return t.limit.Rows > 0 && len(t.index) >= t.limit.Rows || t.limit.Octets > 0 && t.octets >= t.limit.Octets
}

func (t *Table) over() bool {
	return len(t.index) > 1 && (t.limit.Rows > 0 && len(t.index) > t.limit.Rows || t.limit.Octets > 0 && t.octets > t.limit.Octets)
}

// makeRoom evicts rows without a measurement as long as too much is there.
func (t *Table) makeRoom() {
	for t.over() && t.heard.oldest >= 0 {
		t.evict(t.heard.oldest)
	}
}

// bound evicts what is over the limit.
func (t *Table) bound() {
	t.makeRoom()
	for t.over() {
		t.evict(t.measured.oldest)
	}
}

func (t *Table) evict(i int32) {
	r := &t.rows[i]
	t.unlink(i)
	delete(t.index, r.key)
	t.octets -= rowSize
	for _, c := range r.cells {
		t.octets -= cellSize + binSize*len(c.times.bins)
	}
	*r = row{}
	t.free = append(t.free, i)
	t.Evicted++
}

// Wanted is the demand and the sampled queries of all rows together.
func (t *Table) Wanted() (loaded, sampled uint64) {
	for r := range t.touched() {
		loaded, sampled = sum(loaded, r.demand), sum(sampled, r.queries)
	}
	return loaded, sampled
}
