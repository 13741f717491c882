package tap

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	dnstap "github.com/dnstap/golang-dnstap"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a Tap whose Run goes on in a goroutine.
type running struct {
	*Tap
	log  *logged
	stop func() error // ends Run and gives its error
}

func run(t testing.TB, c Config) *running {
	t.Helper()
	log := &logged{}
	tap, err := Open(c, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tap.Run(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(10 * time.Second):
			t.Error("Run does not end")
			return nil
		}
	})
	t.Cleanup(func() { stop() })
	return &running{tap, log, stop}
}

// logged is what was logged.
type logged struct {
	mu sync.Mutex // guards below
	b  bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// frames reads a stream to its stop frame.
func frames(r dnstap.Reader) (got []*dnstap.Dnstap, err error) {
	b := make([]byte, dnstap.MaxPayloadSize)
	for {
		n, err := r.ReadFrame(b)
		if err != nil {
			return got, err
		}
		d := &dnstap.Dnstap{}
		if err := proto.Unmarshal(b[:n], d); err != nil {
			return got, err
		}
		got = append(got, d)
	}
}

var (
	queried   = time.Unix(1_800_000_000, 123_456_789)
	responded = queried.Add(70 * time.Microsecond)
)

func answer(n int) Message {
	return Message{
		Query: []byte("query"), Response: bytes.Repeat([]byte{7}, n),
		Client: netip.MustParseAddrPort("192.0.2.1:4242"), Server: netip.MustParseAddrPort("198.51.100.53:53"),
		Queried: queried, Responded: responded,
	}
}

// want is the event of answer(n).
func want(n int) *dnstap.Dnstap {
	return &dnstap.Dnstap{
		Type: dnstap.Dnstap_MESSAGE.Enum(), Identity: []byte("ns1.example"), Version: []byte("v1"),
		Message: &dnstap.Message{
			Type: dnstap.Message_AUTH_RESPONSE.Enum(), SocketFamily: dnstap.SocketFamily_INET.Enum(), SocketProtocol: dnstap.SocketProtocol_UDP.Enum(),
			QueryAddress: []byte{192, 0, 2, 1}, QueryPort: proto.Uint32(4242), ResponseAddress: []byte{198, 51, 100, 53}, ResponsePort: proto.Uint32(53),
			QueryTimeSec: proto.Uint64(1_800_000_000), QueryTimeNsec: proto.Uint32(123_456_789),
			ResponseTimeSec: proto.Uint64(1_800_000_000), ResponseTimeNsec: proto.Uint32(123_526_789),
			ResponseMessage: bytes.Repeat([]byte{7}, n),
		},
	}
}

func same(t *testing.T, got, want []*dnstap.Dnstap) {
	t.Helper()
	equal := func(a, b *dnstap.Dnstap) bool { return proto.Equal(a, b) }
	if !slices.EqualFunc(got, want, equal) { // cmp alone takes seconds for long messages
		t.Errorf("-want +got:\n%s", cmp.Diff(want, got, protocmp.Transform()))
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tap")
	r := run(t, Config{File: path, Every: 1, Identity: "ns1.example", Version: "v1"})
	w := r.NewWorker()

	w.Record(answer(100))
	mapped := answer(100)
	mapped.Client = netip.MustParseAddrPort("[::ffff:192.0.2.1]:4242")
	w.Record(mapped)
	six := answer(maxMessage)
	six.Client, six.Server, six.TCP = netip.MustParseAddrPort("[2001:db8::1]:1"), netip.AddrPort{}, true
	w.Record(six)
	none := answer(0)
	none.Responded = time.Time{}
	w.Record(none)
	w.Record(Message{})
	w.Record(answer(maxMessage + 1))
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.Record(answer(1)) // too late

	wanted := []*dnstap.Dnstap{want(100), want(100), want(maxMessage), want(0)}
	m := wanted[2].Message
	m.SocketFamily, m.SocketProtocol = dnstap.SocketFamily_INET6.Enum(), dnstap.SocketProtocol_TCP.Enum()
	a := netip.MustParseAddr("2001:db8::1").As16()
	m.QueryAddress, m.QueryPort, m.ResponseAddress, m.ResponsePort = a[:], proto.Uint32(1), nil, nil
	m = wanted[3].Message
	m.Type, m.QueryMessage, m.ResponseMessage = dnstap.Message_AUTH_QUERY.Enum(), []byte("query"), nil
	m.ResponseTimeSec, m.ResponseTimeNsec = nil, nil

	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	reader, err := dnstap.NewReader(f, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := frames(reader)
	if err == nil || err.Error() != "EOF" {
		t.Errorf("the stream ends with %v, want the stop frame", err)
	}
	same(t, got, wanted)
	if c := r.Counters(); c != (Counters{Written: 4, Lost: 3}) {
		t.Errorf("counters %+v", c)
	}
}

// TestFlush looks at the file while Run goes on.
func TestFlush(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tap")
	r := run(t, Config{File: path, Every: 1})
	eventually(t, "start", func() bool { return r.Counters().Connected })
	began := time.Now()
	r.NewWorker().Record(answer(10))
	eventually(t, "written", func() bool { return r.Counters().Written == 1 })
	if took := time.Since(began); took > 2*flushEvery {
		t.Errorf("flushed after %s, want at most %s", took, flushEvery)
	}
	b, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(b, bytes.Repeat([]byte{7}, 10)) {
		t.Errorf("file of %d octets without the message: %v", len(b), err)
	}
}

// TestFullDisk writes to a file that takes nothing more.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	r := run(t, Config{File: filepath.Join(t.TempDir(), "tap"), Every: 1})
	eventually(t, "start", func() bool { return r.Counters().Connected })
	r.file.f.Close()
	w := r.NewWorker()
	w.Record(answer(10))
	eventually(t, "lost", func() bool { return r.Counters() == Counters{Lost: 1} })
	w.Record(answer(10))
	eventually(t, "lost", func() bool { return r.Counters() == Counters{Lost: 2} })
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if n := r.log.count("cannot be written"); n != 1 {
		t.Errorf("logged %d times, want once", n)
	}
}

// collector takes one connection after the other, as long as it is there.
type collector struct {
	listener net.Listener
	done     chan struct{}

	mu   sync.Mutex // guards below
	conn net.Conn
	got  []*dnstap.Dnstap
	ends []error // one a stream

	read atomic.Int64 // messages, those of the stream that goes on included
}

func collect(t testing.TB, path string) *collector {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c := collectFrom(l)
	t.Cleanup(c.close)
	return c
}

func collectFrom(l net.Listener) *collector {
	c := &collector{listener: l, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.mu.Lock()
			c.conn = conn
			c.mu.Unlock()
			var got []*dnstap.Dnstap
			reader, err := dnstap.NewReader(conn, &dnstap.ReaderOptions{Bidirectional: true})
			if err == nil {
				got, err = frames(counted{reader, &c.read})
			}
			conn.Close()
			c.mu.Lock()
			c.got, c.ends = append(c.got, got...), append(c.ends, err)
			c.mu.Unlock()
		}
	}()
	return c
}

// counted counts what is read.
type counted struct {
	dnstap.Reader
	n *atomic.Int64
}

func (c counted) ReadFrame(b []byte) (int, error) {
	n, err := c.Reader.ReadFrame(b)
	if err == nil {
		c.n.Add(1)
	}
	return n, err
}

func (c *collector) close() {
	c.listener.Close()
	c.mu.Lock()
	if c.conn != nil {
		c.conn.Close()
	}
	c.mu.Unlock()
	<-c.done
}

func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	c := collect(t, path)
	r := run(t, Config{Socket: path, Every: 1, Identity: "ns1.example", Version: "v1"})
	eventually(t, "connected", func() bool { return r.Counters().Connected })
	w := r.NewWorker()
	var wanted []*dnstap.Dnstap
	for n := range 100 {
		w.Record(answer(1 + 50*n))
		wanted = append(wanted, want(1+50*n))
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	c.close()
	same(t, c.got, wanted)
	if len(c.ends) != 1 || c.ends[0].Error() != "EOF" {
		t.Errorf("streams ended with %v, want one stop frame", c.ends)
	}
	if got := r.Counters(); got != (Counters{Written: 100}) {
		t.Errorf("counters %+v", got)
	}
	if r.log.count("level=WARN") != 0 {
		t.Errorf("warnings: %s", r.log.b.String())
	}
}

// TestCollectorAwayAndBack starts without one, gives it one, takes it and gives it
// another: what waits meanwhile is not lost as long as there is room.
func TestCollectorAwayAndBack(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	r := run(t, Config{Socket: path, Every: 1, Queue: 16})
	w := r.NewWorker()
	eventually(t, "away", func() bool { return r.log.count("is away") == 1 })
	for range 20 {
		w.Record(answer(10))
	}
	if got := r.Counters(); got != (Counters{Lost: 4}) {
		t.Errorf("without a collector: counters %+v, want 4 lost", got)
	}

	first := collect(t, path)
	eventually(t, "written", func() bool { return r.Counters() == Counters{Written: 16, Lost: 4, Connected: true} })
	eventually(t, "read", func() bool { return first.read.Load() == 16 })
	first.close()
	eventually(t, "noticed without a message", func() bool { return !r.Counters().Connected })

	second := collect(t, path)
	eventually(t, "back", func() bool { return r.Counters().Connected })
	w.Record(answer(10))
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	second.close()
	if len(first.got) != 16 || len(second.got) != 1 {
		t.Errorf("%d and %d messages, want 16 and 1", len(first.got), len(second.got))
	}
	if away, there := r.log.count("is away"), r.log.count("is there"); away != 2 || there != 2 {
		t.Errorf("logged %d times away and %d times there, want each twice", away, there)
	}
}

// TestStrangers are no collectors: nothing is sent to them, and Run ends at once.
func TestStrangers(t *testing.T) {
	for name, greeting := range map[string]string{
		"silent":       "",
		"other":        "HTTP/1.1 400 Bad Request\r\n\r\n",
		"other type":   "\x00\x00\x00\x00\x00\x00\x00\x12\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x06strnge",
		"long control": "\x00\x00\x00\x00\xff\xff\xff\xff",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			r := run(t, Config{Socket: path, Every: 1})
			conn, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.Write([]byte(greeting))
			if greeting != "" {
				eventually(t, "refused", func() bool { return r.log.count("is away") == 1 })
			}
			r.NewWorker().Record(answer(10))
			began := time.Now()
			if err := r.stop(); err != nil || time.Since(began) > ioTime/2 {
				t.Errorf("ended after %s: %v", time.Since(began), err)
			}
			if got := r.Counters(); got != (Counters{Lost: 1}) {
				t.Errorf("counters %+v, want one lost", got)
			}
		})
	}
}

