package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/zonecast/zonecast/store"
)

const (
	// requestTimeout bounds each request to the server, also when the caller's ctx
	// would wait longer. Until then a request waits for a connection, so that the
	// restart of a server (about 0.7 s) is a delay and no error.
	requestTimeout = 5 * time.Second
	// A connection that is silent for pingInterval is asked for a sign of life and
	// dropped without one after pingTimeout. etcd's default is to refuse clients
	// that ask more often than every 5 s (--grpc-keepalive-min-time).
	pingInterval = 6 * time.Second
	pingTimeout  = 3 * time.Second
	// window is how many octets may be on the way to us unread, in a stream and in all: 40 MB/s
	// over 100 ms. Given, it is not measured: that costs every host two packets to and fro with each
	// version.
	window = 4 << 20
	// After a lost connection the next try comes after 50 ms, then later and later
	// up to 1 s, or Config.Spread: gRPC's own default of up to 120 s would leave a daemon
	// blind long after the server is back.
	reconnectFirst = 50 * time.Millisecond
	reconnectMost  = time.Second
	// pageSize is how many nodes one List request returns, so that the answer stays
	// below 64 MiB (1,000 × MaxValue).
	pageSize = 1000
)

// Config says which etcd, and where in it.
type Config struct {
	// Endpoints of one cluster: "host:port", "http://host:port",
	// "https://host:port" or "unix:///path/to/socket". At least one.
	Endpoints []string
	// Prefix stands before every path, so that several trees fit in one etcd. It is
	// empty, or a path such as /zonecast without a final slash.
	Prefix string
	// TLS is needed for https endpoints; nil otherwise.
	TLS *tls.Config
	// Spread is the longest pause between two tries to connect, for a client that is one of
	// many: after a long outage they come back within that time, and not all at once. After a short one
	// the pause is about half of what that has lasted. Zero is a second.
	Spread time.Duration
	// Log is told about sessions lost and histories lost. Nil discards.
	Log *slog.Logger
}

// Validate tells what is wrong with the configuration, or nil.
func (c Config) Validate() error {
	if len(c.Endpoints) == 0 {
		return errors.New("store endpoints are missing, expected at least one such as 192.0.2.1:2379")
	}
	for _, e := range c.Endpoints {
		if e == "" {
			return fmt.Errorf("store endpoints %q have an empty one, expected host:port or unix:///path", c.Endpoints)
		}
	}
	if c.Prefix != "" {
		if err := store.CheckPath(c.Prefix); err != nil {
			return fmt.Errorf("store prefix: %w", err)
		}
	}
	return nil
}

// Store is a client of an etcd. It implements store.Store.
type Store struct {
	prefix string
	log    *slog.Logger
	client *clientv3.Client

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu       sync.Mutex // guards below
	closed   bool
	life     life
	sessions map[*session]bool
	deaf     time.Time      // when the server last gave no answer to a goodbye; zero once it did
	wg       sync.WaitGroup // watches and sessions; Add only with mu held and !closed
}

// Open makes a client. It does not wait for a server: a daemon must start, and
// serve what it has, while the store is dead. ctx is for Open only.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open store %q: %w", cfg.Endpoints, err)
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	sctx, cancel := context.WithCancel(context.Background())
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            cfg.Endpoints,
		TLS:                  cfg.TLS,
		Context:              sctx,
		DialTimeout:          pingTimeout,
		DialKeepAliveTime:    pingInterval,
		DialKeepAliveTimeout: pingTimeout,
		Logger:               zap.NewNop(), // its warnings repeat the errors it returns
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: reconnectFirst, Multiplier: 1.6, Jitter: 0.2, MaxDelay: max(reconnectMost, cfg.Spread)},
			MinConnectTimeout: pingTimeout,
		}), grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window)},
	})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open store %q: %w", cfg.Endpoints, err)
	}
	s := &Store{
		prefix: cfg.Prefix, log: log, client: client, ctx: sctx, cancel: cancel, life: life{over: make(chan struct{})}, sessions: make(map[*session]bool),
	}
	s.wg.Go(s.lookAfterReconnects)
	return s, nil
}

// Close is store.Store.Close. Without a server its sessions' nodes stay until
// their ttl has passed, and Close says so in its error.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	open := make([]*session, 0, len(s.sessions))
	for ss := range s.sessions {
		open = append(open, ss)
	}
	s.mu.Unlock()
	errs := make([]error, len(open))
	var wg sync.WaitGroup
	for i, ss := range open {
		wg.Go(func() { errs[i] = ss.Close() })
	}
	wg.Wait()
	s.cancel()
	s.wg.Wait()
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		errs = append(errs, fmt.Errorf("close store: %w", err))
	}
	return errors.Join(errs...)
}

// begin counts a goroutine that Close waits for; false once the store is closed.
func (s *Store) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Add(1)
	return true
}

func (s *Store) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// request bounds one request and refuses it when the store is closed.
func (s *Store) request(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if s.isClosed() {
		return nil, nil, store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, s.failure(ctx, err)
	}
	rctx, cancel := context.WithTimeout(ctx, requestTimeout)
	return rctx, cancel, nil
}

// Get is store.Store.Get.
func (s *Store) Get(ctx context.Context, path string) (store.Node, error) {
	kv, _, err := s.get(ctx, path)
	if err != nil {
		return store.Node{}, err
	}
	return s.node(kv), nil
}

