package presenter

import (
	"context"
	"fmt"

	"github.com/zonecast/zonecast/internal/history"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// Versions that are too old to be gone back to leave the history. How they came about is
// kept longer, many in a node, for the audit.

const (
	// slack is how many versions more than are wanted the history may have: they leave it
	// together.
	slack = 32
	// archiveSize bounds a node of tree.Versions, in octets.
	archiveSize = store.MaxValue - 16<<10
)

// archived is a node of tree.Versions.
type archived struct {
	path     string
	versions int
}

// forget takes the oldest versions out of the history, but for those that the way back to
// a pin needs. What cannot be done now is tried again with the next version.
func (p *Presenter) forget(ctx context.Context) {
	for len(p.past) >= p.cfg.History+slack {
		batch := p.past[:len(p.past)-p.cfg.History]
		if v := p.pin.version(); v > 0 {
			n := 0 // its own stays: it says what lay below the overrides of then
			for n < len(batch) && n+1 < len(p.past) && p.past[n+1].Version <= v {
				n++
			}
			batch = batch[:n]
		}
		if len(batch) == 0 {
			return
		}
		n, err := p.archive(ctx, batch)
		if err != nil {
			p.log.Warn("old versions not taken out of the history, trying again later", "version", batch[0].Version, "error", err)
			return
		}
		p.past = p.past[n:]
	}
}

// archive moves as many of the versions as fit one node out of the history, and gives how
// many they are. The undos go first: what is without one is still told.
func (p *Presenter) archive(ctx context.Context, batch []tree.History) (int, error) {
	const most = store.MaxTxnOps - 2
	var node tree.Versions
	size := 0
	var undos, ops []store.Op
	for _, e := range batch {
		whole := history.Forget(p.cfg.Dataset, e)
		e.Counted, e.Pieces, e.Under = nil, 0, 0
		if size += len(tree.Encode(e)) + 1; size > archiveSize && len(ops) > 0 || len(ops) == most {
			break
		}
		node.Versions = append(node.Versions, e)
		ops, undos = append(ops, whole[0]), append(undos, whole[1:]...)
	}
	for len(undos) > 0 {
		n := min(store.MaxTxnOps-1, len(undos))
		if _, err := p.deps.Store.Commit(ctx, store.Txn{If: []store.Cond{p.term.fence}, Do: undos[:n]}); err != nil {
			return 0, err
		}
		undos = undos[n:]
	}
	if p.cfg.Audit > 0 {
		ops = append(ops, store.Op{Path: tree.VersionsPath(p.cfg.Dataset, batch[0].Version), Value: tree.Encode(node)})
	}
	if _, err := p.deps.Store.Commit(ctx, store.Txn{If: []store.Cond{p.term.fence}, Do: ops}); err != nil {
		return 0, err
	}
	return len(node.Versions), p.tidyArchive(ctx, archived{tree.VersionsPath(p.cfg.Dataset, batch[0].Version), len(node.Versions)})
}

// tidyArchive takes note of a new node, and takes the oldest ones away when there are more
// versions than are to be kept.
func (p *Presenter) tidyArchive(ctx context.Context, now archived) error {
	if p.archived == nil { // the first time in this process's life
		nodes, _, err := p.deps.Store.List(ctx, tree.VersionsPrefix(p.cfg.Dataset))
		if err != nil {
			return fmt.Errorf("read old versions: %w", err)
		}
		for _, n := range nodes {
			var v tree.Versions
			if err := tree.Decode(n, &v); err != nil {
				p.log.Warn("old versions cannot be read", "error", err)
			}
			p.archived = append(p.archived, archived{n.Path, len(v.Versions)})
		}
	} else {
		p.archived = append(p.archived, now)
	}
	all := 0
	for _, a := range p.archived {
		all += a.versions
	}
	var ops []store.Op
	for _, a := range p.archived {
		if all <= p.cfg.Audit || len(ops) == store.MaxTxnOps-1 {
			break
		}
		all -= a.versions
		ops = append(ops, store.Op{Path: a.path, Delete: true})
	}
	if len(ops) == 0 {
		return nil
	}
	if _, err := p.deps.Store.Commit(ctx, store.Txn{If: []store.Cond{p.term.fence}, Do: ops}); err != nil {
		p.archived = nil // read again
		return fmt.Errorf("take the oldest versions away: %w", err)
	}
	p.archived = p.archived[len(ops):]
	return nil
}