// TestSlowCollector does the handshake and reads nothing more. Several workers
// record all the time: none may wait, and each message is counted.
func TestSlowCollector(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := run(t, Config{Socket: path, Every: 1, Queue: 64})
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := dnstap.NewReader(conn, &dnstap.ReaderOptions{Bidirectional: true}); err != nil {
		t.Fatal(err)
	}
	const workers, each = 4, 5000
	var wg sync.WaitGroup
	var longest [workers]time.Duration
	for i := range workers {
		wg.Go(func() {
			w := r.NewWorker()
			for n := range each {
				m := answer(100 + 50*(n%100))
				began := time.Now()
				w.Record(m)
				longest[i] = max(longest[i], time.Since(began))
			}
		})
	}
	wg.Wait()
	for _, d := range longest {
		if d > ioTime/2 { // as long as a write to the collector waits
			t.Errorf("Record took %s", d)
		}
	}
	began := time.Now()
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 2*stopTime {
		t.Errorf("ended after %s, want about %s", took, stopTime)
	}
	got := r.Counters()
	if got.Lost == 0 || got.Written+got.Lost != workers*each {
		t.Errorf("counters %+v, want a sum of %d", got, workers*each)
	}
}

// TestRecordWhileRunEnds: each message is counted, at whatever instant Run ends.
func TestRecordWhileRunEnds(t *testing.T) {
	for range 20 {
		r := run(t, Config{File: filepath.Join(t.TempDir(), "tap"), Every: 1, Queue: 16})
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				w := r.NewWorker()
				for range 1000 {
					w.Record(answer(5000))
				}
			})
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if got := r.Counters(); got.Written+got.Lost != 2000 || got.Connected {
			t.Errorf("counters %+v, want a sum of 2000", got)
		}
	}
}

