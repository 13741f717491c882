package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/authority/protocol"
)

// TestTCPResumes holds that a client may leave responses unread for a while: nothing
// more is read from it then, and no response is lost or out of order.
func TestTCPResumes(t *testing.T) {
	s := start(t, Config{UDPWorkers: 1})
	c := dial(t, "tcp", s.Addrs()[0].String())
	const queries = 300 // 18 MB: more than the kernel keeps
	sent := make(chan error, 1)
	go func() {
		for i := range queries {
			if _, err := c.Write(frame(fmt.Sprint(i, strings.Repeat("x", 60000)))); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	eventually(t, "responses wait for the client", func() bool { return writing(s) })
	for i := range queries {
		if got, want := readFrame(t, c), fmt.Sprint("t", i, "x"); !strings.HasPrefix(got, want) || len(got) != len(want)+59999 {
			t.Fatalf("response %d has %d octets and begins with %.10q", i, len(got), got)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing is pending", func() bool { return s.pending.Load() == 0 })
	c.Write(frame("more"))
	if got := readFrame(t, c); got != "tmore" {
		t.Fatalf("%q after it has waited", got)
	}
}

// writing tells whether a client leaves responses unread.
func writing(s *Server) bool {
	for _, l := range s.loops {
		l.mu.Lock()
		found := l.writing.first != nil
		l.mu.Unlock()
		if found {
			return true
		}
	}
	return false
}

// TestTCPHalfClosed holds that a client which has ended its side gets its responses.
func TestTCPHalfClosed(t *testing.T) {
	s := start(t, Config{})
	c := dial(t, "tcp", s.Addrs()[0].String())
	var queries, want []byte
	for i := range 200 {
		queries = append(queries, frame(fmt.Sprint(i))...)
		want = append(want, frame(fmt.Sprint("t", i))...)
	}
	c.Write(append(queries, 0, 9, 'x')) // and a part of a message
	c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d octets and %v, want %d", len(got), err, len(want))
	}
}

// TestTCPLife holds that a connection ends in time however busy it is.
func TestTCPLife(t *testing.T) {
	const life = 100 * time.Millisecond
	s := start(t, Config{TCPLife: life})
	began := time.Now() // the server's clock starts when it accepts
	c := dial(t, "tcp", s.Addrs()[0].String())
	for {
		c.Write(frame("x"))
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			break
		}
		if time.Since(began) > 5*time.Second {
			t.Fatal("a busy connection lasts for ever")
		}
	}
	if took := time.Since(began); took < life {
		t.Errorf("it ends after %s, want %s", took, life)
	}
}

// TestTCPCrowded holds that silent connections go sooner when there are many.
func TestTCPCrowded(t *testing.T) {
	s := start(t, Config{MaxTCP: 4, TCPIdle: 400 * time.Millisecond})
	if got := s.IdleTimeout(); got != 400*time.Millisecond {
		t.Fatalf("silence of %s with no connection, want 400ms", got)
	}
	began := time.Now()
	for range 3 {
		dial(t, "tcp", s.Addrs()[0].String())
	}
	eventually(t, "all are open", func() bool { return s.Counters.TCPOpen.Load() == 3 })
	if got := s.IdleTimeout(); got != 100*time.Millisecond {
		t.Fatalf("silence of %s with three of four connections, want 100ms", got)
	}
	eventually(t, "there are fewer", func() bool { return s.Counters.TCPOpen.Load() < 3 })
	if took := time.Since(began); took > 350*time.Millisecond || took < 100*time.Millisecond {
		t.Errorf("a silent connection ends after %s, want 100ms", took)
	}
}

// TestTCPSlowOnes holds that many clients that drip cost little memory and keep nobody
// else from an answer.
func TestTCPSlowOnes(t *testing.T) {
	const clients = 500
	s := start(t, Config{MaxTCPPerClient: 2 * clients, UDPWorkers: 1})
	var slow []net.Conn
	for range clients {
		c := dial(t, "tcp", s.Addrs()[0].String())
		c.Write([]byte{0xff, 0xff, 'x'}) // of the largest message
		slow = append(slow, c)
	}
	good := dial(t, "tcp", s.Addrs()[0].String())
	for range 10 {
		for _, c := range slow {
			c.Write([]byte("x"))
		}
		good.Write(frame("x"))
		if got := readFrame(t, good); got != "tx" {
			t.Fatalf("%q beside slow clients", got)
		}
	}
	if got := s.pending.Load(); got > clients*1024 {
		t.Errorf("13 octets of %d clients take %d octets", clients, got)
	}
}

// TestTCPOverflow holds that the memory for what is pending has a bound.
func TestTCPOverflow(t *testing.T) {
	s := start(t, Config{})
	s.pending.Add(maxPending - 2048)
	for i := range 10 {
		c := dial(t, "tcp", s.Addrs()[0].String())
		c.Write([]byte{0xff, 0xff, 'x'})
		if i < 4 { // 512 octets each
			eventually(t, "it is held", func() bool { return s.pending.Load() == maxPending-2048+512*int64(i+1) })
			continue
		}
		if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Fatalf("connection %d is kept: %v", i, err)
		}
	}
	eventually(t, "six are counted", func() bool { return s.Counters.TCPOverflow.Load() == 6 })
	c := dial(t, "tcp", s.Addrs()[0].String())
	c.Write(frame("whole")) // needs no memory of its own
	if got := readFrame(t, c); got != "twhole" {
		t.Fatalf("%q while the memory is taken", got)
	}
	s.pending.Add(2048 - maxPending)
}

// TestNoDescriptors holds that a server whose process may open no more files evicts a
// silent connection, and takes the new one when it can.
func TestNoDescriptors(t *testing.T) {
	s := start(t, Config{UDPWorkers: 1})
	silent := dial(t, "tcp", s.Addrs()[0].String())
	eventually(t, "it is open", func() bool { return s.Counters.TCPOpen.Load() == 1 })
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var taken []int
	free := func() {
		for _, fd := range taken {
			unix.Close(fd)
		}
		taken = nil
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = 200
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	defer free()
	for {
		d, err := unix.Dup(fd)
		if err != nil {
			break
		}
		taken = append(taken, d)
	}
	to, err := sockaddr(s.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, to); err != nil {
		t.Fatal(err)
	}
	silent.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := silent.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("the silent connection: %v, want EOF", err)
	}
	free()
	if _, err := unix.Write(fd, frame("x")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 10)
	if n, err := unix.Read(fd, b); err != nil || string(b[2:n]) != "tx" {
		t.Fatalf("the new connection gets %q, %v", b[:n], err)
	}
	unix.Close(fd)
	if got := s.Counters.TCPEvicted.Load(); got == 0 || got > 100 {
		t.Errorf("%d connections evicted, want one", got)
	}
}

func TestLimitOfOpenFiles(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = 500
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	var log strings.Builder
	s, err := Listen(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}}, echo, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.config.MaxTCP != 300 || !strings.Contains(log.String(), "max_tcp=10000 room=300") {
		t.Errorf("with 500 files %d connections may be open, and the log says %q, want 300", s.config.MaxTCP, log.String())
	}
}

