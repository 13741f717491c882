package publisher

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// trimOps is how many nodes one transaction deletes: below store.MaxTxnOps, with
// room for the fence.
const trimOps = 100

// askTrim lets the trimmer delete what is older than version; a newer wish replaces
// one that has not been begun.
func (s *signer) askTrim(version uint64) {
	select {
	case <-s.trim:
	default:
	}
	s.trim <- version // one sender, room for one
}

// trimmer deletes what a manifest in the store says is no longer kept.
func (s *signer) trimmer(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case version := <-s.trim:
			for pause := minPause; ; pause = min(2*pause, maxPause) {
				err := s.trimTo(ctx, version)
				if err == nil || ctx.Err() != nil || errors.Is(err, store.ErrConflict) {
					break // a conflict is the fence: whoever leads now trims
				}
				s.deps.Log.Warn("log not trimmed, trying again", "dataset", s.cfg.Dataset, "below", version, "error", err)
				select {
				case <-ctx.Done():
					return
				case <-time.After(pause):
				}
			}
		}
	}
}

// trimTo deletes deltas and parts older than version. Parts go first: a log node
// without its parts reads as trimmed, parts without a log node would stay for ever.
func (s *signer) trimTo(ctx context.Context, version uint64) error {
	parts, _, err := s.deps.Store.List(ctx, tree.AllPartsPrefix(s.cfg.Dataset))
	if err != nil {
		return err
	}
	var paths []string
	for _, n := range parts {
		number, _, _ := strings.Cut(strings.TrimPrefix(n.Path, tree.AllPartsPrefix(s.cfg.Dataset)), "/")
		if v, err := strconv.ParseUint(number, 10, 64); err == nil && v < version {
			paths = append(paths, n.Path)
		}
	}
	log, _, err := s.deps.Store.List(ctx, tree.LogPrefix(s.cfg.Dataset))
	if err != nil {
		return err
	}
	for _, n := range log {
		if v, ok := tree.LogVersion(s.cfg.Dataset, n.Path); ok && v < version {
			paths = append(paths, n.Path)
		}
	}
	for len(paths) > 0 {
		n := min(trimOps, len(paths))
		txn := store.Txn{If: []store.Cond{s.fence}}
		for _, path := range paths[:n] {
			txn.Do = append(txn.Do, store.Op{Path: path, Delete: true})
		}
		if _, err := s.deps.Store.Commit(ctx, txn); err != nil {
			return err
		}
		s.metrics.trimmed.Add(float64(n))
		paths = paths[n:]
	}
	return nil
}
