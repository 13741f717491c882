package publisher

import (
	"context"
	"fmt"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
)

// A node of the log that is lost or changed stops hosts that have not followed beyond it, until a
// snapshot is offered that is. Whoever leads the publishing looks through the log when its term
// begins, and when the watch says that a node was touched that should not be; what is damaged
// makes the next version's snapshot due.

// touched is follow.Config.LogTouched.
func (p *Publisher) touched(version uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.status.Leading || version > 0 && version < p.status.Oldest { // trimmed
		return
	}
	p.suspect = true
	p.poke()
}

// inspect looks through the log, if that is to be done.
func (s *signer) inspect(ctx context.Context) {
	s.mu.Lock()
	suspect, v := s.suspect, s.newest
	s.mu.Unlock()
	if !suspect || v.version == 0 || s.last.Version < v.version {
		return
	}
	at, err := s.damaged(ctx, v)
	if err != nil {
		s.deps.Log.Debug("log not looked through, trying again", "dataset", s.cfg.Dataset, "error", err)
		return
	}
	s.mu.Lock()
	s.suspect, s.wanted, s.status.Damage = false, s.wanted || at > 0, ""
	if at > 0 {
		s.status.Damage = fmt.Sprintf("delta %d was damaged in the store, or is gone: hosts below it wait for a snapshot, which is made with the next version", at)
	}
	s.mu.Unlock()
	if at > 0 {
		s.deps.Log.Error("log is damaged, hosts that are behind wait for a snapshot; it is made with the next version", "dataset", s.cfg.Dataset, "version", at)
		s.metrics.damaged.Inc()
	}
}

// damaged gives the newest delta above the offered snapshot that is not as it was published; 0: all
// are. What is below a large delta is not looked at: that makes a snapshot due in any case.
func (s *signer) damaged(ctx context.Context, v version) (uint64, error) {
	lowest := max(s.last.Snapshot.Version+1, s.oldest, 1)
	nodes, _, err := s.deps.Store.List(ctx, tree.LogPrefix(s.cfg.Dataset))
	if err != nil {
		return 0, err
	}
	log := make(map[uint64][]byte, len(nodes))
	for _, n := range nodes {
		if at, ok := tree.LogVersion(s.cfg.Dataset, n.Path); ok {
			log[at] = n.Value
		}
	}
	chain := v.chain
	for at := v.version; at >= lowest; at-- {
		value, ok := log[at]
		if !ok {
			return at, nil
		}
		encoded, inline, err := follow.Inline(value)
		if err != nil || inline && snapshot.ChainOf(encoded) != chain {
			return at, nil
		}
		if !inline {
			return 0, nil
		}
		d, err := snapshot.DecodeDelta(encoded)
		if err != nil {
			return at, nil
		}
		if d.Full {
			return 0, nil
		}
		chain = d.Prev
	}
	return 0, nil
}
