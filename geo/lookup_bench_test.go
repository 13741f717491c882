package geo

import (
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/gaissmai/bart"
	"golang.org/x/sys/unix"
)

// BenchmarkLookup looks random addresses up in a map of a million prefixes, in ours and in
// gaissmai/bart: as an address alone, and with the prefix that decided, which is what a scope
// needs there. p50-ns is the median of batches, in time of the processor, so that a machine
// with other work says nearly the same; ns/op is time that passed.
func BenchmarkLookup(b *testing.B) {
	g, all := benchGuide(b), addresses()
	table := g.charts[0].tables[0]
	var fast bart.Fast[uint16]
	var plain bart.Table[uint16]
	for i, e := range world(1_000_000).Maps["m"] {
		fast.Insert(e.Prefix, uint16(i))
		plain.Insert(e.Prefix, uint16(i))
	}
	numbers, hosts := make([]number, len(all)), make([]netip.Prefix, len(all))
	for i, a := range all {
		numbers[i], hosts[i] = numberOf(a), netip.PrefixFrom(a, 32)
	}
	sum := 0
	for _, c := range []struct {
		name string
		look func(i int)
	}{
		{"zonecast", func(i int) { sum += int(table.value(table.find(numbers[i]))) }},
		{"zonecast-with-scope", func(i int) {
			c := Client{chart: g.charts[0], at: numbers[i], place: table.find(numbers[i])}
			sum += c.Scope(func([]uint16) bool { return false })
		}},
		{"bart-fast", func(i int) { v, _ := fast.Lookup(all[i]); sum += int(v) }},
		{"bart-table", func(i int) { v, _ := plain.Lookup(all[i]); sum += int(v) }},
		{"bart-fast-with-prefix", func(i int) { p, v, _ := fast.LookupPrefixLPM(hosts[i]); sum += int(v) + p.Bits() }},
	} {
		b.Run(c.name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			const batch = 512
			var took []float64
			for i := 0; b.Loop(); i++ {
				if i%batch == 0 {
					// A batch by itself, whatever b.N is.
					began := processor()
					for k := range batch {
						c.look((i + k) & (len(all) - 1))
					}
					took = append(took, float64(processor()-began)/batch)
				}
				c.look((i * 31) & (len(all) - 1))
			}
			slices.Sort(took)
			b.ReportMetric(took[len(took)/2], "p50-ns")
		})
	}
	if sum == 0 {
		b.Error("nobody is anywhere")
	}
}

// processor is what this thread has used of it, in nanoseconds.
func processor() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return t.Nano()
}
