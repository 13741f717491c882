package replay

import (
	"cmp"
	"slices"
	"time"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
)

// Traffic is what hosts were asked lately, as far as they drew.
type Traffic struct {
	Hosts    int
	From, To time.Time
	Queries  int64 // about how many there were
	Drawn    int64 // how many of them were drawn
	// NoName is the share of those that got NXDOMAIN.
	NoName    float64
	Questions []Question
	// effective is of how many questions, had they been drawn from all hosts alike, a share
	// were told as well: less than Drawn when a host with many queries drew as many
	// questions as one with few.
	effective float64
}

// Question is one of the traffic.
type Question struct {
	Name  record.Name
	Type  record.Type
	Share float64 // of all queries
}

// noName is what a sample calls the outcome.
const noName = "nxdomain"

// Join joins the samples of some hosts. Each stands for as many queries as its host has had
// in a second.
func Join(samples []tree.Sample) Traffic {
	type key struct {
		name record.Name
		t    record.Type
	}
	var t Traffic
	shares := map[key]float64{}
	total := 0.0
	squares := 0.0 // of rates, by questions drawn
	var from, to int64
	for _, s := range samples {
		drawn := 0
		for _, q := range s.Questions {
			drawn += q.Times
		}
		if drawn == 0 || s.To <= s.From {
			continue
		}
		queries := max(s.Queries, int64(drawn))
		rate := float64(queries) / float64(s.To-s.From)
		t.Hosts++
		t.Queries += queries
		t.Drawn += int64(drawn)
		total += rate
		squares += rate * rate / float64(drawn)
		if t.Hosts == 1 || s.From < from {
			from = s.From
		}
		to = max(to, s.To)
		for _, q := range s.Questions {
			part := rate * float64(q.Times) / float64(drawn)
			shares[key{q.Name, q.Type}] += part
			if q.Was == noName {
				t.NoName += part
			}
		}
	}
	if t.Hosts == 0 {
		return Traffic{}
	}
	t.From, t.To = time.UnixMilli(from), time.UnixMilli(to)
	t.NoName /= total
	t.effective = total * total / squares
	for k, s := range shares {
		t.Questions = append(t.Questions, Question{k.name, k.t, s / total})
	}
	slices.SortFunc(t.Questions, func(a, b Question) int {
		return cmp.Or(cmp.Compare(b.Share, a.Share), a.Name.Compare(b.Name), cmp.Compare(a.Type, b.Type))
	})
	return t
}
