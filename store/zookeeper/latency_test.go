//go:build interop

package zookeeper_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/zookeeper"
)

// BenchmarkCommitToWatch measures what one hop through the store costs: from the
// call of Commit to the batch in another client's hand, in an empty store and beside
// 100,000 other nodes under the same watch.
func BenchmarkCommitToWatch(b *testing.B) {
	for _, c := range []struct{ size, beside int }{{200, 0}, {16 << 10, 0}, {200, 100_000}} {
		b.Run(fmt.Sprintf("value=%d/beside=%d", c.size, c.beside), func(b *testing.B) {
			cfg := zookeeper.Config{Servers: []string{address(b)}, Root: fmt.Sprintf("/bench/%d", trees.Add(1))}
			writer, reader := openStore(b, cfg), openStore(b, cfg)
			began, fill, first := time.Now(), time.Duration(0), time.Duration(0)
			for i := 0; i < c.beside; i += 100 {
				var txn store.Txn
				for k := range 100 {
					txn.Do = append(txn.Do, put(fmt.Sprintf("/a/%d/%d", (i+k)%100, i+k), "something of a usual size, such as the address of a server"))
				}
				commit(b, writer, txn)
			}
			fill, began = time.Since(began), time.Now()
			w := reader.Watch(b.Context(), "/a/", 0)
			if all := next(b, w); len(all.Puts) != c.beside {
				b.Fatalf("%d nodes, expected %d", len(all.Puts), c.beside)
			}
			first = time.Since(began)
			value := bytes.Repeat([]byte{'v'}, c.size)
			var commits, events []time.Duration
			for i := 0; b.Loop(); i++ {
				start := time.Now()
				if _, err := writer.Commit(b.Context(), store.Txn{Do: []store.Op{{Path: fmt.Sprintf("/a/%d", i%100), Value: value}}}); err != nil {
					b.Fatal(err)
				}
				commits = append(commits, time.Since(start))
				<-w
				events = append(events, time.Since(start))
			}
			if c.beside > 0 {
				b.ReportMetric(float64(c.beside)/fill.Seconds(), "puts/s")
				b.ReportMetric(first.Seconds(), "first-batch-s")
			}
			for name, d := range map[string][]time.Duration{"commit": commits, "event": events} {
				slices.Sort(d)
				b.ReportMetric(float64(d[len(d)/2].Microseconds()), name+"-p50-µs")
				b.ReportMetric(float64(d[len(d)*99/100].Microseconds()), name+"-p99-µs")
			}
		})
	}
}
