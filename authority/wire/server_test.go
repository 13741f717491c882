package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zonecast/zonecast/authority/protocol"
)

// echoer answers with a letter for the transport and the query; "silence" gets nothing.
type echoer struct{}

func (echoer) Answer(batch []Message, t protocol.Transport) {
	for i := range batch {
		m := &batch[i]
		if string(m.Query) == "silence" {
			continue
		}
		m.Response = append(append(m.Response, "ut"[t]), m.Query...)
	}
}

func echo() (Handler, func()) { return echoer{}, func() {} }

// start runs a Server until the test ends.
func start(t *testing.T, c Config) *Server {
	t.Helper()
	if c.Listen == nil {
		c.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	}
	s, err := Listen(c, echo, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(run(t, s))
	return s
}

func dial(t *testing.T, network, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func frame(messages ...string) []byte {
	var b []byte
	for _, m := range messages {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(m))), m...)
	}
	return b
}

func readFrame(t *testing.T, c net.Conn) string {
	t.Helper()
	var l [2]byte
	if _, err := io.ReadFull(c, l[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint16(l[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// eventually polls; counters move after the client sees the effect.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestUDP(t *testing.T) {
	s := start(t, Config{UDPWorkers: 3})
	for i := range 20 { // from different ports, so that all sockets get some
		c := dial(t, "udp", s.Addrs()[0].String())
		query := fmt.Sprint("query ", i)
		c.Write([]byte("silence"))
		c.Write([]byte(query))
		b := make([]byte, 100)
		n, err := c.Read(b)
		if err != nil || string(b[:n]) != "u"+query {
			t.Fatalf("answer %q, %v, want %q", b[:n], err, "u"+query)
		}
	}
}

// TestWildcardReplies asks addresses of one machine through a wildcard socket: a
// connected client takes a reply from the address it asked only.
func TestWildcardReplies(t *testing.T) {
	for _, tt := range []struct{ listen, ask string }{{"0.0.0.0:0", "127.0.0.77"}, {"0.0.0.0:0", "127.0.0.1"}, {"[::]:0", "::1"}} {
		s := start(t, Config{Listen: []netip.AddrPort{netip.MustParseAddrPort(tt.listen)}, UDPWorkers: 1})
		c, err := net.Dial("udp", netip.AddrPortFrom(netip.MustParseAddr(tt.ask), s.Addrs()[0].Port()).String())
		if err != nil {
			if tt.ask == "::1" {
				t.Logf("no IPv6 on this machine: %v", err)
				continue
			}
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(5 * time.Second))
		c.Write([]byte("x"))
		b := make([]byte, 10)
		if n, err := c.Read(b); err != nil || string(b[:n]) != "ux" {
			t.Errorf("listening on %s, asked at %s: %q, %v", tt.listen, tt.ask, b[:n], err)
		}
		c.Close()
	}
}

func TestTCPPipelined(t *testing.T) {
	s := start(t, Config{})
	c := dial(t, "tcp", s.Addrs()[0].String())
	long := strings.Repeat("x", 60000)
	all := frame("one", "two", long, "three")
	for part := range bytesIn(all, 1000) { // cut anywhere
		if _, err := c.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"tone", "ttwo", "t" + long, "tthree"} {
		if got := readFrame(t, c); got != want {
			t.Fatalf("response of %d octets %.10q, want %d octets %.10q", len(got), got, len(want), want)
		}
	}
	c.Write(frame("silence"))
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("after a message without answer: %v, want EOF", err)
	}
	eventually(t, "no connection is open", func() bool { return s.Counters.TCPOpen.Load() == 0 })
	if got := s.Counters.TCPAccepted.Load(); got != 1 {
		t.Errorf("%d connections accepted, want 1", got)
	}
}

func bytesIn(b []byte, n int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			k := min(n, len(b))
			if !yield(b[:k]) {
				return
			}
			b = b[k:]
		}
	}
}

func TestTCPBounds(t *testing.T) {
	s := start(t, Config{MaxTCP: 3, MaxTCPPerClient: 2})
	first, second := dial(t, "tcp", s.Addrs()[0].String()), dial(t, "tcp", s.Addrs()[0].String())
	for _, c := range []net.Conn{first, second} {
		c.Write(frame("x"))
		readFrame(t, c)
	}
	third := dial(t, "tcp", s.Addrs()[0].String())
	if _, err := third.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the third connection of a client is served: %v", err)
	}
	eventually(t, "one is refused", func() bool { return s.Counters.TCPRefused.Load() == 1 })
	first.Close()
	eventually(t, "one is left", func() bool { return s.Counters.TCPOpen.Load() == 1 })
	again := dial(t, "tcp", s.Addrs()[0].String())
	again.Write(frame("x"))
	if got := readFrame(t, again); got != "tx" {
		t.Fatalf("%q after a place became free", got)
	}
}

