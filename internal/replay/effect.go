package replay

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// Effect is what a change would do to the live traffic.
type Effect struct {
	// From how many questions it is told, of how many hosts, drawn from how many queries
	// in which time. Drawn 0: nothing is known, and nothing else is set.
	Drawn    int64
	Hosts    int
	From, To time.Time
	Queries  int64
	// NoName is the share of the queries that ask for names which are not there: a flood of
	// them makes all other shares small.
	NoName float64

	// Touched is the share of the queries that ask for names at which something is otherwise
	// (but for the serial of a SOA), or would be answered otherwise.
	Touched float64
	// Share is which part of the queries would be answered otherwise, 0 to 1. It lies between
	// Low and High with a probability of 95 %.
	Share, Low, High float64
	Kinds            []KindShare // the largest first
	Examples         []Example   // the largest shares first
	More             int         // questions that would be answered otherwise and are no Example
}

// Kind is in what way an answer differs: what it becomes.
type Kind string

// The kinds.
const (
	NXDomain Kind = "nxdomain" // the name would not be there any more
	NoData   Kind = "nodata"   // the name would have nothing of the type
	Refused  Kind = "refused"  // it would be in no zone
	Failure  Kind = "failure"  // SERVFAIL, or no name that could be followed
	Referral Kind = "referral" // to other servers, or with other addresses of them
	Alias    Kind = "alias"    // it would lead out of the zones here
	Answer   Kind = "answer"   // there would be records, and were none
	Data     Kind = "data"     // other records
	TTL      Kind = "ttl"      // nothing but a TTL
)

// KindShare is a kind of difference, and in which part of all queries it is.
type KindShare struct {
	Kind  Kind
	Share float64
}

// Example is a question that would be answered otherwise.
type Example struct {
	Question
	Kind          Kind
	Before, After string // in words
}

// maxExamples bounds Effect.Examples.
const maxExamples = 5

// maxRounds bounds how far answers are followed: each leads to one name more at most, and
// a host follows 16 aliases (authority/protocol).
const maxRounds = 20

// Of asks the questions in both states, each of which is r with some RRsets otherwise; either
// of them may be r itself. serve makes a Server that has nothing; it is called twice.
func Of(t Traffic, r Reader, before, after Otherwise, serve func() (Server, error)) (Effect, error) {
	return Each(t, r, before, after, serve, func(Example) {})
}

// Each is Of, and calls each with every question that would be answered otherwise.
func Each(t Traffic, r Reader, before, after Otherwise, serve func() (Server, error), each func(Example)) (Effect, error) {
	if t.Drawn == 0 {
		return Effect{}, nil
	}
	e := Effect{Drawn: t.Drawn, Hosts: t.Hosts, From: t.From, To: t.To, Queries: t.Queries, NoName: t.NoName}
	states := [2]*changed{change(r, before), change(r, after)}
	var questions []Question
	scope := newScope(states[0], states[1])
	for _, q := range t.Questions {
		if scope.asks(q.Name) {
			questions = append(questions, q)
		}
	}
	var parts [2]*part
	for i, state := range states {
		s, err := serve()
		if err != nil {
			return Effect{}, err
		}
		parts[i] = newPart(state, s)
		for _, q := range questions {
			parts[i].show(q.Name)
		}
		if err := follow(parts[i], questions); err != nil {
			return Effect{}, err
		}
	}
	kinds := map[Kind]float64{}
	for _, q := range questions {
		x, err := parts[0].compare(parts[1], q)
		if err != nil {
			return Effect{}, err
		}
		if x.Kind != "" || scope.owners[q.Name] {
			e.Touched += q.Share
		}
		if x.Kind == "" {
			continue
		}
		e.Share += q.Share
		kinds[x.Kind] += q.Share
		each(x)
		if len(e.Examples) < maxExamples { // questions come with the largest share first
			e.Examples = append(e.Examples, x)
		} else {
			e.More++
		}
	}
	for k, s := range kinds {
		e.Kinds = append(e.Kinds, KindShare{k, s})
	}
	slices.SortFunc(e.Kinds, func(a, b KindShare) int { return cmp.Or(cmp.Compare(b.Share, a.Share), cmp.Compare(a.Kind, b.Kind)) })
	e.Share, e.Touched = min(e.Share, 1), min(e.Touched, 1) // they are sums
	e.Low, e.High = bounds(e.Share, t.effective)
	return e, nil
}

// bounds is the score interval of Wilson (1927) of a share p of n, 95 %.
func bounds(p, n float64) (low, high float64) {
	const z = 1.96
	middle, width := p+z*z/(2*n), z*math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return max(0, min(p, (middle-width)/(1+z*z/n))), min(1, max(p, (middle+width)/(1+z*z/n))) // but for rounding
}

// follow asks the questions until no answer leads to a name that the part was not shown.
func follow(p *part, questions []Question) error {
	for range maxRounds {
		if err := p.give(); err != nil {
			return err
		}
		var open []Question
		for _, q := range questions {
			names, err := leads(p.Ask(q.Name, q.Type))
			if err != nil {
				return fmt.Errorf("ask for %s %s: %w", q.Name, q.Type, err)
			}
			found := false
			for _, name := range names {
				found = p.show(name) || found
			}
			if found {
				open = append(open, q)
			}
		}
		if questions = open; len(open) == 0 {
			return nil
		}
	}
	return p.give()
}

// compare asks a question in both parts. Without a difference the Kind is "".
func (p *part) compare(after *part, q Question) (Example, error) {
	a, b := p.Ask(q.Name, q.Type), after.Ask(q.Name, q.Type)
	if bytes.Equal(a, b) {
		return Example{}, nil
	}
	x := Example{Question: q}
	was, err := dnswire.ParseResponse(a)
	if err != nil {
		return x, fmt.Errorf("ask for %s %s: %w", q.Name, q.Type, err)
	}
	is, err := dnswire.ParseResponse(b)
	if err != nil {
		return x, fmt.Errorf("ask for %s %s: %w", q.Name, q.Type, err)
	}
	one, two := see(was, q.Type), see(is, q.Type)
	x.Kind = one.otherwise(two)
	if x.Kind != "" {
		x.Before, x.After = one.text(x.Kind == TTL), two.text(x.Kind == TTL)
	}
	return x, nil
}

// Compare tells in what way a client would see another response, "" in none. Both are in
// wire form and to the same question.
func Compare(before, after []byte, t record.Type) (Kind, error) {
	was, err := dnswire.ParseResponse(before)
	if err != nil {
		return "", err
	}
	is, err := dnswire.ParseResponse(after)
	if err != nil {
		return "", err
	}
	return see(was, t).otherwise(see(is, t)), nil
}
