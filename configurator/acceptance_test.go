//go:build acceptance

package configurator

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestTenThousandFilesLand measures landings in a repository of 10,000 zones: all at once,
// and then one file after the other.
func TestTenThousandFilesLand(t *testing.T) {
	b := newBench(t)
	b.start()
	files := map[string]string{}
	for i := range 10_000 {
		apex := fmt.Sprintf("z%04d.example", i)
		files[fmt.Sprintf("zones/%02d/%s.star", i/100, apex)] = zone(apex, "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.7", "192.0.2.8", "192.0.2.9")
	}
	began := time.Now()
	b.land("alice", "All of them", files)
	t.Logf("10,000 files, 120,000 records, from the proposal to the store: %v", time.Since(began).Round(time.Millisecond))
	var each, whole []time.Duration
	for i := range 100 {
		apex := fmt.Sprintf("z%04d.example", i*97)
		file := fmt.Sprintf("zones/%02d/%s.star", i*97/100, apex)
		began := time.Now()
		d := b.desk()
		n := b.approved(d, "bob", "One", map[string]string{file: zone(apex, "192.0.2.99")})
		asked := time.Now()
		l, err := b.landOne(d, n, "bob")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.s.Landed(t.Context(), l.Commit); err != nil {
			t.Fatal(err)
		}
		each, whole = append(each, time.Since(asked)), append(whole, time.Since(began))
	}
	slices.Sort(each)
	slices.Sort(whole)
	t.Logf("one file changed, from `land` to the store: p50 %v, p99 %v; proposed, examined, approved and landed: p50 %v, p99 %v", each[50], each[98], whole[50], whole[98])
	began = time.Now()
	b.stop()
	b.start()
	if _, err := b.s.Landed(t.Context(), tip(b.desk())); err != nil {
		t.Fatal(err)
	}
	t.Logf("a restart until all is compiled and compared with the store: %v", time.Since(began).Round(time.Millisecond))
}
