package review

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zonecast/zonecast/configurator/repo"
)

// Act is who does something, and why. The caller has made sure that it is them.
type Act struct {
	Who string
	Why string
	// At is when it was signed; zero if it was not.
	At        time.Time
	Signature []byte // over Statement; nil: none
}

// Draft is a change that is proposed.
type Draft struct {
	Title  string
	Reason string
	// Base is the commit from which the change was made. Zero: the branch as it is.
	Base repo.Hash
	// Files are the new contents of files by path; nil removes one.
	Files map[string][]byte
	// Commit is a commit in the repository (somebody pushed it) that has the change, in
	// place of Files. Base is then found.
	Commit repo.Hash
}

// Content names what is proposed: what a statement has as head.
func (d *Draft) Content() string {
	if !d.Commit.IsZero() {
		return "commit " + d.Commit.String()
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q\n%s\n", d.Title, d.Base)
	for _, name := range slices.Sorted(maps.Keys(d.Files)) {
		if b := d.Files[name]; b == nil {
			fmt.Fprintf(h, "%q removed\n", name)
		} else {
			fmt.Fprintf(h, "%q %x\n", name, sha256.Sum256(b))
		}
	}
	return fmt.Sprintf("sha256 %x", h.Sum(nil))
}

// event begins what is noted of an act, and checks who did it.
func (v *Review) event(a Act, e Event, number int, before []Event) (Event, error) {
	if err := CheckName(a.Who); err != nil {
		return e, err
	}
	if a.Who == own {
		return e, fmt.Errorf("operator %q: this name is that of what nobody asked for", own)
	}
	if a.Why != "" {
		if err := checkText("why", a.Why, maxWhy, true); err != nil {
			return e, err
		}
	}
	if len(a.Signature) > maxSign {
		return e, fmt.Errorf("signature: has %d octets, expected at most %d", len(a.Signature), maxSign)
	}
	now := v.cfg.Now()
	e.Who, e.Why, e.At, e.Signature = a.Who, a.Why, now, a.Signature
	if len(a.Signature) > 0 {
		if v.cfg.Verify == nil {
			return e, errors.New("signature: no keys are known here that it could be checked with")
		}
		if d := a.At.Sub(now); d > maxSkew || d < -maxSkew {
			return e, fmt.Errorf("signature: was made at %s, expected within %v of %s: set the clock", a.At.UTC().Format(time.RFC3339), maxSkew, now.UTC().Format(time.RFC3339))
		}
		e.At = a.At
		for _, old := range before {
			if old.Who == e.Who && old.Do == e.Do && old.At.Equal(e.At) {
				return e, errors.New("signature: was used before")
			}
		}
	}
	// What is read back has no monotonic clock and no zone.
	e.At = e.At.UTC().Round(0)
	return e, v.verify(number, e)
}

func (v *Review) verify(number int, e Event) error {
	if v.cfg.Verify == nil {
		return nil
	}
	if err := v.cfg.Verify(e.Who, Statement(v.repo.ID(), number, e), e.Signature); err != nil {
		return &SignatureError{e.Do, e.Who, err}
	}
	return nil
}

// SignatureError says why an act is not taken to be its author's.
type SignatureError struct {
	Do  Deed
	Who string
	Err error
}

func (e *SignatureError) Error() string {
	return fmt.Sprintf("%s of %s: signature: %v", e.Do, e.Who, e.Err)
}

func (e *SignatureError) Unwrap() error { return e.Err }

// Propose records a new proposal, once it merges and compiles on top of the branch.
func (v *Review) Propose(ctx context.Context, a Act, d Draft) (*Proposal, error) {
	a.Why = d.Reason
	return v.propose(ctx, a, d, nil, 0)
}

// propose is Propose, also of a tree that is there already and takes proposal reverts
// back.
func (v *Review) propose(ctx context.Context, a Act, d Draft, tree *repo.Tree, reverts int) (*Proposal, error) {
	if err := errors.Join(checkText("title", d.Title, maxTitle, false), checkText("reason", d.Reason, maxWhy, true)); err != nil {
		return nil, err
	}
	content := d.Content()
	if reverts > 0 {
		content = fmt.Sprintf("revert %d", reverts)
	}
	e, err := v.event(a, Event{Do: Propose, Content: content}, 0, nil)
	if err != nil {
		return nil, err
	}
	p := &Proposal{
		Format: 1, Title: d.Title, Reason: d.Reason, Author: a.Who, Created: e.At, State: Open, Reverts: reverts,
	}
	if err := v.head(ctx, p, d, tree, &e); err != nil {
		return nil, err
	}
	p.Events = []Event{e}

	v.write.Lock()
	defer v.write.Unlock()
	v.mu.Lock()
	p.Number = v.last + 1
	open := 0
	for _, k := range v.known {
		if k.proposal != nil {
			open++
		}
	}
	v.mu.Unlock()
	if p.Number > maxNumber {
		return nil, fmt.Errorf("there were %d proposals already: go on in a new repository", maxNumber)
	}
	if open >= maxOpen {
		return nil, fmt.Errorf("%d proposals are open: land or reject some", open)
	}
	return p, v.record(ctx, p)
}

// Revise replaces what a proposal proposes. Approvals do not count any more. It opens one
// that has expired again.
func (v *Review) Revise(ctx context.Context, n int, a Act, d Draft) (*Proposal, error) {
	return v.change(ctx, n, func(p *Proposal) (*Proposal, error) {
		if p.State == Landed || p.State == Rejected {
			return nil, fmt.Errorf("proposal %d: is %s: propose anew", n, p.State)
		}
		if a.Who != p.Author {
			return nil, fmt.Errorf("proposal %d: is %s's, and %s cannot revise it", n, p.Author, a.Who)
		}
		a.Why = d.Reason
		d.Title = p.Title
		if d.Reason == "" {
			d.Reason = p.Reason
		}
		if err := checkText("reason", d.Reason, maxWhy, true); err != nil {
			return nil, err
		}
		e, err := v.event(a, Event{Do: Revise, Content: d.Content()}, n, p.Events)
		if err != nil {
			return nil, err
		}
		next := *p
		next.Reason = d.Reason
		if err := v.head(ctx, &next, d, nil, &e); err != nil {
			return nil, err
		}
		return next.with(Open, "", e), nil
	})
}

// head makes the commit that is proposed, of a draft or of a tree on top of its base, and
// sees to it that it could land.
func (v *Review) head(ctx context.Context, p *Proposal, d Draft, tree *repo.Tree, e *Event) error {
	tip, err := v.repo.Tip(ctx)
	if err != nil {
		return err
	}
	p.Base = d.Base
	if !d.Commit.IsZero() {
		if len(d.Files) > 0 {
			return errors.New("a commit or files are proposed, not both")
		}
		if p.Base, err = v.repo.MergeBase(ctx, tip, d.Commit); err != nil {
			return err
		}
		if tree, err = v.repo.Tree(ctx, d.Commit); err != nil {
			return err
		}
	}
	if p.Base.IsZero() {
		p.Base = tip
	}
	if p.Base != tip {
		ours, err := v.repo.Ancestor(ctx, p.Base, tip)
		if err != nil {
			return err
		}
		if !ours {
			return fmt.Errorf("base %s: is not on branch %s", p.Base.Short(), v.repo.Branch())
		}
	}
	base, err := v.repo.Tree(ctx, p.Base)
	if err != nil {
		return err
	}
	if tree == nil {
		if tree, err = base.With(d.Files); err != nil {
			return err
		}
	}
	if tree.Hash() == base.Hash() {
		return errors.New("the proposal changes nothing")
	}
	b := v.repo.Batch()
	p.Head = b.Commit(repo.NewCommit{Tree: tree, Parents: []repo.Hash{p.Base}, Author: p.Author, When: e.At, Message: p.Title + "\n\n" + p.Reason})
	if err := b.Write(ctx); err != nil {
		return err
	}
	l, err := v.look(ctx, p)
	if err != nil {
		return err
	}
	if l.Problem != nil {
		return l.Problem
	}
	e.Head, e.Onto, e.Plan = p.Head, l.Tip, l.Plan.Digest
	return nil
}

// maxTries is how often an act begins anew because somebody else did something to the
// same proposal meanwhile.
const maxTries = 10

// change replaces a proposal by what f makes of it.
func (v *Review) change(ctx context.Context, n int, f func(*Proposal) (*Proposal, error)) (*Proposal, error) {
	for range maxTries {
		p, log, err := v.get(ctx, n)
		if err != nil {
			return nil, err
		}
		next, err := f(p)
		if err != nil {
			return nil, err
		}
		done, err := v.swap(ctx, log, next)
		if done || err != nil {
			return next, err
		}
	}
	return nil, fmt.Errorf("proposal %d: others change it all the time: try again", n)
}

// swap records next if the proposal's log still is at log.
func (v *Review) swap(ctx context.Context, log repo.Hash, next *Proposal) (bool, error) {
	v.write.Lock()
	defer v.write.Unlock()
	if !v.at(next.Number, log) {
		return false, nil
	}
	bound := maxEvents
	switch next.Events[len(next.Events)-1].Do {
	case Reject, Expire:
		bound += maxOwnEvents
	case LookAgain:
		bound += maxOwnEvents / 2
	}
	if len(next.Events) > bound {
		return false, fmt.Errorf("proposal %d: has a history of %d entries: land it, reject it or propose anew", next.Number, len(next.Events)-1)
	}
	return true, v.record(ctx, next)
}

func (v *Review) at(n int, log repo.Hash) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.known[n].log == log
}

