package tinydns

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"github.com/zonecast/zonecast/record"
)

// A cdb (cr.yp.to/cdb/cdb.txt), numbers little endian:
//
//	0      256 × (u32 where table i begins, u32 its slots)
//	2048   records: u32 key length, u32 data length, key, data
//	       256 tables: slots × (u32 hash, u32 where the record begins; 0 is empty)
//
// tinydns-data's records are of two kinds. A prefix:
//
//	key    00 '%', up to four octets of the prefix
//	data   location, two octets
//
// A DNS record, the key is the owner in wire form and lower case, less its "*.":
//
//	type      u16, big endian like all that follows
//	kind      '=', or '*' for a wildcard; with a location '>' or '+'
//	location  two octets, if the kind says so
//	ttl       u32
//	ts        u64, TAI64: the start, or with a TTL of zero the end; 0 is none
//	RDATA     the rest
const (
	cdbHeader = 2048
	cdbTables = 256
)

// cdbHash is the hash of a key.
func cdbHash(key []byte) uint32 {
	h := uint32(5381)
	for _, c := range key {
		h = h<<5 + h ^ uint32(c)
	}
	return h
}

// ReadCDB reads a data.cdb that tinydns-data made, size octets of r.
func ReadCDB(r io.ReaderAt, size int64) (*Data, error) {
	c := &cdbReader{r: r, size: size, p: parser{c: newCollector(), rd: &reader{}}}
	c.p.atlas.init()
	if err := c.read(); err != nil {
		return nil, fmt.Errorf("read data.cdb: %w", err)
	}
	d := c.p.tinyDialect()
	d.err = func(place uint32, err error) error {
		return fmt.Errorf("read data.cdb: record at octet %d: %w", place, err)
	}
	return c.p.data(d)
}

// cdbReader reads the records one after the other, and then makes sure that the hash
// tables lead to each of them and to nothing else.
type cdbReader struct {
	r    io.ReaderAt
	size int64
	p    parser // its line is the octet at which a record begins

	records uint64
	sum     uint64 // of pairMix of all records; the tables must have the same
}

