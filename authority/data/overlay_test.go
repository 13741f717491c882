package data

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/record"
)

// testNode is a node whose octets tell two of a name apart.
func testNode(owner record.Name, version, octets int) image.Node {
	s := record.Set{RRset: record.NewRRset(owner, record.TypeTXT, uint32(version), record.Rdata(make([]byte, octets)))}
	return image.AppendNode(nil, []byte(owner), []image.Body{{Type: s.Type, Set: image.AppendSet(nil, owner, &s)}}, image.Family{})
}

// contents reads a layer by all, and checks get and len against it.
func contents(t fataler, l layer) map[record.Name]string {
	got := map[record.Name]string{}
	for h, e := range l.all {
		n := record.Name(e.name())
		if _, twice := got[n]; twice {
			t.Fatal(n, "is there twice")
		}
		if got[n] = string(e.node()); e.gone() {
			got[n] = "gone"
		}
		if same := l.get(h, []byte(n)); same == nil || &same[0] != &e[0] {
			t.Fatal(n, "is another by get than by all")
		}
	}
	if l.len != len(got) {
		t.Fatal("len is", l.len, "of", len(got), "names")
	}
	return got
}

// TestLayersAgainstMap edits the newest layer or an older one at random, with hashes that
// collide, and compares each layer with a map, also long after later edits.
func TestLayersAgainstMap(t *testing.T) {
	number := func(n record.Name) (k uint64) { // of "n17"
		for _, c := range []byte(n[2 : len(n)-1]) {
			k = 10*k + uint64(c-'0')
		}
		return k
	}
	hashes := map[string]func(record.Name) uint64{
		"one hash": func(record.Name) uint64 { return 0x1234_5678_9abc_def0 },
		"one slot": number,
		"the last": func(n record.Name) uint64 { return ^number(n) },
		"spread":   func(n record.Name) uint64 { return number(n) * 0x9e3779b97f4a7c15 },
	}
	for what, hash := range hashes {
		t.Run(what, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				type version struct {
					l    layer
					want map[record.Name]string
				}
				versions := []version{{}}
				for i := range rapid.IntRange(1, 30).Draw(t, "edits") {
					from := versions[len(versions)-1]
					if rapid.IntRange(0, 9).Draw(t, "from another") == 0 {
						from = rapid.SampledFrom(versions).Draw(t, "from")
					}
					want := maps.Clone(from.want)
					if want == nil {
						want = map[record.Name]string{}
					}
					l := from.l.edit(func(l *layer) {
						for range rapid.IntRange(0, 20).Draw(t, "names") {
							owner := name(fmt.Sprint("n", rapid.IntRange(0, 99).Draw(t, "name")))
							octets := rapid.SampledFrom([]int{0, 10, 100, 1000, 20_000}).Draw(t, "octets")
							n, gone := testNode(owner, i, octets), rapid.IntRange(0, 3).Draw(t, "gone") == 0
							if want[owner] = string(n); gone {
								want[owner] = "gone"
							}
							l.put(hash(owner), n, gone)
						}
					})
					versions = append(versions, version{l, want})
				}
				for i, v := range versions[1:] {
					if diff := cmp.Diff(v.want, contents(t, v.l)); diff != "" {
						t.Fatalf("layer %d (-want +got):\n%s", i, diff)
					}
					if nobody := name("nobody"); v.l.get(0x1234_5678_9abc_def0, []byte(nobody)) != nil {
						t.Fatal("a name is found by its hash alone")
					}
				}
			})
		})
	}
}

// TestLargeNodes has nodes that fill chunks and need their own among small ones.
func TestLargeNodes(t *testing.T) {
	var l layer
	want := map[record.Name]string{}
	for i, octets := range []int{largestChunk, 1, ownChunk, 1, ownChunk - 200, ownChunk - 200, 1, 5 * largestChunk, 1} {
		owner := name(fmt.Sprint("n", i))
		var bodies []image.Body
		for k := 0; octets > 0; k++ {
			s := record.Set{RRset: record.NewRRset(owner, record.Type(1000+k), 1, record.Rdata(make([]byte, min(octets, 65_000))))}
			bodies = append(bodies, image.Body{Type: s.Type, Set: image.AppendSet(nil, owner, &s)})
			octets -= 65_000
		}
		n := image.AppendNode(nil, []byte(owner), bodies, image.Family{})
		want[owner] = string(n)
		l = l.edit(func(l *layer) { l.put(uint64(i)<<60, n, false) })
	}
	if got := contents(t, l); !maps.Equal(got, want) {
		t.Error("large nodes are not what was put")
	}
}

