package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Figures are durations of one thing, measured often.
type Figures []time.Duration

// At is the smallest of the figures that at least p per cent do not exceed (nearest
// rank); 0 of none.
func (f Figures) At(p int) time.Duration {
	if len(f) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(f))
	return s[max(0, (len(s)*p+99)/100-1)]
}

// String has the usual ranks.
func (f Figures) String() string {
	ms := func(p int) string { return fmt.Sprintf("%.1f", float64(f.At(p).Microseconds())/1000) }
	return fmt.Sprintf("n %d, p50 %s ms, p90 %s ms, p99 %s ms, max %s ms", len(f), ms(50), ms(90), ms(99), ms(100))
}

// Machine says what a figure was measured on: processors, and the load averages of
// 1, 5 and 15 minutes.
func Machine() string {
	load := "unknown"
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		load = strings.Join(strings.Fields(string(b))[:3], " ")
	}
	return fmt.Sprintf("%d processors, load average %s", runtime.NumCPU(), load)
}

// Sums are the sums and counts of histograms, by name and labels.
type Sums map[string]struct{ Sum, Count float64 }

// Histograms reads the histograms of seconds that the process exports.
func (u *Up) Histograms(t testing.TB) Sums {
	t.Helper()
	r, err := http.Get("http://" + u.HTTP + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	all := Sums{}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		v, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
		if err != nil {
			continue
		}
		base, labels, _ := strings.Cut(name, "{")
		if b, ok := strings.CutSuffix(base, "_seconds_sum"); ok {
			s := all[b+"{"+labels]
			s.Sum = v
			all[b+"{"+labels] = s
		} else if b, ok := strings.CutSuffix(base, "_seconds_count"); ok {
			s := all[b+"{"+labels]
			s.Count = v
			all[b+"{"+labels] = s
		}
	}
	return all
}

// Since gives the means of what happened between before and s, in lines.
func (s Sums) Since(before Sums) string {
	var lines []string
	for name, now := range s {
		n := now.Count - before[name].Count
		if n <= 0 || !strings.HasPrefix(name, "zonecast_") {
			continue
		}
		mean := (now.Sum - before[name].Sum) / n
		lines = append(lines, fmt.Sprintf("%-90s mean %8.2f ms of %.0f", strings.TrimSuffix(name, "{"), mean*1000, n))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
