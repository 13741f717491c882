package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/zonecast/zonecast/record"
)

// Write writes the dataset as a snapshot file (docs/format/snapshot.md) and
// returns what points at it, without URLs. It needs memory for one block and the
// index. Equal content and stamps give equal bytes as long as the compressor is
// the same release.
func Write(w io.Writer, d *Dataset) (Ref, error) {
	ref, err := write(w, d)
	if err != nil {
		return Ref{}, fmt.Errorf("write snapshot of %s at version %d: %w", d.name, d.version, err)
	}
	return ref, nil
}

func write(w io.Writer, d *Dataset) (Ref, error) {
	if err := CheckName(d.name); err != nil {
		return Ref{}, err
	}
	f, err := newFileWriter(w, d.name)
	if err != nil {
		return Ref{}, err
	}
	defer f.encoder.Close()
	for _, r := range d.sorted() {
		if err := f.item(blockRRsets, r.Owner, r.AppendBinary); err != nil {
			return Ref{}, err
		}
	}
	for _, apex := range slices.SortedFunc(maps.Keys(d.zones.stamps), record.Name.Compare) {
		err := f.item(blockZones, apex, func(b []byte) []byte {
			return binary.BigEndian.AppendUint64(append(b, apex...), d.zones.stamps[apex])
		})
		if err != nil {
			return Ref{}, err
		}
	}
	if err := f.finish(footer{zones: len(d.zones.stamps), rrsets: len(d.sets), content: d.content, digest: d.digest}); err != nil {
		return Ref{}, err
	}
	ref := d.Ref()
	ref.ID, ref.Size = ID(f.whole.Sum(nil)), f.at
	return ref, nil
}

// fileWriter cuts items into blocks.
type fileWriter struct {
	w       io.Writer
	at      int64     // octets written
	whole   hash.Hash // of all of them
	summed  hash.Hash // of header and index
	encoder *zstd.Encoder

	open   block  // the block that grows: kind, items and first
	raw    []byte // its content
	frame  []byte // reused
	index  []byte
	blocks int
	total  int64 // octets of all blocks, decompressed
}

func newFileWriter(w io.Writer, dataset string) (*fileWriter, error) {
	// One goroutine, one level, no checksum of its own (the index has a hash): what
	// decides about the bytes is fixed here.
	encoder, err := zstd.NewWriter(nil,
		zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(maxRaw))
	if err != nil {
		return nil, err
	}
	f := &fileWriter{w: w, whole: sha256.New(), summed: sha256.New(), encoder: encoder}
	header := append([]byte(fileMagic), byte(len(dataset)))
	header = append(header, dataset...)
	f.summed.Write(header)
	return f, f.write(header)
}

func (f *fileWriter) write(b []byte) error {
	n, err := f.w.Write(b)
	f.whole.Write(b[:n])
	f.at += int64(n)
	return err
}

// item appends one item, first to a new block where one begins.
func (f *fileWriter) item(kind byte, owner record.Name, encode func([]byte) []byte) error {
	cut := len(f.raw) >= maxBlock || f.open.kind != kind ||
		len(f.raw) >= minBlock && castagnoli([]byte(owner))&cutMask == 0
	if cut {
		if err := f.closeBlock(); err != nil {
			return err
		}
		f.open = block{kind: kind, first: owner}
	}
	f.raw = encode(f.raw)
	f.open.items++
	return nil
}

func (f *fileWriter) closeBlock() error {
	if len(f.raw) == 0 {
		return nil
	}
	f.frame = f.encoder.EncodeAll(f.raw, f.frame[:0])
	b := f.open
	b.offset, b.compressed, b.raw, b.sum = f.at, len(f.frame), len(f.raw), sha256.Sum256(f.frame)
	f.index = b.append(f.index)
	f.blocks++
	f.total += int64(len(f.raw))
	f.raw = f.raw[:0]
	if f.total > maxContent {
		return fmt.Errorf("content has more than %d octets, the most of a snapshot", maxContent)
	}
	return f.write(f.frame)
}

func (f *fileWriter) finish(end footer) error {
	if err := f.closeBlock(); err != nil {
		return err
	}
	if len(f.index) > maxIndex {
		return fmt.Errorf("index has %d octets, at most %d", len(f.index), maxIndex)
	}
	end.indexOffset, end.indexLength, end.blocks, end.raw = f.at, int64(len(f.index)), f.blocks, f.total
	tail := end.append(nil)
	f.summed.Write(f.index)
	f.summed.Write(tail)
	tail = append(f.summed.Sum(tail), endMagic...)
	if err := f.write(f.index); err != nil {
		return err
	}
	return f.write(tail)
}
