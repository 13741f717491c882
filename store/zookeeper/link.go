package zookeeper

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"
)

const (
	// handshakeTimeout is how long a server may take to begin or resume a session
	// before the next one is tried. The library alone would wait 6 times the
	// session's timeout.
	handshakeTimeout = 3 * time.Second
	// mainTimeout is the session timeout of a Store's own connection, and so how
	// long a silent server is believed in: two thirds of it. Nothing of a Store's
	// owner depends on this session but the office of janitor.
	mainTimeout = 6 * time.Second
	// maxAnswer is the largest answer that is taken, in octets: the names of a
	// million children, or a node's value.
	maxAnswer = 64 << 20
	// leaseBuffer is the size of both buffers of a connection that only keeps a
	// session alive; the library's own are 1.5 MiB each.
	leaseBuffer = 16 << 10
	// closeTimeout bounds the goodbye of a connection, and then its end.
	closeTimeout = 300 * time.Millisecond
	// watchesWait bounds the wait of the first read after a reconnection for watches to be set anew.
	watchesWait = time.Second
	// quickRounds is how many times all servers are tried before a client that is one of many
	// pauses (Config.Spread): one that restarts is back by then.
	quickRounds = 2
	// firstSpread is the longest pause of the first such round; it doubles with each.
	firstSpread = time.Second
	// holdTick is how often a link that waits for another looks whether that is there.
	holdTick = 100 * time.Millisecond
)

// link is a connection with its ZooKeeper session, both of which the library renews
// as they are lost.
type link struct {
	conn  *zk.Conn
	cfg   linkConfig
	hosts hosts

	heard   atomic.Int64 // when the server last said anything, in Unix nanoseconds
	granted atomic.Int64 // the session's timeout as the server granted it, in nanoseconds
	expired chan struct{}
	once    sync.Once

	mu    sync.Mutex // guards below
	sock  net.Conn   // the present one
	dials int        // connections that there were

	closing context.Context // ends with close
	quit    context.CancelFunc
	ended   chan struct{} // closed when the library has ended
}

type linkConfig struct {
	servers []string
	timeout time.Duration
	buffer  int // 0: the library's
	log     *slog.Logger
	spread  time.Duration // the longest pause between rounds, besides the library's second
	after   func() bool   // tells whether servers may be tried; nil: at any time
	lost    int           // rounds that a link in whose place this is has had no server
}

// dial makes a link. It does not wait for a server.
func dial(cfg linkConfig) (*link, error) {
	l := &link{cfg: cfg, hosts: hosts{before: cfg.lost}, expired: make(chan struct{}), ended: make(chan struct{})}
	l.closing, l.quit = context.WithCancel(context.Background())
	l.heard.Store(time.Now().UnixNano())
	l.granted.Store(int64(cfg.timeout))
	answer := maxAnswer
	if cfg.buffer > 0 {
		answer = cfg.buffer
	}
	conn, events, err := zk.Connect(cfg.servers, cfg.timeout,
		zk.WithHostProvider(&l.hosts),
		zk.WithDialer(l.dial),
		zk.WithLogger(quiet{cfg.log}),
		zk.WithLogInfo(false),
		zk.WithMaxBufferSize(answer),
		zk.WithEventCallback(func(e zk.Event) {
			if e.Type == zk.EventSession && e.State == zk.StateExpired {
				l.once.Do(func() { close(l.expired) })
			}
		}),
		func() func(*zk.Conn) {
			if cfg.buffer > 0 {
				return zk.WithMaxConnBufferSize(cfg.buffer)
			}
			return func(*zk.Conn) {}
		}())
	if err != nil {
		return nil, err
	}
	l.conn = conn
	go func() {
		for range events {
		}
		close(l.ended)
	}()
	return l, nil
}

// close says goodbye, which ends the session at once, and frees the connection.
// Without a server there is nobody to say it to.
func (l *link) close() {
	l.quit()
	if l.conn.State() == zk.StateHasSession {
		go l.conn.Close()
		select {
		case <-l.ended:
			return
		case <-time.After(closeTimeout):
		}
	}
	l.mu.Lock()
	if l.sock != nil {
		l.sock.Close()
	}
	l.mu.Unlock()
	go l.conn.Close() // waits for up to 3 s when nobody answers
	select {
	case <-l.ended:
	case <-time.After(closeTimeout):
	}
}

// silence is for how long the server has said nothing. After the session's timeout
// it has ended the session, or will before it believes us again.
func (l *link) silence() time.Duration { return time.Since(time.Unix(0, l.heard.Load())) }

func (l *link) dial(network, address string, timeout time.Duration) (net.Conn, error) {
	pause(l.closing, l.hosts.pause(l.cfg.spread))
	for l.cfg.after != nil && !l.cfg.after() && l.closing.Err() == nil {
		pause(l.closing, holdTick)
	}
	if err := l.closing.Err(); err != nil {
		return nil, err
	}
	c, err := net.DialTimeout(network, address, timeout)
	if err != nil {
		return nil, err
	}
	s := &sock{Conn: c, link: l, set: make(chan struct{})}
	l.mu.Lock()
	l.sock = s
	l.dials++
	s.holds = l.dials > 1 && l.cfg.buffer == 0 // what keeps a session alive has no watches
	l.mu.Unlock()
	return s, nil
}