// TestIdleMemory opens 100,000 connections, or as many as this process may, to another
// process, and asserts what they cost it.
func TestIdleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("many connections")
	}
	count := raiseFiles(t, 100_000)
	p := startProcess(t, "WIRE_LISTEN=127.0.0.1:0", "WIRE_WORKERS=1")
	to := &unix.SockaddrInet4{Port: int(p.addr.Port()), Addr: [4]byte{127, 0, 0, 1}}
	before := resident(t, p)
	fds := make([]int, 0, count)
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for i := range count {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
		from := &unix.SockaddrInet4{Addr: [4]byte{127, 1, byte(i / 4000), 1}} // each has some 10,000 ports
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err := errors.Join(err, unix.Bind(fd, from), unix.Connect(fd, to)); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	// The newest and the oldest are served.
	for _, fd := range []int{fds[count-1], fds[0]} {
		b := make([]byte, 10)
		if _, err := unix.Write(fd, frame("hello")); err != nil {
			t.Fatal(err)
		}
		if n, err := unix.Read(fd, b); err != nil || n != 7 {
			t.Fatalf("%d octets and %v among %d connections, want 7", n, err, count)
		}
	}
	each := (resident(t, p) - before) / count
	t.Logf("%d silent connections: %d octets each", count, each)
	if each > 2048 { // less than the stack of a goroutine, and that with the race detector
		t.Errorf("a silent connection costs %d octets, want 2048 at most", each)
	}
}

