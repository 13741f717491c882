package lead

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/zonecast/zonecast/store"
)

// Pauses between a failed run or election and the next.
const (
	minPause = 100 * time.Millisecond
	maxPause = 5 * time.Second
	// settled is how long a run must have lasted for the pause to start anew.
	settled = 30 * time.Second
)

// Election says who stands for what.
type Election struct {
	Store store.Store
	Path  string
	Value []byte        // what the election's node says while this process leads; may be empty
	TTL   time.Duration // how long leadership outlives its process
	Log   *slog.Logger
}

// Run stands in the election and calls task each time it is won, until ctx ends.
// The task's context ends when the leadership is lost; its fence holds exactly as
// long as the leadership. When the task returns, for whatever reason, leadership
// is given up and stood for again.
func Run(ctx context.Context, e Election, task func(ctx context.Context, fence store.Cond) error) {
	pause := minPause
	for ctx.Err() == nil {
		began := time.Now()
		err := once(ctx, e, task)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > settled {
			pause = minPause
		}
		e.Log.Warn("leadership ended, standing again", "election", e.Path, "error", err, "pause", pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
}

func once(ctx context.Context, e Election, task func(context.Context, store.Cond) error) error {
	session, err := e.Store.Session(ctx, e.TTL)
	if err != nil {
		return err
	}
	defer session.Close()
	leadership, err := session.Elect(ctx, e.Path, e.Value)
	if err != nil {
		return err
	}
	e.Log.Info("leading", "election", e.Path)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		select {
		case <-session.Done():
			cancel(store.ErrSessionLost)
		case <-ctx.Done():
		}
	}()
	err = task(ctx, leadership.Fence)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = errors.Join(cause, err)
	}
	cancel(nil)
	<-watching
	return err
}

// checkTimeout bounds Check: the question is small.
const checkTimeout = time.Second

// Check asks the store whether a fence still holds: nil when it does,
// store.ErrConflict when it does not, else why that is not known. A session can
// live on while its election's node is gone (a store put back from a copy, a
// person's hand); a task whose every commit meets a conflict asks here, and returns.
func Check(ctx context.Context, st store.Store, fence store.Cond) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	n, err := st.Get(ctx, fence.Path)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if n.Modified != fence.Modified {
		return fmt.Errorf("%s is at revision %d, the fence is %d: %w", fence.Path, n.Modified, fence.Modified, store.ErrConflict)
	}
	return nil
}
