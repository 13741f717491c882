package join

import (
	"errors"
	"slices"
	"time"

	"github.com/zonecast/zonecast/rtt"
)

// Config bounds a Joiner.
type Config struct {
	// Keep is how long a measurement is known after the first that was heard of it. It must be
	// longer than its token is good, or a report could be repeated.
	Keep time.Duration
	// Grace is how long after its report a measurement waits for what DNS tells of it.
	Grace time.Duration
	// Most is how many measurements are known at a time.
	Most int
}

// maxAskers is how many resolvers, and how many subnets, one measurement has: a client's
// queries go to two or three at most, and a farm behind one address is one prefix.
const maxAskers = 4

// Asked is a query for a name of a measurement.
type Asked struct {
	ID uint64
	// By is who asked. Its kind says whether for one client subnet (rtt.Client) or for
	// whoever is behind the resolver (rtt.Resolver).
	By rtt.Key
}

// Time is how long one target took.
type Time struct {
	Target string
	RTT    time.Duration
}

// Reported is a report of a measurement. The joiner keeps Times.
type Reported struct {
	ID     uint64
	Client rtt.Key
	Hash   uint64 // of the client, for rtt.Clients
	Times  []Time
}

// Joined is a measurement with all that is known of it.
type Joined struct {
	Reported
	// By is who asked for its names, in the order in which they came; empty: DNS told
	// nothing.
	By []rtt.Key
	At time.Time // of the report
}

// What is wrong with a call.
var (
	// ErrRepeated is a report of what was reported before.
	ErrRepeated = errors.New("it was reported before")
	// ErrFull finds too many others.
	ErrFull = errors.New("too many measurements at a time")
)

// Joiner knows the measurements of the last while. It is for one goroutine at a time.
type Joiner struct {
	config  Config
	known   map[uint64]*entry
	first   queue // all that are known, by when they were heard of first
	waiting queue // those that were reported and wait, by when they were reported

	unreported uint64
}

// entry is a measurement:
//
//	asked -- report --> waiting -- grace --> done
//	  (or reported at once)                    all: Keep after the first that was heard, gone
type entry struct {
	id       uint64
	began    time.Time
	by       []rtt.Key
	reported *Reported // nil: not yet, or done
	at       time.Time // of the report
	done     bool
}

// New makes a Joiner that knows nothing.
func New(c Config) *Joiner {
	return &Joiner{config: c, known: map[uint64]*entry{}}
}

// Len is how many measurements are known.
func (j *Joiner) Len() int { return len(j.known) }

// Unreported is how many measurements went without a report.
func (j *Joiner) Unreported() uint64 { return j.unreported }

// Full tells whether there is little room left: then no new measurement should begin.
func (j *Joiner) Full() bool { return len(j.known) >= j.config.Most-j.config.Most/8 }

// Asked takes a query. The only error is ErrFull.
func (j *Joiner) Asked(a Asked, now time.Time) error {
	e, err := j.entry(a.ID, now)
	if err != nil {
		return err
	}
	if !e.done && len(e.by) < maxAskers && !slices.Contains(e.by, a.By) {
		e.by = append(e.by, a.By)
	}
	return nil
}

// Reported takes a report. Errors are ErrRepeated and ErrFull.
func (j *Joiner) Reported(r Reported, now time.Time) error {
	e, err := j.entry(r.ID, now)
	if err != nil {
		return err
	}
	if e.done || e.reported != nil {
		return ErrRepeated
	}
	e.reported, e.at = &r, now
	j.waiting.push(e)
	return nil
}

func (j *Joiner) entry(id uint64, now time.Time) (*entry, error) {
	if e, ok := j.known[id]; ok {
		return e, nil
	}
	if len(j.known) >= j.config.Most {
		return nil, ErrFull
	}
	e := &entry{id: id, began: now}
	j.known[id] = e
	j.first.push(e)
	return e, nil
}

// Expire gives the measurements whose time has come, in the order of their reports, and
// forgets what is older than Keep.
func (j *Joiner) Expire(now time.Time, each func(Joined)) {
	for e := j.waiting.front(); e != nil && now.Sub(e.at) >= j.config.Grace; e = j.waiting.front() {
		j.waiting.pop()
		each(Joined{Reported: *e.reported, By: e.by, At: e.at})
		e.done, e.reported, e.by = true, nil, nil
	}
	for e := j.first.front(); e != nil && now.Sub(e.began) >= j.config.Keep; e = j.first.front() {
		if e.reported != nil {
			return // reported late; after its grace
		}
		j.first.pop()
		delete(j.known, e.id)
		if !e.done {
			j.unreported++
		}
	}
}

// queue is first in, first out.
type queue struct {
	all  []*entry
	from int
}

func (q *queue) push(e *entry) { q.all = append(q.all, e) }

func (q *queue) front() *entry {
	if q.from == len(q.all) {
		return nil
	}
	return q.all[q.from]
}

func (q *queue) pop() {
	q.all[q.from] = nil
	if q.from++; q.from > 1024 && q.from > len(q.all)/2 {
		q.all, q.from = slices.Delete(q.all, 0, q.from), 0
	}
}
