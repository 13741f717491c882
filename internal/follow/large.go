package follow

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/zonecast/zonecast/snapshot"
)

// large are deltas that are had as files.
type large struct {
	have map[snapshot.Chain][]byte // fetched, and not yet given to the sink
	// failed could not be fetched: their parts are read from the store until the retry.
	failed map[snapshot.Chain]bool
}

func (l *large) clear() {
	clear(l.have)
	clear(l.failed)
}

// wanted is the error of a walk that a large delta is missing.
type wanted struct{ ref snapshot.DeltaRef }

// Error is for people.
func (w *wanted) Error() string {
	return fmt.Sprintf("delta %d of %d octets is to be fetched", w.ref.Version, w.ref.Size)
}

// read gives the encoded delta of a log node: from its file, where the manifest names one, or from
// the store.
func (f *Follower) read(ctx context.Context, p position, value []byte) ([]byte, error) {
	if f.cfg.Fetcher != nil && len(value) > 0 && value[0] == formParts && !f.large.failed[p.chain] {
		if b := f.large.have[p.chain]; b != nil {
			return b, nil
		}
		for _, ref := range f.target.deltas {
			if ref.Version == p.version && ref.Chain == p.chain {
				return nil, &wanted{ref}
			}
		}
	}
	return ReadLog(ctx, f.cfg.Store, f.cfg.Dataset, p.version, value)
}

// startLarge begins to fetch a delta.
func (f *Follower) startLarge(ctx context.Context, ref snapshot.DeltaRef) {
	ctx, cancel := context.WithCancel(ctx)
	job := &fetch{large: &ref, cancel: cancel}
	f.fetch = job
	f.cfg.Log.Info("fetching large delta", "dataset", f.cfg.Dataset, "version", ref.Version, "size", ref.Size, "have", f.at.Version())
	go func() {
		defer cancel()
		job.encoded, job.err = fetchDelta(ctx, f.cfg, ref, f.dir)
		var content *ContentError
		if errors.As(job.err, &content) {
			job.head = content.Head
		}
		f.fetched <- job // has room for the one that is under way
	}()
}

func fetchDelta(ctx context.Context, cfg Config, ref snapshot.DeltaRef, dir string) ([]byte, error) {
	path, err := cfg.Fetcher.Fetch(ctx, ref.File(), dir, cfg.Progress)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path) // of ref.Size octets, at most snapshot.MaxDelta
	if err = errors.Join(err, os.Remove(path)); err != nil {
		return nil, err
	}
	if got := snapshot.ChainOf(b); got != ref.Chain {
		err := fmt.Errorf("%w: delta %d has chain %s…, expected %s…", ErrContent, ref.Version, got.String()[:12], ref.Chain.String()[:12])
		return nil, &ContentError{err, b[:min(len(b), MaxEvidence)]}
	}
	return b, nil
}

// finishLarge takes in what such a fetch brought.
func (f *Follower) finishLarge(ctx context.Context, job *fetch) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if job.err == nil {
		f.large.have[job.large.Chain] = job.encoded
		return nil
	}
	f.large.failed[job.large.Chain] = true
	if errors.Is(job.err, ErrContent) {
		f.refuseWith(KindDelta, job.large.Version, job.err, job.head)
	}
	f.cfg.Log.Info("large delta is not had as a file, reading it from the store", "dataset", f.cfg.Dataset, "version", job.large.Version, "error", job.err)
	return nil
}
