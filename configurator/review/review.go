package review

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/zonecast/zonecast/configurator/repo"
	"github.com/zonecast/zonecast/record"
)

// Plan is what a tree of sources would change compared with another.
type Plan struct {
	// Digest stands for all of it: records, claims, conflicts, what a person has to look
	// at. It does not depend on what is the same in both trees: a change plans equally
	// on top of changes of other things.
	Digest string
	// Zones are those in which something changes.
	Zones []record.Name
}

// Planner compiles trees.
type Planner interface {
	// Plan says what result changes compared with base; changed are the paths of files
	// that differ. A *SourceError says that result is no good; any other error that it
	// could not be found out.
	Plan(ctx context.Context, base, result *repo.Tree, changed []string) (Plan, error)
}

// SourceError is sources that do not compile, or fail their tests.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return e.Err.Error() }
func (e *SourceError) Unwrap() error { return e.Err }

// Config is what a Review works with.
type Config struct {
	Repo    *repo.Repo // not one that follows a remote
	Planner Planner
	// Verify checks who's signature of a statement; also that there is none (nil) is for
	// it to judge. Nil: signatures are refused.
	Verify func(who string, statement, signature []byte) error
	// DefaultOwners is the policy of a commit without the file OWNERS, in its language.
	// Empty: one approval of anybody else.
	DefaultOwners string
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

const (
	// maxNumber is the last number a proposal may have: at ten thousand a day, enough
	// for a quarter of a year each of which is in one repository. A new one follows.
	maxNumber = 1_000_000
	// maxOpen is how many proposals may be unfinished at a time.
	maxOpen = 10_000
	// maxSkew is how far the clock of a signer may be from this one.
	maxSkew = 5 * time.Minute
	// own is who does what nobody asked for.
	own = "zonecast"
)

// Review is the proposals of a repository.
type Review struct {
	cfg      Config
	repo     *repo.Repo
	fallback *Policy

	queue chan struct{} // held by the one landing that goes on; who waits comes in order
	write sync.Mutex    // held while something is recorded

	mu    sync.Mutex // guards below
	known map[int]*known
	last  int // number
}

// known is what is kept of a proposal.
type known struct {
	log      repo.Hash
	state    State
	proposal *Proposal // nil when it is finished
	damaged  error     // it cannot be read; nothing else is set but log
}

func headRef(n int) string { return fmt.Sprintf("refs/proposals/%d/head", n) }
func logRef(n int) string  { return fmt.Sprintf("refs/proposals/%d/log", n) }

// New reads the proposals of a repository, and notes those that have landed when
// the last process died before it could.
func New(ctx context.Context, cfg Config) (*Review, error) {
	if cfg.Repo.Follows() {
		return nil, errors.New("the repository follows a branch of another one: review and land there")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	fallback, err := ParsePolicy([]byte(cfg.DefaultOwners))
	if err != nil {
		return nil, fmt.Errorf("default policy: %w", err)
	}
	v := &Review{cfg: cfg, repo: cfg.Repo, fallback: fallback, queue: make(chan struct{}, 1), known: map[int]*known{}}
	refs, err := v.repo.Refs(ctx, "refs/proposals/", 2*maxNumber)
	if err != nil {
		return nil, err
	}
	heads := map[int]repo.Hash{}
	for _, ref := range refs {
		number, kind, _ := strings.Cut(strings.TrimPrefix(ref.Ref, "refs/proposals/"), "/")
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > maxNumber || strconv.Itoa(n) != number {
			continue // nobody's that is known here
		}
		v.last = max(v.last, n)
		switch kind {
		case "head":
			heads[n] = ref.To
		case "log":
			v.keep(n, ref.To, nil)
			p, err := v.read(ctx, ref.To, n)
			if err != nil {
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				v.known[n].damaged = err
				continue
			}
			v.keep(n, ref.To, p)
		}
	}
	for n, k := range v.known {
		// The head of one that is finished stays where it was seen last.
		if p := k.proposal; p != nil && heads[n] != p.Head {
			if err := v.repo.Update(ctx, repo.Move{Ref: headRef(n), To: p.Head, From: heads[n]}); err != nil {
				return nil, err
			}
		}
	}
	return v, v.reconcile(ctx)
}

// maxReconcile is how many commits of the branch are looked at for landings that were
// not noted. Each process that opens the repository notes what the one before has not.
const maxReconcile = 10_000

// reconcile notes the proposals that have landed according to the branch.
func (v *Review) reconcile(ctx context.Context) error {
	open := map[int]*Proposal{}
	var oldest time.Time
	for n, k := range v.known {
		if p := k.proposal; p != nil {
			open[n] = p
			if oldest.IsZero() || p.Created.Before(oldest) {
				oldest = p.Created
			}
		}
	}
	// A commit has whole seconds, and clocks are set.
	oldest = oldest.Add(-time.Hour)
	tip, err := v.repo.Tip(ctx)
	var rewritten *repo.Rewritten
	if err != nil && !errors.As(err, &rewritten) {
		return err
	}
	for seen := 0; len(open) > 0 && !tip.IsZero() && seen < maxReconcile; {
		commits, next, err := v.repo.Log(ctx, tip, "", 500)
		if err != nil {
			return err
		}
		for _, c := range commits {
			if c.When.Before(oldest) {
				return nil
			}
			n := landingOf(c).Number
			if p := open[n]; p != nil {
				delete(open, n)
				if err := v.noteLanding(ctx, p, c); err != nil {
					return err
				}
			}
		}
		seen += len(commits)
		tip = next
	}
	return nil
}

// noteLanding records that p has landed as c.
func (v *Review) noteLanding(ctx context.Context, p *Proposal, c *repo.Commit) error {
	l := landingOf(c)
	e := Event{At: c.When, Who: l.By, Do: Land, Head: p.Head, Onto: c.Parent(), Plan: l.Plan}
	next := p.with(Landed, "", e)
	next.Landed = c.Hash
	return v.record(ctx, next)
}

// keep notes what is known of a proposal. The caller holds mu, or is alone.
func (v *Review) keep(n int, log repo.Hash, p *Proposal) {
	k := &known{log: log}
	if p != nil {
		k.state = p.State
		if !p.State.finished() {
			k.proposal = p
		}
	}
	v.known[n] = k
	v.last = max(v.last, n)
}

// proposalFile is the file of a log's commits.
const proposalFile = "proposal.json"

func (v *Review) read(ctx context.Context, log repo.Hash, n int) (*Proposal, error) {
	b, err := v.repo.File(ctx, log, proposalFile, maxProposal)
	if err != nil {
		return nil, fmt.Errorf("proposal %d: %w", n, err)
	}
	p, err := decodeProposal(b)
	if err != nil {
		return nil, fmt.Errorf("proposal %d: %s of commit %s: %w", n, proposalFile, log.Short(), err)
	}
	if p.Number != n {
		return nil, fmt.Errorf("proposal %d: %s of commit %s: says that it is %d", n, proposalFile, log.Short(), p.Number)
	}
	return p, nil
}

// Show gives a proposal.
func (v *Review) Show(ctx context.Context, n int) (*Proposal, error) {
	p, _, err := v.get(ctx, n)
	return p, err
}

// get gives a proposal and the commit of its log that has it.
func (v *Review) get(ctx context.Context, n int) (*Proposal, repo.Hash, error) {
	v.mu.Lock()
	k := v.known[n]
	v.mu.Unlock()
	switch {
	case k == nil:
		return nil, repo.Hash{}, &NoProposalError{n}
	case k.damaged != nil:
		return nil, repo.Hash{}, k.damaged
	case k.proposal != nil:
		return k.proposal, k.log, nil
	}
	p, err := v.read(ctx, k.log, n)
	return p, k.log, err
}

// NoProposalError says that there is no proposal of a number.
type NoProposalError struct{ Number int }

func (e *NoProposalError) Error() string { return fmt.Sprintf("proposal %d: there is none", e.Number) }

// FinishedError says that nothing can be done to a proposal any more.
type FinishedError struct {
	Number int
	State  State
}

func (e *FinishedError) Error() string { return fmt.Sprintf("proposal %d: is %s", e.Number, e.State) }

// Summary is a proposal in a list.
type Summary struct {
	Number  int       `json:"number"`
	Title   string    `json:"title"`
	Author  string    `json:"author"`
	State   State     `json:"state"`
	Why     string    `json:"why,omitempty"`
	Created time.Time `json:"created"`
	Changed time.Time `json:"changed"` // when something happened last
}

// maxPage is how many entries a page of a list or a log has.
const maxPage = 1_000

// List gives at most limit proposals in one of the states (none: in any), newest first,
// and below which number to go on: 0 at the end. below 0 begins at the newest.
func (v *Review) List(ctx context.Context, below, limit int, states ...State) ([]Summary, int, error) {
	if limit < 1 || limit > maxPage {
		return nil, 0, fmt.Errorf("list: asked for %d proposals, expected 1 to %d", limit, maxPage)
	}
	v.mu.Lock()
	var numbers []int
	for n, k := range v.known {
		if (below <= 0 || n < below) && k.damaged == nil && (len(states) == 0 || slices.Contains(states, k.state)) {
			numbers = append(numbers, n)
		}
	}
	v.mu.Unlock()
	slices.SortFunc(numbers, func(a, b int) int { return b - a })
	next := 0
	if len(numbers) > limit {
		numbers = numbers[:limit]
		next = numbers[limit-1]
	}
	list := make([]Summary, 0, len(numbers))
	for _, n := range numbers {
		p, _, err := v.get(ctx, n)
		if err != nil {
			return nil, 0, err
		}
		list = append(list, Summary{p.Number, p.Title, p.Author, p.State, p.Why, p.Created, p.last()})
	}
	return list, next, nil
}

// Damaged gives the proposals that cannot be read, and why.
func (v *Review) Damaged() map[int]error {
	v.mu.Lock()
	defer v.mu.Unlock()
	bad := map[int]error{}
	for n, k := range v.known {
		if k.damaged != nil {
			bad[n] = k.damaged
		}
	}
	return bad
}

// entry adds a proposal's next state to a batch and gives the moves that make it so.
func (v *Review) entry(b *repo.Batch, p *Proposal) ([]repo.Move, error) {
	e := p.Events[len(p.Events)-1]
	content, err := p.encode()
	if err != nil {
		return nil, err
	}
	tree, err := v.repo.Empty().With(map[string][]byte{proposalFile: content})
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	k := v.known[p.Number]
	v.mu.Unlock()
	c := repo.NewCommit{Tree: tree, Author: e.Who, When: e.At, Message: fmt.Sprintf("%s proposal %d: %s\n\n%s", e.Do, p.Number, p.Title, e.Why)}
	var before repo.Hash
	if k != nil {
		before = k.log
		c.Parents = append(c.Parents, before)
	}
	var moves []repo.Move
	if e.Do == Propose || e.Do == Revise {
		c.Parents = append(c.Parents, p.Head)
		from, err := v.previousHead(p)
		if err != nil {
			return nil, err
		}
		moves = append(moves, repo.Move{Ref: headRef(p.Number), To: p.Head, From: from})
	}
	return append(moves, repo.Move{Ref: logRef(p.Number), To: b.Commit(c), From: before}), nil
}

// previousHead is where the reference of p's head is before p is recorded.
func (v *Review) previousHead(p *Proposal) (repo.Hash, error) {
	if len(p.Events) == 1 {
		return repo.Hash{}, nil
	}
	for _, e := range slices.Backward(p.Events[:len(p.Events)-1]) {
		if e.Do == Propose || e.Do == Revise {
			return e.Head, nil
		}
	}
	return repo.Hash{}, fmt.Errorf("proposal %d: was never proposed", p.Number)
}

// record writes a proposal's next state. The caller holds write, or is alone.
func (v *Review) record(ctx context.Context, p *Proposal) error {
	b := v.repo.Batch()
	moves, err := v.entry(b, p)
	if err != nil {
		return err
	}
	// Whoever asked may be gone: it is done all the same.
	ctx = context.WithoutCancel(ctx)
	if err := b.Write(ctx); err != nil {
		return err
	}
	if err := v.repo.Update(ctx, moves...); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keep(p.Number, moves[len(moves)-1].To, p)
	return nil
}

// policy gives the policy of a commit.
func (v *Review) policy(ctx context.Context, commit repo.Hash) (*Policy, error) {
	b, err := v.repo.File(ctx, commit, OwnersFile, maxOwnersFile)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return v.fallback, nil
	}
	p, err := ParsePolicy(b)
	if err != nil {
		return nil, fmt.Errorf("policy of commit %s: %w", commit.Short(), err)
	}
	return p, nil
}

// plan asks the planner, each time: what the same change does is up to what others claim,
// too.
func (v *Review) plan(ctx context.Context, base, result *repo.Tree, changed []string) (Plan, error) {
	p, err := v.cfg.Planner.Plan(ctx, base, result, changed)
	if err != nil {
		return Plan{}, err
	}
	if err := checkDigest(p.Digest); err != nil {
		return Plan{}, err
	}
	return p, nil
}

// Run ends the proposals with which nothing happens any more, every hour until ctx ends.
func (v *Review) Run(ctx context.Context, log *slog.Logger) error {
	t := time.NewTicker(time.Hour)
	defer t.Stop()
	for {
		if _, err := v.ExpireOld(ctx); err != nil && ctx.Err() == nil {
			log.Error("old proposals not ended", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// ExpireOld ends the proposals with which nothing has happened for as long as the policy
// says, and gives how many.
func (v *Review) ExpireOld(ctx context.Context) (int, error) {
	tip, err := v.repo.Tip(ctx)
	if err != nil {
		return 0, err
	}
	policy, err := v.policy(ctx, tip)
	if err != nil {
		return 0, err
	}
	v.mu.Lock()
	numbers := slices.Sorted(maps.Keys(v.known))
	v.mu.Unlock()
	done := 0
	for _, n := range numbers {
		ended, err := v.expire(ctx, n, policy.abandon)
		if err != nil {
			return done, err
		}
		if ended {
			done++
		}
	}
	return done, nil
}

func (v *Review) expire(ctx context.Context, n int, abandon time.Duration) (bool, error) {
	v.write.Lock()
	defer v.write.Unlock()
	v.mu.Lock()
	p := v.known[n].proposal
	v.mu.Unlock()
	now := v.cfg.Now()
	if p == nil || now.Sub(p.last()) < abandon {
		return false, nil
	}
	why := fmt.Sprintf("nothing happened for %s", days(abandon))
	return true, v.record(ctx, p.with(Expired, why, Event{At: now, Who: own, Do: Expire, Why: why, Head: p.Head}))
}

// days writes a time as OWNERS has it.
func days(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	return fmt.Sprintf("%d hours", d/time.Hour)
}
