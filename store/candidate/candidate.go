package candidate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/zonecast/zonecast/store"
)

// pause is how long a candidate waits before it tries a server again that could not be
// reached.
const pause = 100 * time.Millisecond

// Session is an engine's, as a candidate needs it.
type Session interface {
	Commit(ctx context.Context, txn store.Txn) (store.Revision, error) // as store.Session
	Done() <-chan struct{}
	// Await waits until the node at path has gone, or changed. It gives the node's revision
	// at once when it is this session's own, made by a commit whose answer was lost.
	Await(ctx context.Context, path string) (store.Revision, error)
	// TakeBack deletes the node at path if it is this session's.
	TakeBack(path string)
}

// Candidate is what a session stands for. It is safe for concurrent use.
type Candidate struct {
	session Session
	commit  func(ctx context.Context, txn store.Txn) (store.Revision, error)

	mu     sync.Mutex // guards below
	stands map[string]bool
}

// New stands for a session; commit is that of the store, by which it resigns.
func New(session Session, commit func(ctx context.Context, txn store.Txn) (store.Revision, error)) *Candidate {
	return &Candidate{session: session, commit: commit, stands: map[string]bool{}}
}

// Elect is store.Session.Elect. Whoever creates the node at path leads; the others wait for
// it to go and try again.
func (c *Candidate) Elect(ctx context.Context, path string, value []byte) (store.Leadership, error) {
	txn := store.Txn{If: []store.Cond{{Path: path}}, Do: []store.Op{{Path: path, Value: value}}}
	if err := txn.Check(); err != nil {
		return store.Leadership{}, fmt.Errorf("elect: %w", err)
	}
	if err := c.stand(path); err != nil {
		return store.Leadership{}, fmt.Errorf("elect %s: %w", path, err)
	}
	rev, err := c.campaign(ctx, path, txn)
	if err != nil {
		c.session.TakeBack(path)
		c.leave(path)
		return store.Leadership{}, fmt.Errorf("elect %s: %w", path, err)
	}
	fence := store.Cond{Path: path, Modified: rev}
	return store.Leadership{Fence: fence, Resign: func(ctx context.Context) error { return c.resign(ctx, fence) }}, nil
}

// campaign tries txn until it or an earlier try of it has made the node at path. An outage
// of the store does not end it; the end of ctx or of the session does.
func (c *Candidate) campaign(ctx context.Context, path string, txn store.Txn) (store.Revision, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-c.session.Done():
			cancel(store.ErrSessionLost)
		case <-ctx.Done():
		}
	}()
	defer func() { cancel(nil); <-ended }()
	for {
		rev, err := c.session.Commit(ctx, txn)
		if err == nil {
			return rev, nil
		}
		if cause := context.Cause(ctx); cause != nil {
			return 0, cause
		}
		if errors.Is(err, store.ErrConflict) {
			rev, err = c.session.Await(ctx, path)
			if rev != 0 {
				return rev, nil
			}
		}
		if cause := context.Cause(ctx); cause != nil {
			return 0, cause
		}
		if errors.Is(err, store.ErrUnavailable) {
			wait := time.NewTimer(pause)
			select {
			case <-ctx.Done():
			case <-wait.C:
			}
			wait.Stop()
		} else if err != nil {
			return 0, err
		}
	}
}

func (c *Candidate) stand(path string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.session.Done():
		return store.ErrSessionLost
	default:
	}
	if c.stands[path] {
		return errors.New("this session stands there already")
	}
	c.stands[path] = true
	return nil
}

func (c *Candidate) leave(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.stands, path)
}

func (c *Candidate) resign(ctx context.Context, fence store.Cond) error {
	_, err := c.commit(ctx, store.Txn{If: []store.Cond{fence}, Do: []store.Op{{Path: fence.Path, Delete: true}}})
	if err != nil && !errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("resign %s: %w", fence.Path, err)
	}
	c.leave(fence.Path)
	return nil
}
