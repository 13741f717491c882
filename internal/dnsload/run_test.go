package dnsload

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zonecast/zonecast/record"
)

// firstLabel is that of the question in m.
func firstLabel(m []byte) string { return string(m[13 : 13+int(m[12])]) }

// serve answers datagrams by script until the test ends: what script gives is sent,
// after the delay.
func serve(t testing.TB, address string, script func(m []byte) (answers [][]byte, delay time.Duration)) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
	if err != nil {
		t.Skipf("no such address on this machine: %v", err)
	}
	c.SetReadBuffer(4 << 20)
	var all sync.WaitGroup
	all.Go(func() {
		b := make([]byte, 4096)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			answers, delay := script(append([]byte(nil), b[:n]...))
			send := func() {
				for _, a := range answers {
					c.WriteToUDPAddrPort(a, from)
				}
			}
			if delay > 0 {
				time.AfterFunc(delay, send) // writes to a closed socket at the worst
				continue
			}
			send()
		}
	})
	t.Cleanup(func() {
		c.Close()
		all.Wait()
	})
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func good(m []byte) []byte {
	m[2] |= 0x80
	return m
}

func echo(m []byte) ([][]byte, time.Duration) { return [][]byte{good(m)}, 0 }

// queries has one line a name.
func queries(t testing.TB, names ...string) *Queries {
	t.Helper()
	q, err := ReadQueries(strings.NewReader(strings.Join(names, " A\n")+" A\n"), "q", Encoding{})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// A server that drops, delays, doubles and mangles: every counter comes out.
func TestCountersAgainstScriptedServer(t *testing.T) {
	t.Parallel()
	const timeout = 500 * time.Millisecond
	target := serve(t, "127.0.0.1:0", func(m []byte) ([][]byte, time.Duration) {
		short, other := append([]byte(nil), m...), append([]byte(nil), m...)
		good(short)
		good(other)[13]++
		switch firstLabel(m) {
		case "drop":
			return nil, 0
		case "late":
			return [][]byte{good(m)}, timeout + 250*time.Millisecond
		case "twice":
			return [][]byte{good(m), m}, 0
		case "short":
			return [][]byte{short[:7]}, 0
		case "echo":
			return [][]byte{m}, 0 // a query, not a response
		case "other":
			return [][]byte{other, good(m)}, 0 // to another question first
		case "refused":
			good(m)[3] |= 5
			m[5] = 0
			return [][]byte{m[:12]}, 0
		case "nxdomain":
			good(m)[3] |= 3
			return [][]byte{m}, 0
		case "cut":
			good(m)[2] |= 2
			return [][]byte{m}, 0
		}
		good(m)[7] = 2
		return [][]byte{m}, 0
	})
	odd := []string{"drop", "late", "twice", "short", "echo", "other", "refused", "nxdomain", "cut", "drop"}
	const all = 200
	names := append([]string(nil), odd...)
	for len(names) < all {
		names = append(names, "ok")
	}
	q := queries(t, names...)
	// Long enough that the late answers come before the end.
	c := Config{Target: target, Rate: 150, Queries: all, Timeout: timeout, Sockets: 3, Time: 5 * time.Second}
	r, err := Run(t.Context(), c, q)
	if err != nil {
		t.Fatal(err)
	}
	const lost = 5 // drop, late, short, echo, drop
	want := Counts{
		Sent: all, Answered: all - lost, Lost: lost, Late: 1, Unexpected: 2, Malformed: 2, Truncated: 1,
		Records: 2 * uint64(all-len(odd)), BytesSent: uint64(len(q.arena)), BytesReceived: r.BytesReceived,
	}
	want.Rcodes[0], want.Rcodes[3], want.Rcodes[5] = all-lost-2, 1, 1
	if r.Counts != want {
		t.Errorf("counted %+v\nwant    %+v", r.Counts, want)
	}
	// Each answer is as long as its query, but for those that are not sent whole.
	bytes := len(q.arena)
	for i, n := range odd {
		m := len(q.message(uint32(i)))
		switch n {
		case "drop":
			bytes -= m
		case "twice", "other":
			bytes += m
		case "short":
			bytes += 7 - m
		case "refused":
			bytes += 12 - m
		}
	}
	if r.BytesReceived != uint64(bytes) {
		t.Errorf("%d octets received, want %d", r.BytesReceived, bytes)
	}
	if r.Latency.Count() != r.Answered || r.Lag.Count() != r.Sent || r.Due != all {
		t.Errorf("%d latencies, %d lags, %d due", r.Latency.Count(), r.Lag.Count(), r.Due)
	}
}

// A server that stalls is charged for every query that was due meanwhile, and the
// queries leave all the same.
func TestStallIsCharged(t *testing.T) {
	t.Parallel()
	const (
		stall = 400 * time.Millisecond
		rate  = 500
	)
	stalling := func() func([]byte) ([][]byte, time.Duration) {
		seen := 0
		return func(m []byte) ([][]byte, time.Duration) {
			if seen++; seen == 100 {
				time.Sleep(stall)
			}
			return echo(m)
		}
	}
	q := queries(t, "www.example.net")
	r, err := Run(t.Context(), Config{Target: serve(t, "127.0.0.1:0", stalling()), Rate: rate, Time: time.Second, Timeout: 5 * time.Second}, q)
	if err != nil {
		t.Fatal(err)
	}
	if r.Due != rate || r.Sent != rate || r.Answered != rate || r.Lost != 0 {
		t.Errorf("%d due, %d sent, %d answered, %d lost; want all %d", r.Due, r.Sent, r.Answered, r.Lost, rate)
	}
	// 500 a second become due for 400 ms: 200 queries wait, half of them 200 ms
	// and more. That is a fifth of all: the 0.81 quantile has it.
	if q81 := r.Latency.Quantile(.81); q81 < stall/2-20*time.Millisecond || r.Latency.Max() < stall-20*time.Millisecond {
		t.Errorf("quantile 0.81 is %v and the longest %v, want about %v and %v", q81, r.Latency.Max(), stall/2, stall)
	}

	// One after the other, the same stall is the latency of a single query.
	r, err = Run(t.Context(), Config{Target: serve(t, "127.0.0.1:0", stalling()), Window: 1, Queries: 300, Timeout: 5 * time.Second}, q)
	if err != nil {
		t.Fatal(err)
	}
	if p99 := r.Latency.Quantile(.99); r.Answered != 300 || p99 > stall/2 || r.Latency.Max() < stall-20*time.Millisecond || r.Lag.Count() != 0 {
		t.Errorf("closed loop: %d answered, p99 %v, max %v, %d lags", r.Answered, p99, r.Latency.Max(), r.Lag.Count())
	}
}

// Answers to the last queries count when they come in time, after the end as well.
func TestWaitsForTheLast(t *testing.T) {
	t.Parallel()
	target := serve(t, "127.0.0.1:0", func(m []byte) ([][]byte, time.Duration) { return [][]byte{good(m)}, 700 * time.Millisecond })
	r, err := Run(t.Context(), Config{Target: target, Rate: 1000, Time: 20 * time.Millisecond, Timeout: time.Second}, queries(t, "www.example.net"))
	if err != nil {
		t.Fatal(err)
	}
	if r.Sent != 20 || r.Answered != 20 || r.Took < 20*time.Millisecond {
		t.Errorf("%d sent in %v, %d answered; want 20 in 20ms or a little more, all answered", r.Sent, r.Took, r.Answered)
	}
}

// No more than the window is ever outstanding.
func TestClosedLoopWindow(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{Window: 1}, {Window: 5, Sockets: 3}, {Window: 10, Sockets: 4, Threads: 2}} {
		var mu sync.Mutex // guards below
		seen := 0
		c.Target = serve(t, "127.0.0.1:0", func(m []byte) ([][]byte, time.Duration) {
			mu.Lock()
			seen++
			mu.Unlock()
			return nil, 0
		})
		c.Time, c.Timeout = 50*time.Millisecond, 300*time.Millisecond
		r, err := Run(t.Context(), c, queries(t, "www.example.net"))
		if err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		if r.Sent != uint64(c.Window) || r.Lost != r.Sent || seen != c.Window {
			t.Errorf("%+v: %d sent, %d lost, %d seen; want all %d: nothing is answered", c, r.Sent, r.Lost, seen, c.Window)
		}
		mu.Unlock()
	}
}

