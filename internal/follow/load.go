package follow

import (
	"context"
	"errors"

	"github.com/zonecast/zonecast/snapshot"
)

// ErrUnreachable is wrapped by Load when a version is published that cannot be had
// in full at the moment: the log is trimmed and no snapshot can be fetched.
var ErrUnreachable = errors.New("the published version cannot be had")

// Load gives what is published now: up to the head, or with Keys up to the
// manifest. Where nothing is published yet that is the empty dataset at version 0.
func Load(ctx context.Context, cfg Config) (*snapshot.Dataset, error) {
	return nil, errors.New("not yet")
}
