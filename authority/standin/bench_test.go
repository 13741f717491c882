package standin

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/zonecast/zonecast/internal/replay"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
)

// sorted is a Reader with its names in order.
type sorted struct {
	sets  map[record.Name][]record.RRset
	names []record.Name
}

func (s *sorted) At(name record.Name) []record.RRset { return s.sets[name] }

func (s *sorted) Below(name record.Name) iter.Seq[record.Name] {
	return func(yield func(record.Name) bool) {
		i, _ := slices.BinarySearchFunc(s.names, name, record.Name.Compare)
		for _, n := range s.names[i:] {
			if !n.IsSubdomainOf(name) || n != name && !yield(n) {
				return
			}
		}
	}
}

// BenchmarkEffect asks questions of as many different names: nine in ten have an
// address, one has none. Neither the dataset's size nor the change's beside the questions
// makes it much slower.
func BenchmarkEffect(b *testing.B) {
	for _, c := range []struct{ names, questions, removed int }{
		{10_000, 1000, 100}, {1_000_000, 1000, 100}, {1_000_000, 1000, 100_000}, {1_000_000, 20_000, 100}, {1_000_000, 60_000, 100},
	} {
		b.Run(fmt.Sprintf("names=%d/questions=%d/removed=%d", c.names, c.questions, c.removed), func(b *testing.B) {
			s := &sorted{sets: map[record.Name][]record.RRset{}}
			zone, _ := record.ParseName("example.net.")
			add := func(owner record.Name, t record.Type, rd record.Rdata) record.Key {
				r := record.NewRRset(owner, t, 300, rd)
				s.sets[owner] = append(s.sets[owner], r)
				return r.Key
			}
			add(zone, record.TypeSOA, "\x00\x00"+"\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01")
			add(zone, record.TypeNS, record.Rdata("\x02ns"+string(zone)))
			change := replay.Otherwise{}
			var hosts []record.Name
			for i := range c.names {
				n, err := record.ParseName(fmt.Sprintf("host%d.rack%d.example.net.", i, i/40))
				if err != nil {
					b.Fatal(err)
				}
				hosts = append(hosts, n)
				if k := add(n, record.TypeA, "\xc0\x00\x02\x01"); i%(c.names/c.removed) == 0 {
					change[k] = nil
				}
			}
			for n := range s.sets {
				s.names = append(s.names, n)
			}
			slices.SortFunc(s.names, record.Name.Compare)
			random := rand.New(rand.NewPCG(1, 2))
			sample := tree.Sample{To: 60_000, Queries: 64 * int64(c.questions)}
			for i := range c.questions {
				n := hosts[random.IntN(len(hosts))]
				if i%10 == 0 {
					n, _ = n.Parent().Child(fmt.Sprint("nobody", i))
				}
				sample.Questions = append(sample.Questions, tree.SampleQuestion{Times: 1, Was: "positive", Type: record.TypeA, Name: n})
			}
			traffic := replay.Join([]tree.Sample{sample})
			b.ResetTimer()
			for b.Loop() {
				if _, err := replay.Of(traffic, s, nil, change, func() (replay.Server, error) { return New() }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
