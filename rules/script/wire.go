package script

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// What goes between a Host and its child. A text is a uvarint length and octets, a count is
// a uvarint:
//
//	request   'l', uvarint set, count, (text name, text)…       files of rules
//	          'e', uvarint set, text source, count, text call…  evaluate a rule of a set
//	call      's', server                         the shards that a server is in
//	          'b', server                         and the claims of its own shard
//	          'c', text shard, count, server…     the claims of a shard
//	server    text name, count, (u8 4 or 16, octets)…, text role, site, cluster, uvarint TTL,
//	          count, (text option, value)…, text origin, author, reason, varint time
//	answer    text error, then of 'l': count, (text source, file, digest, error)…
//	          of 'e': count, text result…, one for each call, in their order
//	result    text error, count, text shard…      of 's' and 'b'
//	          u8 own                              of 'b': 1 when the rule has a shard for each server
//	          text error, count, made…            of 'c', and of 'b' with own
//	made      u8 1 fallback, text file, uvarint line, record.RRset
const (
	wireLoad     = 'l'
	wireEvaluate = 'e'
	wireShards   = 's'
	wireBoth     = 'b'
	wireClaims   = 'c'
)

func appendText[T ~string | ~[]byte](b []byte, s T) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendServer(b []byte, s *fleet.Server) []byte {
	b = appendText(b, s.Name)
	b = binary.AppendUvarint(b, uint64(len(s.Addresses)))
	for _, a := range s.Addresses {
		b = append(b, byte(a.BitLen()/8))
		if a.Is4() {
			v := a.As4()
			b = append(b, v[:]...)
		} else {
			v := a.As16()
			b = append(b, v[:]...)
		}
	}
	b = appendText(b, s.Role)
	b = appendText(b, s.Site)
	b = appendText(b, s.Cluster)
	b = binary.AppendUvarint(b, uint64(s.TTL))
	b = binary.AppendUvarint(b, uint64(len(s.Options)))
	if len(s.Options) > 0 {
		for _, k := range slices.Sorted(maps.Keys(s.Options)) {
			b = appendText(b, k)
			b = appendText(b, s.Options[k])
		}
	}
	b = appendText(b, s.Origin)
	b = appendText(b, s.Author)
	b = appendText(b, s.Reason)
	return binary.AppendVarint(b, s.Time)
}

// callOf encodes a call: shard is "" unless kind is wireClaims.
func callOf(kind byte, shard string, members ...fleet.Server) []byte {
	b := make([]byte, 1, 160)
	b[0] = kind
	if kind == wireClaims {
		b = appendText(b, shard)
		b = binary.AppendUvarint(b, uint64(len(members)))
	}
	for i := range members {
		b = appendServer(b, &members[i])
	}
	return b
}

// made is an RRset that a rule makes, and where.
type made struct {
	record.RRset
	fallback bool
	file     string
	line     uint32
}

func appendMade(b []byte, all []made) []byte {
	b = binary.AppendUvarint(b, uint64(len(all)))
	for i := range all {
		flags := byte(0)
		if all[i].fallback {
			flags = 1
		}
		b = append(b, flags)
		b = appendText(b, all[i].file)
		b = binary.AppendUvarint(b, uint64(all[i].line))
		b = all[i].RRset.AppendBinary(b)
	}
	return b
}

// wireReader takes octets apart from the front. After an error it gives zeroes and keeps
// the first error. Counts never announce more than is there.
type wireReader struct {
	b     []byte
	err   error
	texts map[string]string // those seen, so that equal ones are one; nil: none are kept
}

func (r *wireReader) cut() {
	if r.err == nil {
		r.err = errors.New("message is cut off")
	}
	r.b = nil
}

func (r *wireReader) byte() byte {
	if len(r.b) == 0 {
		r.cut()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *wireReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.cut()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *wireReader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.cut()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// octets gives a text that shares the message's memory.
func (r *wireReader) octets() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.cut()
		return nil
	}
	s := r.b[:n:n]
	r.b = r.b[n:]
	return s
}

func (r *wireReader) text() string { return string(r.octets()) }

// shared is text for what many servers have in common.
func (r *wireReader) shared() string {
	const most = 10_000
	b := r.octets()
	if s, ok := r.texts[string(b)]; ok {
		return s
	}
	s := string(b)
	if r.texts != nil && len(r.texts) < most {
		r.texts[s] = s
	}
	return s
}

// count reads how many items of at least size octets follow.
func (r *wireReader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/size) {
		r.cut()
		return 0
	}
	return int(n)
}

// end gives the first error, or that something follows.
func (r *wireReader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%d octets after the message", len(r.b))
	}
	return r.err
}

// minServer is the least that a server takes: ten texts and numbers, and a count.
const minServer = 10

func (r *wireReader) server() (s fleet.Server) {
	s.Name = record.Name(r.text())
	s.Addresses = make([]netip.Addr, 0, r.count(5))
	for range cap(s.Addresses) {
		n := int(r.byte())
		if n != 4 && n != 16 || n > len(r.b) {
			r.cut()
			break
		}
		a, _ := netip.AddrFromSlice(r.b[:n])
		s.Addresses, r.b = append(s.Addresses, a), r.b[n:]
	}
	s.Role, s.Site, s.Cluster = r.shared(), r.shared(), r.shared()
	s.TTL = uint32(r.uvarint())
	if n := r.count(2); n > 0 {
		s.Options = make(map[string]string, n)
		for range n {
			k := r.shared()
			s.Options[k] = r.shared()
		}
	}
	s.Origin, s.Author, s.Reason = r.shared(), r.shared(), r.shared()
	s.Time = r.varint()
	return s
}

// made reads what appendMade wrote; every RRset passes Check.
func (r *wireReader) made() []made {
	const least = 1 + 1 + 1 + 12 // flags, file, line; an RRset of one record without octets
	n := r.count(least)
	if n > maxRecords {
		r.err = fmt.Errorf("%d records, at most %d", n, maxRecords)
		return nil
	}
	all := make([]made, 0, n)
	for range n {
		flags := r.byte()
		m := made{fallback: flags == 1, file: r.shared(), line: uint32(r.uvarint())}
		if r.err == nil && flags > 1 {
			r.err = fmt.Errorf("record with the flags 0x%02x, expected 0 or 1", flags)
		}
		if r.err != nil {
			return nil
		}
		if m.RRset, r.b, r.err = record.DecodeRRset(r.b); r.err != nil {
			return nil
		}
		all = append(all, m)
	}
	return all
}

// shards reads the names of shards, each of which is one that a rule may name.
func (r *wireReader) shards() []string {
	n := r.count(2)
	if n > maxGroups+3 { // and those of the server, its cluster and the fleet
		r.err = fmt.Errorf("%d shards of a server, at most %d", n, maxGroups+3)
		return nil
	}
	all := make([]string, 0, n)
	for range n {
		s := r.text()
		if r.err == nil && (strings.Contains(s, "/") || strings.HasPrefix(s, "@") || store.CheckPath("/"+s) != nil) {
			r.err = fmt.Errorf("shard %.80q, expected one path element of printable ASCII", s)
		}
		if r.err != nil {
			return nil
		}
		all = append(all, s)
	}
	return all
}
