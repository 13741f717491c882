package tinydns_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/tinydns"
)

// BenchmarkWriteFile writes what BenchmarkParseFile reads, as text and as data.cdb, and
// reads the latter.
func BenchmarkWriteFile(b *testing.B) {
	path := os.Getenv("ZONECAST_TINYDNS_FILE")
	if path == "" {
		b.Skip("ZONECAST_TINYDNS_FILE names no file")
	}
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	data, err := tinydns.ParseText(f, path, time.Unix(1700000000, 0))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("text", func(b *testing.B) {
		for b.Loop() {
			if _, err := tinydns.WriteText(io.Discard, slices.Values(data.Sets), &data.Atlas); err != nil {
				b.Fatal(err)
			}
		}
	})
	var cdb bytes.Buffer
	b.Run("cdb", func(b *testing.B) {
		for b.Loop() {
			cdb.Reset()
			if _, err := tinydns.WriteCDB(&cdb, slices.Values(data.Sets), &data.Atlas); err != nil {
				b.Fatal(err)
			}
		}
		b.SetBytes(int64(cdb.Len()))
	})
	sets := len(data.Sets)
	data = nil // reading is measured without another dataset in memory
	b.Run("read", func(b *testing.B) {
		b.SetBytes(int64(cdb.Len()))
		runtime.GC()
		for b.Loop() {
			got, err := tinydns.ReadCDB(bytes.NewReader(cdb.Bytes()), int64(cdb.Len()))
			if err != nil || len(got.Sets) != sets {
				b.Fatal(err)
			}
		}
	})
}

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
