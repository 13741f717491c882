package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"
	"github.com/zonecast/zonecast/record"
)

// Read reads the snapshot file of ref.Size octets that ref points at and checks
// everything: id, order, bounds, counts, stamps, digest. The file has neither
// version, time nor chain (equal content gives equal bytes): they are taken from
// ref, which must come from where they are signed.
func Read(r io.ReaderAt, ref Ref) (*Dataset, error) {
	d, err := readRef(r, ref)
	if err != nil {
		return nil, fmt.Errorf("read snapshot %s: %w", ref.ID, err)
	}
	return d, nil
}

func readRef(r io.ReaderAt, ref Ref) (*Dataset, error) {
	id, err := idOf(r, ref.Size)
	if err != nil {
		return nil, err
	}
	if id != ref.ID {
		return nil, fmt.Errorf("SHA-256 of its %d octets is %s", ref.Size, id)
	}
	f, err := openFile(r, ref.Size)
	if err != nil {
		return nil, err
	}
	if f.footer.digest != ref.Digest {
		return nil, fmt.Errorf("its digest is %s, the reference says %s", f.footer.digest, ref.Digest)
	}
	if f.footer.content > ref.Version {
		return nil, fmt.Errorf("its content changed in version %d, after its own version %d", f.footer.content, ref.Version)
	}
	d, err := f.load(ref.Version)
	if err != nil {
		return nil, err
	}
	d.version, d.time, d.chain = ref.Version, ref.Time, ref.Chain
	return d, nil
}

// idOf hashes the whole file.
func idOf(r io.ReaderAt, size int64) (ID, error) {
	h := sha256.New()
	n, err := io.CopyBuffer(h, io.NewSectionReader(r, 0, size), make([]byte, 256<<10))
	if err != nil {
		return ID{}, err
	}
	if n != size {
		return ID{}, fmt.Errorf("it has %d octets, expected %d", n, size)
	}
	return ID(h.Sum(nil)), nil
}

// fileReader is an opened file whose header, index and footer have been checked.
type fileReader struct {
	r       io.ReaderAt
	dataset string
	blocks  []block
	footer  footer
}

// readAt reads exactly n octets.
func readAt(r io.ReaderAt, at int64, n int) ([]byte, error) {
	b := make([]byte, n)
	if got, err := r.ReadAt(b, at); got < n {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("offset %d: %d of %d octets: %w", at, got, n, err)
	}
	return b, nil
}

func openFile(r io.ReaderAt, size int64) (*fileReader, error) {
	least := int64(len(fileMagic) + 2 + footerSize)
	if size < least {
		return nil, fmt.Errorf("it has %d octets, a snapshot has %d or more", size, least)
	}
	head, err := readAt(r, 0, len(fileMagic)+1)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(head, []byte(fileMagic)) {
		return nil, fmt.Errorf("offset 0: starts with %q, expected %q (snapshot format 1)", head[:len(fileMagic)], fileMagic)
	}
	headerSize := int64(len(head)) + int64(head[len(fileMagic)])
	if size < headerSize+int64(footerSize) {
		return nil, fmt.Errorf("it has %d octets, header and footer have %d", size, headerSize+int64(footerSize))
	}
	header, err := readAt(r, 0, int(headerSize))
	if err != nil {
		return nil, err
	}
	f := &fileReader{r: r, dataset: string(header[len(head):])}
	if err := CheckName(f.dataset); err != nil {
		return nil, fmt.Errorf("offset %d: %w", len(fileMagic), err)
	}

	footerAt := size - int64(footerSize)
	tail, err := readAt(r, footerAt, footerSize)
	if err != nil {
		return nil, err
	}
	if found := tail[footerSummed+32:]; string(found) != endMagic {
		return nil, fmt.Errorf("offset %d: ends in %q, expected %q: it is cut off", size-int64(len(endMagic)), found, endMagic)
	}
	f.footer = decodeFooter(tail)
	ft := f.footer
	if ft.indexOffset < headerSize || ft.indexLength < 0 || ft.indexLength > maxIndex || ft.indexOffset != footerAt-ft.indexLength {
		return nil, fmt.Errorf("offset %d: index of %d octets at %d, expected to end at the footer (%d) and at most %d octets",
			footerAt, ft.indexLength, ft.indexOffset, footerAt, maxIndex)
	}
	index, err := readAt(r, ft.indexOffset, int(ft.indexLength))
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	sum.Write(header)
	sum.Write(index)
	sum.Write(tail[:footerSummed])
	if got, want := ID(sum.Sum(nil)), ID(tail[footerSummed:footerSummed+32]); got != want {
		return nil, fmt.Errorf("offset %d: SHA-256 of header, index and footer is %s, expected %s", footerAt+footerSummed, got, want)
	}
	if err := f.decodeIndex(index, headerSize); err != nil {
		return nil, err
	}
	return f, nil
}

