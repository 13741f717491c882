package review

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/zonecast/zonecast/configurator/repo"
)

// Landing is a commit of the branch.
type Landing struct {
	Commit   repo.Hash `json:"commit"`
	Number   int       `json:"number,omitempty"` // of the proposal; 0: it was none
	Title    string    `json:"title"`
	Author   string    `json:"author"`
	By       string    `json:"by"` // who asked for the landing
	When     time.Time `json:"when"`
	Approved []string  `json:"approved,omitempty"` // by whom
	Reverts  int       `json:"reverts,omitempty"`
	Plan     string    `json:"plan,omitempty"`
}

// message is what the commit says. Its last paragraph is what landingOf reads:
//
//	Proposal: 7
//	Proposed-by: alice
//	Approved-by: bob
//	Landed-by: alice
//	Reverts: 3
//	Plan: digest
func (l *Landing) message(reason string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n%s\n\nProposal: %d\nProposed-by: %s\n", l.Title, strings.TrimSpace(reason), l.Number, l.Author)
	for _, who := range l.Approved {
		fmt.Fprintf(&b, "Approved-by: %s\n", who)
	}
	fmt.Fprintf(&b, "Landed-by: %s\n", l.By)
	if l.Reverts > 0 {
		fmt.Fprintf(&b, "Reverts: %d\n", l.Reverts)
	}
	fmt.Fprintf(&b, "Plan: %s", l.Plan)
	return b.String()
}

// landingOf reads what a commit of the branch says. One that was not landed here has no
// Number.
func landingOf(c *repo.Commit) Landing {
	title, _, _ := strings.Cut(c.Message, "\n")
	l := Landing{Commit: c.Hash, Title: title, Author: c.Author, By: c.Committer, When: c.When}
	paragraph := c.Message[strings.LastIndex(c.Message, "\n\n")+1:]
	for line := range strings.SplitSeq(strings.TrimSpace(paragraph), "\n") {
		key, value, _ := strings.Cut(line, ": ")
		switch key {
		case "Proposal":
			l.Number = number(value)
		case "Proposed-by":
			l.Author = value
		case "Approved-by":
			l.Approved = append(l.Approved, value)
		case "Landed-by":
			l.By = value
		case "Reverts":
			l.Reverts = number(value)
		case "Plan":
			l.Plan = value
		default:
			return Landing{Commit: c.Hash, Title: title, Author: c.Author, By: c.Committer, When: c.When}
		}
	}
	return l
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > maxNumber {
		return 0
	}
	return n
}

