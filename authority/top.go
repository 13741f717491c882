package authority

import (
	"encoding/binary"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/zonecast/zonecast/authority/heavy"
	"github.com/zonecast/zonecast/authority/protocol"
	"github.com/zonecast/zonecast/record"
)

// What is asked the most: each worker counts the questions of its sampled queries, and
// once a period all are joined and counted anew.
const (
	topPeriod  = time.Minute
	topEntries = 256 // of each worker: a question with more than that part of all is found
	topShown   = 100
)

// top is what was asked the most in the last whole period.
type top struct {
	mu     sync.Mutex // guards below
	began  time.Time  // of the period that is counted now
	report topReport
}

// topReport is the JSON of the handler.
type topReport struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Queries is about how many there were: one in protocol.SampleEvery was looked at.
	Queries uint64        `json:"queries"`
	Names   []topQuestion `json:"names"`
}

type topQuestion struct {
	Name string `json:"name"`
	Type string `json:"type"`
	// Queries is about how many there were, at most; Error is by how much it may be too
	// many, but for the chance of sampling.
	Queries uint64 `json:"queries"`
	Error   uint64 `json:"error"`
}

// question gives the key of a query's question: the name in lower case and the type.
// Nil: it has none.
func questionKey(dst *[heavy.MaxKey]byte, query []byte) []byte {
	const header = 12
	if len(query) < header || binary.BigEndian.Uint16(query[4:]) != 1 {
		return nil
	}
	n := 0
	for b := query[header:]; ; n++ {
		if n >= len(b) || n >= 255 {
			return nil
		}
		size := int(b[n])
		dst[n] = b[n]
		if size == 0 {
			n++
			if n+2 > len(b) {
				return nil
			}
			dst[n], dst[n+1] = b[n], b[n+1]
			return dst[:n+2]
		}
		if size > 63 || n+1+size >= len(b) || n+1+size > 254 {
			return nil
		}
		for k := range size {
			c := b[n+1+k]
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			dst[n+1+k] = c
		}
		n += size
	}
}

// observe counts a sampled query.
func (k *worker) observe(m *protocol.Message, o protocol.Outcome, took time.Duration) {
	k.latency[o].observe(took)
	if key := questionKey(&k.key, m.Query); key != nil {
		k.names.Load().Add(key)
		if k.sample != nil {
			if key = sampledKey(key, m.Query); key != nil {
				k.sample.Add(key, uint8(o))
			}
		}
	}
}

// turnTop ends a period when it is due.
func (s *Server) turnTop(now time.Time) {
	s.top.mu.Lock()
	defer s.top.mu.Unlock()
	if s.top.began.IsZero() {
		s.top.began = now
	}
	if now.Sub(s.top.began) < topPeriod {
		return
	}
	s.top.report = s.countTop(now, true)
	s.top.began = now
}

// countTop joins what the workers have counted since the period began; with turn they
// begin anew.
func (s *Server) countTop(now time.Time, turn bool) topReport {
	r := topReport{From: s.top.began, To: now}
	var counters []*heavy.Counter
	s.workers.each(func(k *worker) {
		c := k.names.Load()
		if turn {
			k.names.Store(heavy.New(topEntries))
		}
		r.Queries += c.Total() * protocol.SampleEvery
		counters = append(counters, c)
	})
	for _, e := range heavy.Merge(counters...) {
		if len(r.Names) == topShown {
			break
		}
		n := len(e.Key) - 2
		name, size, err := record.NameFromWire(e.Key[:n])
		if err != nil || size != n {
			continue
		}
		r.Names = append(r.Names, topQuestion{
			Name: name.String(), Type: record.Type(binary.BigEndian.Uint16(e.Key[n:])).String(),
			Queries: e.Count * protocol.SampleEvery, Error: e.Error * protocol.SampleEvery,
		})
	}
	return r
}

// Top answers with what was asked the most in the last whole minute, as JSON; in the
// first minute with what there is.
func (s *Server) Top() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.top.mu.Lock()
		r := s.top.report
		if r.To.IsZero() {
			r = s.countTop(time.Now(), false)
		}
		s.top.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		_ = e.Encode(r) // who asked has gone
	})
}