// decodeIndex checks that the blocks fill the file without gaps, within bounds,
// and add up to what the footer says.
func (f *fileReader) decodeIndex(index []byte, at int64) error {
	total, kind := int64(0), byte(blockRRsets)
	var items [blockZones + 1]int
	for rest := index; len(rest) > 0; {
		entryAt := f.footer.indexOffset + int64(len(index)-len(rest))
		b, next, err := decodeBlock(rest)
		if err != nil {
			return fmt.Errorf("offset %d: %w", entryAt, err)
		}
		if string(b.append(nil)) != string(rest[:len(rest)-len(next)]) {
			return fmt.Errorf("offset %d: first owner %s is not in lower case", entryAt, b.first)
		}
		switch {
		case b.kind < kind || b.kind > blockZones:
			return fmt.Errorf("offset %d: block of kind %d after kind %d, expected 1 (RRsets), then 2 (zones)", entryAt, b.kind, kind)
		case b.offset != at:
			return fmt.Errorf("offset %d: block at %d, expected %d, where the one before ends", entryAt, b.offset, at)
		case b.raw < 1 || b.raw > maxRaw || b.compressed < 1 || b.compressed > maxCompressed:
			return fmt.Errorf("offset %d: block of %d octets compressed and %d raw, at most %d and %d", entryAt, b.compressed, b.raw, maxCompressed, maxRaw)
		case b.items < 1 || b.items > b.raw/minKey:
			return fmt.Errorf("offset %d: block of %d items in %d octets", entryAt, b.items, b.raw)
		}
		kind, at, total = b.kind, at+int64(b.compressed), total+int64(b.raw)
		items[kind] += b.items
		f.blocks = append(f.blocks, b)
		rest = next
	}
	ft := f.footer
	switch {
	case at != ft.indexOffset:
		return fmt.Errorf("offset %d: blocks end here, the index begins at %d", at, ft.indexOffset)
	case len(f.blocks) != ft.blocks || items[blockRRsets] != ft.rrsets || items[blockZones] != ft.zones || total != ft.raw:
		return fmt.Errorf("footer says %d blocks, %d RRsets, %d zones, %d octets; the index has %d, %d, %d, %d",
			ft.blocks, ft.rrsets, ft.zones, ft.raw, len(f.blocks), items[blockRRsets], items[blockZones], total)
	case total > maxContent:
		return fmt.Errorf("content has %d octets, at most %d", total, int64(maxContent))
	}
	return nil
}

