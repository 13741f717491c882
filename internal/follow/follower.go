package follow

import (
	"context"
	"errors"

	"github.com/zonecast/zonecast/snapshot"
)

// Follower follows one dataset for one Sink.
type Follower struct{}

// New makes a follower that goes on from have, which becomes the follower's. Nil
// means that there is nothing yet.
func New(cfg Config, have *snapshot.Dataset, sink Sink) (*Follower, error) {
	return nil, errors.New("not yet")
}

// Run follows until ctx ends, and then returns its error.
func (f *Follower) Run(ctx context.Context) error { return errors.New("not yet") }