func TestTake(t *testing.T) {
	for _, every := range []int{1, 2, 64, 1000} {
		tap := &Tap{every: every}
		w, taken, odd := tap.NewWorker(), 0, 0
		const n = 2_000_000
		for i := range n {
			if w.Take() {
				taken++
				odd += i & 1
			}
		}
		// Gaps that are even from 1 to 2e-1 deviate by less than 0.6e, the sum of n/e
		// of them by less than 0.6*sqrt(n/e); six times that is never.
		if e := float64(n) / float64(every); float64(taken) < e-4*math.Sqrt(e) || float64(taken) > e+4*math.Sqrt(e) {
			t.Errorf("every %d: %d taken, want about %.0f", every, taken, e)
		}
		if share := float64(odd) / float64(taken); share < 0.4 || share > 0.6 {
			t.Errorf("every %d: %.2f of them at odd places, want a half", every, share)
		}
	}
}

// TestWorkersApart: no two Workers share a cache line, which Take writes for each message.
func TestWorkersApart(t *testing.T) {
	tap := &Tap{every: 64}
	for range 10 {
		w := tap.NewWorker()
		if at, n := uintptr(unsafe.Pointer(w)), unsafe.Sizeof(*w); at%64 != 0 || n != 64 {
			t.Errorf("%d octets at %#x, want a cache line", n, at)
		}
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	for wanted, c := range map[string]Config{
		"dnstap-socket and dnstap-file: both are empty":            {},
		"dnstap-socket: /s conflicts with dnstap-file: /f":         {Socket: "/s", File: "/f"},
		"dnstap-socket: a path of 108 octets, expected at most":    {Socket: strings.Repeat("s", 108)},
		"dnstap-every: -1, expected 0 to":                          {Socket: "/s", Every: -1},
		"configure dnstap: dnstap-queue: 15, expected 0 or 16 to ": {Socket: "/s", Queue: 15},
		"dnstap-identity: 256 octets":                              {Socket: "/s", Identity: strings.Repeat("i", 256)},
		"dnstap-file-size: 131071, expected 131072 or more":        {File: "/f", FileSize: 131071},
		"dnstap-file-age: 1ms, expected 1s or more":                {File: "/f", FileAge: time.Millisecond},
		"dnstap-file-keep: 1001, expected 1 to 1000":               {File: "/f", FileKeep: 1001},
		"dnstap-file-keep: -2, expected 1 to 1000":                 {File: "/f", FileKeep: -2},
		"is a d":       {File: dir},
		"no such file": {File: filepath.Join(dir, "none", "tap")},
	} {
		if _, err := Open(c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), wanted) {
			t.Errorf("%+v: %v, want %q", c, err, wanted)
		}
	}
}

