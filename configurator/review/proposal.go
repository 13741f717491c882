package review

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zonecast/zonecast/configurator/repo"
)

// State is how far a proposal has come.
//
//	        ┌────────── revise ───────────┐
//	propose ▼   approve           land    │
//	──────► open ─────► approved ─────► landed
//	          ▲ approve │  │
//	          │         │  └ the plan is another now, an approval expired, a conflict
//	          └─ again ◄┘
//	open, approved, again ── reject ──► rejected
//	open, approved, again ── time ────► expired ── revise ──► open
type State string

const (
	Open     State = "open"
	Approved State = "approved"
	Again    State = "again" // needs another look; Proposal.Why says why
	Landed   State = "landed"
	Rejected State = "rejected"
	Expired  State = "expired"
)

// finished reports whether nothing happens any more but by a revision.
func (s State) finished() bool { return s == Landed || s == Rejected || s == Expired }

// Deed is what was done.
type Deed string

const (
	Propose   Deed = "propose"
	Revise    Deed = "revise"
	Comment   Deed = "comment"
	Approve   Deed = "approve"
	Reject    Deed = "reject"
	Land      Deed = "land"
	LookAgain Deed = "look-again" // found when it should land
	Expire    Deed = "expire"
)

// Event is something that happened to a proposal.
type Event struct {
	At  time.Time `json:"at"`
	Who string    `json:"who"`
	Do  Deed      `json:"do"`
	Why string    `json:"why,omitempty"`
	// Head is the commit that was meant, Onto the branch at that time, and Plan the
	// digest of what Head changes on top of Onto.
	Head repo.Hash `json:"head"`
	Onto repo.Hash `json:"onto"`
	Plan string    `json:"plan,omitempty"`
	// Content is what was proposed, as a statement names it.
	Content string `json:"content,omitempty"`
	// Signature is by Who over Statement; nil: not signed.
	Signature []byte `json:"signature,omitempty"`
}

// Proposal is a change that somebody wants, and its history. It is never changed: an act
// gives another.
type Proposal struct {
	Format  int       `json:"format"` // 1
	Number  int       `json:"number"`
	Title   string    `json:"title"`
	Reason  string    `json:"reason"`
	Author  string    `json:"author"`
	Created time.Time `json:"created"`
	State   State     `json:"state"`
	Why     string    `json:"why,omitempty"` // it is in State, where that needs a reason
	Base    repo.Hash `json:"base"`
	Head    repo.Hash `json:"head"`              // its first parent is Base
	Reverts int       `json:"reverts,omitempty"` // number of the proposal that it takes back
	Landed  repo.Hash `json:"landed"`            // on the branch; "": has not
	Events  []Event   `json:"events"`            // oldest first
}

// Bounds of a proposal.
const (
	maxTitle    = 200      // octets
	maxWhy      = 16 << 10 // octets
	maxEvents   = 1_000
	maxDigest   = 200
	maxSign     = 4 << 10  // octets of a signature
	maxProposal = 64 << 20 // octets of JSON: all events with the longest of all, escaped
)

// last is when something happened to it last.
func (p *Proposal) last() time.Time { return p.Events[len(p.Events)-1].At }

// with gives the proposal after an event.
func (p *Proposal) with(state State, why string, e Event) *Proposal {
	next := *p
	next.State, next.Why = state, why
	next.Events = append(slices.Clip(p.Events), e)
	return &next
}

// checkText says what is wrong with a text that somebody wrote.
func checkText(what, s string, max int, lines bool) error {
	switch {
	case strings.TrimSpace(s) == "":
		return fmt.Errorf("%s: is missing", what)
	case len(s) > max:
		return fmt.Errorf("%s: has %d octets, expected at most %d", what, len(s), max)
	case !utf8.ValidString(s):
		return fmt.Errorf("%s: is not UTF-8", what)
	}
	for _, c := range s {
		if !strconv.IsPrint(c) && !(lines && (c == '\n' || c == '\t')) {
			return fmt.Errorf("%s: character %q is not allowed", what, c)
		}
	}
	return nil
}

