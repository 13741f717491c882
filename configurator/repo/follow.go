package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Fetch takes what the remote's branch has. It gives the commit that counts then; a
// *Rewritten says that the remote's branch does not come after it.
func (r *Repo) Fetch(ctx context.Context) (Hash, error) {
	m := r.cfg.Remote
	if m == nil {
		return Hash{}, fmt.Errorf("repository %s follows no remote", r.cfg.Dir)
	}
	r.fetching.Lock()
	defer r.fetching.Unlock()
	tip, err := r.fetch(ctx, m)
	if ctx.Err() == nil {
		r.refs.Lock()
		r.trouble = err
		r.refs.Unlock()
	}
	return tip, err
}

// Trouble is why the last Fetch brought nothing; nil when it did, or there was none.
func (r *Repo) Trouble() error {
	r.refs.RLock()
	defer r.refs.RUnlock()
	return r.trouble
}

func (r *Repo) fetch(ctx context.Context, m *Remote) (Hash, error) {
	ssh := m.SSHCommand
	if ssh == "" {
		ssh = "ssh -oBatchMode=yes"
	}
	c := Command{
		Args: []string{
			"fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules",
			"--no-show-forced-updates", "--stdin", "--", m.URL,
		},
		Stdin:   strings.NewReader("+refs/heads/" + m.Branch + ":" + fetchedRef + "\n"),
		Env:     []string{"GIT_SSH_COMMAND=" + ssh},
		MaxFile: m.MaxPack,
	}
	if m.Credentials != "" {
		c.Env = append(c.Env, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=credential.helper",
			"GIT_CONFIG_VALUE_0=store --file='"+strings.ReplaceAll(m.Credentials, "'", `'\''`)+"'")
	}
	if err := r.within(ctx, m.Timeout, c); err != nil {
		return Hash{}, fmt.Errorf("fetch %s of %s: %w", m.Branch, m.URL, err)
	}
	r.refs.Lock()
	defer r.refs.Unlock()
	tip, err := r.settle(ctx)
	if err != nil && !errors.Is(err, ErrNoCommit) {
		return tip, err
	}
	at, err := r.resolve(ctx, fetchedRef)
	if err != nil {
		return tip, err
	}
	found := at[0]
	if found == tip && !found.IsZero() {
		return tip, nil
	}
	if found.IsZero() {
		return tip, fmt.Errorf("fetch %s of %s: git fetched nothing", m.Branch, m.URL)
	}
	if !tip.IsZero() {
		after, err := r.Ancestor(ctx, tip, found)
		if err != nil {
			return tip, err
		}
		if !after {
			return tip, r.rewrittenRemote(tip, found)
		}
	}
	if _, err := r.Tree(ctx, found); err != nil {
		return tip, fmt.Errorf("fetch %s of %s: %w", m.Branch, m.URL, err)
	}
	if err := r.advance(ctx, tip, found, nil); err != nil {
		return tip, err
	}
	return found, nil
}

func (r *Repo) rewrittenRemote(known, found Hash) *Rewritten {
	return &Rewritten{Branch: "branch " + r.cfg.Remote.Branch + " of " + r.cfg.Remote.URL, Known: known, Found: found}
}

// Accept lets a branch that was rewritten count from found on. The commit that counted
// before is kept, and who accepted and why is written in a tag, both below
// refs/zonecast/rewrites.
func (r *Repo) Accept(ctx context.Context, found Hash, who, why string) error {
	r.refs.Lock()
	defer r.refs.Unlock()
	at, err := r.resolve(ctx, r.branch, tipRef, nextRef, fetchedRef)
	if err != nil {
		return err
	}
	branch, tip, next, fetched := at[0], at[1], at[2], at[3]
	switch {
	case found.IsZero() || found != branch && (!r.Follows() || found != fetched):
		return fmt.Errorf("accept %s: is not where the branch is (%s): look again", found, branch)
	case found == tip && found == branch:
		return nil
	}
	if _, err := r.Tree(ctx, found); err != nil {
		return fmt.Errorf("accept %s: %w", found, err)
	}
	record, err := r.record(ctx, "accepted", tip, found, who, why)
	if err != nil {
		return err
	}
	err = r.transact(ctx, append(record, Move{nextRef, found, next}), []Move{{r.branch, found, branch}}, []Move{{tipRef, found, tip}})
	if err == nil {
		r.wake()
	}
	return err
}