// sock is a connection that notes when something was heard, and what timeout the
// server granted: the first octets of its first packet are
//
//	int32 length | int32 protocol version | int32 timeout in milliseconds
//
// The library sets watches anew from the last zxid it has seen, which it reads without a lock while
// answers to what was asked before the reconnection set it: a change between would be told by no watch.
// So no answer is read before the packet that sets them was written, or credentials, which go first and
// are waited for before anything else is asked:
//
//	int32 length | int32 xid | int32 request | …
type sock struct {
	net.Conn
	link  *link
	head  []byte // up to 12 octets; read by one goroutine at a time
	holds bool   // the first read after the handshake waits; as head
	once  sync.Once
	set   chan struct{} // closed when either was written
}

// ZooKeeper's numbers of these requests.
const (
	opSetAuth    = 100
	opSetWatches = 101
)

func (s *sock) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	if len(p) >= 12 {
		if op := binary.BigEndian.Uint32(p[8:]); op == opSetWatches || op == opSetAuth {
			s.once.Do(func() { close(s.set) })
		}
	}
	return n, err
}

func (s *sock) Read(p []byte) (int, error) {
	if s.holds && len(s.head) == 12 {
		s.holds = false
		select {
		case <-s.set:
		case <-time.After(watchesWait): // there are none
		case <-s.link.closing.Done():
		}
	}
	n, err := s.Conn.Read(p)
	if n > 0 {
		s.link.heard.Store(time.Now().UnixNano())
	}
	if missing := 12 - len(s.head); missing > 0 {
		s.head = append(s.head, p[:min(n, missing)]...)
		if ms := 0; len(s.head) == 12 {
			if ms = int(int32(binary.BigEndian.Uint32(s.head[8:]))); ms > 0 {
				s.link.granted.Store(int64(time.Duration(ms) * time.Millisecond))
			}
		}
	}
	return n, err
}

// SetReadDeadline bounds the wait for the first packet.
func (s *sock) SetReadDeadline(t time.Time) error {
	if most := time.Now().Add(handshakeTimeout); len(s.head) < 12 && t.After(most) {
		t = most
	}
	return s.Conn.SetReadDeadline(t)
}

// hosts gives the servers in turn, from any of them on: the clients of a fleet spread over an
// ensemble. Names are resolved at each dial, not once: a
// daemon starts without its resolver, too. The first try after a working connection
// comes at once; between rounds the library waits a second.
type hosts struct {
	mu      sync.Mutex // guards below
	servers []string
	next    int
	tries   int
	before  int // rounds without a server, of the link in whose place this one is
}

func (h *hosts) Init(servers []string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.servers = slices.Clone(servers)
	rand.Shuffle(len(h.servers), func(i, k int) { h.servers[i], h.servers[k] = h.servers[k], h.servers[i] })
	return nil
}

func (h *hosts) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.servers)
}

func (h *hosts) Next() (server string, retryStart bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	server = h.servers[h.next%len(h.servers)]
	retryStart = h.tries > 0 && h.tries%len(h.servers) == 0
	h.next++
	h.tries++
	return server, retryStart
}

// pause is for how long to wait before the server that Next gave is tried: before the first of a
// round that follows others, by chance between nothing and a time that doubles with each round up
// to most. So thousands that lost their servers together do not come back together.
func (h *hosts) pause(most time.Duration) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if most <= 0 || h.lost() < quickRounds || h.tries <= 1 || (h.tries-1)%len(h.servers) != 0 {
		return 0
	}
	d := firstSpread
	for n := quickRounds; n < h.lost() && d < most; n++ {
		d *= 2
	}
	return rand.N(min(d, most))
}

// lost is how many rounds have ended with no server. mu is held.
func (h *hosts) lost() int { return h.before + max(0, h.tries-1)/max(1, len(h.servers)) }

// rounds is how many rounds have ended with no server.
func (h *hosts) rounds() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lost()
}

// away tells whether no server was to be had for longer than one that restarts takes.
func (h *hosts) away() bool { return h.rounds() >= quickRounds }

func (h *hosts) Connected() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tries, h.before = 0, 0
}

// quiet puts what the library says at debug level: it repeats the errors that it
// returns.
type quiet struct{ log *slog.Logger }

func (q quiet) Printf(format string, args ...any) {
	if q.log.Enabled(context.Background(), slog.LevelDebug) {
		q.log.Debug("zookeeper client", "line", format, "args", args)
	}
}

// answer is what a call of the library gave.
type answer[T any] struct {
	value T
	err   error
}

// await runs a call of the library, which knows no contexts, until ctx ends.
func await[T any](ctx context.Context, call func() (T, error)) (T, error) {
	if err := ctx.Err(); err != nil {
		var none T
		return none, err
	}
	return start(ctx, call)
}

// start runs a call in any case, and waits for it until ctx ends. The goroutine of a
// call that is given up ends when the connection is renewed.
func start[T any](ctx context.Context, call func() (T, error)) (T, error) {
	c := make(chan answer[T], 1)
	go func() {
		v, err := call()
		c <- answer[T]{v, err}
	}()
	select {
	case a := <-c:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
