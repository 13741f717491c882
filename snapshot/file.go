package snapshot

import (
	"encoding/binary"
	"fmt"

	"github.com/zonecast/zonecast/record"
)

// Ref points at a snapshot file and says what is not in it. A manifest's
// signature covers it.
type Ref struct {
	ID      ID       `json:"id"`   // SHA-256 of the file; zero means that there is none
	Size    int64    `json:"size"` // octets
	Version uint64   `json:"version"`
	Digest  Digest   `json:"digest"`
	Chain   Chain    `json:"chain"`
	Time    int64    `json:"time_ms"` // Delta.Time of that version
	URLs    []string `json:"urls,omitempty"`
	// Torrent is the info hash (BEP 3) under which peers have the file, 40 hexadecimal
	// digits; empty when none do. What they give is still believed by ID alone.
	Torrent string `json:"torrent,omitempty"`
}

// A snapshot file is (docs/format/snapshot.md; integers are big endian):
//
//	header   magic 8 octets "zcsnap" 00 01; dataset u8 length, octets
//	blocks   zstd frames, one after the other: first those of RRsets, then those
//	         of zone stamps
//	index    one entry a block
//	footer   120 octets
//
// The magics end in the version of the format.
const (
	fileMagic = "zcsnap\x00\x01"
	endMagic  = "zcsnapE\x01"
)

// Kinds of blocks.
const (
	blockRRsets = 1 // RRsets as in docs/format/rrset.md, in canonical order
	blockZones  = 2 // apex in wire form and stamp u64, in canonical order
)

// A block ends before an item when it has minBlock octets and the item's owner
// says so, or when it has maxBlock octets: so a change moves the borders near it
// only, and the other blocks of the next snapshot are the same octets. With RRsets
// of 80 octets a block has 32 KiB + 512 × 80 = 72 KiB on the average.
const (
	minBlock = 32 << 10
	maxBlock = 128 << 10
	cutMask  = 1<<9 - 1 // an owner ends a block when these bits of its CRC-32C are 0
)

// Limits of what is read. maxRaw of a block is maxBlock and one RRset, which is
// less than 66 KiB. maxContent bounds a file of great compression; it is about
// 50 million RRsets.
const (
	maxRaw        = 256 << 10
	maxCompressed = maxRaw + 4<<10 // zstd adds less than 1 % to what it cannot compress
	maxContent    = 4 << 30
	maxIndex      = 64 << 20
)

// block is one entry of the index:
//
//	kind        u8
//	offset      u64   of the frame, from the start of the file
//	compressed  u32   octets of the frame
//	raw         u32   octets when decompressed
//	items       u32   RRsets or stamps
//	sha256      32 octets  of the frame
//	first       owner of the first item, wire form
type block struct {
	kind       byte
	offset     int64
	compressed int
	raw        int
	items      int
	sum        ID
	first      record.Name
}

const blockFixed = 1 + 8 + 4 + 4 + 4 + 32

func (b block) append(to []byte) []byte {
	to = append(to, b.kind)
	to = binary.BigEndian.AppendUint64(to, uint64(b.offset))
	to = binary.BigEndian.AppendUint32(to, uint32(b.compressed))
	to = binary.BigEndian.AppendUint32(to, uint32(b.raw))
	to = binary.BigEndian.AppendUint32(to, uint32(b.items))
	to = append(to, b.sum[:]...)
	return append(to, b.first...)
}

func decodeBlock(from []byte) (block, []byte, error) {
	if len(from) <= blockFixed {
		return block{}, nil, fmt.Errorf("index entry has %d octets, expected more than %d", len(from), blockFixed)
	}
	b := block{
		kind:       from[0],
		offset:     int64(binary.BigEndian.Uint64(from[1:])),
		compressed: int(binary.BigEndian.Uint32(from[9:])),
		raw:        int(binary.BigEndian.Uint32(from[13:])),
		items:      int(binary.BigEndian.Uint32(from[17:])),
		sum:        ID(from[21:53]),
	}
	first, n, err := record.NameFromWire(from[blockFixed:])
	if err != nil {
		return block{}, nil, fmt.Errorf("index entry: %w", err)
	}
	b.first = first
	return b, from[blockFixed+n:], nil
}

// footer is the end of the file:
//
//	index offset  u64
//	index length  u64   octets
//	blocks        u32   entries of the index
//	zones         u32   stamps
//	rrsets        u64
//	raw           u64   octets of all blocks when decompressed
//	content       u64   last version that changed more than freshness records
//	digest        32 octets
//	checksum      32 octets  SHA-256 of header, index and the footer so far
//	magic         8 octets   "zcsnapE" 01
type footer struct {
	indexOffset int64
	indexLength int64
	blocks      int
	zones       int
	rrsets      int
	raw         int64
	content     uint64
	digest      Digest
}

const (
	footerSummed = 8 + 8 + 4 + 4 + 8 + 8 + 8 + 32
	footerSize   = footerSummed + 32 + len(endMagic)
)

// append appends the part that the checksum covers.
func (f footer) append(to []byte) []byte {
	to = binary.BigEndian.AppendUint64(to, uint64(f.indexOffset))
	to = binary.BigEndian.AppendUint64(to, uint64(f.indexLength))
	to = binary.BigEndian.AppendUint32(to, uint32(f.blocks))
	to = binary.BigEndian.AppendUint32(to, uint32(f.zones))
	to = binary.BigEndian.AppendUint64(to, uint64(f.rrsets))
	to = binary.BigEndian.AppendUint64(to, uint64(f.raw))
	to = binary.BigEndian.AppendUint64(to, f.content)
	return append(to, f.digest[:]...)
}

func decodeFooter(b []byte) footer {
	return footer{
		indexOffset: int64(binary.BigEndian.Uint64(b)),
		indexLength: int64(binary.BigEndian.Uint64(b[8:])),
		blocks:      int(binary.BigEndian.Uint32(b[16:])),
		zones:       int(binary.BigEndian.Uint32(b[20:])),
		rrsets:      int(binary.BigEndian.Uint64(b[24:])),
		raw:         int64(binary.BigEndian.Uint64(b[32:])),
		content:     binary.BigEndian.Uint64(b[40:]),
		digest:      Digest(b[48:80]),
	}
}