// get also returns the revision at which that was the whole truth, with
// ErrNotFound too.
func (s *Store) get(ctx context.Context, path string) (*mvccpb.KeyValue, store.Revision, error) {
	if err := store.CheckPath(path); err != nil {
		return nil, 0, fmt.Errorf("get: %w", err)
	}
	rctx, cancel, err := s.request(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("get %s: %w", path, err)
	}
	defer cancel()
	seen := s.seen()
	resp, err := s.client.Get(rctx, s.prefix+path)
	if err != nil {
		return nil, 0, fmt.Errorf("get %s: %w", path, s.failure(ctx, err))
	}
	s.heard(seen, resp.Header.Revision)
	rev := store.Revision(resp.Header.Revision)
	if len(resp.Kvs) == 0 {
		return nil, rev, fmt.Errorf("get %s: %w", path, store.ErrNotFound)
	}
	return resp.Kvs[0], rev, nil
}

func (s *Store) node(kv *mvccpb.KeyValue) store.Node {
	return store.Node{
		Path:      string(kv.Key[len(s.prefix):]),
		Value:     kv.Value,
		Created:   store.Revision(kv.CreateRevision),
		Modified:  store.Revision(kv.ModRevision),
		Ephemeral: kv.Lease != 0,
	}
}

// List is store.Store.List.
func (s *Store) List(ctx context.Context, prefix string) ([]store.Node, store.Revision, error) {
	if err := store.CheckPrefix(prefix); err != nil {
		return nil, 0, fmt.Errorf("list: %w", err)
	}
	for {
		nodes, rev, err := s.pages(ctx, prefix)
		if isCompacted(err) {
			continue // the revision of the first page was forgotten meanwhile
		}
		if err != nil {
			return nil, 0, fmt.Errorf("list %s: %w", prefix, err)
		}
		return nodes, rev, nil
	}
}

// pages reads all nodes below prefix as of one revision, pageSize at a time.
func (s *Store) pages(ctx context.Context, prefix string) ([]store.Node, store.Revision, error) {
	var nodes []store.Node
	var rev int64 // 0 is the newest
	key, end := s.prefix+prefix, clientv3.GetPrefixRangeEnd(s.prefix+prefix)
	for {
		rctx, cancel, err := s.request(ctx)
		if err != nil {
			return nil, 0, err
		}
		seen := s.seen()
		resp, err := s.client.Get(rctx, key, clientv3.WithRange(end), clientv3.WithLimit(pageSize), clientv3.WithRev(rev),
			clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend))
		cancel()
		if err != nil {
			return nil, 0, s.failure(ctx, err)
		}
		s.heard(seen, resp.Header.Revision)
		if rev == 0 {
			rev = resp.Header.Revision
			nodes = make([]store.Node, 0, resp.Count)
		}
		for _, kv := range resp.Kvs {
			nodes = append(nodes, s.node(kv))
		}
		if !resp.More || len(resp.Kvs) == 0 {
			return nodes, store.Revision(rev), nil
		}
		key = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// Commit is store.Store.Commit.
func (s *Store) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	return s.commit(ctx, txn, clientv3.NoLease)
}

// commit does txn; what it puts belongs to lease unless that is NoLease.
func (s *Store) commit(ctx context.Context, txn store.Txn, lease clientv3.LeaseID) (store.Revision, error) {
	if err := txn.Check(); err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	rctx, cancel, err := s.request(ctx)
	if err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	defer cancel()
	conds := make([]clientv3.Cmp, len(txn.If))
	look := make([]clientv3.Op, len(txn.If)) // when a condition fails: which one
	for i, c := range txn.If {
		conds[i] = clientv3.Compare(clientv3.ModRevision(s.prefix+c.Path), "=", int64(c.Modified))
		look[i] = clientv3.OpGet(s.prefix+c.Path, clientv3.WithKeysOnly())
	}
	ops := make([]clientv3.Op, len(txn.Do))
	for i, o := range txn.Do {
		if o.Delete {
			ops[i] = clientv3.OpDelete(s.prefix + o.Path)
		} else {
			ops[i] = clientv3.OpPut(s.prefix+o.Path, string(o.Value), clientv3.WithLease(lease))
		}
	}
	seen := s.seen()
	resp, err := s.client.Txn(rctx).If(conds...).Then(ops...).Else(look...).Commit()
	if err != nil {
		return 0, fmt.Errorf("commit %s: %w", describe(txn), s.failure(ctx, err))
	}
	s.heard(seen, resp.Header.Revision)
	if !resp.Succeeded {
		return 0, fmt.Errorf("commit %s: %w", describe(txn), conflict(txn, resp))
	}
	return store.Revision(resp.Header.Revision), nil
}

// describe names a transaction by its first path.
func describe(txn store.Txn) string {
	if len(txn.Do) == 1 {
		return txn.Do[0].Path
	}
	return fmt.Sprintf("%s and %d more", txn.Do[0].Path, len(txn.Do)-1)
}

// conflict names the first condition that did not hold.
func conflict(txn store.Txn, resp *clientv3.TxnResponse) error {
	for i, c := range txn.If {
		var found int64
		if kvs := resp.Responses[i].GetResponseRange().Kvs; len(kvs) > 0 {
			found = kvs[0].ModRevision
		}
		if store.Revision(found) != c.Modified {
			return fmt.Errorf("%s is at revision %d, expected %d: %w", c.Path, found, c.Modified, store.ErrConflict)
		}
	}
	return store.ErrConflict
}
