package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/zonecast/zonecast/internal/configtree"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot/journal"
	"github.com/zonecast/zonecast/snapshot/journal/faultfs"
)

// states are what a cache has after each landing: some come, change and go, and values are
// large enough, beside smallSlack, for the file to be rewritten in between.
func states() []map[string]*item {
	const landings = 14
	all := []map[string]*item{{}}
	for n := 1; n <= landings; n++ {
		next := maps.Clone(all[n-1])
		size := 50
		if n%3 == 0 {
			size = 2 * smallSlack / 3
		}
		for _, path := range []string{"a", fmt.Sprintf("p/%d", n)} {
			v := []byte(big(n, size))
			next[path] = &item{entry: tree.ConfigEntry{Type: "t.T", Version: uint64(n), Revision: fmt.Sprint("r", n), Sources: []string{"x"}, Size: len(v), SHA256: strings.Repeat("0", 64)}, version: uint64(n), value: v}
		}
		delete(next, fmt.Sprintf("p/%d", n-2))
		all = append(all, next)
	}
	return all
}

const smallSlack = 6000

// openSmall opens a cache that is rewritten often.
func openSmall(fsys *faultfs.FS) (*cache, contents, error) {
	c, found, err := openCache(fsys, cacheDir, nil)
	if err == nil {
		c.slack = smallSlack
	}
	return c, found, err
}

func markOf(n int) mark {
	return mark{Head: tree.ConfigHead{Version: uint64(n), Revision: fmt.Sprint("r", n)}, Confirmed: int64(1000 * n)}
}

// land brings a cache from state n-1 to n.
func landState(c *cache, all []map[string]*item, n int) error {
	changes := map[string]*item{}
	for path, it := range all[n] {
		if all[n-1][path] != it {
			changes[path] = it
		}
	}
	for path := range all[n-1] {
		if all[n][path] == nil {
			changes[path] = nil
		}
	}
	return c.save(changes, all[n], markOf(n))
}

// is tells which state a cache was found in; -1: none.
func is(found contents, all []map[string]*item) int {
	for n, want := range all {
		if maps.EqualFunc(found.items, want, (*item).equal) && (n == 0 && found.mark == mark{} || found.mark.Head == markOf(n).Head) {
			return n
		}
	}
	return -1
}

