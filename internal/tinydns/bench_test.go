package tinydns_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/tinydns"
)

// BenchmarkParseFile reads the file that ZONECAST_TINYDNS_FILE names; one that ends in
// dnsrocks.data as dnsrocks' text.
func BenchmarkParseFile(b *testing.B) {
	path := os.Getenv("ZONECAST_TINYDNS_FILE")
	if path == "" {
		b.Skip("ZONECAST_TINYDNS_FILE names no file")
	}
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(info.Size())
	for b.Loop() {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		parse := tinydns.ParseText
		if filepath.Base(path) == "dnsrocks.data" {
			parse = tinydns.ParseRocks
		}
		data, err := parse(f, path, time.Unix(1700000000, 0))
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapAlloc)/float64(info.Size()), "heap/size")
		b.ReportMetric(float64(len(data.Sets)), "sets")
		runtime.KeepAlive(data)
		f.Close()
		b.StartTimer()
	}
}
