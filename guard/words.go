package guard

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
)

// number writes n with commas.
func number(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func rrsets(n int) string {
	if n == 1 {
		return "1 RRset"
	}
	return number(n) + " RRsets"
}

func are(n int) string {
	if n == 1 {
		return "1 is"
	}
	return number(n) + " are"
}

func removesAll(n int) string {
	if n == 1 {
		return "its only RRset is removed"
	}
	return "all " + number(n) + " RRsets are removed"
}

func percent(n, of int) string {
	switch {
	case of == 0:
		return "of none"
	case n > 0 && n*100 < of:
		return "<1 %"
	}
	return number(n*100/of) + " %"
}

// short is d without the zeros at its end: 10m, not 10m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// byType says how many RRsets are of which type, the most first.
func byType(types map[record.Type]int, all int) string {
	if all < 2 {
		return ""
	}
	var order []record.Type
	for t := range types {
		order = append(order, t)
	}
	slices.SortFunc(order, func(a, b record.Type) int {
		if types[a] != types[b] {
			return types[b] - types[a]
		}
		return int(a) - int(b)
	})
	const most = 4
	var parts []string
	for i, t := range order {
		if i == most {
			parts = append(parts, number(all)+" of other types")
			break
		}
		parts = append(parts, number(types[t])+" "+t.String())
		all -= types[t]
	}
	if n := len(parts); n > 1 {
		return strings.Join(parts[:n-1], ", ") + " and " + parts[n-1]
	}
	return parts[0]
}

// words is the RRset as it was, and as it would be.
func (e *event) words() string {
	switch {
	case e.now == nil && e.old == nil:
		return e.key.String()
	case e.now == nil:
		return e.key.String() + " " + data(e.old)
	case e.old == nil:
		return e.key.String() + " " + data(e.now)
	case e.renamed():
		return e.key.String() + " " + data(e.old) + " → " + e.now.Owner.String()
	case slices.Equal(e.old.Data, e.now.Data):
		return fmt.Sprintf("%s TTL %d → %d", e.key, e.old.TTL, e.now.TTL)
	}
	text := e.key.String() + " " + data(e.old) + " → " + data(e.now)
	if e.lowered {
		text += fmt.Sprintf(" (TTL %d → %d)", e.old.TTL, e.now.TTL)
	}
	return text
}

// data is the RDATA of an RRset for people: a few records, and not the whole of a long
// one.
func data(r *record.RRset) string {
	const most = 4
	var parts []string
	for i, d := range r.Data {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %s more", number(len(r.Data)-most)))
			break
		}
		parts = append(parts, rdata(r.Type, d))
	}
	return strings.Join(parts, " ")
}

func rdata(t record.Type, d record.Rdata) string {
	b := []byte(d)
	switch t {
	case record.TypeA, record.TypeAAAA:
		if a, ok := netip.AddrFromSlice(b); ok {
			return a.String()
		}
	case record.TypeCNAME, record.TypeNS, record.TypePTR, record.TypeDNAME, record.TypeSOA: // of a SOA, the first name
		if n, _, err := record.NameFromWire(b); err == nil {
			return n.String()
		}
	case record.TypeMX:
		if len(b) > 2 {
			if n, _, err := record.NameFromWire(b[2:]); err == nil {
				return strconv.Itoa(int(b[0])<<8|int(b[1])) + " " + n.String()
			}
		}
	case record.TypeTXT:
		if len(b) > 0 && int(b[0]) < len(b) {
			return strconv.QuoteToASCII(clip(string(b[1 : 1+int(b[0])])))
		}
	}
	return `\# ` + strconv.Itoa(len(b)) + " " + clip(hex.EncodeToString(b)) // RFC 3597 §5
}

func clip(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}

func isFreshnessRecord(e *event) bool { return snapshot.IsFreshness(*e.key) }
