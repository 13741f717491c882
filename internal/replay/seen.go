package replay

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// seen is what a client sees of a response.
type seen struct {
	kind  Kind // Answer, Alias, NoData, NXDomain, Referral, Refused or Failure
	rcode string
	qtype record.Type
	sets  []record.RRset // in the answer section
	// servers are those of a referral, with their addresses; ttl is that of a negative
	// answer in seconds.
	servers []record.RRset
	ttl     uint32
}

// Response codes (IANA, DNS RCODEs).
const (
	rcodeNoError  = 0
	rcodeNXDomain = 3
	rcodeRefused  = 5
)

func see(r *dnswire.Response, t record.Type) seen {
	s := seen{rcode: r.RcodeName, qtype: t, sets: r.Answer}
	has := func(sets []record.RRset, t record.Type) (record.RRset, bool) {
		i := slices.IndexFunc(sets, func(x record.RRset) bool { return x.Type == t || t == record.TypeANY })
		if i < 0 {
			return record.RRset{}, false
		}
		return sets[i], true
	}
	soa, denied := has(r.Authority, record.TypeSOA)
	_, referred := has(r.Authority, record.TypeNS)
	_, answered := has(r.Answer, t)
	switch {
	case r.Rcode == rcodeNXDomain:
		s.kind = NXDomain
	case r.Rcode == rcodeRefused:
		s.kind = Refused
	case r.Rcode != rcodeNoError:
		s.kind = Failure
	case answered:
		s.kind = Answer
	case referred:
		s.kind = Referral
		s.servers = slices.Concat(r.Authority, r.Additional)
	case denied || len(r.Answer) == 0:
		s.kind = NoData
	default:
		s.kind = Alias
	}
	if denied {
		s.ttl = soa.TTL
	}
	return s
}

// otherwise tells in what way s and t differ; "" in none.
func (s seen) otherwise(t seen) Kind {
	if s.kind != t.kind || s.rcode != t.rcode {
		return t.kind
	}
	if !same(s.sets, t.sets, false) {
		return Data
	}
	if !same(s.servers, t.servers, false) {
		return Referral
	}
	if s.ttl != t.ttl || !same(s.sets, t.sets, true) || !same(s.servers, t.servers, true) {
		return TTL
	}
	return ""
}

func same(a, b []record.RRset, ttl bool) bool {
	return slices.EqualFunc(a, b, func(a, b record.RRset) bool {
		return a.Key == b.Key && slices.Equal(essence(a), essence(b)) && (!ttl || a.TTL == b.TTL)
	})
}

// essence is the data without the serial of a SOA, which says that something changed.
func essence(r record.RRset) []record.Rdata {
	if r.Type != record.TypeSOA {
		return r.Data
	}
	out := slices.Clone(r.Data)
	for i, d := range out {
		if n := len(d) - 5*4; n > 0 { // the serial is the first of five numbers
			out[i] = d[:n] + d[n+4:]
		}
	}
	return out
}

// Bounds of what is said of one answer: RRsets, records of one, octets of one.
const (
	maxSets    = 4
	maxRecords = 3
	maxRecord  = 80
)

// text says it in words; with ttls they are what matters.
func (s seen) text(ttls bool) string {
	var words []string
	add := func(sets []record.RRset) {
		for i, r := range sets {
			if i == maxSets {
				words = append(words, "and so on")
				break
			}
			words = append(words, s.set(r, ttls))
		}
	}
	add(s.sets)
	switch s.kind {
	case Answer, Alias:
	case Referral:
		words = append(words, "referral to "+s.servers[0].Owner.String())
		add(s.servers)
	case NoData:
		words = append(words, "NODATA")
	default:
		words = append(words, s.rcode)
	}
	if ttls && s.ttl > 0 {
		words[len(words)-1] += " for " + strconv.Itoa(int(s.ttl)) + " s"
	}
	return strings.Join(words, ", ")
}

// set says an RRset: with its type, unless it is what was asked for.
func (s seen) set(r record.RRset, ttl bool) string {
	var data []string
	for i, d := range r.Data {
		if i == maxRecords {
			data = append(data, fmt.Sprintf("%d more", len(r.Data)-maxRecords))
			break
		}
		text := dnswire.FormatRdata(r.Type, d)
		if len(text) > maxRecord {
			text = text[:maxRecord] + "..."
		}
		data = append(data, text)
	}
	text := strings.Join(data, " | ")
	if r.Type != s.qtype {
		text = r.Type.String() + " " + text
	}
	if ttl {
		text += fmt.Sprintf(" (TTL %d)", r.TTL)
	}
	return text
}
