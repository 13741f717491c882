package reconcile

import (
	"github.com/zonecast/zonecast/record"
)

// Verdict is what became of a claim.
type Verdict string

// Verdicts.
const (
	Wins   Verdict = "wins"   // it is in the dataset
	Agrees Verdict = "agrees" // the dataset has its data, from a claim before it
	United Verdict = "united" // its records are in the dataset, with those of others
	Loses  Verdict = "loses"  // a conflict keeps it out
	Yields Verdict = "yields" // a Fallback claim, and another zone is there
)

// Finding is one claim and what became of it.
type Finding struct {
	Claim   record.Claim
	Verdict Verdict
	Rule    string        // why, in words
	Against *record.Claim // the claim that decided against it, or that it agrees with; may be nil
}

// Explanation is why a name is in the dataset as it is.
type Explanation struct {
	Name record.Name
	Type record.Type // zero: every type
	Zone record.Name // apex of the zone that holds the name; "" when none does
	// RRsets are those of Name and Type in the dataset, in canonical order.
	RRsets []record.RRset
	// Wildcard is the name in the dataset that answers for Name, which is not there
	// itself (RFC 4592); "" when none does.
	Wildcard record.Name
	// Findings has every claim on the name, of the type asked or one that decided
	// over it (CNAME, DNAME, NS), in order of type, location and precedence.
	Findings []Finding
	// Around has claims on other names that decide over this one: the zone's SOA,
	// the NS of a zone cut or the DNAME above it.
	Around []record.Claim
	// Warnings are conflicts of kind Warning on the name.
	Warnings []Conflict
	// Notes say the rest in sentences, the most important first.
	Notes []string
}