// pairMix makes a number of a hash and a position such that sums of them tell sets
// apart (the finalizer of splitmix64).
func pairMix(hash, pos uint32) uint64 {
	x := uint64(hash)<<32 | uint64(pos)
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (c *cdbReader) read() error {
	if c.size < cdbHeader || c.size > maxBytes {
		return fmt.Errorf("it has %d octets, expected %d to %d", c.size, cdbHeader, int64(maxBytes))
	}
	var head [cdbHeader]byte
	if _, err := c.r.ReadAt(head[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	// The tables lie behind one another, behind the records.
	at := int64(binary.LittleEndian.Uint32(head[:]))
	end := at
	for i := range cdbTables {
		pos, slots := binary.LittleEndian.Uint32(head[8*i:]), binary.LittleEndian.Uint32(head[8*i+4:])
		if int64(pos) != end {
			return fmt.Errorf("table %d begins at octet %d, expected %d: is it a cdb?", i, pos, end)
		}
		if end += 8 * int64(slots); end > c.size {
			return fmt.Errorf("table %d ends at octet %d, the file has %d", i, end, c.size)
		}
	}
	if at < cdbHeader || end != c.size {
		return fmt.Errorf("records end at octet %d and tables at %d, expected at least %d and the file's end, %d", at, end, cdbHeader, c.size)
	}
	if err := c.readRecords(at); err != nil {
		return err
	}
	return c.readTables(head[:])
}

func (c *cdbReader) readRecords(end int64) error {
	br := bufio.NewReaderSize(io.NewSectionReader(c.r, cdbHeader, end-cdbHeader), 256<<10)
	var buf []byte
	var head [8]byte
	for at := int64(cdbHeader); at < end; {
		if end-at < 8 {
			return fmt.Errorf("record at octet %d is cut off", at)
		}
		if _, err := io.ReadFull(br, head[:]); err != nil {
			return fmt.Errorf("record at octet %d: %w", at, err)
		}
		key, data := int64(binary.LittleEndian.Uint32(head[:])), int64(binary.LittleEndian.Uint32(head[4:]))
		if key > maxName || data > record.MaxRdata+17 {
			return fmt.Errorf("record at octet %d has a key of %d octets and data of %d, at most %d and %d", at, key, data, maxName, record.MaxRdata+17)
		}
		if end-at-8 < key+data {
			return fmt.Errorf("record at octet %d is cut off", at)
		}
		buf = slices.Grow(buf[:0], int(key+data))[:key+data]
		if _, err := io.ReadFull(br, buf); err != nil {
			return fmt.Errorf("record at octet %d: %w", at, err)
		}
		c.p.rd.line = uint32(at)
		c.records++
		c.sum += pairMix(cdbHash(buf[:key]), uint32(at))
		if err := c.record(buf[:key], buf[key:]); err != nil {
			return fmt.Errorf("record at octet %d: %w", at, err)
		}
		at += 8 + key + data
	}
	return nil
}

// record takes one record.
func (c *cdbReader) record(key, data []byte) error {
	if len(key) > 1 && key[0] == 0 {
		return c.prefix(key, data)
	}
	if err := checkKey(key); err != nil {
		return err
	}
	return c.rr(key, data)
}

// checkKey tells why a key is no name in wire form and lower case.
func checkKey(key []byte) error {
	for at := 0; ; {
		if at >= len(key) || int(key[at]) > maxLabel || at+int(key[at]) >= len(key) {
			return fmt.Errorf("key of %d octets is no name in wire form", len(key))
		}
		n := int(key[at])
		for _, c := range key[at+1 : at+1+n] {
			if lowerOf[c] != c {
				return fmt.Errorf("key %s is not in lower case", record.Name(key))
			}
		}
		if at += 1 + n; n == 0 {
			if at != len(key) {
				return fmt.Errorf("key of %d octets, the name in it has %d", len(key), at)
			}
			return nil
		}
	}
}

func (c *cdbReader) prefix(key, data []byte) error {
	if key[1] != '%' || len(key) > 6 || len(data) != 2 {
		return fmt.Errorf("key %q with %d octets of data, expected a name, or 00 '%%' with up to four octets and data of two", key, len(data))
	}
	var ip [4]byte
	n := copy(ip[:], key[2:])
	lo := record.Location(data)
	if lo == "\x00\x00" {
		lo = ""
	}
	c.p.tinyPrefix(netip.PrefixFrom(netip.AddrFrom4(ip), 8*n), lo)
	return nil
}

// rr takes a DNS record whose owner, less a "*.", is owner.
func (c *cdbReader) rr(owner, data []byte) error {
	if len(data) < 15 {
		return fmt.Errorf("%s: data has %d octets, expected at least 15", record.Name(owner), len(data))
	}
	t, kind := record.Type(binary.BigEndian.Uint16(data)), data[2]
	rest := data[3:]
	p := &c.p
	p.m = mark{terms: terms{weight: 1}}
	switch kind {
	case '=', '*':
	case '=' + 1, '*' + 1:
		if len(rest) < 14 {
			return fmt.Errorf("%s: data has %d octets, expected at least 17 with a location", record.Name(owner), len(data))
		}
		if rest[0] != 0 || rest[1] != 0 {
			p.m.loc = record.Location(rest[:2])
		}
		rest = rest[2:]
	default:
		return fmt.Errorf("%s: kind %q, expected one of = > * +", record.Name(owner), kind)
	}
	p.owner = p.owner[:0]
	if kind == '*' || kind == '*'+1 {
		p.owner = append(p.owner, 1, '*')
	}
	if p.owner = append(p.owner, owner...); len(p.owner) > maxName {
		return fmt.Errorf("%s: a wildcard below it is longer than %d octets", record.Name(owner), maxName)
	}
	p.m.ttl = binary.BigEndian.Uint32(rest)
	if ts := binary.BigEndian.Uint64(rest[4:]); ts != 0 && p.m.ttl == 0 {
		p.m.until = end(ts)
	} else if ts != 0 {
		p.m.from = start(ts)
	}
	if p.m.ttl > record.MaxTTL {
		return fmt.Errorf("%s: TTL is %d, at most %d (RFC 2181 §8)", record.Name(owner), p.m.ttl, record.MaxTTL)
	}
	return c.data(t, rest[12:])
}

// data adds the record with its RDATA.
func (c *cdbReader) data(t record.Type, data []byte) error {
	p := &c.p
	if !t.IsData() {
		return fmt.Errorf("%s: type %s is for questions and messages only and cannot be data", record.Name(p.owner), t)
	}
	if t == record.TypeTXT && len(data) == 0 {
		p.note("%s: the text is empty: taken as one empty string, TXT without any is malformed", record.Name(p.owner))
		data = []byte{0}
	}
	data, err := canonical(t, data)
	if err != nil {
		return fmt.Errorf("%s: %w", record.Name(p.owner), err)
	}
	return p.c.add(p.owner, t, &p.m, data, p.rd.line)
}

// readTables compares the tables with the records.
func (c *cdbReader) readTables(head []byte) error {
	var records, sum uint64
	from := int64(binary.LittleEndian.Uint32(head))
	br := bufio.NewReaderSize(io.NewSectionReader(c.r, from, c.size-from), 256<<10)
	var slot [8]byte
	for i := range cdbTables {
		for range binary.LittleEndian.Uint32(head[8*i+4:]) {
			if _, err := io.ReadFull(br, slot[:]); err != nil {
				return fmt.Errorf("table %d: %w", i, err)
			}
			hash, pos := binary.LittleEndian.Uint32(slot[:]), binary.LittleEndian.Uint32(slot[4:])
			if pos == 0 && hash == 0 {
				continue
			}
			if hash%cdbTables != uint32(i) {
				return fmt.Errorf("table %d has the hash %08x of table %d", i, hash, hash%cdbTables)
			}
			records++
			sum += pairMix(hash, pos)
		}
	}
	if records != c.records || sum != c.sum {
		return fmt.Errorf("the tables lead to %d records, there are %d, or they are not the same ones: the file is damaged", records, c.records)
	}
	return nil
}
