package follow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zonecast/zonecast/snapshot"
)

// ErrUnreachable is wrapped by Load when a version is published that cannot be had
// in full at the moment: what is in the store is damaged, or the log is trimmed and
// no snapshot can be fetched.
var ErrUnreachable = errors.New("the published version cannot be had")

// loadTries is how often Load looks: the log may be trimmed under its eyes, once.
const loadTries = 3

// Load gives what is published now: up to the head, or with Keys up to the
// manifest. Where nothing is published yet that is the empty dataset at version 0.
func Load(ctx context.Context, cfg Config) (*snapshot.Dataset, error) {
	var seen refusals
	f, err := New(cfg, nil, &seen)
	if err != nil {
		return nil, err
	}
	dir, clean, err := f.cfg.workDir()
	if err != nil {
		return nil, err
	}
	f.dir = dir
	defer clean()
	defer f.abandon()
	defer f.retry.Stop()
	for range loadTries {
		nodes, rev, err := cfg.Store.List(ctx, cfg.prefix())
		if err != nil {
			return nil, fmt.Errorf("load %s: %w", cfg.Dataset, err)
		}
		f.view.list(nodes, rev, f.at.Version())
		f.judged, f.judgedHead, f.failed = 0, 0, snapshot.ID{}
		if err := f.reach(ctx); err != nil {
			return nil, fmt.Errorf("load %s: %w", cfg.Dataset, err)
		}
		goal := f.view.head
		if cfg.Keys != nil {
			goal = f.view.manifest
		}
		if goal.Path == "" || f.target.version > 0 && f.at.Version() == f.target.version {
			return f.at, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("load %s: %w", cfg.Dataset, ctx.Err())
		case <-time.After(f.cfg.RetryMin):
		}
	}
	return nil, fmt.Errorf("load %s: %w: %w", cfg.Dataset, ErrUnreachable, errors.Join(seen...))
}

// reach gets as far as it can, snapshot included.
func (f *Follower) reach(ctx context.Context) error {
	for {
		if err := f.advance(ctx); err != nil {
			return err
		}
		if f.fetch == nil {
			return nil
		}
		done := <-f.fetched
		f.fetch = nil
		if err := f.finish(ctx, done); err != nil {
			return err
		}
	}
}

// refusals is a Sink that takes everything and keeps what was refused.
type refusals []error

func (r *refusals) Reset(context.Context, Reset) error { return nil }
func (r *refusals) Apply(context.Context, Group) error { return nil }
func (r *refusals) Refused(why Refusal) {
	if len(*r) < maxTold {
		*r = append(*r, errors.New(why.String()))
	}
}