// Comment adds what somebody has to say.
func (v *Review) Comment(ctx context.Context, n int, a Act) (*Proposal, error) {
	return v.change(ctx, n, func(p *Proposal) (*Proposal, error) {
		if a.Why == "" {
			return nil, errors.New("comment: is missing")
		}
		e, err := v.event(a, Event{Do: Comment, Head: p.Head}, n, p.Events)
		if err != nil {
			return nil, err
		}
		return p.with(p.State, p.Why, e), nil
	})
}

// Approve notes that an owner agrees with what the proposal changes on top of the branch
// as it is: plan is the digest of what they have seen.
func (v *Review) Approve(ctx context.Context, n int, a Act, plan string) (*Proposal, error) {
	return v.change(ctx, n, func(p *Proposal) (*Proposal, error) {
		if p.State.finished() {
			return nil, &FinishedError{n, p.State}
		}
		if a.Who == p.Author {
			return nil, fmt.Errorf("proposal %d: is %s's own: somebody else must approve it", n, p.Author)
		}
		l, err := v.look(ctx, p)
		if err != nil {
			return nil, err
		}
		if l.Problem != nil {
			return nil, l.Problem
		}
		if plan != l.Plan.Digest {
			return nil, &PlanChangedError{Number: n, Seen: plan, Now: l.Plan.Digest}
		}
		if !l.owner(a.Who) {
			return nil, &NotOwnerError{Number: n, Who: a.Who, Requirements: l.Requirements}
		}
		e, err := v.event(a, Event{Do: Approve, Head: p.Head, Onto: l.Tip, Plan: plan}, n, p.Events)
		if err != nil {
			return nil, err
		}
		next := p.with(p.State, p.Why, e)
		l.count(v, next)
		if l.met() {
			next.State, next.Why = Approved, ""
		}
		return next, nil
	})
}