// TestHotNameStaysSmall changes one name again and again, with another that stays.
func TestHotNameStaysSmall(t *testing.T) {
	hot, calm := name("hot"), name("calm")
	l := layer{}.edit(func(l *layer) {
		l.put(1, testNode(calm, 0, 4), false)
		l.put(2, testNode(hot, 0, 4), false)
	})
	first := l
	const times = 200_000
	var spent, longest, begun int
	for i := range times {
		before := l.log
		l = l.edit(func(l *layer) { l.put(2, testNode(hot, i+1, 4), false) })
		if l.log != before {
			begun++
			_, place := first.find(2, []byte(hot))
			n := 0
			for ; place != 0; place = first.log.at(place).before() {
				n++
			}
			longest = max(longest, n)
		}
		spent = 0
		for _, c := range *l.log.chunks.Load() {
			spent += len(c)
		}
		if spent > 3*spareDead {
			t.Fatalf("after %d changes of one name the overlay has %d octets, want at most %d", i+1, spent, 3*spareDead)
		}
	}
	if most := spareDead/size(0) + 2; begun == 0 || begun > times/1000 || longest > most {
		t.Errorf("of %d changes %d began the overlay anew, one look back passed %d entries, want at most %d", times, begun, longest, most)
	}
	for _, v := range []struct {
		l    layer
		want int
	}{{first, 0}, {l, times}} {
		for owner, want := range map[record.Name]image.Node{hot: testNode(hot, v.want, 4), calm: testNode(calm, 0, 4)} {
			h := uint64(1)
			if owner == hot {
				h = 2
			}
			if e := v.l.get(h, []byte(owner)); e == nil || string(e.node()) != string(want) {
				t.Errorf("%s is not what it was %d changes after the first", owner, v.want)
			}
		}
	}
}

// TestFewObjects holds that the collector has little to do for many changed names.
func TestFewObjects(t *testing.T) {
	v := build(t, t.TempDir(), []record.Set{set("example.net", record.TypeSOA)}, asClaimed)
	objects := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapObjects)
	}
	before := objects()
	const names = 100_000
	for i := 0; i < names; i += 100 {
		var put []record.Set
		for k := range 100 {
			put = append(put, set(fmt.Sprintf("host%d.example.net", i+k), record.TypeA))
		}
		var err error
		if v, err = v.Apply(put, nil, asClaimed); err != nil {
			t.Fatal(err)
		}
	}
	if more := objects() - before; more > names/50 {
		t.Errorf("%d changed names are %d objects, want at most %d", names, more, names/50)
	}
	if v.Changed() < names {
		t.Errorf("%d names changed, want at least %d", v.Changed(), names)
	}
}

// TestReadersWhileItChanges has readers ask each View, the newest and older ones, while
// names change, come and go, the table grows, the overlay is begun anew, and folds are
// taken over: each must see its own version.
func TestReadersWhileItChanges(t *testing.T) {
	const hot, versions, arriving = 20, 1500, 3
	type version struct {
		v      *View
		number uint32
	}
	owner := func(what string, i int) string { return fmt.Sprintf("%s%d.example.net", what, i) }
	dir := t.TempDir()
	v := build(t, dir, []record.Set{set("example.net", record.TypeSOA)}, asClaimed)
	var current atomic.Pointer[version]
	current.Store(&version{v: v})
	var done atomic.Bool
	var readers sync.WaitGroup
	for seed := range uint64(4) {
		readers.Go(func() {
			r := rand.New(rand.NewPCG(seed, 0))
			var held []*version
			var q Query
			for !done.Load() {
				at := current.Load()
				if held = append(held, at); len(held) > 50 {
					held = slices.Delete(held, 0, 1+r.IntN(len(held)-1))
				}
				at = held[r.IntN(len(held))]
				is := func(owner string, there bool, ttl uint32) {
					q.Set(at.v.Hasher(), []byte(name(owner)))
					n := at.v.Find(&q, false).Node
					if (n != nil) != there || there && n.Set(record.TypeA).RRset("").TTL != ttl {
						t.Errorf("version %d: %s is there: %v, want %v with TTL %d", at.number, owner, n != nil, there, ttl)
						done.Store(true)
					}
				}
				if at.number == 0 {
					continue
				}
				for range 5 {
					is(owner("hot", r.IntN(hot)), true, at.number)
				}
				// Each version brings some names; of them the first goes with the next one.
				k := uint32(r.IntN(versions) + 1)
				is(owner("gone", int(k)), k == at.number, k)
				is(owner(fmt.Sprint("new", r.IntN(arriving), "x"), int(k)), k <= at.number, k)
			}
		})
	}
	var since []record.Name
	var folded *image.Image
	for number := uint32(1); number <= versions && !done.Load(); number++ {
		var put []record.Set
		add := func(owner string) {
			s := set(owner, record.TypeA)
			s.TTL = number
			put = append(put, s)
		}
		for i := range hot {
			add(owner("hot", i))
		}
		add(owner("gone", int(number)))
		for i := range arriving {
			add(owner(fmt.Sprint("new", i, "x"), int(number)))
		}
		var err error
		if v, err = v.Apply(put, []record.Key{set(owner("gone", int(number)-1), record.TypeA).Key}, asClaimed); err != nil {
			t.Fatal(err)
		}
		since = append(since, v.Last()...)
		switch number % 400 {
		case 300:
			path := filepath.Join(dir, "fold")
			if err := v.Fold(path, image.Label{}, nil, nil); err != nil {
				t.Fatal(err)
			}
			if folded, err = image.Open(path); err != nil {
				t.Fatal(err)
			}
			since = nil
		case 350:
			if v, err = v.Rebase(folded, since); err != nil {
				t.Fatal(err)
			}
		}
		current.Store(&version{v, number})
	}
	done.Store(true)
	readers.Wait()
}
