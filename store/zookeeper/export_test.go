package zookeeper

import (
	"context"
	"errors"
	"strings"

	"github.com/go-zookeeper/zk"

	"github.com/zonecast/zonecast/store"
)

// Forget trims the log down to its newest entry.
func (s *Store) Forget(ctx context.Context) error {
	s.work()
	v, err := s.survey(ctx)
	if err != nil {
		return err
	}
	return v.trim(ctx, 1, 1)
}

// Conn is the connection beneath, for foreign hands.
func (s *Store) Conn() *zk.Conn { return s.conn() }

// Leaf is the znode of a node.
func (s *Store) Leaf(path string) string { return s.leaf(path) }

// Between does one try of a commit, with something done by others after it has read
// and before it writes. again tells that the try was refused for what had changed.
func (s *Store) Between(ctx context.Context, txn store.Txn, others func()) (again bool, err error) {
	rctx, cancel, err := s.request(ctx)
	if err != nil {
		return false, err
	}
	defer cancel()
	a := attempt{s: s, ctx: rctx, txn: txn, fresh: true}
	if err := a.look(); err != nil {
		return false, err
	}
	if err := a.compare(); err != nil {
		return false, err
	}
	others()
	_, err = a.send()
	return errors.Is(err, errAgain), err
}

// Limits makes cfg one of a short log.
func (c Config) Limits(entries, bytes int, lastEntry int64) Config {
	c.entries, c.bytes, c.lastEntry = entries, bytes, lastEntry
	return c
}

// LogSize counts the entries of the log, its generations, and the entries written
// ahead.
func (s *Store) LogSize(ctx context.Context) (entries, generations, bulks int, err error) {
	gens, err := s.children(ctx, s.root+logName)
	for _, g := range gens {
		var names []string
		if err == nil {
			names, err = s.children(ctx, s.root+logName+"/"+g)
		}
		entries += len(names)
	}
	var names []string
	if err == nil {
		names, err = s.children(ctx, s.root+bulkName)
	}
	return entries, len(gens), len(names), err
}

// WriteAhead writes an entry that no commit will name.
func (s *Store) WriteAhead(ctx context.Context) error {
	a := attempt{s: s, ctx: ctx}
	return a.writeAhead([]byte(strings.Repeat("x", 100)))
}

// IsJanitor tells whether s does what one client does for all.
func (s *Store) IsJanitor(ctx context.Context) bool {
	st, err := s.stat(ctx, s.root+janitorName)
	return err == nil && st != nil && st.EphemeralOwner == s.conn().SessionID()
}

// Session0 is the ZooKeeper session of the store's own connection.
func (s *Store) Session0() int64 { return s.conn().SessionID() }

// Roots are the znodes directly below the root.
func (s *Store) Roots() []string {
	return []string{formatName, headName, logName, guardsName, sessionsName, ownedName, bulkName, treeName}
}