// raiseFiles lets this process and its children open a file for each of n connections,
// and tells for how many there are.
func raiseFiles(t *testing.T, n int) int {
	t.Helper()
	const others = 1000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	high := unix.Rlimit{Cur: uint64(n + others), Max: max(limit.Max, uint64(n+others))}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &high) == nil {
		t.Cleanup(func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) })
		return n
	}
	t.Logf("the limit of open files is %d", limit.Cur)
	return min(n, int(limit.Cur)-others)
}

// resident is the memory of a process in octets.
func resident(t *testing.T, p *process) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// recorder remembers the queries and answers with as many octets.
type recorder struct{ got [][]byte }

func (r *recorder) Answer(batch []Message, _ protocol.Transport) {
	for i := range batch {
		m := &batch[i]
		r.got = append(r.got, bytes.Clone(m.Query))
		m.Response = append(m.Response, 'r')
		m.Response = append(m.Response, m.Query...)
	}
}

// stream is a connection of a loop that does not run, and its other end.
type stream struct {
	l    *tcpLoop
	k    *connection
	peer int
	rec  recorder
}

func newStream(t interface{ Fatal(...any) }) *stream {
	s := &Server{config: Config{TCPMessage: time.Second, TCPIdle: time.Second, TCPLife: time.Hour}, log: slog.New(slog.DiscardHandler), began: time.Now()}
	s.clients.open = map[netip.Addr]int{}
	l, err := s.newTCPLoop()
	if err != nil {
		t.Fatal(err)
	}
	s.loops = []*tcpLoop{l}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	st := &stream{l: l, peer: pair[1], k: &connection{fd: pair[0], client: netip.MustParseAddrPort("192.0.2.1:53")}}
	l.handler = &st.rec
	s.clients.enter(st.k.client.Addr(), 1)
	s.Counters.TCPOpen.Add(1)
	l.add(st.k)
	return st
}

func (st *stream) close() {
	st.l.mu.Lock()
	if st.l.open[int32(st.k.fd)] == st.k {
		st.l.drop(st.k)
	}
	st.l.mu.Unlock()
	unix.Close(st.peer)
	st.l.close()
}

// turn handles what the kernel says of the connection.
func (st *stream) turn() {
	n := epollWait(st.l.epoll, st.l.events[:], false, 0)
	st.l.now = st.l.server.now()
	for i := range n {
		st.l.handle(&st.l.events[i])
	}
}

// TestStream holds that a stream gives the same messages and responses however it is
// cut, and however the client reads.
func TestStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st := newStream(t)
		defer st.close()
		var all, want []byte
		var messages [][]byte
		for range rapid.IntRange(1, 20).Draw(t, "messages") {
			size := rapid.OneOf(rapid.IntRange(1, 100), rapid.IntRange(1, 3000), rapid.IntRange(60000, 65534)).Draw(t, "size")
			m := bytes.Repeat([]byte{byte(len(messages) + 1)}, size)
			messages = append(messages, m)
			all = append(all, frame(string(m))...)
			want = append(want, frame("r"+string(m))...)
		}
		var got []byte
		room := make([]byte, 1<<17)
		take := func(most int) {
			for most > 0 {
				n, err := unix.Read(st.peer, room[:min(most, len(room))])
				if err != nil {
					return
				}
				got, most = append(got, room[:n]...), most-n
			}
		}
		for rounds := 0; len(all) > 0 || len(got) < len(want); rounds++ {
			if len(all) > 0 {
				n := min(len(all), rapid.OneOf(rapid.IntRange(1, 5), rapid.IntRange(1, 200000)).Draw(t, "write"))
				if k, err := unix.Write(st.peer, all[:n]); err == nil {
					all = all[k:]
				}
			}
			st.turn()
			if st.l.open[int32(st.k.fd)] != st.k {
				t.Fatalf("the connection is closed with %d octets to come", len(all))
			}
			if len(all) == 0 || rapid.Bool().Draw(t, "read") {
				take(rapid.IntRange(0, 1<<18).Draw(t, "octets"))
			}
		}
		if !bytes.Equal(got, want) || len(st.rec.got) != len(messages) {
			t.Fatalf("%d messages and %d octets of responses, want %d and %d", len(st.rec.got), len(got), len(messages), len(want))
		}
		if p := st.l.server.pending.Load(); p != 0 || st.k.state != &st.l.silent {
			t.Fatalf("%d octets are pending at the end", p)
		}
	})
}

