package protocol

import (
	"encoding/binary"

	"github.com/zonecast/zonecast/record"
)

// writer appends a response to a buffer. It takes names back when an RRset does not
// fit. The zero value needs reset.
type writer struct {
	buf   []byte
	base  int // where the message starts in buf
	limit int // octets the message may have, room for the OPT left out
	names nameTable
}

// nameTable knows where the suffixes of names already written stand, so that later
// ones can point there (RFC 1035 §4.1.4). It is a hash table with chains whose
// newest entries are taken off again when an RRset is rolled back. When it is full,
// names are written out: larger, not wrong.
type nameTable struct {
	heads   [128]uint16 // index of the newest entry + 1
	entries [512]nameEntry
	len     int
}

type nameEntry struct {
	hash uint32
	at   uint16 // offset in the message, below 1<<14
	next uint16 // older entry with the same head, as in heads
}

const maxPointer = 1<<14 - 1

func (w *writer) reset(buf []byte, limit int) {
	w.buf, w.base, w.limit = buf, len(buf), limit
	w.names.heads = [128]uint16{}
	w.names.len = 0
}

func (w *writer) size() int { return len(w.buf) - w.base }

func (w *writer) u16(v int) { w.buf = binary.BigEndian.AppendUint16(w.buf, uint16(v)) }

// octets is a name in wire form, as a string or as bytes.
type octets interface{ ~string | ~[]byte }

// labels finds the labels of a name in canonical wire form and hashes its suffixes;
// it gives the number of labels.
func labels[N octets](name N, off *[128]uint8, hash *[128]uint32) int {
	k := 0
	for i := 0; name[i] != 0; i += int(name[i]) + 1 {
		off[k] = uint8(i)
		k++
	}
	h := uint32(2166136261) // FNV-1a over the labels from the root down
	end := len(name) - 1
	for j := k - 1; j >= 0; j-- {
		for i := int(off[j]); i < end; i++ {
			h = (h ^ uint32(name[i])) * 16777619
		}
		hash[j] = h
		end = int(off[j])
	}
	return k
}

// learn enters the suffixes of a name that stands uncompressed at offset at.
func (w *writer) learn(name []byte, at int) {
	var off [128]uint8
	var hash [128]uint32
	for j := range labels(name, &off, &hash) {
		w.names.add(hash[j], at+int(off[j]))
	}
}

// name writes a name, pointing at what stands in the message already.
func name[N octets](w *writer, n N) {
	var off [128]uint8
	var hash [128]uint32
	k := labels(n, &off, &hash)
	for j := range k {
		if at, ok := find(w, n[off[j]:], hash[j]); ok {
			w.u16(pointerMark<<8 | at)
			return
		}
		w.names.add(hash[j], w.size())
		end := int(off[j]) + 1 + int(n[off[j]])
		w.buf = append(w.buf, n[off[j]:end]...)
	}
	w.buf = append(w.buf, 0)
}

func (t *nameTable) add(hash uint32, at int) {
	if at > maxPointer || t.len == len(t.entries) {
		return
	}
	head := &t.heads[hash%uint32(len(t.heads))]
	t.entries[t.len] = nameEntry{hash: hash, at: uint16(at), next: *head}
	t.len++
	*head = uint16(t.len)
}

// shrink takes off the newest entries.
func (t *nameTable) shrink(to int) {
	for t.len > to {
		t.len--
		e := t.entries[t.len]
		t.heads[e.hash%uint32(len(t.heads))] = e.next
	}
}

// find looks for a name in the message.
func find[N octets](w *writer, n N, hash uint32) (at int, ok bool) {
	for i := w.names.heads[hash%uint32(len(w.names.heads))]; i != 0; {
		e := &w.names.entries[i-1]
		if e.hash == hash && equalAt(w.buf[w.base:], int(e.at), n) {
			return int(e.at), true
		}
		i = e.next
	}
	return 0, false
}

// equalAt compares the canonical name n with the one at offset i of msg, which we
// wrote: its pointers point back.
func equalAt[N octets](msg []byte, i int, n N) bool {
	for k := 0; ; {
		for msg[i] >= pointerMark {
			i = int(binary.BigEndian.Uint16(msg[i:])) & maxPointer
		}
		l := int(msg[i])
		if l != int(n[k]) {
			return false
		}
		if l == 0 {
			return true
		}
		for x := 1; x <= l; x++ {
			if lower(msg[i+x]) != n[k+x] {
				return false
			}
		}
		i += l + 1
		k += l + 1
	}
}

// set writes an RRset, its records rotated by turn, with the given TTL, and gives
// how many records it has; 0 when it does not fit: then nothing was written.
func set[N octets](w *writer, owner N, s *record.RRset, ttl uint32, turn int) int {
	mark, names := len(w.buf), w.names.len
	pointer := -1 // where the owner stands
	for i := range s.Data {
		rd := string(s.Data[(i+turn)%len(s.Data)])
		if pointer >= 0 {
			w.u16(pointerMark<<8 | pointer)
		} else {
			start := w.size()
			name(w, owner)
			if p := w.buf[w.base+start]; p >= pointerMark {
				pointer = int(binary.BigEndian.Uint16(w.buf[w.base+start:])) & maxPointer
			} else if p != 0 && start <= maxPointer {
				pointer = start
			}
		}
		w.u16(int(s.Type))
		w.u16(classIN)
		w.buf = binary.BigEndian.AppendUint32(w.buf, ttl)
		at := len(w.buf)
		w.u16(0)
		w.rdata(s.Type, rd)
		binary.BigEndian.PutUint16(w.buf[at:], uint16(len(w.buf)-at-2))
		if w.size() > w.limit {
			w.buf = w.buf[:mark]
			w.names.shrink(names)
			return 0
		}
	}
	return len(s.Data)
}

// rdata writes RDATA. Names are compressed in the types of RFC 1035 only, since
// receivers know no others to be compressed (RFC 3597 §4).
func (w *writer) rdata(t record.Type, rd string) {
	var before, names int // octets before the names, and how many
	switch t {
	case record.TypeNS, 3, 4, record.TypeCNAME, 7, 8, 9, record.TypePTR: // MD, MF, MB, MG, MR
		names = 1
	case record.TypeSOA, 14: // MINFO
		names = 2
	case record.TypeMX:
		before, names = 2, 1
	}
	end := before
	for range names {
		n := nameLen(rd, end)
		if n == 0 { // not what the type says: carried as it is
			names = 0
			break
		}
		end += n
	}
	if names == 0 {
		w.buf = append(w.buf, rd...)
		return
	}
	w.buf = append(w.buf, rd[:before]...)
	for at := before; at < end; {
		n := nameLen(rd, at)
		name(w, rd[at:at+n])
		at += n
	}
	w.buf = append(w.buf, rd[end:]...)
}

// nameLen is the length of the uncompressed name at offset i of rd; 0 when none is
// there, or one in which letters are not in lower case.
func nameLen(rd string, i int) int {
	for k := i; k < len(rd) && k-i < 255; {
		n := int(rd[k])
		if n == 0 {
			return k + 1 - i
		}
		if n > 63 || k+n >= len(rd) {
			return 0
		}
		for _, c := range []byte(rd[k+1 : k+1+n]) {
			if c >= 'A' && c <= 'Z' {
				return 0
			}
		}
		k += n + 1
	}
	return 0
}
