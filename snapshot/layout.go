package snapshot

import (
	"fmt"
	"io"
)

// Extent is where a block lies in a snapshot file. Files of datasets that are alike have
// many of equal Sum and Size.
type Extent struct {
	Offset int64
	Size   int64 // octets, at most 260 KiB
	Sum    ID    // SHA-256 of them
}

// TailSize is how many octets at the end of a file have its footer.
const TailSize = int64(footerSize)

// IndexAt reads where the index begins from the last TailSize octets of a file of size
// octets. Nothing else of the file need be there.
func IndexAt(tail []byte, size int64) (int64, error) {
	if int64(len(tail)) != TailSize {
		return 0, fmt.Errorf("footer has %d octets, expected %d", len(tail), TailSize)
	}
	if found := tail[footerSummed+32:]; string(found) != endMagic {
		return 0, fmt.Errorf("file ends in %q, expected %q", found, endMagic)
	}
	f := decodeFooter(tail)
	if f.indexLength < 0 || f.indexLength > maxIndex || f.indexOffset < 0 || f.indexOffset != size-TailSize-f.indexLength {
		return 0, fmt.Errorf("index of %d octets at %d, expected to end at the footer (%d) and at most %d octets", f.indexLength, f.indexOffset, size-TailSize, maxIndex)
	}
	return f.indexOffset, nil
}

// Layout reads the blocks of a file of size octets from its header, index and footer; the
// blocks themselves need not be there.
func Layout(r io.ReaderAt, size int64) ([]Extent, error) {
	f, err := openFile(r, size)
	if err != nil {
		return nil, fmt.Errorf("read layout of snapshot: %w", err)
	}
	out := make([]Extent, len(f.blocks))
	for i, b := range f.blocks {
		out[i] = Extent{Offset: b.offset, Size: int64(b.compressed), Sum: b.sum}
	}
	return out, nil
}
