package image

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

func name(text string) record.Name {
	n, err := record.ParseName(text)
	if err != nil {
		panic(err)
	}
	return n
}

func soaData(serial uint32) record.Rdata {
	b := []byte("\x02ns\x07example\x03net\x00\x01r\x00")
	for _, v := range []uint32{serial, 1, 2, 3, 60} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return record.Rdata(b)
}

// drawSets draws the RRsets of an image by key.
func drawSets(t *rapid.T) map[record.Key]record.Set {
	labels := []string{"a", "b", "*", "net", "example", "\x00", "zz"}
	out := map[record.Key]record.Set{}
	for range rapid.IntRange(0, 40).Draw(t, "sets") {
		owner := record.Root
		for range rapid.IntRange(0, 6).Draw(t, "labels") {
			owner, _ = owner.Child(rapid.SampledFrom(labels).Draw(t, "label"))
		}
		kind := rapid.SampledFrom([]record.Type{record.TypeA, record.TypeNS, record.TypeSOA, record.TypeCNAME, record.TypeDNAME, record.TypeMX, record.TypeSRV, record.TypeTXT, 65280}).Draw(t, "type")
		loc := record.Location(rapid.SampledFrom([]string{"", "", "", "lo", "other"}).Draw(t, "location"))
		s := record.Set{RRset: record.RRset{Key: record.Key{Owner: owner, Type: kind, Location: loc}, TTL: rapid.Uint32Range(0, 90000).Draw(t, "ttl")}}
		n := rapid.IntRange(1, 4).Draw(t, "records")
		if rapid.IntRange(0, 30).Draw(t, "large") == 0 {
			n = 300
		}
		for i := range n {
			target := string(name(rapid.SampledFrom([]string{"net", "example.net", "a.example.net", "b.a.b"}).Draw(t, "target")))
			switch kind {
			case record.TypeNS, record.TypeCNAME, record.TypeDNAME:
				s.Data = append(s.Data, record.Rdata(target))
			case record.TypeMX:
				s.Data = append(s.Data, record.Rdata([]byte{0, byte(i)})+record.Rdata(target))
			case record.TypeSRV:
				s.Data = append(s.Data, record.Rdata([]byte{0, 0, 0, byte(i), 0, 0})+record.Rdata(target))
			case record.TypeSOA:
				s.Data = append(s.Data, soaData(100))
			default:
				s.Data = append(s.Data, record.Rdata(bytes.Repeat([]byte{byte(i)}, rapid.IntRange(0, 300).Draw(t, "size"))))
			}
		}
		slices.Sort(s.Data)
		s.Data = slices.Compact(s.Data)
		if rapid.IntRange(0, 5).Draw(t, "terms") == 0 {
			for i := range s.Data {
				s.Terms = append(s.Terms, record.Terms{TTL: uint32(i), Weight: 7, From: int64(i), Until: 9})
			}
			s.Choose = 3
		}
		out[s.Key] = s
	}
	return out
}

