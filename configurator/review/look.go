package review

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zonecast/zonecast/configurator/repo"
)

// Look is a proposal as it would land now.
type Look struct {
	Proposal *Proposal
	Tip      repo.Hash // what it would land on
	Changed  []string  // paths, compared with Tip
	Plan     Plan
	// Requirements are those of the policy of Tip, with the approvals that count.
	Requirements []*Requirement
	// Problem is why it cannot land whoever approves it: a *ConflictError or a
	// *SourceError. There is no Plan then.
	Problem error
	// Void are the approvals of what is proposed that do not count, and why.
	Void []Void

	result *repo.Tree
	policy *Policy
}

// Void is an approval that does not count.
type Void struct {
	Approval Event
	Why      string
}

// Examine shows a proposal as it would land now.
func (v *Review) Examine(ctx context.Context, n int) (*Look, error) {
	p, _, err := v.get(ctx, n)
	if err != nil {
		return nil, err
	}
	if p.State.finished() {
		return nil, &FinishedError{n, p.State}
	}
	l, err := v.look(ctx, p)
	if err != nil {
		return nil, err
	}
	l.count(v, p)
	return l, nil
}

// look puts p on top of the branch. Approvals are not counted.
func (v *Review) look(ctx context.Context, p *Proposal) (*Look, error) {
	tip, err := v.repo.Tip(ctx)
	if err != nil {
		return nil, err
	}
	l := &Look{Proposal: p, Tip: tip}
	if l.policy, err = v.policy(ctx, tip); err != nil {
		return nil, err
	}
	onto, err := v.repo.Tree(ctx, tip)
	if err != nil {
		return nil, err
	}
	if p.Base == tip {
		l.result, err = v.repo.Tree(ctx, p.Head)
	} else {
		l.result, err = v.repo.Merge(ctx, p.Base, tip, p.Head)
	}
	var conflict *repo.Conflict
	switch {
	case errors.As(err, &conflict):
		l.Problem = v.conflict(ctx, describe(p), conflict)
		if l.Changed, err = v.repo.Changed(ctx, p.Base, p.Head); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	default:
		l.Changed = onto.Changed(l.result)
		if l.Problem = CheckPolicy(l.result, l.Changed); l.Problem != nil {
			break
		}
		var bad *SourceError
		l.Plan, err = v.plan(ctx, onto, l.result, l.Changed)
		if errors.As(err, &bad) {
			l.Problem = bad
		} else if err != nil {
			return nil, fmt.Errorf("%s: plan: %w", describe(p), err)
		}
	}
	l.Requirements = l.policy.requirements(p.Author, l.Changed, l.Plan.Zones)
	return l, nil
}

// Result is the tree that the branch would have. It is nil when there is a Problem.
func (l *Look) Result() *repo.Tree { return l.result }

// CheckPolicy is a *SourceError that says what is wrong with the policy that a change
// brings; nil if it brings none.
func CheckPolicy(result *repo.Tree, changed []string) error {
	if !slices.Contains(changed, OwnersFile) {
		return nil
	}
	s, err := result.Stat(OwnersFile)
	if err != nil {
		return nil // taken away: the default policy holds then
	}
	if s.Size() > maxOwnersFile || s.IsDir() {
		return &SourceError{fmt.Errorf("%s: expected a file of at most %d octets", OwnersFile, maxOwnersFile)}
	}
	b, err := result.ReadFile(OwnersFile)
	if err == nil {
		_, err = ParsePolicy(b)
	}
	if err != nil {
		return &SourceError{err}
	}
	return nil
}

// count adds the approvals of p that count to the requirements.
func (l *Look) count(v *Review, p *Proposal) {
	now := v.cfg.Now()
	l.Void = nil
	for _, q := range l.Requirements {
		q.By = nil
	}
	seen := map[string]bool{p.Author: true}
	for _, e := range slices.Backward(p.Events) {
		if e.Do != Approve || seen[e.Who] {
			continue
		}
		seen[e.Who] = true // the newest of each counts, or none
		void := func(format string, args ...any) {
			l.Void = append(l.Void, Void{e, fmt.Sprintf(format, args...)})
		}
		expired := now.Sub(e.At) > l.policy.expire
		switch err := v.verify(p.Number, e); {
		case e.Head != p.Head:
			// Of an earlier revision: Revise has said so.
		case expired:
			void("the approval of %s of %s expired after %s", e.Who, e.At.UTC().Format(time.RFC3339), days(l.policy.expire))
		case l.Problem == nil && e.Plan != l.Plan.Digest:
			void("the plan is another on top of %s (%s) than on top of %s (%s), which %s approved", l.Tip.Short(), l.Plan.Digest, e.Onto.Short(), e.Plan, e.Who)
		case err != nil:
			void("%v", err)
		default:
			for _, q := range l.Requirements {
				if q.owns(e.Who) {
					q.By = append(q.By, e.Who)
				}
			}
		}
	}
	for _, q := range l.Requirements {
		slices.Sort(q.By)
	}
}