// Threads ask every query of a file once when as many are asked as it has, and
// the parts that are shown make the whole.
func TestThreadsAndIntervals(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex // guards below
	seen := map[string]int{}
	target := serve(t, "[::1]:0", func(m []byte) ([][]byte, time.Duration) {
		mu.Lock()
		seen[firstLabel(m)]++
		mu.Unlock()
		return echo(m)
	})
	var names []string
	for i := range 101 {
		names = append(names, strings.Repeat("x", i/10+1)+string(rune('a'+i%10)))
	}
	var shown Interval
	lines := 0
	c := Config{
		Target: target, Rate: 200, Queries: 101, Threads: 3, Sockets: 7, First: 13, Interval: 100 * time.Millisecond, ServerPIDs: []int{os.Getpid()},
		Each: func(v Interval) {
			shown.merge(&v)
			lines++
			if v.To-v.From != 100*time.Millisecond {
				t.Errorf("interval from %v to %v", v.From, v.To)
			}
		},
	}
	r, err := Run(t.Context(), c, queries(t, names...))
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	if r.Answered != 101 || len(seen) != 101 {
		t.Errorf("%d answered, %d names seen of 101", r.Answered, len(seen))
	}
	mu.Unlock()
	if lines < 3 || shown.Answered < 60 || shown.Answered > r.Answered || shown.Answered != shown.Latency.Count() {
		t.Errorf("%d lines with %d answers in all", lines, shown.Answered)
	}
	if !r.ServerKnown || r.ServerCPU <= 0 || r.ClientCPU <= 0 {
		t.Errorf("the process used %v CPU, the threads %v", r.ServerCPU, r.ClientCPU)
	}
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := c.LocalAddr().(*net.UDPAddr).AddrPort()
	c.Close()
	for _, tcp := range []bool{false, true} {
		began := time.Now()
		r, err := Run(t.Context(), Config{Target: nobody, TCP: tcp, Time: time.Minute}, queries(t, "www.example.net"))
		if !errors.Is(err, unix.ECONNREFUSED) || !strings.Contains(err.Error(), nobody.String()) {
			t.Fatalf("tcp %v: %v", tcp, err)
		}
		if time.Since(began) > 20*time.Second {
			t.Errorf("tcp %v: it took %v to see that nobody is there", tcp, time.Since(began))
		}
		if !tcp && (r == nil || r.Refused == 0 || r.Lost != r.Sent || r.Answered != 0) {
			t.Errorf("counted %+v", r)
		}
	}
}

