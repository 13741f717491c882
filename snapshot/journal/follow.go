package journal

import (
	"context"
	"crypto/ed25519"
	"errors"

	"github.com/zonecast/zonecast/snapshot"
)

// Event is one thing a follower is told: exactly one of Reset, Delta and Problem
// is set.
type Event struct {
	// Reset is the whole state; what was known before is void. It belongs to the
	// receiver, who may Apply the deltas that follow to it.
	Reset *snapshot.Dataset
	// Delta leads to the next version. Its chain and, with keys, the signature that
	// covers it are verified.
	Delta *snapshot.Delta
	// Problem is why the journal cannot be read at the moment. The follower keeps
	// what it has, and Follow goes on when the journal can be read again.
	Problem error
	// Manifest is the newest one that covers Reset or Delta; nil with a Problem,
	// and with the Reset of a journal that never had one.
	Manifest *snapshot.Manifest
}

// Follow reads the journal in dir and tells fn of its state, then of every
// change, until ctx ends (it returns ctx.Err()) or fn returns an error (it returns
// that). It waits for the journal to exist, and outlives restarts of the writer,
// folding, Reset and Quarantine. With keys only what one of them signed is
// believed. fn is called by one goroutine, the caller's.
func Follow(ctx context.Context, dir string, keys []ed25519.PublicKey, fn func(Event) error) error {
	return errors.New("not yet")
}

// Load reads the journal's state once, without following and without the lock.
// The error wraps fs.ErrNotExist when there is no journal.
func Load(dir string, keys []ed25519.PublicKey) (*snapshot.Dataset, *snapshot.Manifest, error) {
	return nil, nil, errors.New("not yet")
}
