package zookeeper

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-zookeeper/zk"

	"github.com/zonecast/zonecast/store"
)

// failure turns an error of the library into one that callers of store.Store branch
// on. ctx is the caller's: the request's own is shorter.
func (s *Store) failure(ctx context.Context, err error) error {
	for _, known := range []error{store.ErrNotFound, store.ErrConflict, store.ErrUnavailable, store.ErrSessionLost, store.ErrClosed, errDenied, errForeign} {
		if errors.Is(err, known) {
			return err
		}
	}
	if s.ctx.Err() != nil {
		return store.ErrClosed
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Canceled
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: no answer in time: %w", store.ErrUnavailable, ctx.Err())
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: no answer within %s", store.ErrUnavailable, requestTimeout)
	case errors.Is(err, zk.ErrNoAuth), errors.Is(err, zk.ErrAuthFailed):
		return fmt.Errorf("%s: %w: give user:password, see docs/store.md", s.root, errDenied)
	case errors.Is(err, zk.ErrInvalidACL), errors.Is(err, zk.ErrInvalidPath):
		return err
	}
	return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
}

// errDenied means that the znodes are another user's.
var errDenied = errors.New("its znodes belong to another user")

// errForeign means that what is there was not written by this package.
var errForeign = errors.New("not zonecast's, or a newer zonecast's")

// mayRetryRead tells whether a read that had this error is worth another try.
func mayRetryRead(err error) bool {
	return errors.Is(err, zk.ErrConnectionClosed) || errors.Is(err, zk.ErrSessionExpired) || errors.Is(err, zk.ErrSessionMoved) || errors.Is(err, zk.ErrClosing) || unsent(err)
}

// unsent tells whether a request with this error has certainly not been done.
func unsent(err error) bool { return errors.Is(err, zk.ErrNoServer) }
