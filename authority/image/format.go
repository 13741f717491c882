package image

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/zeebo/xxh3"

	"github.com/zonecast/zonecast/record"
)

// The file (integers little endian; drawn in docs/format/image.md, too):
//
//	0          header   one block, see below
//	4096       nodes    Nodes in canonical order of their names. None that fits a
//	                    block crosses the border of one: what is left is zero. Larger
//	                    ones begin at a border. Ends with its last block
//	index      slots × u64, zero where empty: bits 40 to 63 are the low 24 bits of the
//	           name's hash, bits 0 to 39 the node's offset in the file. A name of hash h
//	           stands at or behind slot h × homes / 2^64, with no empty slot between;
//	           slots ascend by hash. Ends with its last block
//	atlas      a geo.Atlas as geo.Open reads it; may be empty. Or guidesMagic and u64 each:
//	           the offsets of the nodes that have RRsets of maps and PoPs, ascending
//	note       what the one who built it keeps with it; may be empty
//	sums       for each block from 4096 to sums, the last one as long as it is,
//	           u32: the lower half of its XXH3
//	end        8  XXH3 of sums
const (
	blockSize = 4096
	magic     = "zonecast image 2"
	// maxOffset is what a slot has room for: 2^40 octets.
	maxOffset = 1<<40 - 1
	tagBits   = 24
	tagShift  = 40
)

// guidesMagic begins what stands in the place of the atlas with Options.Own.
const guidesMagic = "zcmaps\x00\x01"

// IsImage tells whether a file that starts like this, 16 octets at least, is an image.
func IsImage(start []byte) bool { return bytes.HasPrefix(start, []byte(magic)) }

// header of an image:
//
//	0    16  magic
//	16   u64 size of the file
//	24   u64 seed of the hashes of names
//	32   u64 index, 40 u64 slots, 48 u64 homes
//	56   u64 atlas, 64 u64 length of the atlas
//	72   u64 sums, 80 u64 blocks
//	88   u64 names, 96 u64 RRsets, 104 u64 zones, 112 u64 records
//	120  16  depths (labels) at which an apex stands, a bit each, 136 16 a cut or DNAME
//	152  u64 flags: bit 0 wildcards match at any depth
//	160  u64 version, 168 i64 time, 176 32 digest, 208 32 chain, 240 u64 content
//	248  u8  length of the dataset's name, 63 octets
//	312  u64 note, 320 u64 length of the note
//	4088 u64 XXH3 of what is before
type header struct {
	size, seed                  uint64
	index, slots, homes         uint64
	atlas, atlasSize            uint64
	sums, blocks                uint64
	names, sets, zones, records uint64
	apexes, cuts                Depths
	flags                       uint64
	label                       Label
	note, noteSize              uint64
}

const (
	noteAt       = 312
	flagAnyDepth = 1 << 0
	headerSum    = blockSize - 8
)

// Label says what an image is of. The zero value says nothing.
type Label struct {
	Dataset string // at most 63 octets
	Version uint64
	Content uint64 // last version that changed more than freshness records
	Time    int64  // unix milliseconds
	Digest  [32]byte
	Chain   [32]byte
}

// Depths is a set of numbers of labels: 0 to 127.
type Depths [2]uint64

// Add puts a depth in.
func (d *Depths) Add(n int) { d[n>>6] |= 1 << (n & 63) }

// Down is the largest depth in d that is at most n; -1 when there is none.
func (d *Depths) Down(n int) int {
	if n >= 64 {
		if w := d[1] & (1<<(n-63) - 1); w != 0 {
			return 127 - bits.LeadingZeros64(w)
		}
		n = 63
	}
	if n < 0 {
		return -1
	}
	return 63 - bits.LeadingZeros64(d[0]&(2<<n-1))
}

// Up is the smallest depth in d that is at least n; 128 when there is none.
func (d *Depths) Up(n int) int {
	if n < 64 {
		if w := d[0] >> n; w != 0 {
			return n + bits.TrailingZeros64(w)
		}
		n = 64
	}
	if n > 127 {
		return 128
	}
	if w := d[1] >> (n - 64); w != 0 {
		return n + bits.TrailingZeros64(w)
	}
	return 128
}

// Has tells whether a depth is in.
func (d *Depths) Has(n int) bool { return d[n>>6]>>(n&63)&1 != 0 }

