package protocol

import (
	"bufio"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/image"
)

// BenchmarkImage answers the queries of a file from an image, in batches, as they
// come from a socket: ZONECAST_BENCH_IMAGE and ZONECAST_BENCH_QUERIES (lines of name
// and type) name them.
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
	for _, size := range []int{1, 32} {
		b.Run(map[int]string{1: "single", 32: "batch"}[size], func(b *testing.B) {
			k := NewWorker(Config{})
			batch := make([]Message, size)
			room := make([][]byte, size)
			for i := range room {
				room[i] = make([]byte, 0, 1300)
			}
			b.ReportAllocs()
			at := 0
			for range b.N / size {
				for i := range batch {
					batch[i] = Message{Query: all[at], Response: room[i]}
					if at++; at == len(all) {
						at = 0
					}
				}
				k.Answer(view, batch, UDP, time.Unix(0, 0))
			}
		})
	}
}
