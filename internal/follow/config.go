package follow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
	"github.com/zonecast/zonecast/store"
)

// Config is what is followed, and with what.
type Config struct {
	Dataset string
	Store   store.Store
	// Keys are those whose manifests are believed. Nil: the store is believed, up to the
	// head: for the control plane only.
	Keys journal.Keys
	// KeysChanged tells that Keys gives another set. Nil: it is found out with the next
	// thing that happens.
	KeysChanged <-chan struct{}
	// Revoked, unless nil, reads from the store which keys are revoked, so that Keys knows. It is
	// asked at the beginning, after silences, and when Keys gives another key, before anything is
	// believed that came then: what tells of a revocation may come later than what the key signed
	// meanwhile, or may have been passed over.
	Revoked func(ctx context.Context) error
	// Manifest is the signed one under which the state to go on from was taken; nil: it is
	// not known.
	Manifest []byte
	// Fetcher gets snapshots. Nil means that only deltas can be had.
	Fetcher Fetcher
	// Dir is where snapshots are fetched to, and removed from again. It is used by
	// one follower at a time. Empty means a new directory below os.TempDir.
	Dir string
	// Floor is a version that was reached in an earlier life though the data is lost:
	// nothing below it is taken. Zero means none. FloorSignedBy are the ids of the keys
	// that signed it, when that is known: with their word the floor is void.
	Floor         uint64
	FloorSignedBy []string
	// Log is told of what an operator would want to know. Nil discards.
	Log *slog.Logger
	// Progress, unless nil, is told how far the fetch of a snapshot is, in octets, by
	// another goroutine than the Sink's.
	Progress func(done, total int64)
	// LogTouched, unless nil, is told which nodes of the log were changed after they were made, or
	// are gone, be it that they were trimmed; 0: that may have happened to any.
	LogTouched func(version uint64)
	// RetryMin and RetryMax bound the pause before something that did not work is
	// tried again; it doubles from one to the other. What arrives in the meantime is
	// looked at at once. Zero means 200 ms and 30 s.
	RetryMin, RetryMax time.Duration
}

// Defaults and bounds.
const (
	defaultRetryMin = 200 * time.Millisecond
	defaultRetryMax = 30 * time.Second
	// silence is how long nothing has come when Revoked is asked anew: freshness records come
	// every second.
	silence = 3 * time.Second
	// patience is how long that may take before it is tried again.
	patience = 10 * time.Second
	// maxCache bounds the octets that log nodes take which cannot be applied yet. Those
	// beyond are fetched when their time has come.
	maxCache = 64 << 20
	// maxSteps bounds the deltas walked through in one go: publishers keep two
	// snapshots' worth, 4,000 versions, by default.
	maxSteps = 1 << 20
)

// complete fills in defaults and tells what is wrong.
func (c *Config) complete() error {
	if err := snapshot.CheckName(c.Dataset); err != nil {
		return err
	}
	if c.Store == nil {
		return errors.New("follow: no store")
	}
	if c.RetryMin == 0 {
		c.RetryMin = defaultRetryMin
	}
	if c.RetryMax == 0 {
		c.RetryMax = max(defaultRetryMax, c.RetryMin)
	}
	if c.RetryMin < 0 || c.RetryMax < c.RetryMin {
		return fmt.Errorf("follow: retries after %s to %s, expected 0 < min <= max", c.RetryMin, c.RetryMax)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// prefix is below what of the store everything is. Hosts need no head, and so are not sent it.
func (c *Config) prefix() string {
	if c.Keys != nil {
		return tree.OutPrefix(c.Dataset)
	}
	return tree.DatasetPrefix(c.Dataset)
}

// workDir is Dir, or a directory of its own, and what cleans up.
func (c *Config) workDir() (dir string, clean func(), err error) {
	if c.Dir != "" {
		return c.Dir, func() {}, nil
	}
	dir, err = os.MkdirTemp("", "zonecast-fetch-")
	if err != nil {
		return "", nil, fmt.Errorf("make directory for snapshots: %w", err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil // its own and temporary
}
