package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/zonecast/zonecast/store"
)

// packetRoom is the largest multi that is sent, in octets: ZooKeeper's default
// jute.maxbuffer of 1 MiB - 1 less what stands around a request. A transaction of
// store.MaxTxnBytes has room in it beside inlineEntry and, for each operation, the
// root and 64 octets, unless it also has many long paths that must not exist, which
// stand in it twice.
const packetRoom = 1<<20 - 1 - 64

// bigPacket is the size from which a lost connection is blamed on a limit of the
// server's that is below ZooKeeper's default.
const bigPacket = 256 << 10

// Commit is store.Store.Commit.
func (s *Store) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	if s.isClosed() {
		return 0, fmt.Errorf("commit: %w", store.ErrClosed)
	}
	return s.commit(ctx, txn, nil)
}

// commit does txn; what it puts belongs to the session ss unless that is nil.
func (s *Store) commit(ctx context.Context, txn store.Txn, ss *session) (store.Revision, error) {
	if err := txn.Check(); err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	rctx, cancel, err := s.request(ctx)
	if err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	defer cancel()
	a := attempt{s: s, ctx: rctx, txn: txn}
	if ss != nil {
		a.owner, a.sent = ss.id, &ss.sent
	}
	rev, err := a.run()
	if err != nil {
		return 0, fmt.Errorf("commit %s: %w", describe(txn), s.failure(ctx, err))
	}
	return rev, nil
}

// describe names a transaction by its first path.
func describe(txn store.Txn) string {
	if len(txn.Do) == 1 {
		return txn.Do[0].Path
	}
	return fmt.Sprintf("%s and %d more", txn.Do[0].Path, len(txn.Do)-1)
}

// attempt is a transaction on its way: its znodes are read, the conditions compared,
// and a multi is sent that happens only if nothing of what was read has changed.
type attempt struct {
	s     *Store
	ctx   context.Context
	txn   store.Txn
	owner string          // a session's id, or empty
	sent  *sync.WaitGroup // counts requests on their way; may be nil

	fresh  bool   // the server has caught up with the leader since the call began
	bulk   string // the name of the entry that was written ahead; "" for none
	hashed string // of which changes

	// Of the present try:
	format format
	zk     int64               // the ZooKeeper session in which it reads
	seen   map[string]*zk.Stat // by path of If and Do; nil: not there
	bumps  map[int]int32       // guards' versions, older than seen
	ops    []any
	why    []reason // of each of ops: what it means when it fails
	size   int      // of ops, in octets
	head   int      // index in ops of the setting of head
}

// reason says what an operation of a multi relies on.
type reason struct {
	kind reasonKind
	path string // for ofNode
	n    int    // for ofGuard: the bucket
}

type reasonKind int

const (
	ofNode reasonKind = iota
	ofGuard
	ofFormat
	ofSession
	ofBulk
	ofRoot // what is always there
)

// errAgain means that what was read has changed.
var errAgain = errors.New("znodes changed meanwhile")

func (a *attempt) run() (store.Revision, error) {
	for try := 0; ; try++ {
		rev, err := a.once()
		if !errors.Is(err, errAgain) {
			return rev, err
		}
		if try >= 2 {
			pause(a.ctx, rand.N(time.Millisecond<<min(try, 6)))
		}
		if a.ctx.Err() != nil {
			return 0, fmt.Errorf("%w: the nodes changed each time in %d tries: %w", store.ErrUnavailable, try+1, a.ctx.Err())
		}
		// What we read may have been old, on a server that lags behind.
		if err := a.s.sync(a.ctx); err != nil {
			return 0, err
		}
		a.fresh = true
	}
}

func (a *attempt) once() (store.Revision, error) {
	if err := a.look(); err != nil {
		return 0, err
	}
	if err := a.compare(); err != nil {
		return 0, err
	}
	return a.send()
}

