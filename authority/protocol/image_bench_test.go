package protocol

import (
	"bufio"
	"math"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/image"
)

// BenchmarkImage answers the queries of a file from an image, in batches, as they
// come from a socket: ZONECAST_BENCH_IMAGE and ZONECAST_BENCH_QUERIES (lines of name
// and type) name them. On a machine that others use, compare what its best slice takes,
// of programs that run in turn.
func BenchmarkImage(b *testing.B) {
	path, queries := os.Getenv("ZONECAST_BENCH_IMAGE"), os.Getenv("ZONECAST_BENCH_QUERIES")
	if path == "" || queries == "" {
		b.Skip("ZONECAST_BENCH_IMAGE and ZONECAST_BENCH_QUERIES name nothing")
	}
	im, err := image.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	if err := im.Scrub(nil); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(queries)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	var all [][]byte
	for s := bufio.NewScanner(f); s.Scan(); {
		words := strings.Fields(s.Text())
		q := new(dns.Msg)
		q.SetQuestion(words[0]+".", dns.StringToType[words[1]])
		q.RecursionDesired = false
		p, err := q.Pack()
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, p)
	}
	view := data.New(im)
	const slice = 2048 // queries
	for _, size := range []int{1, 32} {
		b.Run(map[int]string{1: "single", 32: "batch"}[size], func(b *testing.B) {
			k := NewWorker(Config{})
			batch := make([]Message, size)
			room := make([][]byte, size)
			for i := range room {
				room[i] = make([]byte, 0, 1300)
			}
			b.ReportAllocs()
			runtime.LockOSThread() // whose time is read: other programs may be busy
			defer runtime.UnlockOSThread()
			at, least := 0, time.Duration(math.MaxInt64)
			for range b.N / slice {
				began := threadTime(b)
				for range slice / size {
					for i := range batch {
						batch[i] = Message{Query: all[at], Response: room[i]}
						if at++; at == len(all) {
							at = 0
						}
					}
					k.Answer(view, batch, UDP, time.Unix(0, 0))
				}
				least = min(least, threadTime(b)-began)
			}
			if b.N >= slice {
				b.ReportMetric(float64(least)/slice, "least-cpu-ns/query")
			}
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