// Reject ends a proposal. Its author may, and whoever may approve it.
func (v *Review) Reject(ctx context.Context, n int, a Act) (*Proposal, error) {
	return v.change(ctx, n, func(p *Proposal) (*Proposal, error) {
		if p.State == Landed || p.State == Rejected {
			return nil, &FinishedError{n, p.State}
		}
		if err := checkText("why", a.Why, maxWhy, true); err != nil {
			return nil, err
		}
		if a.Who != p.Author {
			l, err := v.look(ctx, p)
			if err != nil {
				return nil, err
			}
			if !l.owner(a.Who) {
				return nil, &NotOwnerError{Number: n, Who: a.Who, Requirements: l.Requirements}
			}
		}
		e, err := v.event(a, Event{Do: Reject, Head: p.Head}, n, p.Events)
		if err != nil {
			return nil, err
		}
		return p.with(Rejected, a.Why, e), nil
	})
}

// Revert proposes the inverse of what a proposal has changed, on top of what has landed
// since.
func (v *Review) Revert(ctx context.Context, n int, a Act) (*Proposal, error) {
	if err := checkText("why", a.Why, maxWhy, true); err != nil {
		return nil, err
	}
	p, _, err := v.get(ctx, n)
	if err != nil {
		return nil, err
	}
	if p.State != Landed {
		return nil, fmt.Errorf("proposal %d: is %s: only what has landed can be reverted", n, p.State)
	}
	tip, err := v.repo.Tip(ctx)
	if err != nil {
		return nil, err
	}
	ours, err := v.repo.Ancestor(ctx, p.Landed, tip)
	if err != nil {
		return nil, err
	}
	if !ours {
		return nil, fmt.Errorf("proposal %d: landed as %s, which is no longer on branch %s", n, p.Landed.Short(), v.repo.Branch())
	}
	landed, err := v.repo.Commit(ctx, p.Landed)
	if err != nil {
		return nil, err
	}
	tree, err := v.repo.Merge(ctx, p.Landed, tip, landed.Parent())
	var conflict *repo.Conflict
	if errors.As(err, &conflict) {
		return nil, v.conflict(ctx, fmt.Sprintf("the inverse of proposal %d (%q, %s)", n, p.Title, p.Author), conflict)
	}
	if err != nil {
		return nil, err
	}
	onto, err := v.repo.Tree(ctx, tip)
	if err != nil {
		return nil, err
	}
	if tree.Hash() == onto.Hash() {
		return nil, fmt.Errorf("proposal %d: nothing of it is left on branch %s", n, v.repo.Branch())
	}
	title := shorten(fmt.Sprintf("Revert %q", p.Title), maxTitle)
	reason := shorten(fmt.Sprintf("Takes back proposal %d of %s (%s).\n\n%s", n, p.Author, p.Landed.Short(), a.Why), maxWhy)
	return v.propose(ctx, a, Draft{Title: title, Reason: reason, Base: tip}, tree, n)
}

// shorten cuts a text to max octets, and takes out what a text here cannot have.
func shorten(s string, max int) string {
	s = strings.Map(func(c rune) rune {
		if c != '\n' && c != '\t' && !strconv.IsPrint(c) {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "?"))
	if len(s) <= max {
		return s
	}
	const more = "…"
	end := max - len(more)
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + more
}
