package zoneload_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/zonecast/zonecast/internal/zonefile"
	"github.com/zonecast/zonecast/internal/zoneload"
	"github.com/zonecast/zonecast/record"
)

// benchPaths are the zone files of ZONES, a directory, or else four made here.
func benchPaths(b *testing.B) []string {
	if dir := os.Getenv("ZONES"); dir != "" {
		paths, err := filepath.Glob(filepath.Join(dir, "*.zone"))
		if err != nil || len(paths) == 0 {
			b.Fatalf("zone files in %s: %d, %v", dir, len(paths), err)
		}
		return paths
	}
	files := map[string]string{}
	for z := range 4 {
		var sb strings.Builder
		sb.WriteString(soa)
		for i := range 20000 {
			fmt.Fprintf(&sb, "web%05d A 192.0.2.%d\nweb%05d AAAA 2001:db8:%d:1::%x\n%d.%d PTR web%05d.example.net.\n", i, i%256, i, z, i, i%256, i/256, i)
		}
		files[fmt.Sprintf("z%d.example.net.zone", z)] = sb.String()
	}
	return write(b, b.TempDir(), files)
}

// BenchmarkLoad is Load and a pass over the sets.
func BenchmarkLoad(b *testing.B) {
	paths := benchPaths(b)
	records := 0
	b.ReportAllocs()
	for b.Loop() {
		z, err := zoneload.Load(b.Context(), paths)
		if err != nil {
			b.Fatal(err)
		}
		records = 0
		z.Sets(func(s *record.Set) bool { records += len(s.Data); return true })
	}
	b.ReportMetric(float64(records)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrec/s")
	b.ReportMetric(float64(records), "records")
	b.ReportMetric(peak(b), "peak-MB")
}

func BenchmarkSets(b *testing.B) {
	z, err := zoneload.Load(b.Context(), benchPaths(b))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		z.Sets(func(*record.Set) bool { return true })
	}
}

// BenchmarkZonefile is the same with zonefile, one file after the other and
// without the sorting over zones.
func BenchmarkZonefile(b *testing.B) {
	paths := benchPaths(b)
	records := 0
	b.ReportAllocs()
	for b.Loop() {
		records = 0
		for _, path := range paths {
			z, err := zonefile.Parse(os.DirFS(filepath.Dir(path)), filepath.Base(path), record.Provenance{})
			if err != nil {
				b.Fatal(err)
			}
			records += z.Records
		}
	}
	b.ReportMetric(float64(records)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrec/s")
}

// peak is the most memory that the process had resident, in MB, where the system
// tells it.
func peak(b *testing.B) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil && runtime.GOOS == "linux" {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kb := 0.0
	fmt.Sscan(rest, &kb) // 0 where there is none
	return kb / 1024
}