// load reads the blocks. Stamps after version are refused.
func (f *fileReader) load(version uint64) (*Dataset, error) {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxRaw), zstd.WithDecoderMaxWindow(maxRaw))
	if err != nil {
		return nil, err
	}
	defer decoder.Close()
	d := NewDataset(f.dataset)
	// The count is believed only as far as a file of this size can keep it.
	sets := make([]record.RRset, 0, min(f.footer.rrsets, int(f.footer.raw/minRRset)))
	stamps := make(map[record.Name]uint64, min(f.footer.zones, int(f.footer.raw/9)))
	var last record.Name // apex of the last stamp
	for i, b := range f.blocks {
		raw, err := f.block(decoder, b)
		if err != nil {
			return nil, fmt.Errorf("block %d of %d: %w", i+1, len(f.blocks), err)
		}
		rest := raw
		for n := range b.items {
			var owner record.Name
			if b.kind == blockRRsets {
				var r record.RRset
				r, rest, err = record.DecodeRRset(rest)
				if err == nil && len(sets) > 0 && sets[len(sets)-1].Key.Compare(r.Key) >= 0 {
					err = fmt.Errorf("%s stands after %s, expected canonical order without duplicates", r.Key, sets[len(sets)-1].Key)
				}
				sets, owner = append(sets, r), r.Owner
			} else {
				var stamp uint64
				owner, stamp, rest, err = decodeStamp(rest)
				if err == nil && len(stamps) > 0 && last.Compare(owner) >= 0 {
					err = fmt.Errorf("the stamp of %s stands after that of %s, expected canonical order without duplicates", owner, last)
				}
				if err == nil && (stamp == 0 || stamp > version) {
					err = fmt.Errorf("zone %s has the stamp %d, expected 1 to %d, the snapshot's version", owner, stamp, version)
				}
				stamps[owner], last = stamp, owner
			}
			if err == nil && n == 0 && owner != b.first {
				err = fmt.Errorf("first owner is %s, the index says %s", owner, b.first)
			}
			if err != nil {
				return nil, fmt.Errorf("block %d of %d at offset %d, item %d of %d: %w", i+1, len(f.blocks), b.offset, n+1, b.items, err)
			}
		}
		if len(rest) > 0 {
			return nil, fmt.Errorf("block %d of %d at offset %d: %d octets are left behind the last item", i+1, len(f.blocks), b.offset, len(rest))
		}
	}
	if got := digestOf(sets); got != f.footer.digest {
		return nil, fmt.Errorf("digest of its RRsets is %s, expected %s", got, f.footer.digest)
	}
	d.fill(sets)
	d.refill(sets)
	d.digest, d.content = f.footer.digest, f.footer.content
	for apex := range d.zones.soas {
		if stamps[apex] == 0 {
			return nil, fmt.Errorf("zone %s has a SOA but no stamp", apex)
		}
	}
	if len(stamps) != len(d.zones.soas) {
		return nil, fmt.Errorf("%d zones have stamps, %d have a SOA", len(stamps), len(d.zones.soas))
	}
	d.zones.stamps = stamps
	return d, nil
}

// block reads and decompresses one block.
func (f *fileReader) block(decoder *zstd.Decoder, b block) ([]byte, error) {
	frame, err := readAt(f.r, b.offset, b.compressed)
	if err != nil {
		return nil, err
	}
	if got := ID(sha256.Sum256(frame)); got != b.sum {
		return nil, fmt.Errorf("offset %d: SHA-256 of %d octets is %s, expected %s", b.offset, len(frame), got, b.sum)
	}
	raw, err := decoder.DecodeAll(frame, make([]byte, 0, b.raw))
	if err != nil {
		return nil, fmt.Errorf("offset %d: decompress: %w", b.offset, err)
	}
	if len(raw) != b.raw {
		return nil, fmt.Errorf("offset %d: decompressed to %d octets, expected %d", b.offset, len(raw), b.raw)
	}
	return raw, nil
}

func decodeStamp(b []byte) (record.Name, uint64, []byte, error) {
	apex, n, err := record.NameFromWire(b)
	if err != nil {
		return "", 0, nil, err
	}
	if string(apex) != string(b[:n]) {
		return "", 0, nil, fmt.Errorf("apex %s is not in lower case", apex)
	}
	if len(b) < n+8 {
		return "", 0, nil, fmt.Errorf("stamp of %s is cut off", apex)
	}
	return apex, binary.BigEndian.Uint64(b[n:]), b[n+8:], nil
}

// anyVersion is no bound for stamps, where there is no Ref to give one.
const anyVersion = math.MaxUint64