// When the generator is the limit it says so. It has time to use up the query ids on a busy
// machine, and no id comes back before the end.
func TestGeneratorSaysItsLimits(t *testing.T) {
	t.Parallel()
	target := serve(t, "127.0.0.1:0", func([]byte) ([][]byte, time.Duration) { return nil, 0 })
	r, err := Run(t.Context(), Config{Target: target, Rate: maxRate, Sockets: 1, Time: 3 * time.Second, Timeout: 4 * time.Second, Queries: maxSlots + 1000}, queries(t, "www.example.net"))
	if err != nil {
		t.Fatal(err)
	}
	notes := strings.Join(r.Notes(), "\n")
	for _, want := range []string{"did not keep its schedule", "every query id was waiting"} {
		if !strings.Contains(notes, want) {
			t.Errorf("no %q in %q", want, notes)
		}
	}
	if r.Sent > maxSlots || r.Lost != r.Sent || r.Due != maxSlots+1000 {
		t.Errorf("%d sent, %d lost, %d due", r.Sent, r.Lost, r.Due)
	}
}

func TestKeptSchedule(t *testing.T) {
	var good, slow Histogram
	for i := range int64(100) {
		good.add(i * 1000)
		slow.add(i * 1000)
		if i%8 == 0 {
			slow.add(int64(time.Millisecond))
		}
	}
	for _, tt := range []struct {
		r    Result
		want bool
	}{
		{Result{Counts: Counts{Sent: 990}, Due: 1000, Lag: good}, true},
		{Result{Counts: Counts{Sent: 989}, Due: 1000, Lag: good}, false},
		{Result{Counts: Counts{Sent: 1000}, Due: 1000, Lag: slow}, false},
		{Result{Counts: Counts{Sent: 10}}, true}, // closed loop
	} {
		if got := tt.r.KeptSchedule(); got != tt.want || got != (len(tt.r.Notes()) == 0) {
			t.Errorf("%d of %d sent, lag %v: %v, notes %q", tt.r.Sent, tt.r.Due, tt.r.Lag.Quantile(.9), got, tt.r.Notes())
		}
	}
}

