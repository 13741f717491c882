package zoneload_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/internal/zonefile"
	"github.com/zonecast/zonecast/internal/zoneload"
	"github.com/zonecast/zonecast/record"
)

// write puts files into a directory and gives their paths, in order of names.
func write(t testing.TB, dir string, files map[string]string) []string {
	t.Helper()
	var paths []string
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".zone") {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

// want is what zonefile makes of the files: the sets, or the first error.
func want(paths []string) ([]string, error) {
	type set struct {
		record.RRset
		path int
	}
	var sets []set
	for i, path := range paths {
		z, err := zonefile.Parse(os.DirFS(filepath.Dir(path)), filepath.Base(path), record.Provenance{})
		if err != nil {
			return nil, err
		}
		for _, c := range z.Claims {
			sets = append(sets, set{c.RRset, i})
		}
	}
	slices.SortStableFunc(sets, func(a, b set) int { return a.Key.Compare(b.Key) })
	var lines []string
	for _, s := range sets {
		lines = append(lines, line(s.RRset))
	}
	return lines, nil
}

func line(s record.RRset) string { return fmt.Sprintf("%s %d %x", s.Key, s.TTL, s.Data) }

func got(paths []string) ([]string, error) {
	z, err := zoneload.Load(context.Background(), paths)
	if err != nil {
		return nil, err
	}
	var lines []string
	for s := range z.Sets {
		lines = append(lines, line(s.RRset))
	}
	n := 0
	for _, z := range z.Zones {
		n += z.Sets
	}
	if n != len(lines) {
		return nil, fmt.Errorf("%d sets counted, %d yielded", n, len(lines))
	}
	return lines, nil
}

// lines of zones: few names, so that they meet. None of them makes a file's
// reading end, so that also what is only seen at the end is.
var lines = []string{
	"a A 192.0.2.1", "a A 192.0.2.2", "a 60 A 192.0.2.1", "a 70 A 192.0.2.3", "a AAAA 2001:db8::1", "a TXT x", "A MX 10 mx", "b 10 A 192.0.2.1", "b 20 TXT y", "b 30 TXT x",
	"c CNAME a", "a.b A 192.0.2.1", `a\000 A 192.0.2.1`, `a\000b A 192.0.2.1`, `a\001 A 192.0.2.1`, `a\002 A 192.0.2.1`, `a\001\001 A 192.0.2.1`, `\000.a A 192.0.2.1`, `\001.a A 192.0.2.1`,
	`a\000.a A 192.0.2.1`, "- A 192.0.2.1", "abcdefg A 192.0.2.1", "abcdefgh A 192.0.2.1", "x.abcdefg A 192.0.2.1", "x.abcdefgh A 192.0.2.1", "abcdefghi A 192.0.2.1",
	"abcdefghabcdefgh A 192.0.2.1", "abcdefghabcdefgi A 192.0.2.1", "sub NS ns.sub", "ns.sub A 192.0.2.1", "x.sub A 192.0.2.1", "* A 192.0.2.1", `\255 A 192.0.2.1`,
	"a APL", "a RRSIG A 8 3 300 20300101000000 20200101000000 1 example.net. AAAA", "d 5 NSEC e A", "d CNAME a", "$GENERATE 1-3 g$ A 192.0.2.$", "@ 50 NS ns2", "$ORIGIN a", "$ORIGIN abcdefgh", "e DNAME a", "e TXT x",
	strings.Repeat("abcdefg.", 28) + "a A 192.0.2.1", strings.Repeat("abcdefg.", 28) + "b A 192.0.2.1",
}

// wrong lines make errors of all kinds.
var wrong = []string{
	"a CNAME b", "c CNAME b", "c A 192.0.2.1", "example.org. A 192.0.2.1", "xexample.net. A 192.0.2.1", `x\007example\003net. A 192.0.2.1`, "@ SOA a b 2 2 3 4 5", "sub SOA a b 1 2 3 4 5", "e DNAME b", "a BAD x", "a A 1", "$INCLUDE none", "f CNAME a\nf TXT x",
	"$GENERATE 1-6000 big TXT xxxxxxxxxx$",
}

func TestSameAsZonefile(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		files := map[string]string{}
		for _, zone := range []string{"example.net.zone", "sub.example.net.zone", "a.example.net.zone", "example.org.zone"} {
			text := "$TTL 300\n@ SOA ns1 admin 1 2 3 4 5\n@ NS ns1\n"
			for range rapid.IntRange(0, 25).Draw(t, "lines") {
				text += rapid.SampledFrom(lines).Draw(t, "line") + "\n"
			}
			if rapid.IntRange(0, 9).Draw(t, "wrong") == 0 {
				text += rapid.SampledFrom(wrong).Draw(t, "wrong line") + "\n"
			}
			files[zone] = text
		}
		var paths []string
		for name, text := range files {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			paths = append(paths, path)
		}
		slices.Sort(paths) // for rapid, which wants the same each time
		paths = rapid.Permutation(paths).Draw(t, "paths")
		wanted, wantErr := want(paths)
		found, err := got(paths)
		if fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Fatalf("error is %v, zonefile says %v", err, wantErr)
		}
		if diff := cmp.Diff(wanted, found); diff != "" {
			t.Fatalf("sets (-zonefile +zoneload):\n%s", diff)
		}
	})
}

