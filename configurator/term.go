package configurator

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zonecast/zonecast/configurator/compile"
	"github.com/zonecast/zonecast/configurator/repo"
	"github.com/zonecast/zonecast/configurator/review"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/configtree"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rules/script"
	"github.com/zonecast/zonecast/store"
)

// Source is the source whose state tells of the whole configuration. Its name is none that
// a configuration can have.
const Source = record.Source(record.KindConfig + "/@landed")

const (
	// look is how often the branch is looked at for what others did to it.
	look = 5 * time.Second
	// again is after what time a commit is tried once more that failed for another reason
	// than what is in it.
	again = 10 * time.Second
	// maxTrees is how many compiled trees are kept: of the branch, and of proposals.
	maxTrees = 16
)

// term is one term of leadership. What is before rulesTurn belongs to the goroutine of
// follow, but for repo, review and compiler, which may be used by many at once.
type term struct {
	*Service
	fence    store.Cond
	repo     *repo.Repo
	review   *review.Review
	compiler *compile.Compiler
	rules    *script.Host
	writer   *configtree.Writer
	joint    *claimtree.Joint
	claims   map[record.Source][]record.Claim // as they are in the store
	inForce  *compiled                        // nil until the first landing of the term
	state    tree.Source

	rulesTurn sync.Mutex // guards rules

	trees    sync.Mutex // guards below
	compiled []*compiled
}

func (s *Service) open(ctx context.Context, fence store.Cond) (_ *term, err error) {
	cfg := repo.Config{Dir: s.cfg.Dir, Branch: s.cfg.Branch}
	if s.cfg.Remote != "" {
		cfg.Remote = &repo.Remote{URL: s.cfg.Remote, Every: s.cfg.Every, SSHCommand: s.cfg.SSHCommand, Credentials: s.cfg.Credentials}
	}
	t := &term{Service: s, fence: fence, claims: map[record.Source][]record.Claim{}}
	if t.repo, err = repo.Open(ctx, cfg); err != nil {
		return nil, fmt.Errorf("open repository %s: %w", s.cfg.Dir, err)
	}
	t.compiler, t.rules = compile.New(s.cfg.Compile), script.NewHost()
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	if t.writer, err = configtree.Open(ctx, s.deps.Store, fence); err != nil {
		return nil, err
	}
	if err := t.known(ctx); err != nil {
		return nil, err
	}
	if t.joint, err = claimtree.OpenJoint(ctx, s.deps.Store, record.KindConfig, fence); err != nil {
		return nil, err
	}
	if err := t.load(ctx); err != nil {
		return nil, err
	}
	if t.repo.Follows() {
		return t, nil
	}
	t.review, err = review.New(ctx, review.Config{Repo: t.repo, Planner: t, Verify: s.deps.Verify})
	return t, err
}

func (t *term) close() error {
	return errors.Join(t.compiler.Close(), t.rules.Close(), t.repo.Close())
}

// known makes sure that what is in the store comes from this repository.
func (t *term) known(ctx context.Context) error {
	was := t.writer.Head().Revision
	if was == "" {
		return nil
	}
	tip, err := t.repo.Tip(ctx)
	if errors.Is(err, repo.ErrNoCommit) {
		return nil // nothing is landed before there is a commit, which is looked at then
	}
	var rewritten *repo.Rewritten
	if err != nil && !errors.As(err, &rewritten) {
		return err
	}
	return t.follows(ctx, was, tip)
}

