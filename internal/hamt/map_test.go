package hamt

import (
	"maps"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// contents reads the map by All, and checks Len and Get against it.
func contents(t interface{ Fatalf(string, ...any) }, m Map[int], hash func(string) uint64) map[string]int {
	got := map[string]int{}
	for k, v := range m.All() {
		if _, twice := got[k]; twice {
			t.Fatalf("All gives %q twice", k)
		}
		got[k] = *v
		if p := m.Get(hash(k), []byte(k)); p != v {
			t.Fatalf("Get(%q) = %p, All gives %p", k, p, v)
		}
	}
	if m.Len() != len(got) {
		t.Fatalf("Len is %d, All gives %d keys", m.Len(), len(got))
	}
	return got
}

// TestAgainstMap edits at random, with hashes that collide at every depth, and
// compares each published state with a built-in map - also long after later edits.
func TestAgainstMap(t *testing.T) {
	hashes := map[string]func(string) uint64{
		"full collision": func(string) uint64 { return 0x1234_5678_9abc_def0 },
		"late collision": func(k string) uint64 { return uint64(len(k)) << 60 },
		"early":          func(k string) uint64 { n, _ := strconv.Atoi(k); return uint64(n) },
		"spread":         func(k string) uint64 { n, _ := strconv.Atoi(k); return uint64(n) * 0x9e3779b97f4a7c15 },
	}
	for name, hash := range hashes {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				type version struct {
					m    Map[int]
					want map[string]int
				}
				var versions []version
				want := map[string]int{}
				var m Map[int]
				e := m.Edit()
				for i := range rapid.IntRange(1, 120).Draw(t, "edits") {
					key := strconv.Itoa(rapid.IntRange(0, 40).Draw(t, "key"))
					switch rapid.IntRange(0, 9).Draw(t, "what") {
					case 0:
						*e.Edit(hash(key), key) += 1
						want[key]++
					case 1, 2, 3, 4:
						e.Set(hash(key), key, i)
						want[key] = i
					case 5, 6, 7:
						_, had := want[key]
						if got := e.Delete(hash(key), key); got != had {
							t.Fatalf("Delete(%q) = %v, want %v", key, got, had)
						}
						delete(want, key)
					case 8:
						m = e.Map()
						versions = append(versions, version{m, maps.Clone(want)})
					case 9:
						m = e.Map()
						e = m.Edit()
					}
					if p := e.Get(hash(key), []byte(key)); (p == nil) != func() bool { _, ok := want[key]; return !ok }() {
						t.Fatalf("Get(%q) disagrees with the model", key)
					}
				}
				versions = append(versions, version{e.Map(), want})
				for _, v := range versions {
					if diff := cmp.Diff(v.want, contents(t, v.m, hash)); diff != "" {
						t.Fatalf("map (-want +got):\n%s", diff)
					}
				}
			})
		})
	}
}

func TestGetMissing(t *testing.T) {
	var m Map[int]
	if m.Get(1, []byte("x")) != nil || m.Len() != 0 {
		t.Fatal("the zero map is not empty")
	}
	e := m.Edit()
	e.Set(1, "x", 7)
	if e.Delete(1, "y") || e.Delete(2, "x") {
		t.Fatal("Delete removed what is not there")
	}
	if m = e.Map(); m.Get(1, []byte("y")) != nil || m.Get(1, []byte("x")) == nil {
		t.Fatal("Get compares the hash only, or not at all")
	}
}

// TestSharing holds that one edit of a large map copies little.
func TestSharing(t *testing.T) {
	spread := func(i int) uint64 { return uint64(i) * 0x9e3779b97f4a7c15 }
	e := Map[int]{}.Edit()
	for i := range 100_000 {
		e.Set(spread(i), strconv.Itoa(i), i)
	}
	m := e.Map()
	allocs := testing.AllocsPerRun(20, func() {
		e := m.Edit()
		e.Set(spread(5), "5", 6)
		e.Map()
	})
	if allocs > 20 { // a node and its slots for each of about 4 levels, and the leaf
		t.Fatalf("one edit of 100,000 keys allocates %v times", allocs)
	}
	if *m.Get(spread(5), []byte("5")) != 5 {
		t.Fatal("the edit changed the map it started from")
	}
}