const soa = "$TTL 300\n@ SOA ns1 admin 1 2 3 4 5\n"

// TestEachWrongLine also has what rapid may not come to.
func TestEachWrongLine(t *testing.T) {
	for _, text := range append(slices.Clone(wrong), "", "-") {
		zone := soa + "a A 192.0.2.1\nc CNAME a\ne DNAME a\nf NSEC g A\n" + text + "\n"
		if text == "-" {
			zone = "a 1 A 192.0.2.1\n"
		}
		paths := write(t, t.TempDir(), map[string]string{"example.net.zone": zone})
		wanted, wantErr := want(paths)
		found, err := got(paths)
		if fmt.Sprint(err) != fmt.Sprint(wantErr) || !slices.Equal(wanted, found) {
			t.Errorf("%q: %q and %v, zonefile says %q and %v", text, found, err, wanted, wantErr)
		}
		if refused := err != nil; refused != (text != "") {
			t.Errorf("%q: error is %v", text, err)
		}
	}
}

// TestFirstErrorWins: the error does not depend on which file is read first.
func TestFirstErrorWins(t *testing.T) {
	for range 20 {
		paths := write(t, t.TempDir(), map[string]string{
			"a.example.zone": soa + strings.Repeat("a A 192.0.2.1\n", 1000) + "x BAD\n",
			"b.example.zone": "y BAD\n", "c.example.zone": soa + strings.Repeat("a A 192.0.2.1\n", 2000),
		})
		_, err := zoneload.Load(t.Context(), paths)
		if err == nil || !strings.HasPrefix(err.Error(), "a.example.zone:1003:3: type ") {
			t.Fatalf("error is %v, want that of a.example.zone:1003", err)
		}
	}
}

func TestLoadTellsFilesAndCounts(t *testing.T) {
	dir := t.TempDir()
	paths := write(t, dir, map[string]string{"example.net.zone": soa + "$INCLUDE inc\na A 192.0.2.1\na A 192.0.2.1\n", "inc": "b A 192.0.2.1\n"})
	z, err := zoneload.Load(t.Context(), paths)
	if err != nil {
		t.Fatal(err)
	}
	one := z.Zones[0]
	if one.Apex.String() != "example.net." || one.Records != 3 || one.Sets != 3 || one.Path != paths[0] {
		t.Errorf("zone is %+v", one)
	}
	if diff := cmp.Diff([]string{paths[0], filepath.Join(dir, "inc")}, one.Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if _, err := zoneload.Load(t.Context(), []string{filepath.Join(dir, "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := zoneload.Load(stopped, paths); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}

func TestSetsDoNotAllocate(t *testing.T) {
	text := soa
	for i := range 1000 {
		text += fmt.Sprintf("h%d A 192.0.2.%d\nh%d A 192.0.2.1\n", i, i%256, i)
	}
	z, err := zoneload.Load(t.Context(), write(t, t.TempDir(), map[string]string{"example.net.zone": text, "sub.example.net.zone": text}))
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(5, func() { z.Sets(func(*record.Set) bool { return true }) }); n > 20 {
		t.Errorf("%v allocations for 2002 sets", n)
	}
}
