package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/zonecast/zonecast/snapshot"
)

// A log file is (docs/format/journal.md; integers are big endian):
//
//	magic       8 octets  "zclog" 00 00 02
//	generation  u64
//	id          u64       as in CURRENT
//	group       u64       number of the first group
//	length      u32       octets of base
//	checksum    u32       CRC-32C of everything before and of base
//	base        JSON: where the log begins
//	groups      one after the other
//
// A group is:
//
//	magic       4 octets  "zcgr"
//	number      u64       one more than that of the group before, also over generations
//	length      u64       octets of payload
//	payload     u32       CRC-32C of payload
//	header      u32       CRC-32C of the 24 octets before
//	payload     deltas u32; each u32 length and octets; manifest u32 length and octets
const (
	logMagic    = "zclog\x00\x00\x02"
	logFixed    = 8 + 8 + 8 + 8 + 4 + 4
	groupMagic  = "zcgr"
	groupHeader = 4 + 8 + 8 + 4 + 4
)

// Limits, in octets. maxGroup leaves room for two deltas of the largest size and
// their manifest; maxBase for a manifest, its escapes doubled.
const (
	maxGroup = 1 << 30
	maxBase  = 256 << 10
)

// base is where a log begins.
type base struct {
	Dataset string `json:"dataset"`
	// State is the state of the snapshot file of the same generation. Without ID
	// there is no file, and the state is the empty dataset at version 0.
	State snapshot.Ref `json:"state"`
	// Manifest covers State; empty in a journal that never had one.
	Manifest []byte `json:"manifest"`
}

func encodeLogHeader(c current, firstGroup uint64, b base) ([]byte, error) {
	text, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	if len(text) > maxBase {
		return nil, fmt.Errorf("base has %d octets, at most %d", len(text), maxBase)
	}
	h := append([]byte(nil), logMagic...)
	h = binary.BigEndian.AppendUint64(h, c.generation)
	h = binary.BigEndian.AppendUint64(h, c.id)
	h = binary.BigEndian.AppendUint64(h, firstGroup)
	h = binary.BigEndian.AppendUint32(h, uint32(len(text)))
	sum := castagnoli(append(bytes.Clone(h), text...))
	return append(binary.BigEndian.AppendUint32(h, sum), text...), nil
}

// logReader reads a log file. It is at a group's start.
type logReader struct {
	path       string
	file       File
	base       base
	generation uint64
	// start is where the first group begins, at where the next one does, and
	// number is the next one's.
	start, at int64
	number    uint64
}

// openLog reads the start of the log that c names.
func openLog(fsys FS, dir string, c current) (*logReader, error) {
	path := logName(dir, c.generation)
	file, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, readError(path, -1, err)
	}
	l := &logReader{path: path, file: file, generation: c.generation}
	if err := l.readHeader(c); err != nil {
		file.Close()
		return nil, err
	}
	return l, nil
}

func (l *logReader) readHeader(c current) error {
	size, err := l.file.Size()
	if err != nil {
		return err
	}
	if size < logFixed {
		return &Error{File: l.path, Offset: -1, Found: fmt.Sprintf("%d octets, expected %d or more", size, logFixed)}
	}
	h := make([]byte, logFixed)
	if n, err := l.file.ReadAt(h, 0); n < len(h) {
		return readError(l.path, 0, err)
	}
	if string(h[:8]) != logMagic {
		return &Error{File: l.path, Offset: 0, Found: fmt.Sprintf("starts with %q, expected %q (log format 2)", h[:8], logMagic)}
	}
	length := int64(binary.BigEndian.Uint32(h[32:]))
	if length > maxBase || logFixed+length > size {
		return &Error{File: l.path, Offset: 32, Found: fmt.Sprintf("base of %d octets, expected at most %d in a file of %d", length, maxBase, size)}
	}
	text := make([]byte, length)
	if n, err := l.file.ReadAt(text, logFixed); n < len(text) {
		return readError(l.path, logFixed, err)
	}
	if got, want := castagnoli(append(bytes.Clone(h[:36]), text...)), binary.BigEndian.Uint32(h[36:]); got != want {
		return &Error{File: l.path, Offset: 36, Found: fmt.Sprintf("CRC-32C of the header is %08x, expected %08x", got, want)}
	}
	if g, id := binary.BigEndian.Uint64(h[8:]), binary.BigEndian.Uint64(h[16:]); g != c.generation || id != c.id {
		return &Error{File: l.path, Offset: 8, Found: fmt.Sprintf("generation %d with id %016x, CURRENT says %d with %016x", g, id, c.generation, c.id)}
	}
	if err := json.Unmarshal(text, &l.base); err != nil {
		return &Error{File: l.path, Offset: logFixed, Found: "base is not readable", Err: err}
	}
	l.number = binary.BigEndian.Uint64(h[24:])
	l.start = logFixed + length
	l.at = l.start
	return nil
}

// group is a group that has been read whole.
type group struct {
	deltas   [][]byte
	manifest []byte
}

// errTorn says that there is no whole group yet, or any more.
var errTorn = errors.New("group is not whole")