func checkDigest(s string) error { return checkText("digest of the plan", s, maxDigest, false) }

// encode is the proposal as proposal.json has it.
func (p *Proposal) encode() ([]byte, error) {
	b, err := json.MarshalIndent(p, "", "  ")
	return append(b, '\n'), err
}

// decodeProposal reads what encode writes, and trusts nothing of it.
func decodeProposal(b []byte) (*Proposal, error) {
	if len(b) > maxProposal {
		return nil, fmt.Errorf("has %d octets, expected at most %d", len(b), maxProposal)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	p := &Proposal{}
	if err := d.Decode(p); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("goes on behind its end")
	}
	if p.Format != 1 {
		return nil, fmt.Errorf("has format %d, expected 1: it was written by another zonecast", p.Format)
	}
	if p.Number < 1 || p.Number > maxNumber || p.Reverts < 0 || p.Reverts >= p.Number {
		return nil, fmt.Errorf("has number %d and reverts %d", p.Number, p.Reverts)
	}
	if !slices.Contains([]State{Open, Approved, Again, Landed, Rejected, Expired}, p.State) {
		return nil, fmt.Errorf("has state %.40q", p.State)
	}
	if p.Base.IsZero() || p.Head.IsZero() || (p.State == Landed) == p.Landed.IsZero() {
		return nil, fmt.Errorf("has base %s, head %s and is landed as %s in state %s", p.Base, p.Head, p.Landed, p.State)
	}
	if len(p.Events) == 0 || len(p.Events) > maxEvents+maxOwnEvents {
		return nil, fmt.Errorf("has %d events, expected 1 to %d", len(p.Events), maxEvents+maxOwnEvents)
	}
	errs := []error{checkText("title", p.Title, maxTitle, false), checkText("reason", p.Reason, maxWhy, true), CheckName(p.Author)}
	for _, e := range p.Events {
		if !slices.Contains([]Deed{Propose, Revise, Comment, Approve, Reject, Land, LookAgain, Expire}, e.Do) {
			return nil, fmt.Errorf("has an event %.40q", e.Do)
		}
		if errs = append(errs, CheckName(e.Who)); e.Why != "" {
			errs = append(errs, checkText("why", e.Why, maxWhy, true))
		}
		if e.Plan != "" {
			errs = append(errs, checkDigest(e.Plan))
		}
		if len(e.Signature) > maxSign {
			errs = append(errs, fmt.Errorf("signature: has %d octets, expected at most %d", len(e.Signature), maxSign))
		}
	}
	return p, errors.Join(errs...)
}

// maxOwnEvents is how many events are kept for what must be noted (a landing, a
// rejection, its end) when people have written all that they may.
const maxOwnEvents = 10

// Statement is what an operator signs: everything that an act means, in lines.
//
//	zonecast review 1
//	repository ID
//	proposal 7            0 when it is proposed
//	do approve
//	who "bob"
//	at 2026-11-26T12:00:00Z
//	head 40 hexadecimal digits, or the content that is proposed
//	plan "digest"
//	why "text"
func Statement(repository string, number int, e Event) []byte {
	head := e.Content
	if head == "" {
		head = e.Head.String()
	}
	return fmt.Appendf(nil, "zonecast review 1\nrepository %s\nproposal %d\ndo %s\nwho %q\nat %s\nhead %s\nplan %q\nwhy %q\n",
		repository, number, e.Do, e.Who, e.At.UTC().Format(time.RFC3339Nano), head, e.Plan, e.Why)
}

// BranchStatement is what an operator signs who settles what was done to the branch: do is
// accept or restore, known where it was and found what it was moved to, so that it is good
// for this move alone.
func BranchStatement(repository, do string, known, found repo.Hash, a Act) []byte {
	return fmt.Appendf(nil, "zonecast branch 1\nrepository %s\ndo %s\nknown %s\nfound %s\nwho %q\nat %s\nwhy %q\n",
		repository, do, known, found, a.Who, a.At.UTC().Format(time.RFC3339Nano), a.Why)
}
