package fill

import (
	"math"
	"slices"

	"github.com/zonecast/zonecast/mapper/table"
)

// kmPerMS is how far two hosts can be apart for each millisecond of round-trip time: light
// goes 299.792 km in one millisecond, there and back. In fibre it is 2/3 of that, and no
// fibre is straight; but satellites, microwaves and coordinates that are off by some
// kilometres are not lies.
const kmPerMS = 299.792458 / 2

// slackMS is how much sooner than light may come what is believed: coordinates of PoPs and
// cities are not exact to 100 km.
const slackMS = 0.7

// earthKM is the mean radius of the Earth (IUGG).
const earthKM = 6371.0088

// Distance is the length of the great circle between two places in degrees, in kilometres.
func Distance(lat1, lon1, lat2, lon2 float64) float64 {
	const rad = math.Pi / 180
	s1, s2 := math.Sin((lat2-lat1)*rad/2), math.Sin((lon2-lon1)*rad/2)
	h := s1*s1 + math.Cos(lat1*rad)*math.Cos(lat2*rad)*s2*s2
	return 2 * earthKM * math.Asin(math.Sqrt(min(h, 1)))
}

// floor is the least round-trip time over a distance, in microseconds.
func floor(km float64) int32 { return int32(max(km/kmPerMS-slackMS, 0) * 1000) }

// strike takes away what cannot be: a time that is less than light needs from where the
// prefix is, and times that contradict each other. From a client that is r1 from one PoP and
// r2 from another, these are at most r1 + r2 apart; of those that contradict any, the one
// that contradicts most is struck out until none does, and of equals all: who is lying
// cannot be told of two. It gives how many of each PoP it took.
//
// A PoP that contradicts others again and again has wrong coordinates, and not that many
// liars: it is not compared with, and is in suspect.
func strike(t *table.Table, places []Place) (struck []int, suspect []bool) {
	m := len(t.PoPs)
	apart := make([]int32, m*m) // what two PoPs must have together
	widest := make([]int32, m)  // the most of a row of it
	for j, a := range t.PoPs {
		for k, b := range t.PoPs {
			if a.Located && b.Located {
				apart[j*m+k] = floor(Distance(a.Latitude, a.Longitude, b.Latitude, b.Longitude))
				widest[j] = max(widest[j], apart[j*m+k])
			}
		}
	}
	suspect = make([]bool, m)
	suspects(t, apart, suspect)
	counts := make([][]int, parts)
	each(len(t.Prefixes), func(part, from, to int) {
		count, against := make([]int, m), make([]int, m)
		for i := from; i < to; i++ {
			row := t.Row(i)
			if places != nil && places[i].Located {
				for j, p := range t.PoPs {
					if row[j] != table.Missing && p.Located && !suspect[j] && row[j] < places[i].floor(p) {
						row[j] = table.Missing
						count[j]++
					}
				}
			}
			for {
				most := contradictions(row, apart, widest, suspect, against)
				if most == 0 {
					break
				}
				for j, n := range against {
					if n == most {
						row[j] = table.Missing
						count[j]++
					}
				}
			}
		}
		counts[part] = count
	})
	struck = make([]int, m)
	for _, c := range counts {
		for j, n := range c {
			struck[j] += n
		}
	}
	return struck, suspect
}

// contradictions counts with how many others each time of a row cannot be true.
func contradictions(row, apart, widest []int32, suspect []bool, against []int) (most int) {
	m := len(row)
	clear(against)
	for j, r := range row {
		if r == table.Missing || suspect[j] || r >= widest[j] {
			continue
		}
		for k, other := range row[:j] {
			if other != table.Missing && r+other < apart[j*m+k] && !suspect[k] {
				against[j]++
				against[k]++
				most = max(most, against[j], against[k])
			}
		}
	}
	return most
}

// sampled is how many rows tell whether a PoP is suspect.
const sampled = 10_000

// suspects marks PoPs that contradict another one in more than a fifth of the rows that have
// them: so many do not lie. One at a time, the worst first, as it takes others along.
func suspects(t *table.Table, apart []int32, suspect []bool) {
	m := len(t.PoPs)
	step := max(len(t.Prefixes)/sampled, 1)
	for {
		in, bad := make([]int, m), make([]int, m)
		for i := 0; i < len(t.Prefixes); i += step {
			row := t.Row(i)
			for j, r := range row {
				if r == table.Missing || suspect[j] {
					continue
				}
				in[j]++
				for k, other := range row {
					if k != j && other != table.Missing && !suspect[k] && r+other < apart[j*m+k] {
						bad[j]++
						break
					}
				}
			}
		}
		worst := -1
		for j := range in {
			if in[j] >= 20 && 5*bad[j] > in[j] && (worst < 0 || bad[j]*in[worst] > bad[worst]*in[j]) {
				worst = j
			}
		}
		if worst < 0 {
			return
		}
		suspect[worst] = true
	}
}

// median is that of values, which it reorders: the lower one of two in the middle.
func median(values []int32) int32 {
	slices.Sort(values)
	return values[(len(values)-1)/2]
}
