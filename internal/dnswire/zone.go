package dnswire

import (
	"errors"
	"io"
	"io/fs"

	"github.com/zonecast/zonecast/record"
)

// ParseZone reads the zone file called file and gives each record to yield, in
// order, with its place as file:line. $INCLUDE finds files inside fsys only.
// files is every file that was read, the zone file first, also when there is an
// error: a change in any of them may mend it. An error starts with
// file:line:column when it is about a line. An error of yield ends the parse and
// is returned with the place before it.
func ParseZone(fsys fs.FS, file string, origin record.Name,
	yield func(owner record.Name, t record.Type, ttl uint32, rd record.Rdata, place string) error) (files []string, err error) {
	return nil, errors.New("not yet")
}

// WriteZone writes rrsets, those at and below apex, as a zone file: absolute
// names, the SOA first, then canonical order; equal input gives equal bytes.
// RRsets with a location are written as comments: zone files cannot say it.
func WriteZone(w io.Writer, apex record.Name, rrsets []record.RRset) error {
	return errors.New("not yet")
}