func build(t interface{ Fatal(...any) }, dir string, sets map[record.Key]record.Set, o Options) string {
	path := filepath.Join(dir, "img")
	b, err := Create(path, o)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort()
	for _, k := range slices.SortedFunc(maps.Keys(sets), record.Key.Compare) {
		s := sets[k]
		if err := b.Add(&s); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Finish(); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestImageIsItsSets builds random sets and finds exactly those again, by look-up
// and by iteration, and Check agrees; the same again gives the same octets.
func TestImageIsItsSets(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		sets := drawSets(t)
		path := build(t, dir, sets, Options{Seed: 7, NoSync: true, Label: Label{Dataset: "internal", Version: 3, Time: -5}, Atlas: atlas(t)})
		first, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		r, err := m.Check()
		if err != nil {
			t.Fatal(err)
		}
		if r.Sets != len(sets) {
			t.Fatalf("Check counts %d RRsets, want %d", r.Sets, len(sets))
		}
		if a := m.Atlas(); string(a) != string(atlas(t)) {
			t.Fatalf("atlas is %x", a)
		}
		if diff := cmp.Diff(Label{Dataset: "internal", Version: 3, Time: -5}, m.Label()); diff != "" {
			t.Fatal(diff)
		}
		got := map[record.Key]record.Set{}
		h := m.Hasher()
		for n := range m.Nodes() {
			owner := record.Name(n.Name())
			found, ok := m.Get(h.Name(n.Name()), n.Name())
			if !ok || !bytes.Equal(found[:len(n)], n) {
				t.Fatalf("%s is not found where it lies", owner)
			}
			for i := range n.Len() {
				_, s := n.At(i)
				set := s.RRset(owner)
				got[set.Key] = set
				if everybody := n.Set(set.Type); set.Location == "" && !bytes.Equal(everybody, s) {
					t.Fatalf("%s is not found in its node", set.Key)
				}
			}
		}
		want := maps.Clone(sets)
		for k, s := range want {
			if s.Choose > 0 && s.Terms == nil {
				s.Choose = 0
				want[k] = s
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("sets (-built +read):\n%s", diff)
		}
		for _, absent := range []string{"nobody.example.net", "a.a.a.a.a.a.a.a"} {
			if n, ok := m.Get(h.Name([]byte(name(absent))), []byte(name(absent))); n != nil || !ok {
				t.Fatalf("%s is found: %v", absent, n)
			}
		}
		build(t, dir, sets, Options{Seed: 7, NoSync: true, Label: m.Label(), Atlas: atlas(t)})
		second, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("the same sets gave other octets, %v", err)
		}
	})
}

// TestFlippedBits flips each bit of a small image in turn: it is not opened, or what
// is read of it is as it was built, or it says that it is damaged.
func TestFlippedBits(t *testing.T) {
	sets := map[record.Key]record.Set{}
	add := func(owner string, kind record.Type, data ...record.Rdata) {
		r := record.NewRRset(name(owner), kind, 300, data...)
		sets[r.Key] = record.Set{RRset: r}
	}
	add("example.net", record.TypeSOA, soaData(1))
	for i := range 40 {
		add(fmt.Sprintf("host%d.example.net", i), record.TypeA, record.Rdata([]byte{192, 0, 2, byte(i)}))
	}
	path := build(t, t.TempDir(), sets, Options{Seed: 1, NoSync: true})
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := parse(good, path)
	if err != nil {
		t.Fatal(err)
	}
	h := m.Hasher()
	damaged, refused := 0, 0
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		m, err := parse(bad, path)
		if err != nil {
			refused++
			continue
		}
		for owner := range sets {
			want := sets[owner]
			n, ok := m.Get(h.Name([]byte(owner.Owner)), []byte(owner.Owner))
			if !ok {
				if m.Damaged() == nil {
					t.Fatalf("octet %d: an answer is refused without saying why", i)
				}
				continue
			}
			if n == nil {
				t.Fatalf("octet %d: %s is gone silently", i, owner.Owner)
			}
			if diff := cmp.Diff(want, n.Set(owner.Type).RRset(record.Name(n.Name()))); diff != "" {
				t.Fatalf("octet %d: %s", i, diff)
			}
		}
		if err := m.Scrub(nil); err == nil {
			t.Fatalf("octet %d: the flipped bit is not found", i)
		}
		damaged++
	}
	if refused == 0 || damaged == 0 {
		t.Errorf("%d images refused, %d found damaged: this test tests nothing", refused, damaged)
	}
}

