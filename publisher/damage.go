package publisher

import (
	"context"
	"fmt"

	"github.com/zonecast/zonecast/internal/follow"
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
	v := s.newest
	due := s.suspect && v.version > 0 && s.last.Version >= v.version
	if due {
		s.suspect = false // what is touched from here on may not be in what is listed
	}
	s.mu.Unlock()
	if !due {
		return
	}
	at, err := follow.Damaged(ctx, s.deps.Store, s.cfg.Dataset, v.version, v.chain, max(s.last.Snapshot.Version+1, s.oldest, 1))
	if err != nil {
		s.mu.Lock()
		s.suspect = true
		s.mu.Unlock()
		s.deps.Log.Debug("log not looked through, trying again", "dataset", s.cfg.Dataset, "error", err)
		return
	}
	s.mu.Lock()
	s.wanted, s.status.Damage = s.wanted || at > 0, ""
	if at > 0 {
		s.status.Damage = fmt.Sprintf("delta %d was damaged in the store, or is gone: hosts below it wait for a snapshot, which is made with the next version", at)
	}
	s.mu.Unlock()
	if at > 0 {
		s.deps.Log.Error("log is damaged, hosts that are behind wait for a snapshot; it is made with the next version", "dataset", s.cfg.Dataset, "version", at)
		s.metrics.damaged.Inc()
	}
}
