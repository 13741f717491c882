package datasets

import (
	"context"
	"slices"
	"time"
)

// carriedLook is how often it is looked which datasets a host carries.
const carriedLook = 250 * time.Millisecond

// FollowCarried calls take with what a host carries, at the beginning and whenever it is
// something else, until ctx ends. What take refuses is tried again. trouble is told why what is
// carried cannot be followed, and nil when it can.
func FollowCarried(ctx context.Context, journal, first string, take func([]string) error, trouble func(error)) {
	t := time.NewTicker(carriedLook)
	defer t.Stop()
	var now []string
	for {
		want, err := ReadCarried(journal, first)
		if err == nil && !slices.Equal(want, now) {
			if err = take(want); err == nil {
				now = want
			}
		}
		trouble(err)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
