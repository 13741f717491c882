package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/zeebo/xxh3"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

// Image is an open image. Its methods may be called by any number of goroutines.
// When it is not reachable any more the file is unmapped: who holds a Node holds
// the Image, too.
type Image struct {
	b     []byte
	path  string
	hash  Hasher
	head  header
	slots []byte
	chart *geo.Chart
	// guides has the offsets of nodes that Guides gives; nil: it is not known which.
	guides []byte

	// seen has a bit for each block that was compared with its checksum; whole says
	// that all were, so that nobody need look.
	seen  []atomic.Uint64
	whole atomic.Bool
	bad   atomic.Pointer[Damage]
}

// Damage is an image that is not what was built.
type Damage struct {
	Path   string
	Offset int64 // of the block
	Found  string
}

func (d *Damage) Error() string {
	return fmt.Sprintf("image %s is damaged: block at offset %d: %s; hint: build it anew", d.Path, d.Offset, d.Found)
}

// Open maps an image. Its content is checked when it is touched; see Scrub.
func Open(path string) (*Image, error) {
	m, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("open image %s: %w", path, err)
	}
	return m, nil
}

const adviseHuge = 14 // MADV_HUGEPAGE of linux

func open(path string) (*Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	if st.Size() < blockSize || int64(int(st.Size())) != st.Size() {
		return nil, fmt.Errorf("it has %d octets, an image has at least %d", st.Size(), blockSize)
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, int(st.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map it: %w", err)
	}
	// Of a file that is not in memory yet, large pages are read; see flushSize. Where
	// they cannot be had, small ones do.
	if runtime.GOOS == "linux" {
		_ = syscall.Madvise(b, adviseHuge)
	}
	m, err := parse(b, path)
	if err != nil {
		return nil, errors.Join(err, syscall.Munmap(b))
	}
	runtime.AddCleanup(m, func(b []byte) { _ = syscall.Munmap(b) }, b)
	return m, nil
}

func withoutPath(err error) error {
	if pe := (*os.PathError)(nil); errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// parse takes the octets of an image.
func parse(b []byte, path string) (*Image, error) {
	m := &Image{b: b, path: path}
	if err := m.head.decode(b, int64(len(b))); err != nil {
		return nil, err
	}
	sums := b[m.head.sums : len(b)-8]
	if got, want := xxh3.Hash(sums), binary.LittleEndian.Uint64(b[len(b)-8:]); got != want {
		return nil, fmt.Errorf("offset %d: checksum of the block sums is %016x, expected %016x: build the image anew", len(b)-8, got, want)
	}
	m.hash = NewHasher(m.head.seed)
	m.slots = b[m.head.index : m.head.index+8*m.head.slots]
	m.seen = make([]atomic.Uint64, (m.head.blocks+63)/64)
	// Where clients are decides what all names answer: it is looked at whole, at once.
	if !m.sound(m.head.atlas, m.head.atlasSize) {
		return nil, m.Damaged()
	}
	atlas := m.Atlas()
	if bytes.HasPrefix(atlas, []byte(guidesMagic)) {
		m.guides, atlas = atlas[len(guidesMagic):], nil
	}
	var err error
	if m.chart, err = geo.Open(atlas); err != nil {
		return nil, fmt.Errorf("offset %d: %w", m.head.atlas, err)
	}
	return m, nil
}

// Path is where it was opened.
func (m *Image) Path() string { return m.path }

// Label is what it was built with.
func (m *Image) Label() Label { return m.head.label }

// Seed is the key of the hashes of names.
func (m *Image) Seed() uint64 { return m.head.seed }

// Hasher hashes names as Get wants it.
func (m *Image) Hasher() Hasher { return m.hash }

// AnyDepth tells whether wildcards match at any depth.
func (m *Image) AnyDepth() bool { return m.head.flags&flagAnyDepth != 0 }

// Counts of what is in it.
func (m *Image) Counts() (names, sets, zones, records int) {
	return int(m.head.names), int(m.head.sets), int(m.head.zones), int(m.head.records)
}

// Size is that of the file in octets.
func (m *Image) Size() int64 { return int64(m.head.size) }

// Apexes and Cuts are the numbers of labels at which an apex, and a cut or the owner
// of a DNAME, may stand.
func (m *Image) Apexes() Depths { return m.head.apexes }

// Cuts: see Apexes.
func (m *Image) Cuts() Depths { return m.head.cuts }

// Atlas gives the octets of Options.Atlas, or of what is there instead with Options.Own.
func (m *Image) Atlas() []byte { return m.b[m.head.atlas : m.head.atlas+m.head.atlasSize] }

// Note gives the octets of Options.Note.
func (m *Image) Note() ([]byte, error) {
	if !m.sound(m.head.note, m.head.noteSize) {
		return nil, m.Damaged()
	}
	return m.b[m.head.note : m.head.note+m.head.noteSize], nil
}

// Chart tells where clients are.
func (m *Image) Chart() *geo.Chart { return m.chart }

// Damaged is what was found wrong so far; nil is nothing.
func (m *Image) Damaged() error {
	if d := m.bad.Load(); d != nil {
		return d
	}
	return nil
}

// Touch asks for the slot at which a look-up of hash h begins. Done for a batch of names
// before the first is looked up, the waits for memory overlap; Near and TouchNode are
// the next steps.
func (m *Image) Touch(h uint64) { prefetch(unsafe.Pointer(&m.slots[8*home(h, m.head.homes)])) }

// Near gives where the node of a name of hash h stands if the name is there: what
// GetNear wants. 0: it is not there. ok is false when nothing can be said without
// checking blocks, before Scrub is through.
func (m *Image) Near(h uint64) (at uint64, ok bool) {
	if !m.whole.Load() {
		return 0, false
	}
	tag := h << tagShift
	for i := 8 * home(h, m.head.homes); i+8 <= uint64(len(m.slots)); i += 8 {
		s := binary.LittleEndian.Uint64(m.slots[i:])
		if s&^maxOffset == tag && s != 0 || s == 0 {
			return s & maxOffset, true
		}
	}
	return 0, false
}

// TouchNode asks for the node at what Near gave: for so much of it as a node of a host's
// name with two RRsets has.
func (m *Image) TouchNode(at uint64) { prefetch96(unsafe.Pointer(&m.b[at])) }

// GetNear is Get for a name of which Near told at. ok is false when at was the place
// of another name with the same tag: then Get knows.
func (m *Image) GetNear(at uint64, name []byte) (n Node, ok bool) {
	if at == 0 {
		return nil, true
	}
	if at < blockSize || at+nodeHead+uint64(len(name)) > m.head.index {
		return nil, false
	}
	n = Node(m.b[at:m.head.index])
	if int(n[0]) != len(name) || stringOf(n[nodeHead:nodeHead+len(name)]) != stringOf(name) {
		return nil, false
	}
	return n, true
}

// Get gives the node of a name, canonical and of hash h. ok is false when it cannot
// be known because the image is damaged there.
func (m *Image) Get(h uint64, name []byte) (n Node, ok bool) {
	tag := h & (1<<tagBits - 1)
	whole := m.whole.Load()
	for at := 8 * home(h, m.head.homes); at+8 <= uint64(len(m.slots)); at += 8 {
		if !whole && !m.sound(m.head.index+at, 8) {
			return nil, false
		}
		s := binary.LittleEndian.Uint64(m.slots[at:])
		if s == 0 {
			return nil, true
		}
		if s>>tagShift != tag {
			continue
		}
		n, ok := m.node(s&maxOffset, whole)
		if !ok {
			return nil, false
		}
		if int(n[0]) == len(name) && stringOf(n.Name()) == stringOf(name) {
			return n, true
		}
	}
	return nil, m.damage(int64(m.head.index), "no empty slot behind a name") == nil
}

// node is what stands at an offset that a slot says, checked as far as no block
// reached the checker.
func (m *Image) node(at uint64, whole bool) (Node, bool) {
	if at < blockSize || at+nodeHead+1 > m.head.index {
		return nil, m.damage(int64(at), "a slot leads out of the nodes") == nil
	}
	n := Node(m.b[at:m.head.index])
	if whole {
		return n, true
	}
	// A node in one block needs that block only; of a larger one the size is in its
	// first blocks.
	if !m.sound(at, 1) {
		return nil, false
	}
	size, ok := n.size()
	if !ok || !m.sound(at, uint64(size)) {
		return nil, ok && m.damage(int64(at), "a node does not end") == nil
	}
	if size, ok = n.size(); !ok {
		return nil, m.damage(int64(at), "a node does not end") == nil
	}
	return n[:size:size], true
}

// size is how many octets a node at the front of n has, and whether n has them.
func (n Node) size() (int, bool) {
	if len(n) < nodeHead+1 || len(n) < nodeHead+int(n[0])+8 {
		return 0, false
	}
	at := n.directory()
	s := n.Len()
	width := 2
	if n.Traits()&Wide != 0 {
		width = 4
	}
	last := at + 2*s + width*s
	if last+width > len(n) {
		return 0, false
	}
	size := int(binary.LittleEndian.Uint16(n[last:]))
	if width == 4 {
		size = int(binary.LittleEndian.Uint32(n[last:]))
	}
	return size, size >= last+width && size <= len(n)
}

// sound tells whether all blocks with the n octets from offset at are as built.
func (m *Image) sound(at, n uint64) bool {
	for k := (at - blockSize) / blockSize; k*blockSize+blockSize < at+n; k++ {
		if m.seen[k/64].Load()>>(k%64)&1 == 0 && !m.check(k) {
			return false
		}
	}
	return true
}

// check compares block k with its checksum.
func (m *Image) check(k uint64) bool {
	at := blockSize + k*blockSize
	got := uint32(xxh3.Hash(m.b[at:min(at+blockSize, m.head.sums)]))
	if want := binary.LittleEndian.Uint32(m.b[m.head.sums+4*k:]); got != want {
		return m.damage(int64(at), fmt.Sprintf("its checksum is %08x, expected %08x", got, want)) == nil
	}
	m.seen[k/64].Or(1 << (k % 64))
	return true
}

// Fault notes that reading at an address of memory failed; other addresses are none
// of its business.
func (m *Image) Fault(addr uintptr) {
	first := uintptr(unsafe.Pointer(unsafe.SliceData(m.b)))
	if addr >= first && addr-first < uintptr(len(m.b)) {
		m.damage(int64(addr-first), "it cannot be read: was it cut off?")
	}
}

func (m *Image) damage(at int64, found string) error {
	d := &Damage{Path: m.path, Offset: at, Found: found}
	m.bad.CompareAndSwap(nil, d)
	return d
}

// Scrubbed tells whether Scrub has seen everything.
func (m *Image) Scrubbed() bool { return m.whole.Load() }

// Scrub checks all blocks, so that later look-ups need not. pause is called now and
// then, every MiB; nil is nothing.
func (m *Image) Scrub(pause func() error) error {
	for k := range m.head.blocks {
		if k%256 == 255 && pause != nil {
			if err := pause(); err != nil {
				return err
			}
		}
		if m.seen[k/64].Load()>>(k%64)&1 == 0 && !m.check(k) {
			return m.bad.Load()
		}
	}
	m.whole.Store(true)
	return nil
}

// Nodes gives all nodes in canonical order of their names. It stops at damage,
// which Damaged then tells.
func (m *Image) Nodes() iter.Seq[Node] {
	return func(yield func(Node) bool) {
		for at := uint64(blockSize); at < m.head.index; {
			if m.b[at] == 0 { // the rest of the block is empty
				if !m.sound(at, 1) {
					return
				}
				at = roundUp(at + 1)
				continue
			}
			n, ok := m.node(at, false)
			if !ok {
				return
			}
			if !yield(n) {
				return
			}
			at += uint64(len(n))
		}
	}
}

// Guides gives the nodes that have RRsets of maps and PoPs. In an image that was made without
// Options.Own, as earlier releases did, it looks through all of them. It stops at damage.
func (m *Image) Guides() iter.Seq[Node] {
	return func(yield func(Node) bool) {
		if m.guides == nil {
			for n := range m.Nodes() {
				if n.guides() && !yield(n) {
					return
				}
			}
			return
		}
		for i := 0; i+8 <= len(m.guides); i += 8 {
			n, ok := m.node(binary.LittleEndian.Uint64(m.guides[i:]), false)
			if !ok || !yield(n) {
				return
			}
		}
	}
}

// Bodies gives the RRsets of a node, appended to to.
func (n Node) Bodies(to []Body) []Body {
	for i := range n.Len() {
		t, s := n.At(i)
		to = append(to, Body{t, s})
	}
	return to
}

// RRset gives a set as a record.Set of an owner. It copies.
func (s Set) RRset(owner record.Name) record.Set {
	v := s.View()
	out := record.Set{RRset: record.RRset{Key: record.Key{Owner: owner, Type: v.Type, Location: record.Location(v.Location)}, TTL: v.TTL}, Choose: v.Choose}
	rest := v.Records()
	for i := range v.Count {
		var rd []byte
		rd, rest = Next(rest)
		out.Data = append(out.Data, record.Rdata(rd))
		if v.terms != nil {
			out.Terms = append(out.Terms, v.Terms(i))
		}
	}
	return out
}
