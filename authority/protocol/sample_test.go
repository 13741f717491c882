package protocol

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestSampledQueries asks for as many names in turn as there are queries for one that is
// sampled: none of them is sampled more than others, and of all one in SampleEvery is.
func TestSampledQueries(t *testing.T) {
	view := hardZone(t).view(t)
	k := NewWorker(Config{Seed: 7})
	var sampled [SampleEvery]int
	k.Sample = func(m *Message, _ Outcome, _ time.Duration) { sampled[m.Query[headerSize+1]-'0']++ }
	var queries [SampleEvery][]byte
	for i := range queries {
		queries[i] = benchQuery(fmt.Sprintf("\\%03d.example.net.", '0'+i), dns.TypeA)
	}
	const rounds = 2000
	buf := make([]byte, 0, 4096)
	for range rounds {
		for _, q := range queries {
			buf = k.Respond(view, q, UDP, time.Unix(0, 0), buf[:0])
		}
	}
	total := 0
	for i, n := range sampled {
		total += n
		// A name is sampled 31 times on average, with a standard deviation of 5.6.
		if n < 5 || n > 70 {
			t.Errorf("name %d was sampled %d times of %d, want about %d", i, n, rounds, rounds/SampleEvery)
		}
	}
	// Gaps have a standard deviation of 37: the sum of 2000 of them one of 26 queries sampled.
	if total < rounds-130 || total > rounds+130 {
		t.Errorf("%d queries were sampled, want about %d", total, rounds)
	}
}
