package plan

import (
	"io"
)

// Bounds of what a plan shows. It says how many there are beyond them.
const (
	MaxRecords = 1000    // RRsets, of all zones together
	MaxRoom    = 1 << 20 // octets of RDATA as text, of all RRsets together
	MaxData    = 20      // records of an RRset
	MaxText    = 500     // octets of a record, and of other text from outside
	MaxZones   = 1000
	MaxClaims  = 1000
	MaxLosing  = 100
	MaxLines   = 100 // of each other list
)

// Plan is what changes would do.
type Plan struct {
	Digest             string   `json:"digest"`
	Configurations     []Config `json:"configurations"` // by path
	MoreConfigurations int      `json:"more_configurations"`
	// Total counts the RRsets that change, and ZoneCount the zones that they are in.
	Total     Counts `json:"total"`
	ZoneCount int    `json:"zone_count"`
	Zones     []Zone `json:"zones"` // with records that change, by name
	// Touches are the zones of all claims that move, whether they hold or not: all of them.
	Touches []string `json:"touches"`
	// Come and Go count the claims; one that is replaced is in both.
	Come int `json:"claims_come"`
	Go   int `json:"claims_go"`
	// Claims are those that move, by source and in canonical order.
	Claims     []Claim `json:"claims"`
	MoreClaims int     `json:"more_claims"`
	// Losing are those that come and do not hold as they are.
	Losing     []Claim `json:"losing"`
	MoreLosing int     `json:"more_losing"`
	// Begin and End are conflicts, in words.
	Begin     []string `json:"conflicts_begin"`
	MoreBegin int      `json:"more_conflicts_begin"`
	End       []string `json:"conflicts_end"`
	MoreEnd   int      `json:"more_conflicts_end"`
	// Held is what guards would hold, Waits what else the change would wait for.
	Held     []Held   `json:"held"`
	MoreHeld int      `json:"more_held"`
	Waits    []string `json:"waits"`
	// Fails is for what rules could not be evaluated, whose last good claims would stay.
	Fails []string `json:"fails"`
	// Notes say what the plan does not know.
	Notes []string `json:"notes"`
	// Traffic is nil when it was not asked for.
	Traffic *Traffic `json:"traffic,omitempty"`
}

// New is a plan of nothing, with empty lists for JSON.
func New() *Plan {
	return &Plan{
		Configurations: []Config{}, Zones: []Zone{}, Touches: []string{}, Claims: []Claim{}, Losing: []Claim{},
		Begin: []string{}, End: []string{}, Held: []Held{}, Waits: []string{}, Fails: []string{}, Notes: []string{},
	}
}

// Kind says how something changes.
type Kind string

// Kinds.
const (
	Added   Kind = "added"
	Changed Kind = "changed"
	Removed Kind = "removed"
	TTL     Kind = "ttl" // nothing but the TTL
)

// Config is a configuration that changes. Change stands for what of its value does, and not
// for the rest, which others may change meanwhile; it is empty where the claims say it.
type Config struct {
	Path   string `json:"path"`
	Type   string `json:"type"`
	Kind   Kind   `json:"kind"`
	Change string `json:"change,omitempty"`
}

// Counts are RRsets by what happens to them.
type Counts struct {
	Added   int `json:"added"`
	Changed int `json:"changed"`
	Removed int `json:"removed"`
	TTL     int `json:"ttl"`
}

// Add counts one more.
func (c *Counts) Add(k Kind) {
	switch k {
	case Added:
		c.Added++
	case Changed:
		c.Changed++
	case Removed:
		c.Removed++
	case TTL:
		c.TTL++
	}
}

// Sum is all of them.
func (c Counts) Sum() int { return c.Added + c.Changed + c.Removed + c.TTL }

// Zone is what changes in a zone. Name is empty for names that are in none.
type Zone struct {
	Name string `json:"name"`
	Counts
	Records []Record `json:"records"` // in canonical order
	More    int      `json:"more"`    // that are not in Records
}

// Record is an RRset that changes.
type Record struct {
	Owner    string `json:"owner"`
	Type     string `json:"type"`
	Location string `json:"location,omitempty"`
	Kind     Kind   `json:"kind"`
	Before   *Set   `json:"before,omitempty"`
	After    *Set   `json:"after,omitempty"`
}

// Set is the TTL and the data of an RRset, in presentation format; long records are cut.
type Set struct {
	TTL  uint32   `json:"ttl"`
	Data []string `json:"data"`
	More int      `json:"more,omitempty"` // records that are not in Data
}

// Fates of claims. Those of claims that come are reconcile's verdicts: wins, agrees, united,
// loses, yields.
const Goes = "goes" // it is not claimed any more

// Claim is a claim that moves, and what becomes of it.
type Claim struct {
	Source   string `json:"source"`
	Place    string `json:"place,omitempty"` // file:line
	Owner    string `json:"owner"`
	Type     string `json:"type"`
	Location string `json:"location,omitempty"`
	Kind     Kind   `json:"kind"`
	Fate     string `json:"fate"`
	// Against is the source that decides against it, or whose data it has, too; and where.
	Against string `json:"against,omitempty"`
	At      string `json:"at,omitempty"`
	Rule    string `json:"rule,omitempty"` // why, in words
	Hint    string `json:"hint,omitempty"` // what to do
}

// Held is what guards say of a source's part of the change, in the words of the hold that it
// would be.
type Held struct {
	Source string   `json:"source"`
	Why    []string `json:"why"`
}

// Traffic is which part of the live traffic asks what changes. Shares are 0 to 1.
type Traffic struct {
	Unknown string  `json:"unknown,omitempty"` // why nothing is known; then nothing else is set
	Drawn   int64   `json:"drawn"`             // questions from which it is told
	Hosts   int     `json:"hosts"`             // that drew them
	Queries int64   `json:"queries"`           // of which they were drawn
	NoName  float64 `json:"no_name"`           // asks names that are not there
	// Touched asks names at which something changes, or would be answered otherwise.
	Touched float64 `json:"touched"`
	// Share would be answered otherwise, with a probability of 95 % between Low and High.
	Share    float64      `json:"share"`
	Low      float64      `json:"low"`
	High     float64      `json:"high"`
	Kinds    []Difference `json:"kinds"` // the largest first
	Examples []Example    `json:"examples"`
	More     int          `json:"more"` // questions that are no example
}

// Difference is in what way answers would be otherwise (replay.Kind), and of which part.
type Difference struct {
	Kind  string  `json:"kind"`
	Share float64 `json:"share"`
}

// Example is a question that would be answered otherwise.
type Example struct {
	Name   string  `json:"name"`
	Type   string  `json:"type"`
	Share  float64 `json:"share"`
	Before string  `json:"before"`
	After  string  `json:"after"`
}

// Empty tells that nothing changes: no configuration, no claim, no record.
func (p *Plan) Empty() bool {
	return len(p.Configurations)+p.MoreConfigurations+p.Total.Sum()+p.Come+p.Go == 0
}

// Text writes the plan for a terminal.
func (p *Plan) Text(w io.Writer) error { return p.write(w, text{}, 0) }

// MaxMarkdown is how long Markdown gets, in octets: what a comment of GitHub has room for
// (65,536 characters), with some of it for others.
const MaxMarkdown = 60_000

// Markdown writes it for a comment of a forge.
func (p *Plan) Markdown(w io.Writer) error { return p.write(w, markdown{}, MaxMarkdown) }