// compare holds the conditions against what was read.
func (a *attempt) compare() error {
	for _, c := range a.txn.If {
		var found store.Revision
		if st := a.seen[c.Path]; st != nil {
			found = store.Revision(st.Mzxid)
		}
		if found == c.Modified {
			continue
		}
		if !a.fresh {
			return errAgain
		}
		return fmt.Errorf("%s is at revision %d, expected %d: %w", c.Path, found, c.Modified, store.ErrConflict)
	}
	return nil
}

// send does the transaction if nothing has changed since look.
func (a *attempt) send() (store.Revision, error) {
	if err := a.plan(); err != nil {
		return 0, err
	}
	if a.size > packetRoom {
		return 0, fmt.Errorf("transaction is %d octets in ZooKeeper, at most %d: shorten the root or the paths", a.size, packetRoom)
	}
	if err := a.ctx.Err(); err != nil {
		return 0, err
	}
	if a.sent != nil {
		a.sent.Add(1)
	}
	ops := a.ops
	results, err := start(a.ctx, func() ([]zk.MultiResponse, error) {
		if a.sent != nil {
			defer a.sent.Done()
		}
		return a.s.conn().Multi(ops...)
	})
	if err == nil {
		return a.done(results)
	}
	for i, r := range results {
		if r.Error != nil && i < len(a.why) {
			return 0, a.failed(a.why[i], r.Error)
		}
	}
	if unsent(err) {
		pause(a.ctx, retryPause)
		return 0, errAgain
	}
	if errors.Is(err, zk.ErrConnectionClosed) && a.size > bigPacket {
		return 0, fmt.Errorf("%w: %w on a request of %d octets: is the servers' jute.maxbuffer below 1 MiB?", store.ErrUnavailable, err, a.size)
	}
	return 0, err
}

// look reads guards, and then the znodes that they guard.
func (a *attempt) look() error {
	var paths []string
	a.seen = make(map[string]*zk.Stat, len(a.txn.If)+len(a.txn.Do))
	add := func(p string) {
		if _, there := a.seen[p]; !there {
			a.seen[p] = nil
			paths = append(paths, p)
		}
	}
	for _, c := range a.txn.If {
		add(c.Path)
	}
	for _, o := range a.txn.Do {
		add(o.Path)
	}
	session, err := a.s.zkSession(a.ctx)
	if err != nil {
		return err
	}
	if err := a.s.guardsOf(a.ctx, session, paths, &a.bumps); err != nil {
		return err
	}
	stats := make([]*zk.Stat, len(paths))
	err = each(len(paths), func(i int) (err error) {
		stats[i], err = a.s.stat(a.ctx, a.s.leaf(paths[i]))
		return err
	})
	if err != nil {
		return err
	}
	for i, p := range paths {
		a.seen[p] = stats[i]
	}
	a.zk = session
	// Within one ZooKeeper session nobody is shown older states after newer ones;
	// between two of them the nodes could be older than the guards.
	if a.s.conn().SessionID() != session || session == 0 {
		return errAgain
	}
	a.s.mu.Lock()
	a.format = a.s.format
	a.s.mu.Unlock()
	return nil
}

