package dnswire

import (
	"errors"

	"github.com/zonecast/zonecast/record"
)

// ParseRdata reads one record's RDATA in presentation form; relative names in it
// are completed with origin. RFC 3597's `\# length hex` is taken for every type.
func ParseRdata(t record.Type, text string, origin record.Name) (record.Rdata, error) {
	return "", errors.New("not yet")
}

// FormatRdata gives RDATA in presentation form, names absolute; in RFC 3597 form
// for types unknown here and for RDATA that is malformed for its type.
func FormatRdata(t record.Type, rd record.Rdata) string { return "" }

// FormatRRset gives the RRset as zone-file lines, absolute and each ended by a
// newline. The location has no form in a zone file and is left out.
func FormatRRset(r record.RRset) string { return "" }