// Restore puts a branch that somebody else moved back to where it was. Where it had been
// moved to is kept, as by Accept.
func (r *Repo) Restore(ctx context.Context, who, why string) error {
	r.refs.Lock()
	defer r.refs.Unlock()
	tip, err := r.settle(ctx)
	var rewritten *Rewritten
	if err == nil {
		return nil
	}
	if !errors.As(err, &rewritten) {
		return err
	}
	record, err := r.record(ctx, "restored", rewritten.Found, tip, who, why)
	if err != nil {
		return err
	}
	return r.Update(ctx, append(record, Move{r.branch, tip, rewritten.Found})...)
}

// record notes what a person did about a rewritten branch, and gives the references that
// keep it.
func (r *Repo) record(ctx context.Context, what string, before, after Hash, who, why string) ([]Move, error) {
	now := r.cfg.Now()
	name := now.UTC().Format("20060102T150405.000000000Z")
	var w bytes.Buffer
	fmt.Fprintf(&w, "object %s\ntype commit\ntag %s-%s\ntagger %s\n\n%s\n", after, what, name, signature(who, now), cleanMessage(why))
	b := r.Batch()
	tag := b.add(tagObject, w.Bytes())
	if err := b.Write(ctx); err != nil {
		return nil, err
	}
	moves := []Move{{Ref: "refs/zonecast/rewrites/" + name + "/" + what, To: tag}}
	if !before.IsZero() {
		moves = append(moves, Move{Ref: "refs/zonecast/rewrites/" + name + "/before", To: before})
	}
	return moves, nil
}

const (
	// maintainEvery is how often the repository is packed: at a change a minute, some
	// hundreds of loose objects.
	maintainEvery = time.Hour
	// maintainTimeout bounds one packing.
	maintainTimeout = 10 * time.Minute
)

// Maintain packs what has come since it was packed last. Nothing is thrown away.
func (r *Repo) Maintain(ctx context.Context) error {
	if err := r.within(ctx, maintainTimeout, Command{Args: []string{"repack", "--geometric=2", "-d", "-l", "-q"}}); err != nil {
		return fmt.Errorf("pack the repository: %w", err)
	}
	r.refs.Lock()
	defer r.refs.Unlock()
	if err := r.within(ctx, maintainTimeout, Command{Args: []string{"pack-refs", "--all"}}); err != nil {
		return fmt.Errorf("pack the references: %w", err)
	}
	return nil
}

// Run follows the remote, if there is one, and keeps the repository packed, until ctx
// ends. What does not work is logged and tried again.
func (r *Repo) Run(ctx context.Context, log *slog.Logger) error {
	maintain := time.NewTicker(maintainEvery)
	defer maintain.Stop()
	var fetch <-chan time.Time
	if r.Follows() {
		t := time.NewTicker(r.cfg.Remote.Every)
		defer t.Stop()
		fetch = t.C
	}
	said := "" // the same trouble is told once
	for {
		if fetch != nil {
			switch _, err := r.Fetch(ctx); {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil && err.Error() != said:
				said = err.Error()
				log.Error("branch not followed", "error", err)
			case err == nil && said != "":
				said = ""
				log.Info("branch followed again")
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-fetch:
		case <-maintain.C:
			if err := r.Maintain(ctx); err != nil && ctx.Err() == nil {
				log.Error("repository not packed", "error", err)
			}
		}
	}
}
