package snapshot

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zonecast/zonecast/record"
)

// large makes a dataset of n names with A records and one zone, from a fixed seed.
func large(t testing.TB, n int) *Dataset {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	zone := name(t, "example.net")
	sets := []record.RRset{record.NewRRset(zone, record.TypeSOA, 300, soa(1))}
	for i := range n {
		owner, err := zone.Child(fmt.Sprintf("web-%07d", i))
		if err != nil {
			t.Fatal(err)
		}
		a := rnd.Uint32()
		sets = append(sets, record.NewRRset(owner, record.TypeA, 300, record.Rdata([]byte{10, byte(a), byte(a >> 8), byte(a >> 16)})))
	}
	d := NewDataset("internal")
	delta, err := d.Replace(1000, sets)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Apply(delta); err != nil {
		t.Fatal(err)
	}
	return d
}

func file(t testing.TB, d *Dataset) ([]byte, Ref) {
	t.Helper()
	var buf bytes.Buffer
	ref, err := Write(&buf, d)
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), ref
}

func TestFileOfManyBlocks(t *testing.T) {
	d := large(t, 20_000)
	b, ref := file(t, d)
	back, err := Read(bytes.NewReader(b), ref)
	if err != nil {
		t.Fatal(err)
	}
	sameDataset(t, back, d)

	path := filepath.Join(t.TempDir(), "snapshot")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	report, err := Check(path)
	if err != nil {
		t.Fatal(err)
	}
	if report.ID != ref.ID || report.RRsets != d.Len() || report.Zones != 1 || report.Blocks < 10 || report.Digest != d.Digest() {
		t.Errorf("report is\n%s", report)
	}
	if !strings.Contains(report.String(), ref.ID.String()) {
		t.Errorf("report for people lacks the id:\n%s", report)
	}

	// One name more moves the borders near it only.
	change(t, d, []record.RRset{rrset(t, "web-0001000a.example.net", record.TypeA, "1234")})
	after, _ := file(t, d)
	blocks := func(b []byte) map[ID]bool {
		f, err := openFile(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		sums := map[ID]bool{}
		for _, b := range f.blocks {
			sums[b.sum] = true
		}
		return sums
	}
	old, fresh := blocks(b), 0
	for sum := range blocks(after) {
		if !old[sum] {
			fresh++
		}
	}
	if fresh < 1 || fresh > 3 { // its own block, a border, the stamps
		t.Errorf("%d of %d blocks are new after a change of one name, want 1 to 3", fresh, len(old))
	}
}

// TestFileBitFlips flips bits all over a file. Without the id, which sees every
// flip, the file's own checks see them too.
func TestFileBitFlips(t *testing.T) {
	d := large(t, 1000)
	b, ref := file(t, d)
	path := filepath.Join(t.TempDir(), "snapshot")
	for at := range b {
		if at > 200 && at < len(b)-400 && at%97 != 0 {
			continue
		}
		bad := bytes.Clone(b)
		bad[at] ^= 1 << (at % 8)
		if _, err := Read(bytes.NewReader(bad), ref); err == nil {
			t.Fatalf("a flip at %d was read", at)
		}
		if err := os.WriteFile(path, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		if report, err := Check(path); err == nil {
			t.Fatalf("a flip at %d was checked:\n%s", at, report)
		}
	}
	for _, size := range []int{0, 1, 8, 100, len(b) / 2, len(b) - 1} {
		short := ref
		short.ID, short.Size = sha256.Sum256(b[:size]), int64(size)
		if _, err := Read(bytes.NewReader(b[:size]), short); err == nil {
			t.Errorf("%d of %d octets were read", size, len(b))
		}
	}
}

// TestReadBelievesRef: what the reference says is checked against the file.
func TestReadBelievesRef(t *testing.T) {
	d := large(t, 10)
	change(t, d, []record.RRset{rrset(t, "x.example.net", record.TypeA, "1234")})
	b, ref := file(t, d)
	for what, spoil := range map[string]func(*Ref){
		"id":      func(r *Ref) { r.ID[0]++ },
		"size":    func(r *Ref) { r.Size++ },
		"digest":  func(r *Ref) { r.Digest[0]++ },
		"version": func(r *Ref) { r.Version = 1 }, // before the stamps
	} {
		bad := ref
		spoil(&bad)
		if _, err := Read(bytes.NewReader(b), bad); err == nil {
			t.Errorf("%s: read with a wrong reference", what)
		}
	}
}

type failing struct{ left int }

func (f *failing) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		return 0, os.ErrClosed
	}
	return len(b), nil
}

func TestWriteFails(t *testing.T) {
	d := large(t, 3000)
	b, _ := file(t, d)
	for _, room := range []int{0, 10, len(b) / 2, len(b) - 1} {
		if _, err := Write(&failing{room}, d); err == nil {
			t.Errorf("%d octets of room for %d: no error", room, len(b))
		}
	}
}

func FuzzRead(f *testing.F) {
	d := large(f, 3)
	b, _ := file(f, d)
	f.Add(b)
	f.Add(b[:len(b)-20])
	f.Fuzz(func(t *testing.T, b []byte) {
		ref := Ref{ID: sha256.Sum256(b), Size: int64(len(b)), Version: 7, Chain: Chain{1}}
		if r, err := openFile(bytes.NewReader(b), ref.Size); err == nil {
			ref.Digest = r.footer.digest
		}
		d, err := Read(bytes.NewReader(b), ref)
		if err != nil {
			return
		}
		again, _ := file(t, d)
		back, err := Read(bytes.NewReader(again), Ref{ID: sha256.Sum256(again), Size: int64(len(again)), Version: 7, Digest: d.Digest(), Chain: Chain{1}})
		if err != nil {
			t.Fatal(err)
		}
		sameDataset(t, back, d)
	})
}

func BenchmarkWrite(b *testing.B) {
	d := large(b, 1_000_000)
	for b.Loop() {
		n := &counter{}
		if _, err := Write(n, d); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(n.n)
	}
}

type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}

func BenchmarkRead(b *testing.B) {
	bytesOf, ref := file(b, large(b, 1_000_000))
	b.SetBytes(int64(len(bytesOf)))
	for b.Loop() {
		if _, err := Read(bytes.NewReader(bytesOf), ref); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkApply is one changed RRset, with the delta's making, in a million.
func BenchmarkApply(b *testing.B) {
	d := large(b, 1_000_000)
	owner := name(b, "web-0500000.example.net")
	i := 0
	for b.Loop() {
		i++
		change(b, d, []record.RRset{record.NewRRset(owner, record.TypeA, 300, record.Rdata([]byte{10, byte(i), byte(i >> 8), byte(i >> 16)}))})
	}
}