func TestClients(t *testing.T) {
	c := clients{open: map[netip.Addr]int{}}
	first, other := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:0:1::1")
	for _, tt := range []struct {
		a    netip.Addr
		want bool
	}{{first, true}, {netip.MustParseAddr("2001:db8::ffff"), true}, {first, false}, {other, true}} {
		if got := c.enter(tt.a, 2); got != tt.want {
			t.Fatalf("connection of %s: %v, want %v", tt.a, got, tt.want)
		}
	}
	c.leave(first)
	if !c.enter(netip.MustParseAddr("2001:db8::2"), 2) {
		t.Fatal("a closed connection still counts")
	}
	for _, a := range []netip.Addr{first, first, other} {
		c.leave(a)
	}
	if len(c.open) != 0 {
		t.Fatalf("clients without connections are remembered: %v", c.open)
	}
}

// TestTCPSlow holds that a client that drips is cut off after TCPMessage, one that
// is silent after TCPIdle.
func TestTCPSlow(t *testing.T) {
	s := start(t, Config{TCPIdle: 50 * time.Millisecond, TCPMessage: 100 * time.Millisecond})
	silent := dial(t, "tcp", s.Addrs()[0].String())
	if _, err := silent.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("silent connection: %v, want EOF", err)
	}
	if got := s.Counters.TCPTimeouts.Load(); got != 0 {
		t.Fatalf("silence counted as %d slow messages", got)
	}
	slow := dial(t, "tcp", s.Addrs()[0].String())
	began := time.Now()
	for { // an octet of a long message every 10 ms
		slow.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		slow.Write([]byte{0xff})
		if _, err := slow.Read(make([]byte, 1)); err != nil && !isTimeout(err) {
			break
		}
		if time.Since(began) > 10*time.Second {
			t.Fatal("a dripping client is never cut off")
		}
	}
	eventually(t, "the slow one is counted", func() bool { return s.Counters.TCPTimeouts.Load() == 1 })
}

// TestTCPUnread holds that a client that takes no responses is cut off.
func TestTCPUnread(t *testing.T) {
	s := start(t, Config{TCPMessage: 100 * time.Millisecond})
	c := dial(t, "tcp", s.Addrs()[0].String())
	c.(*net.TCPConn).SetReadBuffer(4096)
	b := bytes.Repeat(frame(strings.Repeat("x", 60000)), 20)
	for {
		if _, err := c.Write(b); err != nil {
			break
		}
	}
	eventually(t, "the response that was not taken is counted", func() bool { return s.Counters.WriteErrors.Load() > 0 })
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func TestStopsWhileConnected(t *testing.T) {
	s, err := Listen(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}}, echo, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	c := dial(t, "tcp", s.Addrs()[0].String())
	c.Write(frame("x"))
	readFrame(t, c)
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Run waits for a silent connection")
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("connection after the stop: %v, want EOF", err)
	}
}

