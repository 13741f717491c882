package site

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/zonecast/zonecast/store"
)

const (
	// upTime bounds one request to the store.
	upTime = 5 * time.Second
	// readTime bounds one that reads: less than agents wait for an answer (5 s, package proxied), so
	// that they are given what is here when the store is silent.
	readTime = 3 * time.Second
)

// nothing is a prefix below which there is never anything: listing it asks for the store's
// revision and no more.
const nothing = "/datasets/@/"

// uplink is what is known of the store behind the proxy.
type uplink struct {
	store store.Store
	log   *slog.Logger
	poke  chan struct{} // holds one: ask now

	mu    sync.Mutex // guards below
	since time.Time  // when the store was found away; zero: it answers
	why   string
	asOf  time.Time // when it answered last; zero: never yet
}

// away is since when the store does not answer, and why; zero: it does.
func (u *uplink) away() (time.Time, string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.since, u.why
}

// cut is an error while the store is away.
func (u *uplink) cut() error {
	since, why := u.away()
	if since.IsZero() {
		return nil
	}
	return fmt.Errorf("%w: the site is cut off from it for %s: %s", store.ErrUnavailable, time.Since(since).Round(time.Second), why)
}

// answered notes what became of a request that was made at a time.
func (u *uplink) answered(at time.Time, err error) {
	if err != nil && !errors.Is(err, store.ErrUnavailable) {
		err = nil // it said something
	}
	u.mu.Lock()
	was := u.since
	if err == nil {
		u.since, u.why, u.asOf = time.Time{}, "", at
	} else if u.since.IsZero() {
		u.since, u.why = time.Now(), err.Error()
	}
	u.mu.Unlock()
	switch {
	case err == nil && !was.IsZero():
		u.log.Info("store answers again", "away", time.Since(was).Round(time.Millisecond))
	case err != nil && was.IsZero():
		u.log.Warn("store does not answer, the site goes on from the proxy", "error", err)
	}
}

// ask asks every so often whether the store is there; more often while it is not.
func (u *uplink) ask(ctx context.Context, every time.Duration) {
	for {
		_, _ = u.revision(ctx) // what it says is noted
		pause := every
		if since, _ := u.away(); !since.IsZero() {
			pause = min(every, time.Second)
		}
		select {
		case <-ctx.Done():
			return
		case <-u.poke:
		case <-time.After(pause):
		}
	}
}

// revision asks for the store's.
func (u *uplink) revision(ctx context.Context) (store.Revision, error) {
	at := time.Now()
	rctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	_, rev, err := u.store.List(rctx, nothing)
	if err = silent(rctx, err); ctx.Err() == nil {
		u.answered(at, err)
	}
	return rev, err
}

// silent is the error of a read: that time ran out means that the store is away.
func silent(ctx context.Context, err error) error {
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) && !errors.Is(err, store.ErrUnavailable) {
		return fmt.Errorf("%w: no answer within %s", store.ErrUnavailable, readTime)
	}
	return err
}
