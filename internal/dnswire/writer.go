package dnswire

import (
	"bufio"
	"fmt"
	"io"
	"slices"

	"github.com/zonecast/zonecast/record"
)

// WriteZone writes rrsets, those at and below apex, as a zone file: absolute
// names, the SOA first, then canonical order; equal input gives equal bytes, also
// in another order. RRsets with a location are written as comments: zone files
// cannot say it. An RRset outside apex is an error, and so is a missing SOA.
func WriteZone(w io.Writer, apex record.Name, rrsets []record.RRset) error {
	rrsets = slices.Clone(rrsets)
	isSOA := func(r record.RRset) bool { return r.Key == record.Key{Owner: apex, Type: record.TypeSOA} }
	slices.SortFunc(rrsets, func(a, b record.RRset) int {
		switch {
		case isSOA(a) == isSOA(b):
			return a.Key.Compare(b.Key)
		case isSOA(a):
			return -1
		default:
			return 1
		}
	})
	if len(rrsets) == 0 || !isSOA(rrsets[0]) {
		return fmt.Errorf("write zone %s: it has no SOA", apex)
	}
	bw := bufio.NewWriter(w)
	for _, r := range rrsets {
		if !r.Owner.IsSubdomainOf(apex) {
			return fmt.Errorf("write zone %s: %s is outside of it", apex, r.Owner)
		}
		if r.Location != "" {
			for _, d := range r.Data {
				fmt.Fprintf(bw, "; location %q: %s\t%d\tIN\t%s\t%s\n", string(r.Location), r.Owner, r.TTL, r.Type, FormatRdata(r.Type, d))
			}
			continue
		}
		bw.WriteString(FormatRRset(r))
	}
	if err := bw.Flush(); err != nil {
		return fmt.Errorf("write zone %s: %w", apex, err)
	}
	return nil
}
