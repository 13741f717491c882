package authority

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/authority/image/imagetest"
	"github.com/zonecast/zonecast/authority/protocol"
	"github.com/zonecast/zonecast/authority/wire"
	"github.com/zonecast/zonecast/record"
)

// BenchmarkSampling answers batches by a worker with and without a sample of questions.
func BenchmarkSampling(b *testing.B) {
	for _, size := range []int{0, defaultSample} {
		b.Run(fmt.Sprintf("sample=%d", size), func(b *testing.B) {
			c := DefaultConfig()
			c.UDPWorkers, c.StatusDir, c.Sample = 1, b.TempDir(), size
			sets := []record.Set{{RRset: soa("example.net.")}}
			var batch [32]wire.Message
			for i := range batch {
				name := fmt.Sprintf("www%d.example.net.", i)
				sets = append(sets, record.Set{RRset: address(name, byte(i))})
				q, err := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
				if err != nil {
					b.Fatal(err)
				}
				batch[i] = wire.Message{Query: q, Client: netip.MustParseAddrPort("127.0.0.1:53000"), Response: make([]byte, 0, 4096)}
			}
			im, err := imagetest.Build(filepath.Join(b.TempDir(), "image"), sets, image.Options{NoSync: true})
			if err != nil {
				b.Fatal(err)
			}
			s := &Server{config: c}
			if s.guard, err = newGuard(c); err != nil {
				b.Fatal(err)
			}
			s.current.Store(&state{view: data.New(im)})
			k := s.workers.get(s)
			runtime.LockOSThread() // whose time is read: other programs may be busy
			defer runtime.UnlockOSThread()
			began := threadTime(b)
			for b.Loop() {
				for i := range batch {
					batch[i].Response = batch[i].Response[:0]
				}
				k.Answer(batch[:], protocol.UDP)
			}
			b.ReportMetric(float64(threadTime(b)-began)/float64(b.N)/float64(len(batch)), "cpu-ns/query")
		})
	}
}

// threadTime is the processor time of the calling thread.
func threadTime(b *testing.B) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}