func (h *header) encode() []byte {
	b := make([]byte, 0, blockSize)
	b = append(b, magic...)
	for _, v := range []uint64{
		h.size, h.seed, h.index, h.slots, h.homes, h.atlas, h.atlasSize, h.sums, h.blocks,
		h.names, h.sets, h.zones, h.records, h.apexes[0], h.apexes[1], h.cuts[0], h.cuts[1], h.flags,
		h.label.Version, uint64(h.label.Time),
	} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = append(append(b, h.label.Digest[:]...), h.label.Chain[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.label.Content)
	b = append(b, byte(len(h.label.Dataset)))
	b = append(b, h.label.Dataset...)
	b = append(b, make([]byte, noteAt-len(b))...)
	b = binary.LittleEndian.AppendUint64(b, h.note)
	b = binary.LittleEndian.AppendUint64(b, h.noteSize)
	b = append(b, make([]byte, headerSum-len(b))...)
	return binary.LittleEndian.AppendUint64(b, xxh3.Hash(b))
}

// decode reads and checks the header of a file of the given size.
func (h *header) decode(b []byte, size int64) error {
	if len(b) < blockSize || !bytes.HasPrefix(b, []byte(magic)) {
		return fmt.Errorf("offset 0: starts with %q, expected %q and a header of %d octets: is it an image?", b[:min(len(b), len(magic))], magic, blockSize)
	}
	if got, want := xxh3.Hash(b[:headerSum]), binary.LittleEndian.Uint64(b[headerSum:]); got != want {
		return fmt.Errorf("offset %d: checksum of the header is %016x, expected %016x: build the image anew", headerSum, want, got)
	}
	at := len(magic)
	for _, p := range []*uint64{
		&h.size, &h.seed, &h.index, &h.slots, &h.homes, &h.atlas, &h.atlasSize, &h.sums, &h.blocks,
		&h.names, &h.sets, &h.zones, &h.records, &h.apexes[0], &h.apexes[1], &h.cuts[0], &h.cuts[1], &h.flags, &h.label.Version,
	} {
		*p = binary.LittleEndian.Uint64(b[at:])
		at += 8
	}
	h.label.Time = int64(binary.LittleEndian.Uint64(b[at:]))
	at += 8
	at += copy(h.label.Digest[:], b[at:])
	at += copy(h.label.Chain[:], b[at:])
	h.label.Content = binary.LittleEndian.Uint64(b[at:])
	at += 8
	h.label.Dataset = string(b[at+1 : at+1+min(int(b[at]), 63)])
	h.note, h.noteSize = binary.LittleEndian.Uint64(b[noteAt:]), binary.LittleEndian.Uint64(b[noteAt+8:])
	return h.check(uint64(size))
}

// check finds contradictions: what lookups rely on.
func (h *header) check(size uint64) error {
	switch {
	case h.size != size:
		return fmt.Errorf("it has %d octets, its header says %d: it is cut off", size, h.size)
	case h.size > maxOffset || h.index < blockSize || h.index%blockSize != 0 || h.slots == 0 || h.homes == 0 || h.homes > h.slots ||
		h.slots > (h.size-min(h.size, h.index))/8 || h.index+8*h.slots > h.atlas || h.atlas%blockSize != 0 ||
		h.atlasSize > h.size || h.atlas > h.size || h.atlas+h.atlasSize != h.note || h.noteSize > h.size || h.note+h.noteSize != h.sums || h.names > h.slots:
		return fmt.Errorf("offset 16: sections contradict one another (nodes end at %d, %d slots, atlas at %d, sums at %d of %d octets)", h.index, h.slots, h.atlas, h.sums, h.size)
	case h.blocks != (h.sums-blockSize+blockSize-1)/blockSize || h.sums+4*h.blocks+8 != h.size:
		return fmt.Errorf("offset 72: %d sums at %d of %d octets, expected one for each %d octets", h.blocks, h.sums, h.size, blockSize)
	}
	return nil
}

// home is the slot at or behind which a name of hash h stands.
func home(h, homes uint64) uint64 {
	hi, _ := bits.Mul64(h, homes)
	return hi
}

func roundUp(n uint64) uint64 { return (n + blockSize - 1) / blockSize * blockSize }

// typesInOrder tells whether a set may stand behind another in one node.
func typesInOrder(t0 record.Type, l0 []byte, t1 record.Type, l1 []byte) bool {
	return t0 < t1 || t0 == t1 && bytes.Compare(l0, l1) < 0
}
