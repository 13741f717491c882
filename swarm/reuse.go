package swarm

import (
	"crypto/sha256"
	"os"

	"github.com/zonecast/zonecast/snapshot"
)

// spot is where a block lies in an older file.
type spot struct {
	f      *os.File
	offset int64
}

// block names a block by what is in it.
type block struct {
	sum  snapshot.ID
	size int64
}

// reuse copies into f, whose header, index and footer are there, the blocks that it shares with
// older snapshots, and tells which octets are there then, as extents in their order. What it
// copies it has hashed: an old file that is damaged gives nothing.
func reuse(f *file, old []string) (have []snapshot.Extent, err error) {
	want, err := snapshot.Layout(f.f, f.size)
	if err != nil {
		return nil, err
	}
	spots := map[block]spot{}
	for _, path := range old {
		src, err := os.Open(path)
		if err != nil {
			continue // it went meanwhile
		}
		defer func() { _ = src.Close() }() // read only
		info, err := src.Stat()
		if err != nil {
			continue
		}
		blocks, err := snapshot.Layout(src, info.Size())
		if err != nil {
			continue // not whole, or no snapshot
		}
		for _, b := range blocks {
			spots[block{b.Sum, b.Size}] = spot{src, b.Offset}
		}
	}
	var buf []byte
	for _, b := range want {
		from, ok := spots[block{b.Sum, b.Size}]
		if !ok {
			continue
		}
		buf = append(buf[:0], make([]byte, b.Size)...)
		if _, err := from.f.ReadAt(buf, from.offset); err != nil || sha256.Sum256(buf) != b.Sum {
			continue
		}
		if _, err := f.f.WriteAt(buf, b.Offset); err != nil {
			return have, err // our own disk
		}
		have = append(have, b)
	}
	return have, nil
}

// covered are the pieces of length octets of a file of size octets that lie whole in the
// extents, which are in order.
func covered(have []snapshot.Extent, size, length int64) (pieces []int) {
	at := 0 // the first extent that ends behind the piece's begin
	for begin := int64(0); begin < size; begin += length {
		end, reached := min(begin+length, size), begin
		for at < len(have) && have[at].Offset+have[at].Size <= begin {
			at++
		}
		for i := at; i < len(have) && have[i].Offset <= reached && reached < end; i++ {
			reached = have[i].Offset + have[i].Size
		}
		if reached >= end {
			pieces = append(pieces, int(begin/length))
		}
	}
	return pieces
}
