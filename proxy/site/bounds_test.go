package site

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/wire"
)

// picky is a store whose sessions refuse what has a path with "bad" in it.
type picky struct {
	store.Store
	mu       sync.Mutex // guards below
	txns     []store.Txn
	sessions error // of Session, unless nil
}

type pickySession struct {
	store.Session
	of *picky
}

func (p *picky) Session(ctx context.Context, ttl time.Duration) (store.Session, error) {
	p.mu.Lock()
	err := p.sessions
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	s, err := p.Store.Session(ctx, ttl)
	return pickySession{s, p}, err
}

func (s pickySession) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	s.of.mu.Lock()
	s.of.txns = append(s.of.txns, txn)
	s.of.mu.Unlock()
	for _, o := range txn.Do {
		if strings.Contains(o.Path, "bad") {
			return 0, errors.New("not allowed")
		}
	}
	return s.Session.Commit(ctx, txn)
}

func (p *picky) last() store.Txn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.txns[len(p.txns)-1]
}

// desk is reports that a test works by hand.
func desk(t *testing.T) (*reports, *picky) {
	t.Helper()
	up := &picky{Store: memstore.New()}
	t.Cleanup(func() { up.Close() })
	link := &uplink{store: up, log: slog.New(slog.DiscardHandler), poke: make(chan struct{}, 1)}
	cfg := DefaultConfig()
	cfg.Most = 10
	return newReports(t.Context(), up, link, slog.New(slog.DiscardHandler), cfg, new(sync.WaitGroup)), up
}

func (r *reports) session(t *testing.T, c *conn) wire.Token {
	t.Helper()
	token, err := r.open(c, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// wishes makes a transaction of a session wait, and gives its outcome.
func (r *reports) wishes(t *testing.T, token wire.Token, txn store.Txn) <-chan error {
	t.Helper()
	r.mu.Lock()
	before := len(r.queue)
	r.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		_, err := r.commit(t.Context(), token, txn)
		done <- err
	}()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		n := len(r.queue)
		r.mu.Unlock()
		if n > before {
			return done
		}
		select {
		case err := <-done:
			t.Fatalf("transaction is not waited for: %v", err)
		default:
		}
		if time.Now().After(end) {
			t.Fatal("transaction does not wait within 10 s")
		}
	}
}

func put(paths ...string) (txn store.Txn) {
	for _, p := range paths {
		txn.Do = append(txn.Do, store.Op{Path: p, Value: []byte("v")})
	}
	return txn
}

// A session that is resumed again and again, as on a bad line, is one of the connection's.
func TestResumeAgain(t *testing.T) {
	r, _ := desk(t)
	c := new(conn)
	token := r.session(t, c)
	for range 3 * maxSessions {
		if err := r.resume(c, token); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.sessions) != 1 {
		t.Errorf("the connection has %d sessions, expected 1", len(c.sessions))
	}
}

// TestReportBounds: sessions, their nodes and octets, and what waits for the store are bounded, each
// in words.
func TestReportBounds(t *testing.T) {
	r, _ := desk(t)
	var err error
	for range 4*10 + 1 { // who comes with a new connection each time
		if _, err = r.open(new(conn), time.Hour); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "40 sessions") {
		t.Errorf("sessions without end: error is %v", err)
	}

	r, _ = desk(t)
	token := r.session(t, new(conn))
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nobody writes here
	for i := range 200 {
		txn := store.Txn{}
		for j := range 10 {
			txn.Do = append(txn.Do, store.Op{Path: fmt.Sprintf("/hosts/%d-%d", i, j), Value: make([]byte, 60<<10)})
		}
		if _, err = r.commit(ctx, token, txn); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "octets") {
		t.Errorf("octets without end: error is %v", err)
	}
	if r.octets > maxSessionOctets {
		t.Errorf("%d octets are kept of one session, at most %d", r.octets, maxSessionOctets)
	}
	if _, err := r.commit(ctx, token, store.Txn{Do: []store.Op{{Path: "/hosts/0-0", Value: []byte("small")}}}); err != nil {
		t.Errorf("less than before: error is %v", err)
	}

	r, _ = desk(t)
	token = r.session(t, new(conn))
	for i := range maxSessionNodes + 1 {
		if _, err = r.commit(ctx, token, put(fmt.Sprintf("/hosts/%d", i))); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "nodes") {
		t.Errorf("nodes without end: error is %v", err)
	}

	r, _ = desk(t)
	token = r.session(t, new(conn))
	for range maxWishes + 1 {
		if _, err = r.commit(ctx, token, put("/hosts/a")); err != nil {
			break
		}
	}
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "wait") {
		t.Errorf("transactions without end: error is %v", err)
	}

	// What has conditions is not left waiting when nobody waits for it.
	r, _ = desk(t)
	token = r.session(t, new(conn))
	if _, err := r.commit(ctx, token, store.Txn{If: []store.Cond{{Path: "/hosts/a"}}, Do: put("/hosts/a").Do}); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: error is %v", err)
	}
	if len(r.queue) > 0 || r.queued > 0 {
		t.Errorf("%d wishes of %d octets wait for nobody", len(r.queue), r.queued)
	}
}

