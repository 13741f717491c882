package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Move moves a reference from one object to another. Zero: there is none.
type Move struct {
	Ref      string
	To, From Hash
}

// Rewritten says that the branch was moved by somebody else, in a way that is not taken
// unless a person accepts it.
type Rewritten struct {
	Branch  string // where: a branch, or a remote and its branch
	Known   Hash   // the last commit that was good
	Found   Hash   // what is there now; zero: nothing
	Forward bool   // Found comes after Known
}

func (e *Rewritten) Error() string {
	if e.Found.IsZero() {
		return fmt.Sprintf("%s was at %s and is gone: %s still counts; restore it", e.Branch, e.Known, e.Known.Short())
	}
	how := "was rewritten by force: it was"
	if e.Forward {
		how = "was moved past the review: it was"
	}
	return fmt.Sprintf("%s %s at %s and is at %s: %s still counts, and nothing lands, until somebody accepts %s or restores %s",
		e.Branch, how, e.Known, e.Found, e.Known.Short(), e.Found.Short(), e.Known.Short())
}

// ErrNoCommit says that the branch which is followed was not fetched yet.
var ErrNoCommit = errors.New("the branch that is followed was not fetched yet")

// resolve gives where references are; zero for those that are not there.
func (r *Repo) resolve(ctx context.Context, refs ...string) ([]Hash, error) {
	found, err := r.cat.headers(ctx, refs)
	if err != nil {
		return nil, err
	}
	hashes := make([]Hash, len(refs))
	for i, h := range found {
		hashes[i] = h.hash
	}
	return hashes, nil
}

// Resolve gives where a reference is, by its full name; zero if there is none.
func (r *Repo) Resolve(ctx context.Context, ref string) (Hash, error) {
	if err := checkRef(ref); err != nil {
		return Hash{}, err
	}
	h, err := r.resolve(ctx, ref)
	if err != nil {
		return Hash{}, err
	}
	return h[0], nil
}

func checkRef(ref string) error {
	name, ok := strings.CutPrefix(ref, "refs/")
	if !ok || checkBranch(name) != nil {
		return fmt.Errorf("reference %.200q: expected refs/…", ref)
	}
	return nil
}

// Refs lists the references below a prefix that ends in a slash, sorted by name, at most
// max.
func (r *Repo) Refs(ctx context.Context, prefix string, max int) ([]Move, error) {
	out, err := r.output(ctx, max*300, nil, "for-each-ref", "--format=%(objectname) %(refname)", prefix)
	if err != nil {
		return nil, err
	}
	var refs []Move
	for line := range strings.Lines(string(out)) {
		hash, ref, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		h, err := ParseHash(hash)
		if err != nil {
			return nil, err
		}
		if len(refs) == max {
			return nil, fmt.Errorf("%s: has more than %d references", prefix, max)
		}
		refs = append(refs, Move{Ref: ref, To: h})
	}
	return refs, nil
}

// transactions are what `git update-ref --stdin` does one after the other, each
// transaction whole or not at all.
func transactions(steps ...[]Move) []byte {
	var b bytes.Buffer
	zero := Hash{}.String()
	for _, moves := range steps {
		if len(moves) == 0 {
			continue
		}
		// Without start and commit an input that is cut short would be carried out as
		// far as it came.
		b.WriteString("start\n")
		for _, m := range moves {
			switch {
			case m.To == m.From:
				fmt.Fprintf(&b, "verify %s %s\n", m.Ref, m.From)
			case m.From.IsZero():
				fmt.Fprintf(&b, "update %s %s %s\n", m.Ref, m.To, zero)
			case m.To.IsZero():
				fmt.Fprintf(&b, "delete %s %s\n", m.Ref, m.From)
			default:
				fmt.Fprintf(&b, "update %s %s %s\n", m.Ref, m.To, m.From)
			}
		}
		b.WriteString("prepare\ncommit\n")
	}
	return b.Bytes()
}

var lockExists = regexp.MustCompile(`Unable to create '([^']+\.lock)': File exists`)

// lockPause is how long to wait for somebody else's lock before the next try.
const lockPause = 50 * time.Millisecond

func (r *Repo) transact(ctx context.Context, steps ...[]Move) error {
	return r.git(ctx, Command{Args: []string{"update-ref", "--stdin"}, Stdin: bytes.NewReader(transactions(steps...))})
}

// unlocked reports whether err is that somebody else has a lock, after a pause; one that
// a killed process left is removed. It does so until giveUp.
func (r *Repo) unlocked(ctx context.Context, err error, giveUp time.Time) bool {
	var failed *GitError
	if !errors.As(err, &failed) || time.Now().After(giveUp) {
		return false
	}
	locked := lockExists.FindStringSubmatch(failed.Stderr)
	if locked == nil {
		return false
	}
	if rel, err := filepath.Rel(r.cfg.Dir, locked[1]); err == nil && filepath.IsLocal(rel) {
		if err := r.removeStale(locked[1]); err != nil {
			return false
		}
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(lockPause):
		return true
	}
}

// Update moves references other than the branch in one compare-and-set. One whose To is
// its From is compared only.
func (r *Repo) Update(ctx context.Context, moves ...Move) error {
	// Locks that are nobody's are gone by then.
	giveUp := time.Now().Add(r.cfg.StaleLock + time.Second)
	for {
		err := r.transact(ctx, moves)
		if err == nil || !r.unlocked(ctx, err, giveUp) {
			return err
		}
	}
}

