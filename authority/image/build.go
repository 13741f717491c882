package image

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/zeebo/xxh3"

	"github.com/zonecast/zonecast/record"
)

// Options says what an image has besides RRsets.
type Options struct {
	Label Label
	// Seed keys the hashes of names; zero means a random one. Images that share an
	// overlay share a seed.
	Seed uint64
	// Atlas is a geo.Atlas in its binary form, or empty.
	Atlas []byte
	// Own gives RRsets of zonecast's own types their meaning: records have the terms that
	// stand beside them, and Guides tells where maps and PoPs are. It goes without Atlas.
	Own bool
	// Note is kept with the image for who builds it, or empty.
	Note []byte
	// AnyDepth lets wildcards match names of any depth below them, also past names
	// that exist, as tinydns and dnsrocks do. False is RFC 4592.
	AnyDepth bool
	// Names is about how many names there will be; zero is not known. It saves memory.
	Names int
	// Serial gives the serial to answer for a zone, false: the one in its SOA. Nil
	// means always the one in the SOA.
	Serial func(apex record.Name) (uint32, bool)
	// Pause is called now and then, between pieces of work of a millisecond at most; its
	// error ends the build. With it all work is done on the caller's goroutine: the other
	// processors stay with those who answer. Nil means that there is no need to pause.
	Pause func() error
	// NoSync leaves it to the operating system when the file is on disk: for files
	// that are made anew after a crash.
	NoSync bool
}

// Builder writes an image. Besides buffers it needs 16 octets of memory a name.
type Builder struct {
	o    Options
	path string
	f    *os.File
	h    header
	hash Hasher

	buf   []byte // of the nodes section, from offset base of the file on
	base  uint64
	pairs [buckets][]pair

	sums    []byte   // of the blocks written
	patched []uint64 // blocks that changed afterwards, some more than once

	// The name whose RRsets come: its node is written when the next name shows
	// whether anything is below.
	owner  []byte
	sets   []Body
	bodies []byte
	any    bool // owner is valid

	stack []ancestor // nodes written that are at or above the last one

	guides []byte // with Options.Own: the section instead of the atlas
}

// ancestor is a node whose children are still coming.
type ancestor struct {
	place
	name     [255]byte
	len      int
	at       uint64 // of the node in the file
	traits   Traits
	kept     bool // it says already what is below
	children int
	hasWild  bool
}

func (a *ancestor) is(name []byte) bool { return string(a.name[:a.len]) == string(name) }

type pair struct{ hash, at uint64 }

const (
	buckets = 256
	// flushSize is how many octets are written at a time, from one multiple of it to the
	// next. It is the large page of amd64 and arm64: what Linux writes by one such call it
	// keeps, where the file system can (ext4, xfs), in one piece and maps by one entry,
	// and then looking names up does not wait for the walk through page tables.
	flushSize = 2 << 20
)