// TestQueueBound draws messages of all sizes and a writer that takes some: what waits
// is never more than the queue has memory for.
func TestQueueBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(minQueue, 64).Draw(t, "queue")
		q, waiting, octets := newQueue(n), 0, 0
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "write") && waiting > 0 {
				s := <-q.wait
				waiting, octets = waiting-1, octets-size(len(s.message))
				q.release(s)
				continue
			}
			length := rapid.SampledFrom([]int{1, 100, slotSize, slotSize + 1, 20_000, maxMessage}).Draw(t, "length")
			s := q.take(length)
			fits := waiting < n && octets+size(length) <= n*slotSize
			if fits != (s != nil) {
				t.Fatalf("%d of %d octets wait, %d more: taken %v, want %v", octets, n*slotSize, length, s != nil, fits)
			}
			if s != nil {
				s.message = append(s.own, make([]byte, length)...)
				q.wait <- s
				waiting, octets = waiting+1, octets+size(length)
			}
		}
		if q.taken() != waiting {
			t.Fatalf("%d taken, want %d", q.taken(), waiting)
		}
	})
}

func FuzzEncode(f *testing.F) {
	f.Add([]byte("response"), []byte{192, 0, 2, 1}, uint16(53), int64(1), true, true)
	f.Add([]byte{}, []byte{}, uint16(0), int64(0), false, false)
	e := newEncoder("i", "")
	f.Fuzz(func(t *testing.T, message, addr []byte, port uint16, at int64, answer, tcp bool) {
		a, _ := netip.AddrFromSlice(addr)
		s := &slot{message: message, answer: answer, tcp: tcp, client: netip.AddrPortFrom(a.Unmap(), port), queried: time.Unix(0, at)}
		b, err := e.encode(s)
		if err != nil {
			t.Fatal(err)
		}
		d := &dnstap.Dnstap{}
		if err := proto.Unmarshal(b, d); err != nil {
			t.Fatal(err)
		}
		m := d.Message
		if got := append(m.QueryMessage, m.ResponseMessage...); !bytes.Equal(got, message) {
			t.Errorf("message %x, want %x", got, message)
		}
		if got := time.Unix(int64(m.GetQueryTimeSec()), int64(m.GetQueryTimeNsec())); !got.Equal(s.queried) {
			t.Errorf("queried at %s, want %s", got, s.queried)
		}
		if got, _ := netip.AddrFromSlice(m.QueryAddress); got != a.Unmap().WithZone("") || a.IsValid() && m.GetQueryPort() != uint32(port) {
			t.Errorf("client %s:%d, want %s:%d", got, m.GetQueryPort(), a, port)
		}
	})
}

