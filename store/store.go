package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Revision orders all changes of a store: etcd's revision, ZooKeeper's zxid.
// Zero is before every change.
type Revision int64

// Limits that every engine keeps. MaxTxnBytes stays below etcd's request limit
// of 1.5 MiB and ZooKeeper's packet limit of 1 MiB; MaxTxnOps is etcd's default
// --max-txn-ops of 128 less room for the session's own comparison.
const (
	MaxValue    = 64 << 10  // octets of a node's value
	MaxTxnBytes = 896 << 10 // octets of all paths and values of a transaction
	MaxTxnOps   = 120       // conditions + operations of a transaction
)

// Node is one value in the tree.
type Node struct {
	Path     string
	Value    []byte
	Created  Revision
	Modified Revision
	// Ephemeral nodes go when the Session that made them ends.
	Ephemeral bool
}

// Batch is what changed in one or several consecutive commits, in order. A path
// may be missing intermediate states; a commit is never split over two batches.
type Batch struct {
	// Revision up to which the watcher has now seen everything under its prefix.
	Revision Revision
	// Reset means that Puts is the whole state under the prefix and everything
	// known before is void: the first batch of a Watch from 0, and any batch after
	// the engine lost the history in between (compaction, a long disconnection).
	Reset   bool
	Puts    []Node   // in order of Modified
	Deletes []string // paths; none of them is also in Puts
}

// Op is one operation of a transaction: a put, or a delete when Delete is set.
type Op struct {
	Path   string
	Value  []byte
	Delete bool // deleting a path that does not exist is no error
}

// Cond must hold for a transaction to happen: the node's Modified is exactly
// this revision. Zero means that the path does not exist.
type Cond struct {
	Path     string
	Modified Revision
}

// Txn happens whole when all of If holds, otherwise not at all. No path may
// stand twice in Do.
type Txn struct {
	If []Cond
	Do []Op
}

// Errors that callers branch on.
var (
	ErrNotFound = errors.New("no such node")
	// ErrConflict means a condition of a Txn did not hold: read again and decide.
	ErrConflict = errors.New("the node changed meanwhile")
	// ErrUnavailable means that the engine could not be reached or has no quorum.
	// Whether a Commit with this error happened is not known.
	ErrUnavailable = errors.New("store unavailable")
	ErrClosed      = errors.New("store is closed")
	// ErrSessionLost means the session is over and its ephemeral nodes are gone.
	ErrSessionLost = errors.New("session lost")
)

// Store is the tree. All methods may be called concurrently.
type Store interface {
	// Get returns the node or ErrNotFound.
	Get(ctx context.Context, path string) (Node, error)
	// List returns all nodes below prefix (which ends in a slash), in order of
	// path, and the revision at which that was the whole truth.
	List(ctx context.Context, prefix string) ([]Node, Revision, error)
	// Watch streams what changes below prefix (which ends in a slash; "/" is
	// everything) after revision from. From 0 the first batch is a Reset with all
	// there is, also when that is nothing. The watch outlives disconnections; the
	// channel is closed only when ctx ends or the store is closed. A slow reader
	// gets merged batches, not a broken watch.
	Watch(ctx context.Context, prefix string, from Revision) <-chan Batch
	// Commit does the transaction and returns its revision. A Txn without Do is
	// an error.
	Commit(ctx context.Context, txn Txn) (Revision, error)
	// Session starts a lease: its ephemeral nodes vanish ttl after its owner died.
	Session(ctx context.Context, ttl time.Duration) (Session, error)
	// Close ends watches and sessions and frees the connection.
	Close() error
}

// Session owns ephemeral nodes and leadership. It keeps itself alive.
type Session interface {
	// Commit is Store.Commit; every node it puts is ephemeral and ends with the
	// session.
	Commit(ctx context.Context, txn Txn) (Revision, error)
	// Elect waits until this session leads the election at path (a node name such
	// as /elect/presenter) and then owns the node at path, with value, until the
	// session ends or Resign is called. It returns a condition that holds exactly
	// as long as the leadership: put it into a Txn to fence a deposed leader.
	Elect(ctx context.Context, path string, value []byte) (Leadership, error)
	// Done is closed when the session is lost or closed.
	Done() <-chan struct{}
	// Close ends the session; its nodes are gone when it returns.
	Close() error
}

// Leadership is a won election.
type Leadership struct {
	Fence  Cond // holds while this session leads
	Resign func(ctx context.Context) error
}

// CheckPath tells why path names no node, or nil: elements of 1 to 255 octets of
// printable ASCII, each after a slash, none "." or "..", 1,024 octets in all.
func CheckPath(path string) error {
	if len(path) > 1024 {
		return fmt.Errorf("path of %d octets, at most 1024", len(path))
	}
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return fmt.Errorf("path %q does not start with a slash", path)
	}
	for _, e := range strings.Split(rest, "/") {
		if e == "" || e == "." || e == ".." || len(e) > 255 {
			return fmt.Errorf("path %q has the element %q, expected 1 to 255 octets and not just dots", path, e)
		}
		for _, c := range []byte(e) {
			if c <= ' ' || c >= 0x7f {
				return fmt.Errorf("path %q has the octet 0x%02x, expected printable ASCII", path, c)
			}
		}
	}
	return nil
}

// CheckPrefix tells why List and Watch cannot take prefix, or nil: "/" or a path
// with a slash behind it.
func CheckPrefix(prefix string) error {
	if prefix == "/" {
		return nil
	}
	path, ok := strings.CutSuffix(prefix, "/")
	if !ok {
		return fmt.Errorf("prefix %q does not end in a slash", prefix)
	}
	return CheckPath(path)
}

// Check tells why the transaction cannot be done by any engine, or nil.
func (t Txn) Check() error {
	if len(t.Do) == 0 {
		return errors.New("transaction has nothing to do")
	}
	if n := len(t.If) + len(t.Do); n > MaxTxnOps {
		return fmt.Errorf("transaction has %d conditions and operations, at most %d", n, MaxTxnOps)
	}
	size := 0
	seen := make(map[string]bool, len(t.Do))
	for _, o := range t.Do {
		if err := CheckPath(o.Path); err != nil {
			return err
		}
		if seen[o.Path] {
			return fmt.Errorf("transaction has %s twice", o.Path)
		}
		seen[o.Path] = true
		if len(o.Value) > MaxValue {
			return fmt.Errorf("value of %s has %d octets, at most %d", o.Path, len(o.Value), MaxValue)
		}
		size += len(o.Path) + len(o.Value)
	}
	for _, c := range t.If {
		if err := CheckPath(c.Path); err != nil {
			return err
		}
		size += len(c.Path)
	}
	if size > MaxTxnBytes {
		return fmt.Errorf("transaction has %d octets, at most %d", size, MaxTxnBytes)
	}
	return nil
}
