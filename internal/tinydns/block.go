package tinydns

import "strings"

// blocks keeps octets in large pieces, where they never move. What refers to them has
// no pointer in it: the garbage collector need not look at millions of records.
type blocks []strings.Builder

// ref says where octets are in blocks: 16 bits of block, 20 of offset, 16 of length.
// Zero is no octets.
type ref uint64

const (
	blockOctets = 1 << 20
	maxBlocks   = 1 << 16
)

// keep copies b, up to 65,535 octets. It must not be full.
func (bl *blocks) keep(b []byte) ref {
	if len(b) == 0 {
		return 0
	}
	n := len(*bl)
	if n == 0 || (*bl)[n-1].Cap()-(*bl)[n-1].Len() < len(b) || (*bl)[n-1].Len()+len(b) > blockOctets {
		// Blocks grow with the file, so that a small one costs little.
		*bl = append((*bl)[:n:n], strings.Builder{})
		(*bl)[n].Grow(max(min(blockOctets, 4096<<min(n, 8)), len(b)))
		n++
	}
	sb := &(*bl)[n-1]
	at := sb.Len()
	sb.Write(b)
	return ref(n-1)<<36 | ref(at)<<16 | ref(len(b))
}

func (bl blocks) full() bool { return len(bl) >= maxBlocks-1 }

func (bl blocks) get(r ref) string {
	if r == 0 {
		return ""
	}
	at := int(r >> 16 & (blockOctets - 1))
	return bl[r>>36].String()[at : at+int(r&0xffff)]
}