func TestNoAllocation(t *testing.T) {
	tap, err := Open(Config{Socket: "/nowhere", Every: 3, Queue: 2048}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w, m := tap.NewWorker(), answer(slotSize)
	record := func() {
		for !w.Take() {
		}
		w.Record(m)
	}
	if n := testing.AllocsPerRun(1000, record); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	if tap.Counters().Lost != 0 {
		t.Error("the queue was full, expected room")
	}
	for range 2000 {
		record()
	}
	if n := testing.AllocsPerRun(1000, record); n != 0 {
		t.Errorf("%v allocations when the queue is full, want 0", n)
	}
	if n := testing.AllocsPerRun(1000, func() {
		s := <-tap.queue.wait
		tap.encoder.encode(s)
		tap.queue.release(s)
	}); n != 0 {
		t.Errorf("%v allocations to encode, want 0", n)
	}
}

func BenchmarkTake(b *testing.B) {
	w := (&Tap{every: 64}).NewWorker()
	for b.Loop() {
		w.Take()
	}
}

func BenchmarkRecord(b *testing.B) {
	tap, err := Open(Config{Socket: "/nowhere"}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	w, m := tap.NewWorker(), answer(512)
	b.Run("taken-and-encoded", func(b *testing.B) {
		for b.Loop() {
			w.Record(m)
			s := <-tap.queue.wait
			tap.encoder.encode(s)
			tap.queue.release(s)
		}
	})
	b.Run("taken", func(b *testing.B) {
		for b.Loop() {
			w.Record(m)
			tap.queue.release(<-tap.queue.wait)
		}
	})
	b.Run("full", func(b *testing.B) {
		for len(tap.queue.free) > 0 {
			w.Record(m)
		}
		for b.Loop() {
			w.Record(m)
		}
	})
}