// When one transaction of a batch is not to the store's liking the others are done as they were meant:
// a node that is somebody else's by now stays.
func TestOneByOneKeepsConditions(t *testing.T) {
	r, up := desk(t)
	gone, other := r.session(t, new(conn)), r.session(t, new(conn))
	first := r.wishes(t, gone, put("/hosts/a"))
	link, err := r.do(t.Context(), nil, r.next())
	if err != nil {
		t.Fatal(err)
	}
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if _, err := up.Store.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: "/hosts/a", Value: []byte("another site's")}}}); err != nil {
		t.Fatal(err)
	}
	bad := r.wishes(t, other, put("/hosts/bad"))
	r.mu.Lock()
	r.expire(r.sessions[gone])
	r.mu.Unlock()
	for b := r.next(); b != nil; b = r.next() {
		if link, err = r.do(t.Context(), link, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-bad; err == nil {
		t.Error("what the store does not take: no error")
	}
	if n, err := up.Get(t.Context(), "/hosts/a"); err != nil || string(n.Value) != "another site's" {
		t.Errorf("a node that is somebody else's by now is %q, %v", n.Value, err)
	}
}

// A transaction that package store allows is one at the store, too.
func TestWholeTransactions(t *testing.T) {
	long := strings.Repeat("/"+strings.Repeat("x", 200), 4)
	var deletes, large store.Txn
	for i := range store.MaxTxnOps {
		deletes.Do = append(deletes.Do, store.Op{Path: fmt.Sprintf("/hosts/%d", i), Delete: true})
	}
	for i := range 14 {
		large.Do = append(large.Do, store.Op{Path: fmt.Sprintf("/hosts%s/%d", long, i), Value: make([]byte, 64_000)})
	}
	for name, txn := range map[string]store.Txn{"deletes": deletes, "large": large} {
		t.Run(name, func(t *testing.T) {
			if err := txn.Check(); err != nil {
				t.Fatal(err)
			}
			r, up := desk(t)
			done := r.wishes(t, r.session(t, new(conn)), txn)
			if _, err := r.do(t.Context(), nil, r.next()); err != nil {
				t.Fatal(err)
			}
			if got := len(up.last().Do); got != len(txn.Do) {
				t.Errorf("%d of %d operations are in the transaction", got, len(txn.Do))
			}
			if b := r.next(); b != nil {
				t.Errorf("%d more are in another one", len(b.txn.Do))
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// A store that answers and gives no session keeps what agents report from it, which a person is told.
func TestNoSession(t *testing.T) {
	r, up := desk(t)
	up.sessions = errors.New("not authenticated")
	done := r.wishes(t, r.session(t, new(conn)), put("/hosts/a"))
	if _, err := r.do(t.Context(), nil, r.next()); err == nil {
		t.Fatal("no error")
	}
	if text := r.problem(); !strings.Contains(text, "not authenticated") {
		t.Errorf("a person is told %q", text)
	}
	up.mu.Lock()
	up.sessions = nil
	up.mu.Unlock()
	if _, err := r.do(t.Context(), nil, r.next()); err != nil {
		t.Fatal(err)
	}
	if text := r.problem(); text != "" {
		t.Errorf("and afterwards %q", text)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What is given in the store's place is forgotten when the store is there: it may be as large as all that
// agents report.
func TestStandInsGo(t *testing.T) {
	r, _ := desk(t)
	done := r.wishes(t, r.session(t, new(conn)), put("/hosts/a"))
	if got := r.over("/hosts/", result{}).nodes; len(got) != 1 {
		t.Fatalf("%d nodes, expected 1", len(got))
	}
	if _, err := r.do(t.Context(), nil, r.next()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(r.standIns) > 0 {
		t.Errorf("%d are kept", len(r.standIns))
	}
	if got := r.over("/hosts/", result{}); got.rev != r.last || got.nodes[0].Modified != r.last {
		t.Errorf("revision %d, node of %d, the store said %d", got.rev, got.nodes[0].Modified, r.last)
	}
}

// What was acknowledged while the store was away, and is not to its liking when it is back, goes alone:
// what others reported is written.
func TestRefusedAlone(t *testing.T) {
	r, up := desk(t)
	for _, p := range []string{"/hosts/a", "/hosts/bad", "/hosts/c"} {
		done := r.wishes(t, r.session(t, new(conn)), put(p))
		r.keep()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	session, err := r.do(t.Context(), nil, r.next())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	nodes, _, err := up.List(t.Context(), "/hosts/")
	if err != nil {
		t.Fatal(err)
	}
	if len(nodes) != 2 || len(r.nodes) != 2 || len(r.dirty) > 0 {
		t.Errorf("the store has %d nodes, the proxy %d, %d to be written; expected 2, 2, 0", len(nodes), len(r.nodes), len(r.dirty))
	}
}
