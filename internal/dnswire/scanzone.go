package dnswire

import (
	"bytes"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/zonecast/zonecast/record"
)

// ZoneRecord is one record of a zone file. Its octets are valid during the call
// that has it and are not to be changed.
type ZoneRecord struct {
	Owner     []byte // a record.Name
	SameOwner bool   // Owner is that of the record before
	Type      record.Type
	TTL       uint32 // seconds, at most record.MaxTTL
	Rdata     []byte // a record.Rdata
	File      string // the zone file, or one that it includes
	Line      int    // from 1: where the entry starts
}

// Place is file:line.
func (r *ZoneRecord) Place() string { return r.File + ":" + strconv.Itoa(r.Line) }

// ScanZone is ParseZone without an allocation for each record: fn has the records
// in order as octets that are valid until it returns.
func ScanZone(fsys fs.FS, file string, origin record.Name, fn func(r *ZoneRecord) error) (files []string, err error) {
	return new(ZoneScanner).Scan(fsys, file, origin, fn)
}

// ZoneScanner is for reading one zone file after the other: what a Scan allocated
// for a file's octets serves the next. The zero value is ready.
type ZoneScanner struct{ buf []byte }

// Scan is ScanZone.
func (z *ZoneScanner) Scan(fsys fs.FS, file string, origin record.Name, fn func(r *ZoneRecord) error) (files []string, err error) {
	p := zoneParser{fsys: fsys, fn: fn, origin: origin, buf: z.buf}
	err = p.file(file)
	z.buf = p.buf
	return p.files, err
}

// give counts a record and hands it over.
func (p *zoneParser) give(s *scanner, line int, owner []byte, t record.Type, ttl uint32, rd []byte) error {
	if p.records++; p.records > maxRecords {
		return fmt.Errorf("more than %d records", maxRecords)
	}
	if p.octets += len(owner) + len(rd); p.octets > maxOctets {
		return fmt.Errorf("more than %d octets of names and RDATA", maxOctets)
	}
	same := bytes.Equal(owner, p.given)
	if !same {
		p.given = append(p.given[:0], owner...)
	}
	p.rec = ZoneRecord{Owner: owner, SameOwner: same, Type: t, TTL: ttl, Rdata: rd, File: s.file, Line: line}
	return p.fn(&p.rec)
}
