package freshness

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// Stamp is what a freshness record says (docs/format/freshness.md): what was
// published when it was stamped, and when that was.
type Stamp struct {
	Version uint64
	Time    time.Time // millisecond resolution
	Digest  string    // first 16 hexadecimal digits
}

// Parse reads the RDATA of a freshness record: one character-string with
// "v=<version> t=<unix milliseconds> d=<digest>", and perhaps more fields later.
func Parse(rd record.Rdata) (Stamp, error) {
	if len(rd) < 1 || len(rd) != 1+int(rd[0]) {
		return Stamp{}, fmt.Errorf("freshness record has %d octets, expected one character-string", len(rd))
	}
	var s Stamp
	text := string(rd[1:])
	for _, field := range strings.Fields(text) {
		key, value, _ := strings.Cut(field, "=")
		var err error
		switch key {
		case "v":
			s.Version, err = strconv.ParseUint(value, 10, 64)
		case "t":
			var ms int64
			ms, err = strconv.ParseInt(value, 10, 64)
			s.Time = time.UnixMilli(ms)
		case "d":
			s.Digest = value
		}
		if err != nil {
			return Stamp{}, fmt.Errorf("freshness record %q: field %q is no number", text, field)
		}
	}
	if s.Time.IsZero() {
		return Stamp{}, fmt.Errorf("freshness record %q has no time, expected t=<unix milliseconds>", text)
	}
	return s, nil
}

// Name is the owner of a dataset's freshness record in a zone.
func Name(zone record.Name, dataset string) (record.Name, error) {
	owner, err := zone.Child(dataset)
	if err == nil {
		owner, err = owner.Child("_fresh")
	}
	if err != nil {
		return "", fmt.Errorf("name of the freshness record: %w", err)
	}
	return owner, nil
}

// Of gives the stamp in a response to a question for owner's TXT records.
func Of(r *dnswire.Response, owner record.Name) (Stamp, error) {
	for _, rr := range r.Answer {
		if rr.Owner == owner && rr.Type == record.TypeTXT && len(rr.Data) == 1 {
			return Parse(rr.Data[0])
		}
	}
	return Stamp{}, fmt.Errorf("answers %s without %s TXT", r.RcodeName, owner)
}