// follows tells why tip does not come after the commit whose configuration is in the store.
func (t *term) follows(ctx context.Context, was string, tip repo.Hash) error {
	old, err := repo.ParseHash(was)
	if err == nil {
		var after bool
		if after, err = t.repo.Ancestor(ctx, old, tip); err == nil && after {
			return nil
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if adopt, err := repo.ParseHash(t.cfg.Adopt); err == nil {
		if after, err := t.repo.Ancestor(ctx, adopt, tip); err == nil && after {
			return nil
		}
	}
	return fmt.Errorf("the configuration in force comes from commit %.12s, which branch %s of %s does not have: bring that repository back, or take over from it with --configurator-adopt %s",
		was, t.repo.Branch(), t.cfg.Dir, tip)
}

// load reads the claims in force, whose provenance stays as long as they do. The Joint was
// opened before: no head names two states any more, so that the gate is not needed.
func (t *term) load(ctx context.Context) error {
	nodes, rev, err := t.deps.Store.List(ctx, tree.Claims+record.KindConfig+"/")
	if err != nil {
		return fmt.Errorf("list claims: %w", err)
	}
	changes, err := claimtree.NewFold().Apply(store.Batch{Revision: rev, Reset: true, Puts: nodes})
	if err != nil {
		t.deps.Log.Warn("claims of the configuration cannot be read, and are made anew", "error", err)
	}
	for _, c := range changes {
		t.claims[c.Source] = append(t.claims[c.Source], c.Claims...)
	}
	for _, claims := range t.claims {
		slices.SortStableFunc(claims, func(a, b record.Claim) int { return a.Key.Compare(b.Key) })
	}
	t.state, err = readState(ctx, t.deps.Store)
	return err
}

func readState(ctx context.Context, st store.Store) (state tree.Source, err error) {
	n, err := st.Get(ctx, tree.SourcePath(Source))
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return state, fmt.Errorf("read state of %s: %w", Source, err)
	default:
		if err := tree.Decode(n, &state); err != nil { // written anew
			state = tree.Source{}
		}
	}
	state.Source = Source
	return state, nil
}

// where is how people know the branch.
func (t *term) where() string {
	if t.cfg.Remote != "" {
		return t.cfg.Remote + " " + t.repo.Branch()
	}
	dir, err := filepath.Abs(t.cfg.Dir)
	if err != nil {
		dir = t.cfg.Dir
	}
	return dir + " " + t.repo.Branch()
}

// run lands what the branch has, until ctx ends.
func (t *term) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return t.repo.Run(ctx, t.deps.Log) })
	g.Go(func() error { return t.follow(ctx) })
	if t.review != nil {
		g.Go(func() error { return t.expire(ctx) })
	}
	return g.Wait()
}

func (t *term) follow(ctx context.Context) error {
	var known repo.Hash
	var problem error   // why known is not in force
	var retry time.Time // when known is tried once more; zero: not at all
	for {
		tip, err := t.next(ctx, known)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch {
		case err != nil: // what was done to the branch concerns whoever looks at the state
			if err := t.say(ctx, err); err != nil {
				return err
			}
			continue
		case tip == known && (retry.IsZero() || time.Now().Before(retry)):
			if err := t.say(ctx, errors.Join(problem, t.repo.Trouble())); err != nil {
				return err
			}
			continue
		}
		began := time.Now()
		known, retry = tip, time.Time{}
		var bad *review.SourceError
		err = t.land(ctx, tip, began)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &bad):
			t.metrics.failing.Set(1)
		case errors.Is(err, errStore):
			return err
		case err != nil:
			t.metrics.failing.Set(1)
			retry = time.Now().Add(again)
		default:
			t.metrics.failing.Set(0)
		}
		t.reach(tip, err)
		problem = err
		if err != nil {
			t.deps.Log.Warn("commit of the configuration is not in force, the one before stays", "commit", tip, "error", err)
		}
		if err := t.say(ctx, err); err != nil {
			return err
		}
	}
}

// next gives the commit that counts: soon when it is another than known, else after look.
func (t *term) next(ctx context.Context, known repo.Hash) (repo.Hash, error) {
	wait, cancel := context.WithTimeout(ctx, look)
	defer cancel()
	tip, err := t.repo.Wait(wait, known)
	if wait.Err() == nil {
		return tip, err
	}
	tip, err = t.repo.Tip(ctx)
	if errors.Is(err, repo.ErrNoCommit) {
		return known, nil
	}
	var rewritten *repo.Rewritten
	if errors.As(err, &rewritten) && tip != known {
		return tip, nil // the last good one is landed first
	}
	return tip, err
}

// say puts into the state of the source what is wrong; nil: nothing.
func (t *term) say(ctx context.Context, problem error) error {
	state := t.state
	state.Where, state.Error = t.where(), ""
	if problem != nil {
		state.Error = clip(problem.Error())
	}
	if state == t.state || state.Revision == "" && state.Error == "" {
		return nil
	}
	if _, err := t.deps.Store.Commit(ctx, store.Txn{If: []store.Cond{t.fence}, Do: []store.Op{{Path: tree.SourcePath(Source), Value: tree.Encode(state)}}}); err != nil {
		return fmt.Errorf("%w: write state of %s: %w", errStore, Source, err)
	}
	t.state = state
	return nil
}

// expire ends what nobody looks at any more.
func (t *term) expire(ctx context.Context) error {
	every := time.NewTicker(time.Hour)
	defer every.Stop()
	for {
		if n, err := t.review.ExpireOld(ctx); err != nil && ctx.Err() == nil {
			t.deps.Log.Warn("old proposals not ended", "error", err)
		} else if n > 0 {
			t.deps.Log.Info("old proposals ended", "proposals", n)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-every.C:
		}
	}
}
