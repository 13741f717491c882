package swarm

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
)

// changedRuns gives data(n) after changes of one in hundred names, which begin at these places and
// go on for so many.
func changedRuns(t testing.TB, n, runs int, kind string) *snapshot.Dataset {
	t.Helper()
	d := data(t, 1, n)
	rng := rand.New(rand.NewPCG(99, 1))
	var put []record.RRset
	var remove []record.Key
	each := n / 100 / runs
	for run := range runs {
		first := run*(n/runs) + n/runs/3
		for i := first; i < first+each; i++ {
			r := txt(t, fmt.Sprintf("h%07d.example.net.", i), rng)
			switch kind {
			case "replaced":
				put = append(put, r)
			case "removed":
				remove = append(remove, r.Key)
			case "added":
				put = append(put, txt(t, fmt.Sprintf("h%07dx.example.net.", i), rng))
			}
		}
	}
	change(t, d, put, remove)
	return d
}

// fetchedShare is the share of a file's octets in pieces that an older file does not give.
func fetchedShare(t testing.TB, oldPath string, ref snapshot.Ref, path string, length int64) (pieces, blocks float64) {
	t.Helper()
	part, _, err := openPart(filepath.Join(t.TempDir(), "part"), ref.Size, length)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = part.f.Close() }()
	// Header, index and footer are fetched.
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	index, err := snapshot.IndexAt(b[ref.Size-snapshot.TailSize:], ref.Size)
	if err != nil {
		t.Fatal(err)
	}
	first := index / length * length
	for _, span := range [][2]int64{{0, min(length, ref.Size)}, {first, ref.Size}} {
		if _, err := part.f.WriteAt(b[span[0]:span[1]], span[0]); err != nil {
			t.Fatal(err)
		}
	}
	have, err := reuse(part, []string{filepath.Join(t.TempDir(), "gone"), oldPath})
	if err != nil {
		t.Fatal(err)
	}
	got, same := int64(0), int64(0)
	for _, e := range have {
		same += e.Size
	}
	whole := covered(have, ref.Size, length)
	for i := int64(0); i*length < ref.Size; i++ {
		octets := min(length, ref.Size-i*length)
		isWhole := slices.Contains(whole, int(i))
		if i > 0 && i*length < first && isWhole {
			got += octets
		}
		if isWhole { // it is what the file has
			piece := make([]byte, octets)
			if _, err := part.f.ReadAt(piece, i*length); err != nil || string(piece) != string(b[i*length:i*length+octets]) {
				t.Fatalf("piece %d of %d octets is not that of the file (%v)", i, length, err)
			}
		}
	}
	return 1 - float64(got)/float64(ref.Size), 1 - float64(same)/float64(ref.Size)
}

// What of a snapshot with one in hundred names changed is fetched, by where the changes are
// and by the length of pieces. `go test -v` prints a row of the table in docs/format/swarm.md for
// each; the bound is that pieces about as long as blocks cost no more than two more each run.
func TestReuseShare(t *testing.T) {
	w := newWorld(t)
	n := 2500
	_, oldPath := w.write(data(t, 1, n))
	for _, kind := range []string{"replaced", "added", "removed"} {
		for _, runs := range []int{1, 5} {
			ref, path := w.write(changedRuns(t, n, runs, kind))
			line := fmt.Sprintf("%s in %d runs:", kind, runs)
			for _, length := range []int64{32 << 10, 64 << 10, 256 << 10} {
				pieces, blocks := fetchedShare(t, oldPath, ref, path, length)
				line += fmt.Sprintf("  %d KiB %.1f %%", length>>10, 100*pieces)
				if most := blocks + float64(2*int64(runs)*length+2*length)/float64(ref.Size); pieces > most {
					t.Errorf("%s: %.3f of the file is fetched, expected at most %.3f: blocks that changed are %.3f", line, pieces, most, blocks)
				}
				if length == 32<<10 {
					line += fmt.Sprintf(" (blocks %.1f %%)", 100*blocks)
				}
			}
			t.Log(line)
		}
	}
}

// A host with an older snapshot fetches what changed, and from a file that is damaged nothing
// is taken unseen.
func TestFetchUsesOlderSnapshots(t *testing.T) {
	for _, damaged := range []bool{false, true} {
		t.Run(fmt.Sprint("damaged ", damaged), func(t *testing.T) {
			w := newWorld(t)
			p := w.start("p", true)
			n := 2500
			_, oldPath := w.write(data(t, 1, n))
			if damaged {
				b, err := os.ReadFile(oldPath)
				if err != nil {
					t.Fatal(err)
				}
				for i := len(b) / 4; i < len(b)/2; i += 1000 {
					b[i] ^= 1
				}
				if err := os.WriteFile(oldPath, b, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			ref := p.offer(changedRuns(t, n, 1, "replaced"))
			h := w.start("h", false, func(_ *Config, d *Deps, _ *pace) { d.Old = func() []string { return []string{oldPath} } })
			if err := h.fetch(ref); err != nil {
				t.Fatal(err)
			}
			disk, peers, urls := h.metric("snapshot_bytes_total", fromDisk), h.metric("snapshot_bytes_total", fromPeers), h.metric("snapshot_bytes_total", fromURLs)
			least, most := 0.75, 1.0
			if damaged {
				least, most = 0.4, 0.75
			}
			if share := disk / float64(ref.Size); share < least || share > most {
				t.Errorf("%.2f of the file are from disk, expected %.2f to %.2f", share, least, most)
			}
			if sum := disk + peers + urls; sum < float64(ref.Size) || sum > 1.05*float64(ref.Size) {
				t.Errorf("%.0f octets from disk, %.0f from peers and %.0f from URLs, expected %d together", disk, peers, urls, ref.Size)
			}
		})
	}
}

func TestCovered(t *testing.T) {
	e := func(offset, size int64) snapshot.Extent { return snapshot.Extent{Offset: offset, Size: size} }
	for _, test := range []struct {
		have []snapshot.Extent
		want []int
	}{
		{nil, nil},
		{[]snapshot.Extent{e(0, 10)}, []int{0}},
		{[]snapshot.Extent{e(0, 9)}, nil},
		{[]snapshot.Extent{e(1, 19)}, []int{1}},
		{[]snapshot.Extent{e(0, 5), e(5, 5), e(12, 13)}, []int{0, 2}},
		{[]snapshot.Extent{e(3, 4), e(7, 3), e(10, 15)}, []int{1, 2}},
		{[]snapshot.Extent{e(0, 25)}, []int{0, 1, 2}},
	} {
		if got := covered(test.have, 25, 10); !slices.Equal(got, test.want) {
			t.Errorf("%v cover pieces %v of 10 in 25 octets, want %v", test.have, got, test.want)
		}
	}
}