// FuzzStream gives any octets in two pieces and compares the messages with those of
// the octets as a whole.
func FuzzStream(f *testing.F) {
	f.Add([]byte{}, 0)
	f.Add(frame("one", "two"), 4)
	f.Add([]byte{0, 0, 0, 0}, 1)
	f.Add([]byte{0xff, 0xff, 1, 2}, 2)
	f.Add(bytes.Repeat(frame("x"), 200), 99)
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		if len(b) > 4096 {
			return
		}
		var want [][]byte
		for rest := b; len(rest) >= 2; {
			n := int(rest[0])<<8 | int(rest[1])
			if len(rest) < 2+n {
				break
			}
			want = append(want, rest[2:2+n])
			rest = rest[2+n:]
		}
		st := newStream(t)
		defer st.close()
		at = max(0, min(at, len(b)))
		room := make([]byte, 1<<16)
		for _, piece := range [][]byte{b[:at], b[at:]} {
			for len(piece) > 0 {
				n, err := unix.Write(st.peer, piece)
				if err == nil {
					piece = piece[n:]
				}
				st.turn()
				for {
					if n, err := unix.Read(st.peer, room); err != nil || n == 0 {
						break
					}
				}
			}
		}
		for range 2000 { // far more than there can be to do
			st.turn()
			unix.Read(st.peer, room)
			if len(st.rec.got) >= len(want) {
				break
			}
		}
		if len(st.rec.got) != len(want) {
			t.Fatalf("%d messages, want %d", len(st.rec.got), len(want))
		}
		for i := range want {
			if !bytes.Equal(st.rec.got[i], want[i]) {
				t.Fatalf("message %d is %x, want %x", i, st.rec.got[i], want[i])
			}
		}
	})
}

// TestTurnDoesNotAllocate answers pipelined queries on a connection.
func TestTurnDoesNotAllocate(t *testing.T) {
	st := newStream(t)
	defer st.close()
	st.l.handler = reflector{}
	queries, room := bytes.Repeat(frame("query"), 10), make([]byte, 1000)
	allocs := testing.AllocsPerRun(100, func() {
		unix.Write(st.peer, queries)
		st.turn()
		if n, _ := unix.Read(st.peer, room); n != len(queries) {
			t.Fatalf("%d octets, want %d", n, len(queries))
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations for 10 queries, want 0", allocs)
	}
}

// TestStops holds that a server with many sockets and connections in all states ends at
// once, whatever its clients do.
func TestStops(t *testing.T) {
	var addrs []netip.AddrPort
	for i := range byte(6) {
		addrs = append(addrs, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1 + i}), 0))
	}
	for _, listen := range [][]netip.AddrPort{addrs[:1], addrs} {
		s, err := Listen(Config{Listen: listen, UDPWorkers: 4}, echo, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		addr := s.Addrs()[0].String()
		silent, reading, unread := dial(t, "tcp", addr), dial(t, "tcp", addr), dial(t, "tcp", addr)
		reading.Write([]byte{1, 1, 1})
		unread.(*net.TCPConn).SetReadBuffer(4096)
		go func() {
			b := frame(strings.Repeat("x", 60000))
			for err := error(nil); err == nil; _, err = unread.Write(b) {
			}
		}()
		eventually(t, "responses are unread", func() bool { return writing(s) })
		began := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > stopTime+500*time.Millisecond {
			t.Errorf("a server with %d addresses stops after %s", len(listen), took)
		}
		for _, c := range []net.Conn{silent, reading} {
			if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
				t.Errorf("a connection after the stop: %v", err)
			}
		}
		nothingLeft(t, s)
	}
}

// TestManyAddresses asks each of more addresses than have threads of their own.
func TestManyAddresses(t *testing.T) {
	var c Config
	for i := range byte(20) {
		c.Listen = append(c.Listen, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 2, 1 + i}), 0))
	}
	c.Listen = append(c.Listen, netip.MustParseAddrPort("0.0.0.0:0"), netip.MustParseAddrPort("[::1]:0"))
	c.UDPWorkers = 2
	s := start(t, c)
	if len(s.threads) != 2 {
		t.Errorf("%d threads for %d addresses, want 2", len(s.threads), len(c.Listen))
	}
	for i, a := range s.Addrs() {
		if a.Addr().IsUnspecified() {
			a = netip.AddrPortFrom(netip.MustParseAddr("127.9.9.9"), a.Port())
		}
		for range 5 {
			for _, network := range []string{"udp", "tcp"} {
				if err := once(network, a.String(), i); err != nil {
					t.Errorf("address %s: %v", a, err)
				}
			}
		}
	}
}