// Latency that is lag is called so, from where it begins.
func TestNoteOfLag(t *testing.T) {
	const ms = int64(time.Millisecond)
	r := Result{Counts: Counts{Sent: 1000}, Due: 1000}
	for i := range int64(1000) {
		lag := int64(0)
		if i >= 985 {
			lag = 8 * ms
		}
		r.Lag.add(lag)
		r.Latency.add(ms + lag)
	}
	want := "from p99 up latencies are the generator's own as much as the server's: it was 8ms late where latency is 9ms"
	if n := r.Notes(); len(n) != 1 || !strings.HasPrefix(n[0], want) {
		t.Errorf("notes %q, want %q", n, want)
	}
}

// What the kernel drops at a full socket is seen.
func TestDropped(t *testing.T) {
	fd, err := socket(netip.MustParseAddr("127.0.0.1"), unix.SOCK_DGRAM)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096), unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})); err != nil {
		t.Fatal(err)
	}
	a, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	if n := dropped(fd); n != 0 {
		t.Fatalf("%d dropped of nothing", n)
	}
	for range 100 {
		if err := unix.Sendto(fd, make([]byte, 1000), 0, a); err != nil {
			t.Fatal(err)
		}
	}
	if n := dropped(fd); n == 0 || n >= 100 {
		t.Errorf("%d of 100 dropped", n)
	}
}

func TestStopsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var once sync.Once
	target := serve(t, "127.0.0.1:0", func(m []byte) ([][]byte, time.Duration) {
		once.Do(cancel)
		return echo(m)
	})
	r, err := Run(ctx, Config{Target: target, Time: time.Hour, Rate: 1000}, queries(t, "www.example.net"))
	if !errors.Is(err, context.Canceled) || r == nil || r.Sent == 0 || r.Sent != r.Answered+r.Lost {
		t.Fatalf("%+v, %v", r, err)
	}
}

