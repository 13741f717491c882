package heavy

// Merge joins what several Counters have of parts of one stream, the largest count
// first. The invariant of the package holds for the whole: N is the sum of theirs, k
// the least of theirs. There are at most as many entries as in all together.
//
// A key that one of them has not may have come there as often as its least entry:
// that goes to Count and to Error (Cafaro, Pulimeno, Tempesta, "A parallel space
// saving algorithm for frequent items and the Hurwitz zeta distribution", 2016).
func Merge(counters ...*Counter) []Entry {
	type sum struct {
		Entry
		seen uint64 // of absent: that of the Counters which have the key
	}
	var all uint64 // of absent
	sums := map[string]*sum{}
	for _, c := range counters {
		entries, absent := c.snapshot()
		all += absent
		for _, e := range entries {
			s := sums[string(e.Key)]
			if s == nil {
				s = &sum{Entry: Entry{Key: e.Key}}
				sums[string(e.Key)] = s
			}
			s.Count += e.Count
			s.Error += e.Error
			s.seen += absent
		}
	}
	merged := make([]Entry, 0, len(sums))
	for _, s := range sums {
		s.Count += all - s.seen
		s.Error += all - s.seen
		merged = append(merged, s.Entry)
	}
	sortEntries(merged)
	return merged
}