// Create begins an image. It is made beside path and takes its place in Finish.
func Create(path string, o Options) (*Builder, error) {
	if len(o.Label.Dataset) > 63 {
		return nil, fmt.Errorf("create image %s: dataset name has %d octets, at most 63", path, len(o.Label.Dataset))
	}
	for o.Seed == 0 {
		var b [8]byte
		if _, err := rand.Read(b[:]); err != nil {
			return nil, fmt.Errorf("create image %s: %w", path, err)
		}
		o.Seed = binary.LittleEndian.Uint64(b[:])
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp-*")
	if err != nil {
		return nil, fmt.Errorf("create image %s: %w", path, err)
	}
	b := &Builder{o: o, path: path, f: f, hash: NewHasher(o.Seed), base: blockSize}
	b.h.seed, b.h.label = o.Seed, o.Label
	if o.Own {
		b.guides = append(b.guides, guidesMagic...)
	}
	if o.AnyDepth {
		b.h.flags |= flagAnyDepth
	}
	if o.Names > 0 {
		for k := range b.pairs { // no hash is like another: some have a few more
			b.pairs[k] = make([]pair, 0, o.Names/buckets*9/8+16)
		}
	}
	return b, nil
}

// Abort ends a Builder that will not be finished. After Finish it does nothing.
func (b *Builder) Abort() {
	if b.f != nil {
		b.f.Close()
		os.Remove(b.f.Name())
		b.f = nil
	}
}

// Add adds an RRset: behind all those before in canonical order of its key.
func (b *Builder) Add(s *record.Set) error {
	if err := b.begin([]byte(s.Owner)); err != nil {
		return err
	}
	from := len(b.bodies)
	b.bodies = AppendSet(b.bodies, s.Owner, s)
	return b.take(s.Type, b.bodies[from:])
}

// Keep adds a node as it lies in another image, or as AppendNode made it: behind all
// those before in canonical order, the ones above it among them. What it says of the
// names below holds. A Builder is given nodes or RRsets, not both.
func (b *Builder) Keep(n Node) error {
	name := n.Name()
	if name[0] != 0 {
		above := name[int(name[0])+1:]
		for len(b.stack) > 0 && !b.stack[len(b.stack)-1].is(above) {
			b.stack = b.stack[:len(b.stack)-1]
		}
		if len(b.stack) == 0 {
			return fmt.Errorf("add %s to image: the name above it was not added", record.Name(name))
		}
	}
	t, sure := n.Traits(), true
	if t&Apex != 0 {
		_, sure = Shape(n.Bodies(nil))
	}
	p := b.place(name, t, sure)
	from := len(b.buf)
	b.buf = append(b.buf, n...)
	t &^= Settled
	if p.settled {
		t |= Settled
	}
	b.buf[from+1] = byte(t)
	b.h.sets += uint64(n.Len())
	for i := range n.Len() {
		_, s := n.At(i)
		b.h.records += uint64(s.count())
	}
	if err := b.seat(name, from, p, t&Parent != 0); err != nil {
		return err
	}
	if t&Parent != 0 {
		b.stack[len(b.stack)-1].kept = true
	}
	return nil
}

// begin makes name the owner of what comes.
func (b *Builder) begin(name []byte) error {
	if b.any && bytes.Equal(b.owner, name) {
		return nil
	}
	if b.any {
		if record.Name(stringOf(b.owner)).Compare(record.Name(stringOf(name))) >= 0 {
			return fmt.Errorf("add %s to image: it stands behind %s, expected canonical order", record.Name(name), record.Name(b.owner))
		}
		if err := b.emit(name); err != nil {
			return err
		}
	}
	b.owner = append(b.owner[:0], name...)
	b.sets, b.bodies, b.any = b.sets[:0], b.bodies[:0], true
	return nil
}

// take enters a set whose octets are the last ones of bodies.
func (b *Builder) take(t record.Type, s Set) error {
	v := s.View()
	if n := len(b.sets); n > 0 {
		last := b.sets[n-1]
		if !typesInOrder(last.Type, last.Set.View().Location, t, v.Location) {
			return fmt.Errorf("add %s %s to image: it stands behind %s, expected canonical order", record.Name(b.owner), t, last.Type)
		}
		if n == maxTableSets {
			return fmt.Errorf("add %s to image: it has more than %d RRsets", record.Name(b.owner), maxTableSets)
		}
	}
	if t == record.TypeSOA && b.o.Serial != nil {
		if serial, ok := b.o.Serial(record.Name(b.owner)); ok {
			StampSerial(s, serial)
		}
	}
	b.sets = append(b.sets, Body{t, s})
	b.h.sets++
	b.h.records += uint64(v.Count)
	return nil
}

// emit writes the node of owner; next is the name that comes behind it, nil at the
// end. bodies may have moved while it grew: sets are taken from where they are now.
func (b *Builder) emit(next []byte) error {
	at := 0
	for i := range b.sets {
		n := len(b.sets[i].Set)
		b.sets[i].Set = b.bodies[at : at+n]
		at += n
	}
	if b.o.Own {
		Dress(record.Name(stringOf(b.owner)), b.sets, false)
	}
	if err := b.descend(b.owner); err != nil {
		return err
	}
	parent := next != nil && record.Name(stringOf(next)).IsSubdomainOf(record.Name(stringOf(b.owner)))
	return b.push(b.owner, b.sets, parent)
}

// descend leaves the ancestors that name is not below, and writes the empty
// non-terminals between the last one and name.
func (b *Builder) descend(name []byte) error {
	for len(b.stack) > 0 {
		top := &b.stack[len(b.stack)-1]
		if below(name, top.name[:top.len]) {
			break
		}
		if err := b.pop(); err != nil {
			return err
		}
	}
	if len(b.stack) == 0 && name[0] != 0 {
		if err := b.push([]byte{0}, nil, true); err != nil {
			return err
		}
	}
	for len(b.stack) > 0 {
		top := &b.stack[len(b.stack)-1]
		between := name[int(name[0])+1:]
		if len(between) == top.len {
			return nil
		}
		// The ancestor of name that is one label below top.
		for len(between)-int(between[0])-1 != top.len {
			between = between[int(between[0])+1:]
		}
		if err := b.push(between, nil, true); err != nil {
			return err
		}
	}
	return nil
}

// below tells whether name lies below suffix, of which it is known that it is a
// name that stands before name in canonical order: it ends at a label then or not.
func below(name, suffix []byte) bool {
	return len(name) > len(suffix) && record.Name(stringOf(name)).IsSubdomainOf(record.Name(stringOf(suffix)))
}

// push writes a node below the top of the stack and enters it when it has children.
func (b *Builder) push(name []byte, sets []Body, parent bool) error {
	if n := len(b.stack); n > 0 {
		up := &b.stack[n-1]
		up.children++
		up.hasWild = up.hasWild || name[0] == 1 && name[1] == '*'
	}
	shape, sure := Shape(sets)
	p := b.place(name, shape, sure)
	f := Family{Settled: p.settled}
	if parent {
		f.Children = 1 // patched in pop
	}
	from := len(b.buf)
	b.buf = AppendNode(b.buf, name, sets, f)
	return b.seat(name, from, p, parent)
}

// place is where a node stands among those above it.
type place struct {
	hash uint64
	// zone: an apex is at or above. hidden: names below are at or below a cut or below
	// a DNAME of their zone, or in a zone that is not there for every client.
	zone, hidden bool
	settled      bool
}

// place finds the place of a name below the top of the stack.
func (b *Builder) place(name []byte, shape Traits, sure bool) place {
	p := place{hash: b.hash.Root()}
	depth := len(b.stack)
	if depth > 0 {
		up := &b.stack[depth-1]
		p.hash = b.hash.Child(up.hash, name[1:1+int(name[0])])
		p.zone, p.hidden = up.zone, up.hidden
	}
	if shape&Apex != 0 {
		p.zone, p.hidden = true, !sure
		b.h.apexes.Add(depth)
		b.h.zones++
	}
	p.settled = p.zone && !p.hidden && shape&Cut == 0
	if shape&(Cut|DName) != 0 {
		p.hidden = true
		b.h.cuts.Add(depth)
	}
	return p
}

// seat gives the node at offset from of buf, its last, its place in file and index, and
// enters it when it has children.
func (b *Builder) seat(name []byte, from int, p place, parent bool) error {
	traits := Traits(b.buf[from+1])
	at := b.align(from)
	if at+uint64(len(b.buf)) > maxOffset {
		return fmt.Errorf("build image: its nodes take more than %d octets", int64(maxOffset))
	}
	if b.h.names++; b.h.names%4096 == 0 {
		if err := b.pause(); err != nil {
			return err
		}
	}
	if b.o.Own && Node(b.buf[at-b.base:]).guides() {
		b.guides = binary.LittleEndian.AppendUint64(b.guides, at)
	}
	k := p.hash >> 56
	b.pairs[k] = append(b.pairs[k], pair{p.hash, at})
	if parent {
		a := ancestor{place: p, at: at, traits: traits}
		a.len = copy(a.name[:], name)
		b.stack = append(b.stack, a)
	}
	if len(b.buf) >= flushSize {
		return b.flush(false)
	}
	return nil
}

// align moves the node at offset from of buf, its last, to the next block when it
// would cross a border, and gives its offset in the file.
func (b *Builder) align(from int) uint64 {
	n := len(b.buf) - from
	room := blockSize - from%blockSize
	if n <= room || room == blockSize {
		return b.base + uint64(from)
	}
	b.buf = append(b.buf, make([]byte, room)...)
	copy(b.buf[from+room:], b.buf[from:from+n])
	clear(b.buf[from : from+room])
	return b.base + uint64(from+room)
}

// pop writes into the node of the last ancestor what is known of its children now.
func (b *Builder) pop() error {
	a := &b.stack[len(b.stack)-1]
	b.stack = b.stack[:len(b.stack)-1]
	if a.kept {
		return nil
	}
	if a.hasWild {
		a.traits |= HasWild
	}
	var count [4]byte
	binary.LittleEndian.PutUint32(count[:], uint32(a.children))
	at := a.at + nodeHead + uint64(a.len)
	if err := b.patch(a.at+1, []byte{byte(a.traits)}); err != nil {
		return err
	}
	return b.patch(at, count[:])
}

func (b *Builder) patch(at uint64, octets []byte) error {
	if at >= b.base {
		copy(b.buf[at-b.base:], octets)
		return nil
	}
	if _, err := b.f.WriteAt(octets, int64(at)); err != nil {
		return fmt.Errorf("build image: %w", err)
	}
	first, last := (at-blockSize)/blockSize, (at+uint64(len(octets))-1-blockSize)/blockSize
	b.patched = append(b.patched, first, last)
	return nil
}

// flush writes what put takes of buf.
func (b *Builder) flush(all bool) error {
	n, err := b.put(b.buf, b.base, all)
	if err != nil {
		return fmt.Errorf("build image: %w", err)
	}
	b.base += uint64(n)
	b.buf = b.buf[:copy(b.buf, b.buf[n:])]
	return nil
}

// put writes buf to the offset at, as far as the last multiple of flushSize that it
// reaches, or all of it; n is how much.
func (b *Builder) put(buf []byte, at uint64, all bool) (n int, err error) {
	for n < len(buf) {
		size := int(flushSize - (at+uint64(n))%flushSize)
		if size > len(buf)-n {
			if !all {
				break
			}
			size = len(buf) - n
		}
		if _, err := b.f.WriteAt(buf[n:n+size], int64(at)+int64(n)); err != nil {
			return n, err
		}
		b.sum(buf[n : n+size])
		n += size
		if err := b.pause(); err != nil {
			return n, err
		}
	}
	return n, nil
}

// Finish writes the rest and puts the image in its place.
func (b *Builder) Finish() error {
	err := b.finish()
	b.Abort()
	if err != nil {
		return fmt.Errorf("build image %s: %w", b.path, err)
	}
	return nil
}

func (b *Builder) finish() error {
	if b.any {
		if err := b.emit(nil); err != nil {
			return err
		}
	}
	for len(b.stack) > 0 {
		if err := b.pop(); err != nil {
			return err
		}
	}
	b.buf = append(b.buf, make([]byte, int(roundUp(uint64(len(b.buf))))-len(b.buf))...)
	if err := b.flush(true); err != nil {
		return err
	}
	b.h.index = b.base
	if err := b.writeIndex(); err != nil {
		return err
	}
	atlas := b.o.Atlas
	if b.o.Own {
		atlas = b.guides
	}
	b.h.atlas = roundUp(b.h.index + 8*b.h.slots)
	b.h.atlasSize = uint64(len(atlas))
	b.h.note, b.h.noteSize = b.h.atlas+b.h.atlasSize, uint64(len(b.o.Note))
	b.h.sums = b.h.note + b.h.noteSize
	if _, err := b.f.WriteAt(atlas, int64(b.h.atlas)); err != nil {
		return err
	}
	if _, err := b.f.WriteAt(b.o.Note, int64(b.h.note)); err != nil {
		return err
	}
	b.sum(slices.Concat(atlas, b.o.Note))
	if err := b.f.Truncate(int64(b.h.sums)); err != nil {
		return err
	}
	if err := b.writeSums(); err != nil {
		return err
	}
	if _, err := b.f.WriteAt(b.h.encode(), 0); err != nil {
		return err
	}
	return b.install()
}

// install makes the file durable and gives it its name.
func (b *Builder) install() error {
	if !b.o.NoSync {
		if err := b.f.Sync(); err != nil {
			return err
		}
	}
	f := b.f
	b.f = nil
	if err := errors.Join(f.Chmod(0o644), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), b.path); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if b.o.NoSync {
		return nil
	}
	d, err := os.Open(filepath.Dir(b.path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (b *Builder) pause() error {
	if b.o.Pause == nil {
		return nil
	}
	return b.o.Pause()
}

const maxWorkers = 8

// share has work done by several goroutines, or by this one when it is to stay alone:
// w is which of the workers it is.
func (b *Builder) share(work func(w, workers int)) {
	workers := min(runtime.GOMAXPROCS(0), maxWorkers)
	if b.o.Pause != nil {
		workers = 1
	}
	var wg sync.WaitGroup
	for w := 1; w < workers; w++ {
		wg.Go(func() { work(w, workers) })
	}
	work(0, workers)
	wg.Wait()
}

// writeIndex sorts what was gathered and writes the slots in one pass.
func (b *Builder) writeIndex() error {
	var errs [maxWorkers]error
	b.share(func(w, workers int) {
		var s sorter
		for k := w; k < buckets && errs[w] == nil; k += workers {
			s.sort(b.pairs[k])
			errs[w] = b.pause()
		}
	})
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	b.h.homes = max(b.h.names+b.h.names/2, 8)
	out := make([]byte, 0, min(flushSize, 8*b.h.homes+2*blockSize))
	at, slot := b.h.index, uint64(0) // slot: the next one to be written
	for k := range b.pairs {
		for _, p := range b.pairs[k] {
			h := home(p.hash, b.h.homes)
			for ; slot < h; slot++ {
				out = append(out, 0, 0, 0, 0, 0, 0, 0, 0)
			}
			out = binary.LittleEndian.AppendUint64(out, p.hash<<tagShift|p.at)
			slot++
			if len(out) >= flushSize {
				n, err := b.put(out, at, false)
				if err != nil {
					return err
				}
				at, out = at+uint64(n), out[:copy(out, out[n:])]
			}
		}
		b.pairs[k] = nil
	}
	// At least one empty slot ends every search.
	b.h.slots = max(slot, b.h.homes) + 1
	out = append(out, make([]byte, 8*(b.h.slots-slot))...)
	end := at + uint64(len(out))
	out = append(out, make([]byte, roundUp(end)-end)...)
	_, err := b.put(out, at, true)
	return err
}

// sum takes the checksums of blocks that are written.
func (b *Builder) sum(octets []byte) {
	for len(octets) > 0 {
		n := min(blockSize, len(octets))
		b.sums = binary.LittleEndian.AppendUint32(b.sums, uint32(xxh3.Hash(octets[:n])))
		octets = octets[n:]
	}
}

// writeSums writes the checksums of the blocks, those that were patched anew.
func (b *Builder) writeSums() error {
	b.h.blocks = (b.h.sums - blockSize + blockSize - 1) / blockSize
	if uint64(len(b.sums)) != 4*b.h.blocks {
		return fmt.Errorf("%d sums for %d blocks", len(b.sums)/4, b.h.blocks)
	}
	var block [blockSize]byte
	slices.Sort(b.patched)
	for _, k := range slices.Compact(b.patched) {
		if _, err := b.f.ReadAt(block[:], int64(blockSize+k*blockSize)); err != nil {
			return err
		}
		binary.LittleEndian.PutUint32(b.sums[4*k:], uint32(xxh3.Hash(block[:])))
	}
	sums := binary.LittleEndian.AppendUint64(b.sums, xxh3.Hash(b.sums))
	b.h.size = b.h.sums + uint64(len(sums))
	_, err := b.f.WriteAt(sums, int64(b.h.sums))
	return err
}

// sorter sorts pairs by their hashes, which are spread evenly: each is put near its
// place first.
type sorter struct {
	ends  [sortPlaces]int32
	pairs []pair
}

const (
	sortShift  = 44 // the 8 bits above are the same for all pairs of a bucket
	sortPlaces = 1 << 12
)

func (s *sorter) sort(pairs []pair) {
	place := func(p pair) uint64 { return p.hash >> sortShift % sortPlaces }
	clear(s.ends[:])
	for _, p := range pairs {
		s.ends[place(p)]++
	}
	end := int32(0)
	for i, n := range s.ends {
		s.ends[i] = end
		end += n
	}
	s.pairs = append(s.pairs[:0], pairs...)
	for _, p := range s.pairs {
		k := place(p)
		pairs[s.ends[k]] = p
		s.ends[k]++
	}
	for i := 1; i < len(pairs); i++ {
		p, k := pairs[i], i
		for ; k > 0 && (p.hash < pairs[k-1].hash || p.hash == pairs[k-1].hash && p.at < pairs[k-1].at); k-- {
			pairs[k] = pairs[k-1]
		}
		pairs[k] = p
	}
}
