package authority

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/authority/cookie"
	"golang.org/x/sys/unix"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/authority/image/imagetest"
	"github.com/zonecast/zonecast/authority/protocol"
	"github.com/zonecast/zonecast/authority/ratelimit"
	"github.com/zonecast/zonecast/authority/wire"
	"github.com/zonecast/zonecast/record"
)

// counted is what the counters of a worker should say of a batch.
type counted struct {
	queries, noError, positive, clientOnly, sent uint64
}

func (k *worker) counted(t protocol.Transport) (c counted) {
	n := &k.protocol.Counters
	c = counted{
		queries: n.Queries[t].Load(), noError: n.Responses[protocol.NoError].Load(), positive: n.Outcomes[protocol.Positive].Load(),
		clientOnly: n.Cookies[cookie.ClientOnly].Load(),
	}
	for class := range k.limiter.Counters() {
		c.sent += k.limiter.Counters()[class][ratelimit.Send].Load()
	}
	return c
}

// TestPanicCountsOnce answers batches in which a query meets a bug: the others are
// counted, limited and sampled once, as if it had not been among them.
func TestPanicCountsOnce(t *testing.T) {
	sets := []record.Set{{RRset: soa("example.net.")}}
	const names = 4000
	for i := range names {
		sets = append(sets, record.Set{RRset: address(fmt.Sprintf("www%d.example.net.", i), byte(i))})
	}
	start := func(t *testing.T) (*worker, string) {
		path := filepath.Join(t.TempDir(), "image")
		im, err := imagetest.Build(path, sets, image.Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		s := testServer(t.TempDir())
		s.log = slog.New(slog.DiscardHandler)
		s.config.RateLimitAll, s.config.UDPWorkers = 1_000_000, 1
		if s.guard, err = newGuard(s.config); err != nil {
			t.Fatal(err)
		}
		s.workers.config = protocol.Config{Cookies: s.guard.secrets(), Idle: func() time.Duration { panic("a bug") }}
		s.current.Store(&state{view: data.New(im)})
		return s.workers.get(s), path
	}
	query := func(i int, with dns.EDNS0) wire.Message {
		t.Helper()
		q := new(dns.Msg).SetQuestion(fmt.Sprintf("www%d.example.net.", i), dns.TypeA)
		q.SetEdns0(1232, false)
		q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"}, with}
		b, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return wire.Message{Query: b, Client: netip.MustParseAddrPort("192.0.2.1:53000"), Response: make([]byte, 0, 4096)}
	}
	none := &dns.EDNS0_NSID{Code: dns.EDNS0NSID}

	t.Run("lost", func(t *testing.T) {
		k, _ := start(t)
		const batches, size = 500, 64
		var batch []wire.Message
		for i := range size {
			batch = append(batch, query(i, none))
		}
		batch[50] = query(50, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE})
		for range batches {
			for i := range batch {
				batch[i].Response = batch[i].Response[:0]
			}
			k.Answer(batch, protocol.TCP)
		}
		const good = batches * (size - 1)
		k.check(t, protocol.TCP, counted{queries: batches * size, noError: good, positive: good, clientOnly: good})
		if n := k.server.panics.Load(); n != batches {
			t.Errorf("%d queries lost, want %d", n, batches)
		}
	})

	// Half of the names cannot be read any more, as if the disk had failed.
	t.Run("fault", func(t *testing.T) {
		k, path := start(t)
		if err := k.server.current.Load().view.Image().Scrub(nil); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		index := int(binary.LittleEndian.Uint64(b[32:])) // see image/format.go; nodes are before it
		unreadable(t, path, index/2/4096*4096, index)
		var total, failed uint64
		for i := range names {
			var batch []wire.Message
			for n := range 32 {
				batch = append(batch, query((i+n*127)%names, none))
			}
			k.Answer(batch, protocol.UDP)
			for _, m := range batch {
				total++
				if len(m.Response) == 0 {
					failed++
				}
			}
		}
		if failed == 0 || failed == total || k.server.panics.Load() != failed {
			t.Fatalf("%d of %d questions failed, %d are said to be lost, want some, and all of them", failed, total, k.server.panics.Load())
		}
		good := total - failed
		k.check(t, protocol.UDP, counted{queries: total, noError: good, positive: good, clientOnly: good, sent: good})
	})
}

// check compares what was counted.
func (k *worker) check(t *testing.T, via protocol.Transport, want counted) {
	t.Helper()
	if got := k.counted(via); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	// Gaps between sampled ones are even from 0 to 126: their deviation is 0.57 of the
	// mean. Six deviations are as good as never.
	mean := float64(want.noError) / protocol.SampleEvery
	if n := float64(k.names.Load().Total()); math.Abs(n-mean) > 6*0.57*math.Sqrt(mean) {
		t.Errorf("%g were sampled, want about %g", n, mean)
	}
}

// unreadable takes the right to read some octets of a file that is mapped, from and to
// are multiples of a page.
func unreadable(t *testing.T, path string, from, to int) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if start, _, ok := strings.Cut(line, "-"); ok && strings.Contains(line, path) {
			at, err := strconv.ParseUint(start, 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, e := unix.Syscall(unix.SYS_MPROTECT, uintptr(at)+uintptr(from), uintptr(to-from), unix.PROT_NONE); e != 0 {
				t.Fatal(e)
			}
			return
		}
	}
	t.Fatalf("%s is not mapped", path)
}
