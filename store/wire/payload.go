package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zonecast/zonecast/store"
)

// Token names a session. Who knows it may go on with the session on another connection.
type Token [16]byte

// maxText is octets of an error's text.
const maxText = 4096

// errShort is what a payload is that ends too soon.
var errShort = errors.New("payload ends too soon")

// reader takes values from the beginning of b; after the first error it gives zeros.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail(errShort)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) revision() store.Revision {
	v := r.number()
	if v > 1<<62 {
		r.fail(fmt.Errorf("revision is %d, expected at most 2^62", v))
		return 0
	}
	return store.Revision(v)
}

// octets is what has its length before it; most bounds it. It is part of the payload.
func (r *reader) octets(most int) []byte {
	n := r.number()
	if n > uint64(most) {
		r.fail(fmt.Errorf("%d octets, expected at most %d", n, most))
		return nil
	}
	if n > uint64(len(r.b)) {
		r.fail(errShort)
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) path() string { return string(r.octets(1025)) } // a prefix has a slash more

func (r *reader) flag() byte {
	if len(r.b) == 0 {
		r.fail(errShort)
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) token() (t Token) {
	if len(r.b) < len(t) {
		r.fail(errShort)
		return t
	}
	copy(t[:], r.b)
	r.b = r.b[len(t):]
	return t
}

// count is a number of things that take at least least octets each.
func (r *reader) count(least int) int {
	n := r.number()
	if n > uint64(len(r.b)/least) {
		r.fail(errShort)
		return 0
	}
	return int(n)
}

// end is the error there was, or that there is more.
func (r *reader) end(what string) error {
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%d octets too many", len(r.b))
	}
	if r.err != nil {
		return fmt.Errorf("%s: %w", what, r.err)
	}
	return nil
}

func appendText[T ~string | ~[]byte](b []byte, v T) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

// AppendPath appends a Get or List.
func AppendPath(b []byte, path string) []byte { return appendText(b, path) }

// ParsePath reads a Get or List. The path is not checked.
func ParsePath(b []byte) (string, error) {
	r := reader{b: b}
	p := r.path()
	return p, r.end("path")
}

// AppendWatch appends a Watch.
func AppendWatch(b []byte, prefix string, from store.Revision) []byte {
	return binary.AppendUvarint(appendText(b, prefix), uint64(from))
}

// ParseWatch reads a Watch.
func ParseWatch(b []byte) (prefix string, from store.Revision, err error) {
	r := reader{b: b}
	prefix, from = r.path(), r.revision()
	return prefix, from, r.end("watch")
}

// AppendTTL appends an Open.
func AppendTTL(b []byte, ttl time.Duration) []byte {
	return binary.AppendUvarint(b, uint64((ttl+time.Millisecond-1)/time.Millisecond))
}

// ParseTTL reads an Open.
func ParseTTL(b []byte) (time.Duration, error) {
	r := reader{b: b}
	ms := r.number()
	if ms == 0 || ms > uint64(24*time.Hour/time.Millisecond) {
		r.fail(fmt.Errorf("ttl is %d ms, expected 1 ms to 24 h", ms))
	}
	return time.Duration(ms) * time.Millisecond, r.end("session")
}

// ParseToken reads a Resume, an End, a Lost and the answer to an Open.
func ParseToken(b []byte) (Token, error) {
	r := reader{b: b}
	t := r.token()
	return t, r.end("session")
}

// Flags.
const (
	flagDelete    = 1 // of an operation
	flagEphemeral = 1 // of a node
	flagReset     = 1 // of a batch
)

// AppendTxn appends a Commit. The zero token means that no session does it.
func AppendTxn(b []byte, session Token, txn store.Txn) []byte {
	b = append(b, session[:]...)
	b = binary.AppendUvarint(b, uint64(len(txn.If)))
	for _, c := range txn.If {
		b = appendText(b, c.Path)
		b = binary.AppendUvarint(b, uint64(c.Modified))
	}
	b = binary.AppendUvarint(b, uint64(len(txn.Do)))
	for _, o := range txn.Do {
		if o.Delete {
			b = append(b, flagDelete)
			b = appendText(b, o.Path)
			continue
		}
		b = append(b, 0)
		b = appendText(b, o.Path)
		b = appendText(b, o.Value)
	}
	return b
}

// ParseTxn reads a Commit. The transaction has passed its Check.
func ParseTxn(b []byte) (session Token, txn store.Txn, err error) {
	r := reader{b: b}
	session = r.token()
	for range r.count(2) {
		txn.If = append(txn.If, store.Cond{Path: r.path(), Modified: r.revision()})
	}
	for range r.count(2) {
		o := store.Op{Delete: r.flag()&flagDelete != 0, Path: r.path()}
		if !o.Delete {
			o.Value = r.octets(store.MaxValue)
		}
		txn.Do = append(txn.Do, o)
	}
	if err := r.end("transaction"); err != nil {
		return session, store.Txn{}, err
	}
	return session, txn, txn.Check()
}

// AppendNode appends a node.
func AppendNode(b []byte, n store.Node) []byte {
	var flags byte
	if n.Ephemeral {
		flags = flagEphemeral
	}
	b = append(b, flags)
	b = appendText(b, n.Path)
	b = binary.AppendUvarint(b, uint64(n.Created))
	b = binary.AppendUvarint(b, uint64(n.Modified))
	return appendText(b, n.Value)
}

func (r *reader) node() store.Node {
	flags := r.flag()
	n := store.Node{Ephemeral: flags&flagEphemeral != 0, Path: r.path(), Created: r.revision(), Modified: r.revision()}
	// A copy: a node may be kept for long, and would keep its whole frame.
	n.Value = slices.Clone(r.octets(store.MaxValue))
	if r.err == nil {
		if err := store.CheckPath(n.Path); err != nil {
			r.fail(err)
		}
	}
	return n
}

// ParseNode reads the answer to a Get.
func ParseNode(b []byte) (store.Node, error) {
	r := reader{b: b}
	n := r.node()
	return n, r.end("node")
}

// ParseNodes reads a Part.
func ParseNodes(b []byte) ([]store.Node, error) {
	r := reader{b: b}
	var nodes []store.Node
	for r.err == nil && len(r.b) > 0 {
		nodes = append(nodes, r.node())
	}
	return nodes, r.end("nodes")
}

// AppendRevision appends the answer to a Commit, and what stands before the nodes in the
// answer to a List.
func AppendRevision(b []byte, rev store.Revision) []byte { return binary.AppendUvarint(b, uint64(rev)) }

// ParseRevision reads the answer to a Commit.
func ParseRevision(b []byte) (store.Revision, error) {
	r := reader{b: b}
	rev := r.revision()
	return rev, r.end("revision")
}

// ParseList reads the last frame of the answer to a List: the revision, and nodes.
func ParseList(b []byte) ([]store.Node, store.Revision, error) {
	r := reader{b: b}
	rev := r.revision()
	if r.err != nil {
		return nil, 0, r.end("list")
	}
	nodes, err := ParseNodes(r.b)
	return nodes, rev, err
}

// AppendBatch appends a Batch.
func AppendBatch(b []byte, batch store.Batch) []byte {
	var flags byte
	if batch.Reset {
		flags = flagReset
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(batch.Revision))
	b = binary.AppendUvarint(b, uint64(len(batch.Puts)))
	for _, n := range batch.Puts {
		b = AppendNode(b, n)
	}
	b = binary.AppendUvarint(b, uint64(len(batch.Deletes)))
	for _, p := range batch.Deletes {
		b = appendText(b, p)
	}
	return b
}

// ParseBatch reads a Batch.
func ParseBatch(b []byte) (store.Batch, error) {
	r := reader{b: b}
	batch := store.Batch{Reset: r.flag()&flagReset != 0, Revision: r.revision()}
	for range r.count(5) {
		batch.Puts = append(batch.Puts, r.node())
	}
	for range r.count(2) {
		p := r.path()
		if r.err == nil {
			if err := store.CheckPath(p); err != nil {
				r.fail(err)
			}
		}
		batch.Deletes = append(batch.Deletes, p)
	}
	return batch, r.end("batch")
}

// Status is the answer to a Ping: what the proxy knows of the store behind it.
type Status struct {
	// Away is how long the store has not answered; zero: it does.
	Away time.Duration
}

// AppendStatus appends the answer to a Ping.
func AppendStatus(b []byte, s Status) []byte {
	return binary.AppendUvarint(b, uint64(max(0, s.Away/time.Millisecond)))
}

// ParseStatus reads the answer to a Ping.
func ParseStatus(b []byte) (Status, error) {
	r := reader{b: b}
	ms := r.number()
	if ms > uint64(1<<62/time.Millisecond) {
		r.fail(fmt.Errorf("away for %d ms, expected less", ms))
	}
	return Status{Away: time.Duration(ms) * time.Millisecond}, r.end("status")
}

// The codes of errors that callers of package store branch on. The list only grows.
var codes = []error{nil, store.ErrNotFound, store.ErrConflict, store.ErrUnavailable, store.ErrClosed, store.ErrSessionLost}

// AppendError appends a Refusal.
func AppendError(b []byte, err error) []byte {
	code := 0
	for i, c := range codes {
		if c != nil && errors.Is(err, c) {
			code = i
			break
		}
	}
	text := err.Error()
	return appendText(binary.AppendUvarint(b, uint64(code)), text[:min(len(text), maxText)])
}

// ParseError reads a Refusal: what the proxy says, and, when the payload is none, why.
func ParseError(b []byte) error {
	r := reader{b: b}
	code, text := r.number(), string(r.octets(maxText))
	if err := r.end("refusal"); err != nil {
		return err
	}
	if code > 0 && code < uint64(len(codes)) {
		return &refused{text, codes[code]}
	}
	return errors.New(text)
}

// refused has the text of an error of the other side, and what it is.
type refused struct {
	text string
	is   error
}

func (r *refused) Error() string { return r.text }
func (r *refused) Unwrap() error { return r.is }