// Tip gives the commit that counts. With a *Rewritten it is the last that was good.
func (r *Repo) Tip(ctx context.Context) (Hash, error) {
	r.refs.RLock()
	at, err := r.resolve(ctx, r.branch, tipRef)
	r.refs.RUnlock()
	if err != nil {
		return Hash{}, err
	}
	if at[0] == at[1] && !at[0].IsZero() {
		return at[0], nil
	}
	r.refs.Lock()
	defer r.refs.Unlock()
	return r.settle(ctx)
}

// Wait gives the commit that counts as soon as it is another than known.
func (r *Repo) Wait(ctx context.Context, known Hash) (Hash, error) {
	for {
		r.refs.RLock()
		moved := r.moved
		r.refs.RUnlock()
		tip, err := r.Tip(ctx)
		var rewritten *Rewritten
		if tip != known && !tip.IsZero() {
			return tip, nil
		}
		if err != nil && !errors.As(err, &rewritten) && !errors.Is(err, ErrNoCommit) {
			return tip, err
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return known, ctx.Err()
		}
	}
}

// wake tells those who wait that the branch has moved. The caller holds refs.
func (r *Repo) wake() {
	close(r.moved)
	r.moved = make(chan struct{})
}

// settle brings a move of the branch that was cut to its end, and says if somebody else
// moved it. The caller holds refs.
func (r *Repo) settle(ctx context.Context) (Hash, error) {
	at, err := r.resolve(ctx, r.branch, tipRef, nextRef)
	if err != nil {
		return Hash{}, err
	}
	branch, tip, next := at[0], at[1], at[2]
	switch {
	case branch == tip:
		if tip.IsZero() {
			return Hash{}, ErrNoCommit
		}
		return tip, nil
	case branch == next && !next.IsZero():
		ours := tip.IsZero()
		if !ours {
			if ours, err = r.Ancestor(ctx, tip, next); err != nil {
				return tip, err
			}
		}
		if ours {
			if err := r.Update(ctx, Move{tipRef, branch, tip}); err != nil {
				return tip, err
			}
			r.wake()
			return branch, nil
		}
	}
	e := &Rewritten{Branch: "branch " + r.cfg.Branch, Known: tip, Found: branch}
	if !branch.IsZero() {
		if e.Forward, err = r.Ancestor(ctx, tip, branch); err != nil {
			return tip, err
		}
	}
	return tip, e
}

// Ancestor reports whether old is new, or comes before it.
func (r *Repo) Ancestor(ctx context.Context, old, new Hash) (bool, error) {
	err := r.git(ctx, Command{Args: []string{"merge-base", "--is-ancestor", old.String(), new.String()}})
	if exitStatus(err) == 1 {
		return false, nil
	}
	return err == nil, err
}

// MergeBase gives the newest commit that both come from.
func (r *Repo) MergeBase(ctx context.Context, a, b Hash) (Hash, error) {
	out, err := r.output(ctx, 100, nil, "merge-base", a.String(), b.String())
	if exitStatus(err) == 1 {
		return Hash{}, fmt.Errorf("commits %s and %s have no common ancestor", a.Short(), b.Short())
	}
	if err != nil {
		return Hash{}, err
	}
	return ParseHash(strings.TrimSpace(string(out)))
}

// Advance moves the branch from one commit to another in one compare-and-set, and other
// references with it: they are compared before and moved after. landed says whether the
// branch is at to, also with an error: then what is missing are some of the others.
func (r *Repo) Advance(ctx context.Context, from, to Hash, also ...Move) (landed bool, err error) {
	if r.Follows() {
		return false, fmt.Errorf("repository %s follows %s: nothing lands here", r.cfg.Dir, r.cfg.Remote.URL)
	}
	r.refs.Lock()
	defer r.refs.Unlock()
	if tip, err := r.settle(ctx); err != nil {
		return false, err
	} else if tip != from {
		return false, fmt.Errorf("branch %s is at %s, expected %s", r.cfg.Branch, tip, from)
	}
	err = r.advance(ctx, from, to, also)
	if err == nil {
		return true, nil
	}
	// git may have been killed anywhere: look where it came to.
	tip, settleErr := r.settle(context.WithoutCancel(ctx))
	if tip != to {
		return false, err
	}
	return true, errors.Join(settleErr, r.missing(context.WithoutCancel(ctx), also))
}

// missing makes those moves that were not made.
func (r *Repo) missing(ctx context.Context, moves []Move) error {
	var left []Move
	for _, m := range moves {
		at, err := r.resolve(ctx, m.Ref)
		if err != nil {
			return err
		}
		if at[0] != m.To {
			left = append(left, m)
		}
	}
	if len(left) == 0 {
		return nil
	}
	return r.Update(ctx, left...)
}

// advance is Advance without its checks. The caller holds refs.
func (r *Repo) advance(ctx context.Context, from, to Hash, also []Move) error {
	giveUp := time.Now().Add(r.cfg.StaleLock + time.Second)
	for {
		at, err := r.resolve(ctx, nextRef, tipRef)
		if err != nil {
			return err
		}
		before := []Move{{nextRef, to, at[0]}, {r.branch, from, from}, {tipRef, at[1], at[1]}}
		for _, m := range also {
			before = append(before, Move{m.Ref, m.From, m.From})
		}
		after := append([]Move{{tipRef, to, at[1]}}, also...)
		err = r.transact(ctx, before, []Move{{r.branch, to, from}}, after)
		if err == nil {
			r.wake()
			return nil
		}
		if !r.unlocked(ctx, err, giveUp) {
			return err
		}
		// What waited for a lock is tried again only from where it began.
		if at, again := r.resolve(ctx, r.branch); again != nil || at[0] != from {
			return err
		}
	}
}