// TestCacheCrashAtEveryCall crashes at every call that changes the file system, in every way
// that loses what was not synced: what is found is the landing that was saved last, or the
// one that was being saved, whole; and it goes on from there.
func TestCacheCrashAtEveryCall(t *testing.T) {
	t.Parallel()
	all := states()
	run := func(fsys *faultfs.FS) (acked int, err error) {
		c, found, err := openSmall(fsys)
		if err != nil {
			return 0, err
		}
		acked = is(found, all)
		for n := acked + 1; n < len(all); n++ {
			if err := landState(c, all, n); err != nil {
				return acked, errors.Join(err, c.close())
			}
			acked = n
			if n%4 == 0 {
				m := markOf(n)
				m.Confirmed++
				if err := c.confirm(all[n], m); err != nil {
					return acked, errors.Join(err, c.close())
				}
			}
		}
		return acked, c.close()
	}
	whole := faultfs.New()
	if acked, err := run(whole); err != nil || acked != len(all)-1 {
		t.Fatalf("%d landings, %v", acked, err)
	}
	calls := whole.Calls()
	t.Logf("%d calls", calls)
	if calls < 60 {
		t.Fatalf("the scenario makes %d calls, expected more: does it run?", calls)
	}
	for n := 1; n <= calls; n++ {
		fsys := faultfs.New()
		fsys.CrashAt(n)
		acked, err := run(fsys)
		if !errors.Is(err, faultfs.ErrCrashed) {
			t.Fatalf("call %d: %v, want a crash", n, err)
		}
		for _, loss := range faultfs.AllLosses() {
			what := fmt.Sprintf("crash at call %d (loss %d) after landing %d", n, loss, acked)
			after := fsys.Reboot(loss)
			c, found, err := openSmall(after)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if got := is(found, all); got < acked || got > acked+1 || found.anew != "" {
				t.Fatalf("%s: found %d (%d items, mark %+v), anew %q", what, got, len(found.items), found.mark, found.anew)
			}
			if err := c.close(); err != nil {
				t.Fatal(err)
			}
			if loss == faultfs.Lost || loss == faultfs.Torn {
				if got, err := run(after); err != nil || got != len(all)-1 {
					t.Fatalf("%s: going on, %d landings, %v", what, got, err)
				}
				c, found, err := openSmall(after)
				if err != nil || is(found, all) != len(all)-1 {
					t.Fatalf("%s, gone on: found %d, anew %q, %v", what, is(found, all), found.anew, err)
				}
				if err := c.close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestCacheFailsAtEveryCall lets one call fail, and the next landing is saved all the same.
func TestCacheFailsAtEveryCall(t *testing.T) {
	t.Parallel()
	all := states()
	broken := errors.New("input/output error")
	for at := 1; ; at++ {
		fsys := faultfs.New()
		c, _, err := openSmall(fsys)
		if err != nil {
			t.Fatal(err)
		}
		before := fsys.Calls()
		fsys.FailAt(at, 1, broken)
		failed := 0
		for n := 1; n < len(all); n++ {
			if err := landState(c, all, n); err != nil {
				failed++
				if err := c.confirm(all[n], markOf(n)); err != nil {
					t.Fatalf("call %d: once more: %v", at, err)
				}
			}
			if failed > 0 {
				after := fsys.Reboot(faultfs.Lost)
				c, found, err := openSmall(after)
				if got := is(found, all); err != nil || got != n {
					t.Fatalf("call %d: found %d, %v, want %d", at, got, err, n)
				}
				if err := c.close(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := c.close(); err != nil {
			t.Fatal(err)
		}
		if failed == 0 {
			if fsys.Calls()-before >= at {
				t.Fatalf("call %d failed and nobody noticed", at)
			}
			return
		}
	}
}

// TestCacheDamage flips each bit of the file that can matter: what is found is a landing, the
// last one unless it is the last itself that is damaged, or nothing, and then it is said and
// the file is set aside.
func TestCacheDamage(t *testing.T) {
	t.Parallel()
	all := []map[string]*item{{}}
	for n := 1; n <= 4; n++ {
		next := maps.Clone(all[n-1])
		v := []byte(fmt.Sprint(n))
		next[fmt.Sprintf("p/%d", n%3)] = &item{entry: tree.ConfigEntry{Version: uint64(n), Sources: []string{}, Size: 1}, version: uint64(n), value: v}
		all = append(all, next)
	}
	build := func() *faultfs.FS {
		fsys := faultfs.New()
		c, _, err := openCache(fsys, cacheDir, nil)
		if err != nil {
			t.Fatal(err)
		}
		for n := 1; n < len(all); n++ {
			if err := landState(c, all, n); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.close(); err != nil {
			t.Fatal(err)
		}
		return fsys
	}
	file := cacheDir + "/" + cacheFile
	size := len(build().Bytes(file))
	lastMark := size - frame - 1 - len(tree.Encode(markOf(4)))
	anew, back := 0, 0
	for at := range size {
		fsys := build()
		fsys.Flip(file, at, 0x10)
		c, found, err := openCache(fsys, cacheDir, nil)
		if err != nil {
			t.Fatalf("octet %d: %v", at, err)
		}
		got := is(found, all)
		switch {
		case found.anew != "":
			anew++
			if got != 0 || fsys.Bytes(cacheDir+"/"+damagedFile) == nil || fsys.Bytes(file) != nil {
				t.Fatalf("octet %d: begun anew with state %d, files %q", at, got, fsys.Names())
			}
		case at >= lastMark && got == 3:
			back++
		default:
			t.Fatalf("octet %d of %d: found %d and nothing is said", at, size, got)
		}
		if err := landState(c, all, 1); err != nil {
			t.Fatal(err)
		}
		if err := c.close(); err != nil {
			t.Fatal(err)
		}
	}
	if anew == 0 || back == 0 {
		t.Errorf("%d times begun anew, %d times one landing back", anew, back)
	}
}

// TestCacheIsTakenOnce holds that two proxies never share a directory.
func TestCacheIsTakenOnce(t *testing.T) {
	dir := t.TempDir()
	c, _, err := openCache(journal.System(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := openCache(journal.System(), dir, nil); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("error %v", err)
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
}

// TestCacheStaysSmall holds that void records go.
func TestCacheStaysSmall(t *testing.T) {
	fsys := faultfs.New()
	c, _, err := openCache(fsys, cacheDir, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.slack = smallSlack
	for n := 1; n <= 100; n++ {
		v := []byte(big(n, 30_000))
		it := &item{entry: tree.ConfigEntry{Version: uint64(n), Size: len(v)}, version: uint64(n), value: v}
		all := map[string]*item{"a": it}
		if err := c.save(all, all, markOf(n)); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(fsys.Bytes(cacheDir + "/" + cacheFile)); got > 3*31_000+smallSlack {
		t.Errorf("file has %d octets", got)
	}
}

// FuzzCache reads anything as a cache. What it takes is written and read again.
func FuzzCache(f *testing.F) {
	var file bytes.Buffer
	file.WriteString(cacheMagic)
	v := []byte(`{"a":1}`)
	for _, record := range [][]byte{
		append([]byte{'S'}, tree.Encode(scope{[]string{}})...),
		encodeItem("app/a", &item{entry: tree.ConfigEntry{Version: 7, Size: len(v)}, version: 7, value: v}),
		append([]byte{'L'}, tree.Encode(markOf(7))...), []byte("Dapp/a"), append([]byte{'C'}, tree.Encode(markOf(8))...),
	} {
		if err := write(&file, record); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(file.Bytes(), true)
	f.Add(file.Bytes()[:file.Len()-3], false)
	f.Fuzz(func(t *testing.T, b []byte, seal bool) {
		if seal { // get past the sums
			b = sealed(b)
		}
		c := &cache{scope: scope{Prefixes: []string{}}, lengths: map[string]int64{}}
		found, _, err := c.scan(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			var damage *damageError
			if !errors.As(err, &damage) {
				t.Fatal(err)
			}
			return
		}
		for path, it := range found.items {
			if err := configtree.CheckPath(path); err != nil {
				t.Error(err)
			}
			again, other, err := decodeItem(encodeItem(path, it)[1:])
			if err != nil || again != path || !it.equal(other) {
				t.Errorf("%s came back as %s, %v", path, again, err)
			}
		}
	})
}

// sealed makes records of b, cut by its first octets, with their sums.
func sealed(b []byte) []byte {
	var out bytes.Buffer
	out.WriteString(cacheMagic)
	for len(b) > 1 {
		n := min(int(b[0])+1, len(b)-1)
		if write(&out, b[1:1+n]) != nil {
			break
		}
		b = b[1+n:]
	}
	return slices.Clip(out.Bytes())
}