// guardsOf gives versions that the guards of paths had, in this ZooKeeper session:
// those that are known, or else the present ones.
func (s *Store) guardsOf(ctx context.Context, session int64, paths []string, to *map[int]int32) error {
	*to = make(map[int]int32, len(paths))
	var missing []int
	s.mu.Lock()
	if s.bumpsOf != session {
		clear(s.bumps)
		s.bumpsOf = session
	}
	for _, p := range paths {
		b := bucket(p)
		if _, there := (*to)[b]; there {
			continue
		}
		v, known := s.bumps[b]
		if (*to)[b] = v; !known {
			missing = append(missing, b)
		}
	}
	s.mu.Unlock()
	versions := make([]int32, len(missing))
	err := each(len(missing), func(i int) error {
		st, err := s.stat(ctx, s.guard(missing[i]))
		if err == nil && st == nil {
			err = fmt.Errorf("%s: %w", s.guard(missing[i]), zk.ErrNoNode)
		}
		if err == nil {
			versions[i] = st.Version
		}
		return err
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, b := range missing {
		(*to)[b] = versions[i]
		if s.bumpsOf == session {
			s.bumps[b] = versions[i]
		}
	}
	return nil
}

// op adds an operation with the octets that it takes in a packet: a header of 9,
// lengths, versions and flags of at most 20, and the ACL.
func (a *attempt) op(why reason, op any) {
	a.ops, a.why = append(a.ops, op), append(a.why, why)
	a.size += 9
	switch op := op.(type) {
	case *zk.CreateRequest:
		a.size += len(op.Path) + len(op.Data) + 16
		for _, acl := range op.Acl {
			a.size += len(acl.Scheme) + len(acl.ID) + 12
		}
	case *zk.SetDataRequest:
		a.size += len(op.Path) + len(op.Data) + 12
	case *zk.DeleteRequest:
		a.size += len(op.Path) + 8
	case *zk.CheckVersionRequest:
		a.size += len(op.Path) + 8
	}
}

// plan makes the multi of what was read.
func (a *attempt) plan() error {
	s := a.s
	a.ops, a.why, a.size = nil, nil, 0
	a.op(reason{kind: ofFormat}, &zk.CheckVersionRequest{Path: s.root + formatName, Version: a.format.version})
	if a.owner != "" {
		a.op(reason{kind: ofSession}, &zk.CheckVersionRequest{Path: s.marker(a.owner), Version: -1})
	}
	var changes []change
	guarded := make(map[int]bool) // true: sets the guard
	done := make(map[string]bool, len(a.txn.Do))
	var do []func()
	for _, o := range a.txn.Do {
		done[o.Path] = true
		st, leaf, why := a.seen[o.Path], s.leaf(o.Path), reason{kind: ofNode, path: o.Path}
		if st != nil {
			guarded[bucket(o.Path)] = guarded[bucket(o.Path)] || o.Delete
		}
		switch {
		case o.Delete && st == nil:
			do = append(do, func() { a.absent(o.Path) })
			continue
		case o.Delete:
			do = append(do, func() { a.op(why, &zk.DeleteRequest{Path: leaf, Version: st.Version}) })
			changes = append(changes, change{path: o.Path, delete: true})
			continue
		case st == nil:
			do = append(do, func() { a.op(why, s.create(leaf, encodeLeaf(a.owner, o.Value), zk.FlagPersistent)) })
			changes = append(changes, change{path: o.Path, value: o.Value, ephemeral: a.owner != ""})
		default:
			do = append(do, func() {
				a.op(why, &zk.SetDataRequest{Path: leaf, Data: encodeLeaf(a.owner, o.Value), Version: st.Version})
			})
			changes = append(changes, change{path: o.Path, value: o.Value, created: store.Revision(st.Czxid), ephemeral: a.owner != ""})
		}
	}
	for _, c := range a.txn.If {
		if done[c.Path] {
			continue // its operation checks it
		}
		done[c.Path] = true
		if st := a.seen[c.Path]; st == nil {
			a.absent(c.Path)
		} else {
			a.op(reason{kind: ofNode, path: c.Path}, &zk.CheckVersionRequest{Path: s.leaf(c.Path), Version: st.Version})
			guarded[bucket(c.Path)] = guarded[bucket(c.Path)]
		}
	}
	for b, set := range guarded {
		why := reason{kind: ofGuard, n: b}
		if set {
			a.op(why, &zk.SetDataRequest{Path: s.guard(b), Version: a.bumps[b]})
		} else {
			a.op(why, &zk.CheckVersionRequest{Path: s.guard(b), Version: a.bumps[b]})
		}
	}
	for _, f := range do {
		f()
	}
	entry := encodeChanges(changes)
	if len(entry) > inlineEntry {
		if err := a.writeAhead(entry); err != nil {
			return err
		}
		a.op(reason{kind: ofBulk}, &zk.CheckVersionRequest{Path: s.bulk(a.bulk), Version: -1})
		entry = encodeBulk(a.bulk)
	}
	a.op(reason{kind: ofRoot}, s.create(s.generation(a.format.gen)+"/"+entryPrefix, entry, zk.FlagSequence))
	a.head = len(a.ops)
	a.op(reason{kind: ofRoot}, &zk.SetDataRequest{Path: s.root + headName, Version: -1})
	return nil
}

// absent adds what fails when path exists, and otherwise changes nothing.
func (a *attempt) absent(path string) {
	why, leaf := reason{kind: ofNode, path: path}, a.s.leaf(path)
	a.op(why, a.s.create(leaf, nil, zk.FlagPersistent))
	a.op(why, &zk.DeleteRequest{Path: leaf, Version: -1})
}

// writeAhead writes an entry below bulk, unless the last try has.
func (a *attempt) writeAhead(entry []byte) error {
	if a.bulk != "" && a.hashed == string(entry) {
		return nil
	}
	id := newID()
	_, err := await(a.ctx, func() (string, error) {
		return a.s.conn().Create(a.s.bulk(id), entry, zk.FlagPersistent, a.s.acl)
	})
	switch {
	case unsent(err):
		pause(a.ctx, retryPause)
		return errAgain
	case errors.Is(err, zk.ErrConnectionClosed):
		return fmt.Errorf("%w: %w on a request of %d octets: is the servers' jute.maxbuffer below 1 MiB?", store.ErrUnavailable, err, len(entry))
	case err != nil:
		return err
	}
	a.bulk, a.hashed = id, string(entry)
	return nil
}

// done reads the revision off the setting of head, and notes how the guards are now.
func (a *attempt) done(results []zk.MultiResponse) (store.Revision, error) {
	if len(results) != len(a.ops) || results[a.head].Stat == nil {
		return 0, fmt.Errorf("%w: an answer of %d results to %d operations", store.ErrUnavailable, len(results), len(a.ops))
	}
	s := a.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, why := range a.why {
		if st := results[i].Stat; why.kind == ofGuard && st != nil && s.bumpsOf == a.zk {
			s.bumps[why.n] = st.Version
		}
	}
	return store.Revision(results[a.head].Stat.Mzxid), nil
}

// failed says what to do about the first operation that failed.
func (a *attempt) failed(why reason, err error) error {
	s := a.s
	switch err {
	case zk.ErrBadVersion, zk.ErrNoNode, zk.ErrNodeExists:
	default:
		return err
	}
	switch why.kind {
	case ofNode:
		if err == zk.ErrNoNode {
			// A directory is missing, if not the node.
			if err := a.makeDirs(); err != nil {
				return err
			}
		}
	case ofGuard:
		// Only the first that failed is told; the others may be as old.
		s.mu.Lock()
		for b := range a.bumps {
			delete(s.bumps, b)
		}
		s.mu.Unlock()
	case ofFormat:
		f, err := s.readFormat(a.ctx)
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.format = f
		s.mu.Unlock()
	case ofSession:
		return store.ErrSessionLost
	case ofBulk:
		a.bulk = ""
	case ofRoot:
		return fmt.Errorf("%s: %w: the znodes below it are not whole", s.root, err)
	}
	return errAgain
}

// makeDirs makes the directories of all nodes that the multi creates. ZooKeeper
// deletes those that have become empty (they are containers).
func (a *attempt) makeDirs() error {
	dirs := make(map[string]bool)
	for _, op := range a.ops {
		if c, ok := op.(*zk.CreateRequest); ok && strings.HasPrefix(c.Path, a.s.root+treeName+"/") {
			dirs[c.Path[:strings.LastIndexByte(c.Path, '/')]] = true
		}
	}
	for d := range dirs {
		if err := a.s.makeDir(a.ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// makeDir makes a directory and those above it that are missing.
func (s *Store) makeDir(ctx context.Context, dir string) error {
	if dir == s.root+treeName {
		return nil
	}
	for {
		_, err := read(ctx, func() (string, error) { return s.conn().CreateContainer(dir, nil, zk.FlagContainer, s.acl) })
		switch {
		case err == nil, errors.Is(err, zk.ErrNodeExists):
			return nil
		case !errors.Is(err, zk.ErrNoNode):
			return err
		}
		if err := s.makeDir(ctx, dir[:strings.LastIndexByte(dir, '/')]); err != nil {
			return err
		}
	}
}