// Land puts a proposal on the branch. Landings are made one after the other, in the order
// of the calls; what has landed since the proposal was made is merged. If what would land
// is not what was approved, the proposal is back for another look (*AgainError), or in
// conflict (*ConflictError), and nothing has happened to the branch.
func (v *Review) Land(ctx context.Context, n int, a Act) (*Landing, error) {
	// Those who wait to send to a channel are let in in the order in which they came.
	select {
	case v.queue <- struct{}{}:
		defer func() { <-v.queue }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for range maxTries {
		p, log, err := v.get(ctx, n)
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
		again := l.refuse()
		if again == nil {
			e, err := v.event(a, Event{Do: Land, Head: p.Head, Onto: l.Tip, Plan: l.Plan.Digest}, n, p.Events)
			if err != nil {
				return nil, err
			}
			if landing, err := v.land(ctx, l, log, e); landing != nil || err != nil {
				return landing, err
			}
			continue // somebody did something to it meanwhile
		}
		var missing *NotApprovedError
		if errors.As(again, &missing) {
			return nil, again
		}
		why := shorten(again.Error(), maxWhy)
		if p.State == Again && p.Why == why {
			return nil, again
		}
		e := Event{At: v.cfg.Now().UTC().Round(0), Who: own, Do: LookAgain, Why: why, Head: p.Head, Onto: l.Tip, Plan: l.Plan.Digest}
		if done, err := v.swap(ctx, log, p.with(Again, why, e)); done || err != nil {
			return nil, errors.Join(again, err)
		}
	}
	return nil, fmt.Errorf("proposal %d: others change it all the time: try again", n)
}

// refuse says why a proposal cannot land as it is; nil if it can.
func (l *Look) refuse() error {
	p := l.Proposal
	var conflict *ConflictError
	switch {
	case errors.As(l.Problem, &conflict):
		return conflict
	case l.Problem != nil:
		why := fmt.Sprintf("on top of %s its sources are no good: %v", l.Tip.Short(), l.Problem)
		return &AgainError{Number: p.Number, Why: why, Err: l.Problem}
	case l.met():
		return nil
	case len(l.Void) > 0:
		var why []string
		for _, v := range l.Void {
			why = append(why, v.Why)
		}
		return &AgainError{Number: p.Number, Why: strings.Join(why, "; ")}
	case p.State == Approved:
		return &AgainError{Number: p.Number, Why: fmt.Sprintf("the policy of %s asks for more: %s", l.Tip.Short(), list(l.missing()))}
	default:
		return &NotApprovedError{Number: p.Number, Missing: l.missing()}
	}
}

// land moves the branch. It gives nil if the proposal's log is not at log any more.
func (v *Review) land(ctx context.Context, l *Look, log repo.Hash, e Event) (*Landing, error) {
	v.write.Lock()
	defer v.write.Unlock()
	p := l.Proposal
	if !v.at(p.Number, log) {
		return nil, nil
	}
	// From here on it is done also if whoever asked is gone.
	ctx = context.WithoutCancel(ctx)
	landing := &Landing{
		Number: p.Number, Title: p.Title, Author: p.Author, By: e.Who, When: e.At.Truncate(time.Second), Approved: l.approvers(),
		Reverts: p.Reverts, Plan: l.Plan.Digest,
	}
	b := v.repo.Batch()
	landing.Commit = b.Commit(repo.NewCommit{
		Tree: l.result, Parents: []repo.Hash{l.Tip}, Author: p.Author, Committer: e.Who, When: e.At, Message: landing.message(p.Reason),
	})
	next := p.with(Landed, "", e)
	next.Landed = landing.Commit
	moves, err := v.entry(b, next)
	if err != nil {
		return nil, err
	}
	if err := b.Write(ctx); err != nil {
		return nil, err
	}
	landed, err := v.repo.Advance(ctx, l.Tip, landing.Commit, moves...)
	if err != nil && !landed {
		// The branch itself says.
		tip, lost := v.repo.Tip(ctx)
		var rewritten *repo.Rewritten
		switch {
		case tip == landing.Commit:
			landed = true
		case lost != nil && !errors.As(lost, &rewritten):
			err = errors.Join(err, lost)
			v.unknown(p.Number, fmt.Errorf("proposal %d: whether it has landed could not be seen, and is when the repository is opened again: %w", p.Number, err))
			return nil, err
		default:
			return nil, err
		}
	}
	if err != nil {
		v.unknown(p.Number, fmt.Errorf("proposal %d: has landed as %s, which could not be noted, and is when the repository is opened again: %w", p.Number, landing.Commit.Short(), err))
		return landing, nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keep(p.Number, moves[len(moves)-1].To, next)
	return landing, nil
}

// unknown keeps everybody from a proposal of which it is not known how far it is.
func (v *Review) unknown(n int, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.known[n].proposal, v.known[n].damaged = nil, err
}

// Log gives at most n commits of the branch, newest first, and from which to go on: zero
// at the end. A zero from begins at the branch. With a path, those that change what is
// there.
func (v *Review) Log(ctx context.Context, from repo.Hash, path string, n int) ([]Landing, repo.Hash, error) {
	if n < 1 || n > maxPage {
		return nil, repo.Hash{}, fmt.Errorf("log: asked for %d commits, expected 1 to %d", n, maxPage)
	}
	if from.IsZero() {
		tip, err := v.repo.Tip(ctx)
		var rewritten *repo.Rewritten
		if err != nil && !errors.As(err, &rewritten) {
			return nil, repo.Hash{}, err
		}
		from = tip
	}
	commits, next, err := v.repo.Log(ctx, from, path, n)
	if err != nil {
		return nil, repo.Hash{}, err
	}
	landings := make([]Landing, len(commits))
	for i, c := range commits {
		landings[i] = landingOf(c)
	}
	return landings, next, nil
}

// maxDiff bounds a diff that people are shown, in octets.
const maxDiff = 1 << 20

// Diff gives what a proposal changes, or has changed, as people read it, and whether there
// is more of it.
func (v *Review) Diff(ctx context.Context, n int) (string, bool, error) {
	p, _, err := v.get(ctx, n)
	if err != nil {
		return "", false, err
	}
	from, to := p.Base, p.Head
	if p.State == Landed {
		c, err := v.repo.Commit(ctx, p.Landed)
		if err != nil {
			return "", false, err
		}
		from, to = c.Parent(), c.Hash
	}
	return v.repo.Diff(ctx, from, to, maxDiff)
}