// approvers are those whose approvals count.
func (l *Look) approvers() []string {
	var who []string
	for _, q := range l.Requirements {
		who = append(who, q.By...)
	}
	slices.Sort(who)
	return slices.Compact(who)
}

// owner reports whether who owns anything that changes.
func (l *Look) owner(who string) bool {
	return slices.ContainsFunc(l.Requirements, func(q *Requirement) bool { return q.owns(who) })
}

// met reports whether no approval is missing.
func (l *Look) met() bool {
	return !slices.ContainsFunc(l.Requirements, func(q *Requirement) bool { return !q.Met() })
}

// missing are the requirements that are not met.
func (l *Look) missing() []*Requirement {
	return slices.DeleteFunc(slices.Clone(l.Requirements), (*Requirement).Met)
}

// describe names a proposal in errors.
func describe(p *Proposal) string {
	if p.Number == 0 {
		return fmt.Sprintf("the proposal (%q, %s)", p.Title, p.Author)
	}
	return fmt.Sprintf("proposal %d (%q, %s)", p.Number, p.Title, p.Author)
}

// ConflictError is a change that others have made impossible.
type ConflictError struct {
	What string    // names the change
	With []Landing // what it conflicts with; Number 0 is a commit of no proposal
	*repo.Conflict
}

func (e *ConflictError) Error() string {
	var with, files []string
	for _, l := range e.With {
		if l.Number == 0 {
			with = append(with, fmt.Sprintf("commit %s (%q, %s)", l.Commit.Short(), l.Title, l.Author))
		} else {
			with = append(with, fmt.Sprintf("proposal %d (%q, %s, landed as %s)", l.Number, l.Title, l.Author, l.Commit.Short()))
		}
	}
	for _, f := range e.Files {
		files = append(files, f.String())
	}
	if e.More > 0 {
		files = append(files, fmt.Sprintf("and %d more files", e.More))
	}
	return fmt.Sprintf("%s conflicts with %s: %s; make the change anew on top of %s", e.What, strings.Join(with, " and "), strings.Join(files, "; "), e.Onto.Short())
}

func (e *ConflictError) Unwrap() error { return e.Conflict }

func (v *Review) conflict(ctx context.Context, what string, c *repo.Conflict) error {
	return Explain(ctx, v.repo, what, c)
}

// Explain finds out what has landed that what conflicts with: a *ConflictError.
func Explain(ctx context.Context, r *repo.Repo, what string, c *repo.Conflict) error {
	e := &ConflictError{What: what, Conflict: c}
	seen := map[repo.Hash]bool{}
	for _, f := range c.Files {
		if seen[f.By] {
			continue
		}
		seen[f.By] = true
		by, err := r.Commit(ctx, f.By)
		if err != nil {
			return errors.Join(c, err)
		}
		e.With = append(e.With, landingOf(by))
	}
	return e
}

// PlanChangedError says that somebody approves something else than what would land.
type PlanChangedError struct {
	Number    int
	Seen, Now string
}

func (e *PlanChangedError) Error() string {
	return fmt.Sprintf("proposal %d: its plan is %s, and not %.200q: look at it again", e.Number, e.Now, e.Seen)
}

// NotOwnerError says that somebody decides about what is not theirs.
type NotOwnerError struct {
	Number       int
	Who          string
	Requirements []*Requirement
}

func (e *NotOwnerError) Error() string {
	return fmt.Sprintf("proposal %d: %s owns nothing of what it changes: needed are %s", e.Number, e.Who, list(e.Requirements))
}

// NotApprovedError says which approvals are missing.
type NotApprovedError struct {
	Number  int
	Missing []*Requirement
}

func (e *NotApprovedError) Error() string {
	return fmt.Sprintf("proposal %d: is not approved: it has %s", e.Number, list(e.Missing))
}

func list(qs []*Requirement) string {
	var s []string
	for _, q := range qs[:min(len(qs), maxShown)] {
		s = append(s, q.String())
	}
	if len(qs) > maxShown {
		s = append(s, fmt.Sprintf("and of %d more rules", len(qs)-maxShown))
	}
	return strings.Join(s, "; ")
}

// AgainError says that what was approved is not what would land: the proposal needs
// another look.
type AgainError struct {
	Number int
	Why    string
	Err    error // *SourceError or nil
}

func (e *AgainError) Error() string {
	return fmt.Sprintf("proposal %d: needs another look: %s", e.Number, e.Why)
}

func (e *AgainError) Unwrap() error { return e.Err }
