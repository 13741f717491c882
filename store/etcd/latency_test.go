package etcd_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/zonecast/zonecast/store"
)

// BenchmarkCommitToWatch measures what one hop through the store costs: from the
// call of Commit to the batch in another client's hand.
func BenchmarkCommitToWatch(b *testing.B) {
	for _, size := range []int{200, 16 << 10} {
		b.Run(fmt.Sprintf("value=%d", size), func(b *testing.B) {
			c := startChild(b, shortDir(b))
			writer, reader := openStore(b, c), openStore(b, c)
			w := reader.Watch(b.Context(), "/a/", 0)
			<-w
			value := bytes.Repeat([]byte{'v'}, size)
			var commits, events []time.Duration
			for i := 0; b.Loop(); i++ {
				start := time.Now()
				_, err := writer.Commit(b.Context(), store.Txn{Do: []store.Op{{Path: fmt.Sprintf("/a/%d", i%100), Value: value}}})
				if err != nil {
					b.Fatal(err)
				}
				commits = append(commits, time.Since(start))
				<-w
				events = append(events, time.Since(start))
			}
			for name, d := range map[string][]time.Duration{"commit": commits, "event": events} {
				slices.Sort(d)
				b.ReportMetric(float64(d[len(d)/2].Microseconds()), name+"-p50-µs")
				b.ReportMetric(float64(d[len(d)*99/100].Microseconds()), name+"-p99-µs")
			}
		})
	}
}
