package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A shard is some claims of one source as the value of one node of the store.
// docs/format/claims.md draws it; the functions below are in the same order.

const (
	shardMagic   = 'C'
	shardVersion = 1
	shardPlain   = 0
	shardZstd    = 1
	shardHeader  = 3 // magic, version, coding

	flagFallback = 1

	// shardCompress is from how many octets of body on zstd is tried: below, its
	// frame costs more than it saves.
	shardCompress = 1 << 10
	// MaxShardBody is the most octets a shard's body may have once decompressed. It
	// bounds what a small hostile node can make a reader allocate; a full node of
	// 64 KiB holds about 0.5 MiB of real claims.
	MaxShardBody = 4 << 20
)

// EncodeShard gives the bytes of claims, all of them source's: what stands in
// their own Source fields is not looked at. Equal claims in the same order give
// equal bytes. The RRsets must pass Check.
func EncodeShard(source Source, claims []Claim) []byte {
	body := appendShardBody(nil, source, claims)
	if len(body) >= shardCompress {
		if z := compressShard(body); shardHeader+4+len(z) < len(body) {
			return z
		}
	}
	return append([]byte{shardMagic, shardVersion, shardPlain}, body...)
}

func appendShardBody(b []byte, source Source, claims []Claim) []byte {
	index := map[string]uint64{}
	var texts []string
	intern := func(s string) uint64 {
		i, ok := index[s]
		if !ok {
			i = uint64(len(texts))
			index[s] = i
			texts = append(texts, s)
		}
		return i
	}
	rest := binary.AppendUvarint(nil, uint64(len(claims)))
	var place string
	var at int64
	for _, c := range claims {
		var flags byte
		if c.Fallback {
			flags |= flagFallback
		}
		rest = append(rest, flags)
		rest = binary.AppendUvarint(rest, intern(c.Author))
		rest = binary.AppendUvarint(rest, intern(c.Reason))
		rest = binary.AppendUvarint(rest, intern(c.Revision))
		ms := c.Time.UnixMilli()
		rest = binary.AppendVarint(rest, ms-at)
		at = ms
		same := sharedPrefix(place, c.Place)
		rest = binary.AppendUvarint(rest, uint64(same))
		rest = appendText(rest, c.Place[same:])
		place = c.Place
		rest = c.RRset.AppendBinary(rest)
	}
	b = appendText(b, string(source))
	b = binary.AppendUvarint(b, uint64(len(texts)))
	for _, s := range texts {
		b = appendText(b, s)
	}
	return append(b, rest...)
}

// The coders are set up once because that allocates megabytes; EncodeAll and
// DecodeAll keep nothing from call to call and may be called concurrently. With
// fixed options the same body gives the same bytes.
var (
	shardEncoder = warm(must(zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderCRC(true))))
	shardDecoder = must(zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(MaxShardBody)))
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // fixed options: cannot fail
	}
	return v
}

// warm makes the encoder's inner channel now: made at the first use in a test's
// synctest bubble it could not be used outside of it.
func warm(e *zstd.Encoder) *zstd.Encoder {
	e.EncodeAll([]byte{0}, nil)
	return e
}

// compressShard gives header and compressed body.
func compressShard(body []byte) []byte {
	out := binary.BigEndian.AppendUint32([]byte{shardMagic, shardVersion, shardZstd}, uint32(len(body)))
	return shardEncoder.EncodeAll(body, out)
}

// DecodeShard reads what EncodeShard wrote. Every claim's RRset passes Check and
// every claim has the shard's Source, which passes Source.Check.
func DecodeShard(b []byte) ([]Claim, error) {
	body, err := shardBody(b)
	if err != nil {
		return nil, fmt.Errorf("claim shard: %w", err)
	}
	claims, err := decodeShardBody(body)
	if err != nil {
		return nil, fmt.Errorf("claim shard: %w", err)
	}
	return claims, nil
}

