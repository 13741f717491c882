package e2e

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func cut() (zones, fleet string) {
	dir := filepath.Join(Root(), "examples", "wikimedia-cut")
	return filepath.Join(dir, "zones"), filepath.Join(dir, "fleet.jsonl")
}

// TestReplaySyntheticChurn is TestReplayChurn in small, and with what the real churn
// has not: files that must be refused, and heal.
func TestReplaySyntheticChurn(t *testing.T) {
	if testing.Short() {
		t.Skip("starts two zonecasts")
	}
	replaySynthetic(t)
}

// replaySynthetic replays on a zonecast with these options as well.
func replaySynthetic(t *testing.T, args ...string) {
	t.Helper()
	zones, fleet := cut()
	z, err := CopyZones(zones, filepath.Join(t.TempDir(), "zones"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewWorld(z.Dir, fleet)
	if err != nil {
		t.Fatal(err)
	}
	churn := syntheticChurn(z)
	up := StartUp(t, UpOptions{Zones: z.Dir, Fleet: fleet, Args: args})
	r := &Replay{Up: up, Zones: z, World: w}
	r.Run(t, churn)
	t.Logf("\n%s", r)
	for _, n := range []struct {
		what      string
		got, want int
	}{
		{"changes", r.Changes, len(churn)},
		{"refused files", r.Refused, 2},
		{"healed files", r.Healed, 2},
		{"files that went", r.Gone, 1},
	} {
		if n.got != n.want {
			t.Errorf("%d %s, expected %d", n.got, n.what, n.want)
		}
	}
	for _, k := range []ExpectedKind{Written, Gone, Ruled} {
		if r.Asked[k] == 0 {
			t.Errorf("no question whose answer is %s", k)
		}
	}
	sameAsFresh(t, up, z.Dir, fleet, r.Digest)
}

// syntheticChurn makes changes of the zones' own records: some go, come back with
// another TTL, are copied to new owners; a zone goes and comes back; a name gets a
// CNAME beside its data, which no zone may have, and loses it again.
func syntheticChurn(z *ZoneDir) []Change {
	random := rand.New(rand.NewPCG(2019, 6))
	now := map[string]map[string]bool{}
	for zone, lines := range z.zones {
		now[zone] = maps.Clone(lines)
	}
	var churn []Change
	// do takes records as files have them: owner ttl IN type rdata.
	do := func(zone string, remove, add []string) {
		bare := func(lines []string) (out []string) {
			for _, l := range lines {
				out = append(out, strings.Replace(l, " IN ", " ", 1))
			}
			return out
		}
		churn = append(churn, Change{ID: fmt.Sprint("synthetic-", len(churn)), Add: bare(add), Remove: bare(remove)})
		for _, l := range remove {
			delete(now[zone], l)
		}
		for _, l := range add {
			now[zone][l] = true
		}
	}
	pick := func(zone, typ string, n int) []string {
		lines := slices.Sorted(maps.Keys(now[zone]))
		lines = slices.DeleteFunc(lines, func(l string) bool { return strings.Fields(l)[3] != typ })
		random.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
		return lines[:min(n, len(lines))]
	}
	edit := func(lines []string, owner func(string) string, ttl string) (out []string) {
		for _, l := range lines {
			f := strings.SplitN(l, " ", 3)
			if ttl != "" {
				f[1] = ttl
			}
			out = append(out, owner(f[0])+" "+f[1]+" "+f[2])
		}
		return out
	}
	same := func(s string) string { return s }
	broken := func(zone string) {
		owner, _, _ := strings.Cut(pick(zone, "A", 1)[0], " ")
		alias := []string{owner + " 300 IN CNAME elsewhere.example.net."}
		do(zone, nil, alias)
		do(zone, alias, nil)
	}
	for i, at := range []struct{ zone, typ string }{{"wmnet", "A"}, {"10.in-addr.arpa", "PTR"}, {"wikipedia.org", "CNAME"}, {"wmnet", "AAAA"}} {
		gone := pick(at.zone, at.typ, 3)
		do(at.zone, gone, nil)
		do(at.zone, nil, edit(gone, same, "77"))
		do(at.zone, nil, edit(pick(at.zone, at.typ, 2), func(s string) string { return fmt.Sprintf("copy-%d.%s", i, s) }, ""))
	}
	broken("wmnet")
	all := slices.Sorted(maps.Keys(now["w.wiki"]))
	do("w.wiki", all, nil)
	do("w.wiki", nil, all)
	broken("wikimedia.org")
	soa := pick("wikimedia.org", "SOA", 1)
	do("wikimedia.org", soa, edit(soa, same, "4711"))
	do("wmnet", pick("wmnet", "A", 40), nil)
	return churn
}

// sameAsFresh stops up and compares what it exported with the exports of a new one
// that begins with the final files.
func sameAsFresh(t *testing.T, up *Up, zones, fleet, digest string) {
	t.Helper()
	replayed := exports(t, up)
	up.Stop()
	fresh := StartUp(t, UpOptions{Zones: zones, Fleet: fleet})
	got, err := OneDigest(t.Context(), fresh.Client(), len(fresh.Hosts))
	if err != nil {
		t.Fatal(err)
	}
	if got != digest {
		t.Errorf("digest of a fresh import is %s, of the replay %s", got, digest)
	}
	imported := exports(t, fresh)
	if len(imported) < 2 || len(imported["export.json"]) == 0 {
		t.Fatalf("exports have %d files", len(imported))
	}
	names := func(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
	if d := cmp.Diff(names(imported), names(replayed)); d != "" {
		t.Errorf("files of the exports (-fresh +replayed):\n%s", d)
	}
	octets := 0
	for name, want := range imported {
		octets += len(want)
		if replayed[name] == want {
			continue
		}
		a, b := strings.Split(want, "\n"), strings.Split(replayed[name], "\n")
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Errorf("export %s differs in line %d: fresh %q, replayed %q", name, i+1, a[i], b[i])
				break
			}
		}
	}
	t.Logf("exports: %d files, %d octets; fresh import took %v to ready, digest %s", len(imported), octets, fresh.Took, got)
}

// exports are the files of `export json` and `export zones`, by name.
func exports(t *testing.T, up *Up) map[string]string {
	t.Helper()
	dir := t.TempDir()
	for _, args := range [][]string{
		{"export", "json", "--out", filepath.Join(dir, "export.json")},
		{"export", "zones", "--out", filepath.Join(dir, "zones")},
	} {
		if _, stderr, status := up.Run(append(args, "--timeout", "2m")...); status != 0 {
			t.Fatalf("zonecast %v: exit status %d: %s", args, status, stderr)
		}
	}
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