func TestCutOff(t *testing.T) {
	r := record.NewRRset(name("example.net"), record.TypeSOA, 300, soaData(1))
	path := build(t, t.TempDir(), map[record.Key]record.Set{r.Key: {RRset: r}}, Options{NoSync: true})
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(b); n += 37 {
		if err := os.WriteFile(path, b[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil {
			t.Fatalf("the first %d of %d octets open", n, len(b))
		}
	}
}

func TestBuilderRefusesDisorder(t *testing.T) {
	b, err := Create(filepath.Join(t.TempDir(), "img"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort()
	for i, owner := range []string{"b.example.net", "a.example.net", "b.example.net"} {
		s := record.Set{RRset: record.NewRRset(name(owner), record.TypeA, 1, "1234")}
		if err := b.Add(&s); (err == nil) != (i == 0) {
			t.Errorf("%s as number %d: %v", owner, i, err)
		}
	}
}

// FuzzImage lets Check look at any octets with right sums: it must not panic, and
// what it lets pass must be answerable.
func FuzzImage(f *testing.F) {
	sets := map[record.Key]record.Set{}
	for i, owner := range []string{"example.net", "www.example.net", "*.example.net", "deep.er.example.net"} {
		r := record.NewRRset(name(owner), []record.Type{record.TypeSOA, record.TypeA, record.TypeMX, record.TypeNS}[i], 300,
			[]record.Rdata{soaData(1), "1234", "\x00\x01" + record.Rdata(name("www.example.net")), record.Rdata(name("www.example.net"))}[i])
		sets[r.Key] = record.Set{RRset: r}
	}
	b, err := os.ReadFile(build(f, f.TempDir(), sets, Options{Seed: 1, NoSync: true}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, uint16(0), byte(1))
	f.Fuzz(func(t *testing.T, b []byte, at uint16, flip byte) {
		if len(b) < blockSize {
			return
		}
		b = bytes.Clone(b)
		b[blockSize+int(at)%max(1, len(b)-blockSize)%len(b)] ^= flip
		var h header
		binary.LittleEndian.PutUint64(b[headerSum:], xxh3.Hash(b[:headerSum]))
		if h.decode(b, int64(len(b))) != nil {
			return
		}
		for k := range h.blocks {
			from := blockSize + k*blockSize
			binary.LittleEndian.PutUint32(b[h.sums+4*k:], uint32(xxh3.Hash(b[from:min(from+blockSize, h.sums)])))
		}
		binary.LittleEndian.PutUint64(b[len(b)-8:], xxh3.Hash(b[h.sums:len(b)-8]))
		m, err := parse(b, "fuzz")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Check(); err != nil {
			return
		}
		hash := m.Hasher()
		for n := range m.Nodes() {
			if got, ok := m.Get(hash.Name(n.Name()), n.Name()); !ok || got == nil {
				t.Fatalf("%s passes Check and is not found", record.Name(n.Name()))
			}
			for i := range n.Len() {
				_, s := n.At(i)
				s.RRset(record.Name(n.Name()))
			}
		}
	})
}

func TestDepths(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d Depths
		in := rapid.SliceOfN(rapid.IntRange(0, 127), 0, 8).Draw(t, "in")
		for _, n := range in {
			d.Add(n)
		}
		n := rapid.IntRange(-1, 127).Draw(t, "n")
		down, up := -1, 128
		for _, x := range in {
			if x <= n {
				down = max(down, x)
			}
			if x >= n {
				up = min(up, x)
			}
		}
		if got := d.Down(n); got != down {
			t.Fatalf("Down(%d) of %v is %d, want %d", n, in, got, down)
		}
		if got := d.Up(max(n, 0)); n >= 0 && got != up {
			t.Fatalf("Up(%d) of %v is %d, want %d", n, in, got, up)
		}
	})
}

// atlas is a small one in its binary form.
func atlas(t interface{ Fatal(...any) }) []byte {
	a := geo.Atlas{
		Maps: map[string][]geo.Entry{"m": {{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Location: "ab"}}},
		Uses: []geo.Use{{Name: record.Root, Below: true, Map: "m"}},
	}
	b, err := a.AppendBinary(nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
