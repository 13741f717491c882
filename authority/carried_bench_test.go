package authority

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/authority/image/imagetest"
	"github.com/zonecast/zonecast/authority/protocol"
	"github.com/zonecast/zonecast/authority/wire"
	"github.com/zonecast/zonecast/record"
)

// answering is a worker of a host with so many datasets, and a batch for the last of them.
func answering(tb testing.TB, datasets int) (*worker, []wire.Message) {
	tb.Helper()
	c := DefaultConfig()
	c.UDPWorkers, c.Sample = 1, 0
	s := &Server{config: c}
	var err error
	if s.guard, err = newGuard(c); err != nil {
		tb.Fatal(err)
	}
	all := []*Server{s}
	batch := make([]wire.Message, 32)
	for n := range datasets {
		if n > 0 {
			all = append(all, &Server{front: s})
		}
		zone := fmt.Sprintf("zone%d.example.net.", n)
		sets := []record.Set{{RRset: soa(zone)}}
		for i := range batch {
			name := fmt.Sprintf("www%d.%s", i, zone)
			sets = append(sets, record.Set{RRset: address(name, byte(i))})
			q, err := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
			if err != nil {
				tb.Fatal(err)
			}
			batch[i] = wire.Message{Query: q, Client: netip.MustParseAddrPort("127.0.0.1:53000"), Response: make([]byte, 0, 4096)}
		}
		im, err := imagetest.Build(filepath.Join(tb.TempDir(), "image"), sets, image.Options{NoSync: true})
		if err != nil {
			tb.Fatal(err)
		}
		all[n].current.Store(&state{view: data.New(im)})
	}
	if datasets > 1 {
		s.carried.Store(&all)
	}
	return s.workers.get(s), batch
}

func (k *worker) again(batch []wire.Message) {
	for i := range batch {
		batch[i].Response = batch[i].Response[:0]
	}
	k.Answer(batch, protocol.UDP)
}

// TestCarriedAllocations holds that answering allocates nothing, however many datasets there are.
func TestCarriedAllocations(t *testing.T) {
	for _, datasets := range []int{1, 3} {
		k, batch := answering(t, datasets)
		if n := testing.AllocsPerRun(100, func() { k.again(batch) }); n > 0 {
			t.Errorf("%d datasets: %v allocations a batch", datasets, n)
		}
		for i := range batch {
			m := new(dns.Msg)
			if err := m.Unpack(batch[i].Response); err != nil || m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
				t.Fatalf("%d datasets: %v, %v", datasets, m, err)
			}
		}
	}
}

// BenchmarkCarried answers batches on a host with one dataset and more; the names are of the last.
func BenchmarkCarried(b *testing.B) {
	for _, datasets := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("datasets=%d", datasets), func(b *testing.B) {
			k, batch := answering(b, datasets)
			runtime.LockOSThread() // whose time is read: other programs may be busy
			defer runtime.UnlockOSThread()
			began := threadTime(b)
			for b.Loop() {
				k.again(batch)
			}
			b.ReportMetric(float64(threadTime(b)-began)/float64(b.N)/float64(len(batch)), "cpu-ns/query")
			b.ReportMetric(0, "ns/op")
		})
	}
}