func shardBody(b []byte) ([]byte, error) {
	if len(b) < shardHeader || b[0] != shardMagic {
		return nil, fmt.Errorf("does not start with %q, so it is none", shardMagic)
	}
	if b[1] != shardVersion {
		return nil, fmt.Errorf("has format version %d, this program reads %d", b[1], shardVersion)
	}
	switch rest := b[shardHeader:]; b[2] {
	case shardPlain:
		if len(rest) > MaxShardBody {
			return nil, fmt.Errorf("body of %d octets, at most %d", len(rest), MaxShardBody)
		}
		return rest, nil
	case shardZstd:
		if len(rest) < 4 {
			return nil, errors.New("size is cut off")
		}
		size := binary.BigEndian.Uint32(rest)
		if size > MaxShardBody {
			return nil, fmt.Errorf("body of %d octets, at most %d", size, MaxShardBody)
		}
		body, err := shardDecoder.DecodeAll(rest[4:], nil)
		if err != nil {
			return nil, fmt.Errorf("decompress: %w", err)
		}
		if len(body) != int(size) {
			return nil, fmt.Errorf("body has %d octets, header says %d", len(body), size)
		}
		return body, nil
	}
	return nil, fmt.Errorf("has coding %d, this program reads %d and %d", b[2], shardPlain, shardZstd)
}

func decodeShardBody(b []byte) ([]Claim, error) {
	r := shardReader{b: b}
	source := Source(r.text())
	texts := make([]string, 0, r.count(1))
	for range cap(texts) {
		texts = append(texts, r.text())
	}
	// The smallest claim: flags, three indexes, time, two place lengths, and an
	// RRset of owner 1, type 2, location 1, TTL 4, count 2, one record 2 + 0.
	const minClaim = 7 + 12
	claims := make([]Claim, 0, r.count(minClaim))
	if r.err == nil {
		r.err = source.Check()
	}
	var place string
	var at int64
	for range cap(claims) {
		flags := r.byte()
		c := Claim{Source: source, Fallback: flags&flagFallback != 0}
		c.Author, c.Reason, c.Revision = r.pick(texts), r.pick(texts), r.pick(texts)
		at += r.varint()
		c.Time = time.UnixMilli(at).UTC()
		same := r.uvarint()
		if r.err == nil && same > uint64(len(place)) {
			r.err = fmt.Errorf("place shares %d octets with one of %d", same, len(place))
		}
		if r.err != nil {
			break
		}
		c.Place = place[:same] + r.text()
		place = c.Place
		if flags&^flagFallback != 0 && r.err == nil {
			r.err = fmt.Errorf("claim %d has the unknown flags 0x%02x", len(claims)+1, flags)
		}
		r.rrset(&c.RRset)
		if r.err != nil {
			break
		}
		claims = append(claims, c)
	}
	if r.err != nil {
		return nil, r.err
	}
	if len(r.b) > 0 {
		return nil, fmt.Errorf("%d octets after the last claim", len(r.b))
	}
	return claims, nil
}

// shardReader takes a body apart from the front. After an error it returns
// zeroes and keeps the first error.
type shardReader struct {
	b   []byte
	err error
}

func (r *shardReader) byte() byte {
	if r.err != nil || len(r.b) == 0 {
		r.cut()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *shardReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.err != nil || n <= 0 {
		r.cut()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *shardReader) varint() int64 {
	v, n := binary.Varint(r.b)
	if r.err != nil || n <= 0 {
		r.cut()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *shardReader) text() string {
	n := r.uvarint()
	if r.err != nil || n > uint64(len(r.b)) {
		r.cut()
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// count reads how many items of at least size octets follow; more than the rest
// can hold is an error, so that a count never allocates what is not there.
func (r *shardReader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/size) {
		r.cut()
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

func (r *shardReader) pick(texts []string) string {
	i := r.uvarint()
	if r.err == nil && i >= uint64(len(texts)) {
		r.err = fmt.Errorf("text %d of %d", i, len(texts))
	}
	if r.err != nil {
		return ""
	}
	return texts[i]
}

func (r *shardReader) rrset(to *RRset) {
	if r.err != nil {
		return
	}
	*to, r.b, r.err = DecodeRRset(r.b)
}

func (r *shardReader) cut() {
	if r.err == nil {
		r.err = errors.New("is cut off")
	}
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func sharedPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