// next reads the next group. io.EOF: there is none. errTorn: the octets that are
// there are no whole group, and no whole group is behind them: an append is under
// way, or was cut short. An *Error: damage.
func (l *logReader) next() (group, error) {
	size, err := l.file.Size()
	if err != nil {
		return group{}, err
	}
	if size == l.at {
		return group{}, io.EOF
	}
	payload, why, err := l.read(l.at, size, l.number, l.number)
	if err != nil {
		return group{}, err
	}
	if payload == nil {
		behind, err := l.wholeBehind(size)
		if err != nil {
			return group{}, err
		}
		if behind == 0 {
			return group{}, errTorn
		}
		// The append may have ended since.
		if payload, _, err = l.read(l.at, size, l.number, l.number); err != nil {
			return group{}, err
		}
		if payload == nil {
			return group{}, &Error{File: l.path, Offset: l.at, Found: fmt.Sprintf("%s, and a whole group is behind it at offset %d", why, behind)}
		}
	}
	g, err := decodeGroup(payload)
	if err != nil {
		return group{}, &Error{File: l.path, Offset: l.at, Found: fmt.Sprintf("group %d is whole but not readable", l.number), Err: err}
	}
	l.at += groupHeader + int64(len(payload))
	l.number++
	return g, nil
}

// read reads the payload of the group at an offset, whose number must be in a
// range; nil and why not, when it is not whole.
func (l *logReader) read(at, size int64, least, most uint64) (payload []byte, why string, err error) {
	if size-at < groupHeader {
		return nil, fmt.Sprintf("%d octets, expected a group header of %d", size-at, groupHeader), nil
	}
	var h [groupHeader]byte
	if n, err := l.file.ReadAt(h[:], at); n < len(h) {
		return nil, "", readError(l.path, at, err)
	}
	if string(h[:4]) != groupMagic {
		return nil, fmt.Sprintf("starts with %q, expected %q", h[:4], groupMagic), nil
	}
	if got, want := castagnoli(h[:24]), binary.BigEndian.Uint32(h[24:]); got != want {
		return nil, fmt.Sprintf("CRC-32C of the group header is %08x, expected %08x", got, want), nil
	}
	number, length := binary.BigEndian.Uint64(h[4:]), binary.BigEndian.Uint64(h[12:])
	if number < least || number > most {
		return nil, fmt.Sprintf("group number %d, expected %d", number, least), nil
	}
	if length > maxGroup || int64(length) > size-at-groupHeader {
		return nil, fmt.Sprintf("group of %d octets, %d are left", length, size-at-groupHeader), nil
	}
	payload = make([]byte, length)
	if n, err := l.file.ReadAt(payload, at+groupHeader); n < len(payload) {
		if err == io.EOF {
			return nil, "group ended while it was read", nil // cut off by its writer
		}
		return nil, "", readError(l.path, at+groupHeader, err)
	}
	if got, want := castagnoli(payload), binary.BigEndian.Uint32(h[20:]); got != want {
		return nil, fmt.Sprintf("CRC-32C of the group's %d octets is %08x, expected %08x", length, got, want), nil
	}
	return payload, "", nil
}

// wholeBehind looks for a later group behind the next one's start: its offset, or
// 0. Every append waits until the one before is durable, so a crash leaves at
// most one group that is not whole, and nothing behind it.
func (l *logReader) wholeBehind(size int64) (int64, error) {
	const window = 1 << 20
	buf := make([]byte, min(window, size-l.at))
	for at := l.at + 1; at < size; {
		n, err := l.file.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if n == 0 {
			if err == io.EOF {
				return 0, nil
			}
			return 0, readError(l.path, at, err)
		}
		for i := 0; ; i++ {
			k := bytes.Index(buf[i:n], []byte(groupMagic))
			if k < 0 {
				break
			}
			i += k
			payload, _, err := l.read(at+int64(i), size, l.number+1, 1<<64-1)
			if err != nil {
				return 0, err
			}
			if payload != nil {
				return at + int64(i), nil
			}
		}
		at += max(1, int64(n-len(groupMagic)+1)) // a magic may lie across two windows
	}
	return 0, nil
}

func encodeGroup(number uint64, g group) ([]byte, error) {
	size := 4 + 4 + len(g.manifest)
	for _, d := range g.deltas {
		size += 4 + len(d)
	}
	if size > maxGroup {
		return nil, fmt.Errorf("group has %d octets, at most %d: append fewer deltas at once", size, maxGroup)
	}
	b := make([]byte, groupHeader, groupHeader+size)
	b = binary.BigEndian.AppendUint32(b, uint32(len(g.deltas)))
	for _, d := range g.deltas {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(d))), d...)
	}
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(g.manifest))), g.manifest...)
	copy(b, groupMagic)
	binary.BigEndian.PutUint64(b[4:], number)
	binary.BigEndian.PutUint64(b[12:], uint64(size))
	binary.BigEndian.PutUint32(b[20:], castagnoli(b[groupHeader:]))
	binary.BigEndian.PutUint32(b[24:], castagnoli(b[:24]))
	return b, nil
}

func decodeGroup(b []byte) (group, error) {
	var g group
	if len(b) < 4 {
		return g, fmt.Errorf("%d octets, expected the number of deltas", len(b))
	}
	count, rest := binary.BigEndian.Uint32(b), b[4:]
	part := func() (p []byte, err error) {
		if len(rest) < 4 || int64(len(rest))-4 < int64(binary.BigEndian.Uint32(rest)) {
			return nil, fmt.Errorf("offset %d: a part is cut off", len(b)-len(rest))
		}
		n := 4 + int(binary.BigEndian.Uint32(rest))
		p, rest = rest[4:n:n], rest[n:]
		return p, nil
	}
	for range count {
		d, err := part()
		if err != nil {
			return g, err
		}
		g.deltas = append(g.deltas, d)
	}
	var err error
	if g.manifest, err = part(); err != nil {
		return g, err
	}
	if len(rest) > 0 {
		return g, fmt.Errorf("%d octets are left behind the manifest", len(rest))
	}
	return g, nil
}
