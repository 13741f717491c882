package tinydns

import (
	"fmt"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

// Data is what a file says.
type Data struct {
	Sets  []record.Set // in the order of their keys
	Atlas geo.Atlas
	// AnyDepth: wildcards match names of any depth below them, and past names that
	// exist. Both servers do so.
	AnyDepth bool
	Notes    []Note
}

// Note is something that was read and cannot be said exactly, or that the server it
// was written for ignores.
type Note struct {
	File string // empty for a data.cdb
	Line int    // from 1; of a data.cdb the offset of the record
	Text string
}

// String is the note as a line for people.
func (n Note) String() string {
	if n.File == "" {
		return fmt.Sprintf("data.cdb at octet %d: %s", n.Line, n.Text)
	}
	return fmt.Sprintf("%s:%d: %s", n.File, n.Line, n.Text)
}

// Bounds of one file. They are our own choice, but for the size: a cdb cannot be
// larger, and a larger text would make one.
const (
	maxBytes = 1<<32 - 1 // octets
	// maxLine is in octets: RDATA of 65,535 octets as octal escapes, 4 octets each,
	// is 262,140, and names and numbers have room beside it.
	maxLine    = 1 << 19
	maxRecords = 1 << 27
	maxNames   = 1 << 27 // names with all that are above them
	maxNotes   = 10000   // kept; the others are counted
)

// Where a client's location is looked up in tinydns data: one map for all names.
const tinyMap = "\x00\x00"

// TTLs in seconds and SOA numbers that are taken when a line gives none. The same in
// both formats (tinydns-data.c; dnsdata/data.go).
const (
	ttlNS       = 259200
	ttlPositive = 86400
	ttlNegative = 2560
	soaRefresh  = 16384
	soaRetry    = 2048
	soaExpire   = 1048576
	soaMinimum  = 2560
)

// Types that have a line of their own and that ':' therefore refuses.
func prohibited(t record.Type) bool {
	switch t {
	case 0, record.TypeNS, record.TypeCNAME, record.TypeSOA, record.TypePTR, record.TypeMX, record.TypeAXFR:
		return true
	}
	return false
}

// notes collects up to maxNotes of them.
type notes struct {
	list []Note
	more int
}

func (n *notes) add(file string, line int, format string, args ...any) {
	if len(n.list) == maxNotes {
		n.more++
		return
	}
	n.list = append(n.list, Note{file, line, fmt.Sprintf(format, args...)})
}

// all ends the list with how many more there were.
func (n *notes) all(file string) []Note {
	if n.more > 0 {
		n.list = append(n.list, Note{file, 0, fmt.Sprintf("%d more notes", n.more)})
		n.more = 0
	}
	return n.list
}

// clip shortens text from outside for a message.
func clip[T ~string | ~[]byte](s T) string {
	const most = 60
	if len(s) <= most {
		return string(s)
	}
	return string(s[:most]) + "…"
}
