package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zonecast/zonecast/store"
)

// failure turns an error of the client library into one that callers of
// store.Store branch on. ctx is the caller's: the request's own is shorter.
func (s *Store) failure(ctx context.Context, err error) error {
	if s.ctx.Err() != nil {
		return store.ErrClosed
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Canceled
	}
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return store.ErrSessionLost
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("%w: etcd has raised its alarm NOSPACE, its database has reached its quota: see docs/store.md", store.ErrUnavailable)
	case ctx.Err() != nil:
		return fmt.Errorf("%w: no answer in time: %w", store.ErrUnavailable, ctx.Err())
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: no answer within %s", store.ErrUnavailable, requestTimeout)
	}
	var coded interface{ Code() codes.Code }
	code := status.Code(err)
	if errors.As(err, &coded) {
		code = coded.Code()
	}
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Aborted, codes.ResourceExhausted, codes.Canceled:
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return err
}

func isCompacted(err error) bool { return errors.Is(err, rpctypes.ErrCompacted) }