func TestValidate(t *testing.T) {
	local := netip.MustParseAddrPort("127.0.0.1:53")
	for _, tt := range []struct {
		c    Config
		want string
	}{
		{Config{Target: local}, ""},
		{Config{Target: netip.MustParseAddrPort("[::1]:53")}, ""},
		{Config{Target: netip.MustParseAddrPort("[::ffff:127.0.0.1]:53")}, ""},
		{Config{Target: netip.MustParseAddrPort("192.0.2.1:53"), Allowed: netip.MustParseAddr("192.0.2.1")}, ""},
		{Config{Target: netip.MustParseAddrPort("192.0.2.1:53"), Allowed: netip.MustParseAddr("192.0.2.2")}, "target 192.0.2.1:53 is not on this machine's loopback: load on it can hurt others"},
		{Config{Target: netip.MustParseAddrPort("[2001:db8::1]:53")}, "target [2001:db8::1]:53 is not on this machine's loopback: load on it can hurt others"},
		{Config{Target: netip.MustParseAddrPort("0.0.0.0:53")}, "target 0.0.0.0:53, expected the address of one server and a port, without a zone"},
		{Config{Target: netip.MustParseAddrPort("224.0.0.1:53"), Allowed: netip.MustParseAddr("224.0.0.1")}, "target 224.0.0.1:53, expected the address of one server and a port, without a zone"},
		{Config{Target: netip.AddrPortFrom(local.Addr(), 0)}, "target 127.0.0.1:0, expected the address of one server and a port, without a zone"},
		{Config{Target: local, Threads: -1}, "threads is -1, expected 1 to 64"},
		{Config{Target: local, Threads: 4, Sockets: 2}, "sockets is 2 with 4 threads, expected at least one each"},
		{Config{Target: local, Window: -1}, "window is -1, expected 1 to 1048576"},
		{Config{Target: local, Rate: -1}, "rate is -1 queries a second, expected 0 (as fast as answers come) to 1e+08"},
		{Config{Target: local, Time: 2 * time.Hour}, "time is 2h0m0s, expected 1ms to 1h0m0s"},
		{Config{Target: local, Timeout: 2 * time.Minute}, "timeout is 2m0s, expected 1ms to 1m0s"},
		{Config{Target: local, Interval: time.Millisecond}, "interval is 1ms, expected 0 (none) or at least 100ms"},
		{Config{Target: local, First: -1}, "the first query is -1, expected 0 or more"},
	} {
		got := ""
		if err := tt.c.Validate(); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.c, got, tt.want)
		}
	}
	if err := (Config{Target: local, CPUs: []int{1 << 20}}).Validate(); err == nil || !strings.Contains(err.Error(), "no CPU 1048576") {
		t.Errorf("CPU that does not exist: %v", err)
	}
	if _, err := Run(t.Context(), Config{Target: local, ServerPIDs: []int{1 << 30}}, OneQuery(record.Root, record.TypeNS, Encoding{})); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("server that does not exist: %v", err)
	}
}

// TestTCP has a server that answers out of order and ends each connection after
// some answers.
func TestTCP(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	const answersEach = 50
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(30 * time.Second))
				answerStream(c, answersEach)
			})
		}
	})
	target := l.Addr().(*net.TCPAddr).AddrPort()
	r, err := Run(t.Context(), Config{Target: target, TCP: true, Rate: 500, Queries: 400, Sockets: 2, Timeout: time.Second}, queries(t, "www.example.net", "a.example.net"))
	if err != nil {
		t.Fatal(err)
	}
	if r.Sent != 400 || r.Answered+r.Lost != 400 || r.Answered < 300 || r.Unexpected+r.Malformed > 0 {
		t.Errorf("counted %+v", r.Counts)
	}
	// Each of two connections ends after every 50th of its 200 answers; the last
	// may end after the run.
	if r.Reconnects < 4 || r.Reconnects > 8 {
		t.Errorf("%d reconnects", r.Reconnects)
	}
}

// answerStream answers pairs of queries, the second first.
func answerStream(c net.Conn, most int) {
	read := func() ([]byte, error) {
		b := make([]byte, 2)
		if _, err := io.ReadFull(c, b); err != nil {
			return nil, err
		}
		m := make([]byte, binary.BigEndian.Uint16(b))
		if _, err := io.ReadFull(c, m); err != nil {
			return nil, err
		}
		return append(b, good(m)...), nil
	}
	for i := 0; i < most; i += 2 {
		first, err := read()
		if err != nil {
			return
		}
		second, err := read()
		if err != nil {
			return
		}
		if _, err := c.Write(append(second, first...)); err != nil {
			return
		}
	}
}
