package trial

import (
	"fmt"
	"time"

	"github.com/zonecast/zonecast/record"
)

// Trial is a change that is tried: what the presenter says of it.
type Trial struct {
	// ID is that of the hold which the change would be, and becomes when it is withdrawn.
	ID      string        `json:"id"`
	Dataset string        `json:"dataset"`
	Source  record.Source `json:"source"`
	Since   int64         `json:"since_ms"`
	Until   int64         `json:"until_ms"` // when the policy's limit is over
	// Number tells compositions apart: when others changed what the trial stands on it is composed
	// anew, with a larger one.
	Number uint64 `json:"number"`
	Base   uint64 `json:"base"` // the version that it was composed on
	// The delta (docs/format/trial.md), in parts: its size in octets, its SHA-256 in hexadecimal.
	Size     int    `json:"size"`
	SHA256   string `json:"sha256"`
	Created  int    `json:"created"`
	Replaced int    `json:"replaced"`
	Removed  int    `json:"removed"`
	Author   string `json:"author,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Why      string `json:"why"` // it is tried
	Policy   Policy `json:"policy"`
}

// State is how far a trial is.
type State string

// The states. What is passed or withdrawn stays so.
const (
	Offered   State = "offered"   // to the ring; not all live hosts of it answer it yet
	Soaking   State = "soaking"   // all live hosts of the ring answer it
	Passed    State = "passed"    // through all rings: it becomes a version
	Withdrawn State = "withdrawn" // it becomes a hold
)

// Judgement is what the canary stage says of a trial.
type Judgement struct {
	ID    string `json:"id"`
	Begun int64  `json:"begun_ms"` // Trial.Since: the same change may be tried again
	// Number is that of the composition that was judged: what is passed is that one, and no other.
	Number uint64 `json:"number"`
	Ring   int    `json:"ring"` // the trial is offered to this one and those before
	State  State  `json:"state"`
	Since  int64  `json:"since_ms"` // the state began
	// Text is what it waits for, or how it ended, in words.
	Text string `json:"text"`
	// Evidence is what was found, a sentence each.
	Evidence []string `json:"evidence,omitempty"`
	Hosts    []string `json:"hosts,omitempty"` // that answered it, at most 100
	By       string   `json:"by"`              // the process that judged
}

// Answered are hosts that answered a trial: some of them, as one node has them. Whoever judges next
// waits for them, too.
type Answered struct {
	ID    string   `json:"id"`
	Begun int64    `json:"begun_ms"` // Trial.Since
	Hosts []string `json:"hosts"`
}

// Word is what a person says of a trial.
type Word struct {
	ID       string `json:"id"`
	Begun    int64  `json:"begun_ms"` // Trial.Since
	Decision string `json:"decision"` // pass or withdraw
	Time     int64  `json:"time_ms"`
	Author   string `json:"author"`
	Reason   string `json:"reason"`
}

// Decisions of people.
const (
	Pass     = "pass"     // it becomes a version now
	Withdraw = "withdraw" // it becomes a hold now
)

// RingName is what a ring is called.
func (t *Trial) RingName(ring int) string {
	if ring >= 0 && ring < len(t.Policy.Rings) {
		return t.Policy.Rings[ring].Name
	}
	return "none"
}

// At says where a trial is, by what is said of it.
func (t *Trial) At(j Judgement) string {
	if j.ID != t.ID || j.Begun != t.Since {
		return fmt.Sprintf("trial %s is not judged yet: does `zonecast run canary` run? It is held at %s", t.ID, time.UnixMilli(t.Until).UTC().Format("2006-01-02 15:04:05Z"))
	}
	return fmt.Sprintf("trial %s, ring %s: %s", t.ID, t.RingName(j.Ring), j.Text)
}