func TestBindErrors(t *testing.T) {
	s := start(t, Config{})
	taken := s.Addrs()[0]
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for _, tt := range []struct {
		addr  netip.AddrPort
		cause error
		says  string
	}{
		{taken, unix.EADDRINUSE, fmt.Sprintf("address %s is in use by another server", taken)},
		{udp.LocalAddr().(*net.UDPAddr).AddrPort(), unix.EADDRINUSE, "is in use"},
		{netip.MustParseAddrPort("192.0.2.1:5353"), unix.EADDRNOTAVAIL, "no interface of this machine has the address 192.0.2.1"},
	} {
		_, err := Listen(Config{Listen: []netip.AddrPort{tt.addr}}, echo, slog.New(slog.DiscardHandler))
		if !errors.Is(err, tt.cause) || !strings.Contains(fmt.Sprint(err), tt.says) {
			t.Errorf("listen on %s: %v, want %q", tt.addr, err, tt.says)
		}
	}
	// All or none: after an error the good address is free again.
	free := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 0)
	s2, err := Listen(Config{Listen: []netip.AddrPort{free}}, echo, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	free = s2.Addrs()[0]
	if err := s2.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(Config{Listen: []netip.AddrPort{free, taken}}, echo, slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("a taken address among others is not noticed")
	}
	if s2, err = Listen(Config{Listen: []netip.AddrPort{free}}, echo, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatalf("the address bound before the error is still taken: %v", err)
	}
	s2.Close()
}

func TestReplyControl(t *testing.T) {
	header := func(size int, level, kind uint32) []byte {
		b := binary.NativeEndian.AppendUint64(nil, uint64(size))
		b = binary.NativeEndian.AppendUint32(b, level)
		return binary.NativeEndian.AppendUint32(b, kind)
	}
	v4 := append(header(28, unix.IPPROTO_IP, unix.IP_PKTINFO), 9, 9, 9, 9, 192, 0, 2, 1, 192, 0, 2, 1, 0, 0, 0, 0)
	if got, local := replyControl(v4); !bytes.Equal(got[16:24], []byte{0, 0, 0, 0, 192, 0, 2, 1}) || local.String() != "192.0.2.1" {
		t.Errorf("IPv4: %v, want interface 0 and the address", got)
	}
	global, local := netip.MustParseAddr("2001:db8::1").As16(), netip.MustParseAddr("fe80::1").As16()
	v6 := append(append(header(36, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO), global[:]...), 9, 0, 0, 0, 0, 0, 0, 0)
	if got, _ := replyControl(v6); got[32] != 0 {
		t.Errorf("IPv6: interface %d, want 0", got)
	}
	copy(v6[16:], local[:])
	v6[32] = 9
	if got, _ := replyControl(v6); got[32] != 9 {
		t.Errorf("link-local: interface %d, want 9", got)
	}
	for _, b := range [][]byte{nil, v4[:10], header(28, unix.SOL_SOCKET, 1), v4[:20]} {
		if got, _ := replyControl(b); got != nil {
			t.Errorf("control message from %v, want none", b)
		}
	}
}

// TestSilentConnections opens far more connections than there may be: the newest are
// served, and what is open stays within the bound.
func TestSilentConnections(t *testing.T) {
	const most, all = 50, 1000
	s := start(t, Config{MaxTCP: most})
	addr := net.TCPAddrFromAddrPort(s.Addrs()[0])
	var last net.Conn
	for i := range all {
		from := &net.TCPAddr{IP: net.IPv4(127, 0, byte(1+i/200), byte(1+i%200))}
		c, err := net.DialTCP("tcp", from, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		last = c
	}
	last.SetDeadline(time.Now().Add(10 * time.Second))
	last.Write(frame("x"))
	if got := readFrame(t, last); got != "tx" {
		t.Fatalf("the newest connection gets %q", got)
	}
	eventually(t, "what is too much is closed", func() bool { return s.Counters.TCPOpen.Load() <= most })
	if got := s.Counters.TCPEvicted.Load(); got != all-most {
		t.Errorf("%d connections were evicted, want %d", got, all-most)
	}
}

// TestStepDoesNotAllocate exchanges batches over loopback.
func TestStepDoesNotAllocate(t *testing.T) {
	s, err := Listen(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, UDPWorkers: 1}, echo, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := dial(t, "udp", s.Addrs()[0].String())
	w := s.threads[0]
	w.use(w.sockets[0])
	h, _ := echo()
	query, room := []byte("query"), make([]byte, 100)
	allocs := testing.AllocsPerRun(100, func() {
		for range 4 {
			c.Write(query)
		}
		for n := 0; n < 4; {
			n += w.step(h, unix.MSG_DONTWAIT)
		}
		for range 4 {
			c.Read(room)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations for 4 queries, want 0", allocs)
	}
}
