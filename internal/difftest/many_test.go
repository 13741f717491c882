package difftest

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/record"
)

// scripted answers on one port over UDP and TCP until the test ends; answer gives
// nil to drop a query.
func scripted(t *testing.T, answer func(query []byte, tcp bool) []byte) netip.AddrPort {
	var u *net.UDPConn
	var l net.Listener
	for try := 0; u == nil; try++ { // a port that is free for both
		var err error
		if l, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if u, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(l.Addr().(*net.TCPAddr).AddrPort())); err != nil {
			l.Close()
			if try == 20 {
				t.Fatal(err)
			}
			u = nil
		}
	}
	addr := u.LocalAddr().(*net.UDPAddr).AddrPort()
	var wg sync.WaitGroup
	t.Cleanup(func() { u.Close(); l.Close(); wg.Wait() })
	wg.Go(func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := u.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			if out := answer(b[:n], false); out != nil {
				u.WriteToUDPAddrPort(out, from)
			}
		}
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				b := make([]byte, 1<<16)
				for {
					if _, err := io.ReadFull(c, b[:2]); err != nil {
						return
					}
					n := binary.BigEndian.Uint16(b)
					if _, err := io.ReadFull(c, b[:n]); err != nil {
						return
					}
					out := answer(b[:n], true)
					c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...))
				}
			})
		}
	})
	return addr
}

// echo answers a query with its question, AA and the A record given.
func echo(query []byte, flags uint16, a string) []byte {
	end := 12
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	end += 5
	b := bytes.Clone(query[:2])
	b = binary.BigEndian.AppendUint16(b, 0x8400|flags)
	b = append(b, 0, 1, 0, 0, 0, 0, 0, 0)
	b = append(b, query[12:end]...)
	if a != "" {
		b[7] = 1
		b = append(b, "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04"+a...)
	}
	return b
}

// TestCompareMany holds that each question is compared, that those truncated are asked
// again over TCP, that a dropped query is asked again, and that what differs is found.
func TestCompareMany(t *testing.T) {
	var zones []Zone
	var asked []Question
	for i := range 200 {
		n := name("example.net")
		n, _ = n.Child(string(rune('a'+i%26)) + strings.Repeat("x", i/26))
		asked = append(asked, Question{Name: n, Type: record.TypeA, Via: []Via{UDP512, TCPPlain}[i%2], Mixed: i%3 == 0})
	}
	odd := func(q []byte) bool { return bytes.Contains(bytes.ToLower(q), []byte("\x03cxx\x07")) }
	var mu sync.Mutex
	dropped, overTCP := false, 0
	ours := scripted(t, func(q []byte, tcp bool) []byte {
		mu.Lock()
		defer mu.Unlock()
		if !tcp && !dropped {
			dropped = true
			return nil
		}
		return echo(q, 0, "\xc0\x00\x02\x01")
	})
	peer := scripted(t, func(q []byte, tcp bool) []byte {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case odd(q):
			return echo(q, 0, "\xc0\x00\x02\x02")
		case bytes.Contains(bytes.ToLower(q), []byte("\x01k\x07")) && !tcp:
			return echo(q, flagTC, "")
		case bytes.Contains(bytes.ToLower(q), []byte("\x01k\x07")):
			overTCP++
		}
		return echo(q, 0, "\xc0\x00\x02\x01")
	})
	reports, err := CompareMany(t.Context(), ManyOptions{
		Zones: zones, Ours: ours, Peers: []*Server{{Name: "peer", Addr: peer}}, Patience: 200 * time.Millisecond,
		Ask: func(yield func(Question) bool) {
			for _, q := range asked {
				if !yield(q) {
					return
				}
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range reports[0].First {
		got = append(got, d.Kind+" "+d.Via.String()+" "+d.Name.String())
	}
	if diff := cmp.Diff([]string{"answer udp512 cxx.example.net.", "tc udp512 k.example.net."}, got); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
	// Once for the comparison, once to see whether TC was right.
	if !dropped || overTCP != 2 || reports[0].Questions != len(asked)+1 {
		t.Errorf("dropped %v, %d of the truncated asked again over TCP, %d questions; expected true, 2, %d", dropped, overTCP, reports[0].Questions, len(asked)+1)
	}
}

// TestCompareManySilence holds that a server that does not answer is an error.
func TestCompareManySilence(t *testing.T) {
	ours := scripted(t, func(q []byte, _ bool) []byte { return echo(q, 0, "") })
	silent := scripted(t, func([]byte, bool) []byte { return nil })
	_, err := CompareMany(t.Context(), ManyOptions{
		Ours: ours, Peers: []*Server{{Name: "peer", Addr: silent}}, Patience: 50 * time.Millisecond,
		Ask: func(yield func(Question) bool) {
			yield(Question{Name: name("example.net"), Type: record.TypeA, Via: UDP512})
		},
	})
	if err == nil || !strings.Contains(err.Error(), "example.net. A by udp512, 4 times") {
		t.Errorf("error %v, expected one that names the question", err)
	}
}

// FuzzShape holds shape against decode: they take the same messages and see the same
// records in them.
func FuzzShape(f *testing.F) {
	f.Add(message(0x8403, [4]uint16{1, 1, 0, 1}, question+
		"\xc0\x0c\x00\x0f\x00\x01\x00\x00\x00\x3c\x00\x04\x00\x0a\xc0\x10"+
		"\x00\x00\x29\x04\xd0\x01\x00\x00\x00\x00\x00"))
	f.Add(message(0x8400, [4]uint16{1, 1, 0, 0}, question+"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x04\x01A\xc0\x10"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decode(b, 7)
		if err != nil {
			return
		}
		var s shape
		if err := s.read(b); err != nil {
			t.Fatalf("decode takes it, read says %v", err)
		}
		if s.rcode() != r.rcode || s.truncated() != r.tc || !bytes.Equal(s.question, r.question) {
			t.Errorf("rcode %d, tc %v, question %q; decode has %d, %v, %q", s.rcode(), s.truncated(), s.question, r.rcode, r.tc, r.question)
		}
		for i, want := range [][]rr{r.answer, r.authority, r.additional} {
			if len(want) != len(s.sections[i]) {
				t.Fatalf("section %d has %d records, decode has %d", i, len(s.sections[i]), len(want))
			}
			seen := map[string]int{}
			for _, x := range s.sections[i] {
				seen[string(s.at(x))]++
			}
			for _, x := range want { // class is what decode does not keep
				found := false
				for k, n := range seen {
					if n > 0 && strings.HasPrefix(k, string(x.owner)) && strings.HasSuffix(k, string(x.rdata)) && len(k) == len(x.owner)+8+len(x.rdata) {
						seen[k]--
						found = true
						break
					}
				}
				if !found {
					t.Errorf("section %d lacks %s", i, x)
				}
			}
		}
		if !s.same(&s) {
			t.Error("a response is not the same as itself")
		}
	})
}

// TestWriteZones holds that what is written is read back as it was.
func TestWriteZones(t *testing.T) {
	apex := name("example.net")
	odd, _ := apex.Child("\x00.A\xff \"")
	star, _ := apex.Child("*")
	zones := []Zone{{Apex: apex, Sets: []record.RRset{
		record.NewRRset(apex, record.TypeNS, 60, record.Rdata(odd)),
		record.NewRRset(apex, record.TypeSOA, 60, record.Rdata(string(odd)+string(apex)+strings.Repeat("\x00", 20))),
		record.NewRRset(odd, record.TypeTXT, 1, "\x01\x00", "\x02\"\\", "\x00"),
		record.NewRRset(star, 65281, 0, ""),
		record.NewRRset(star, record.TypeMX, 5, record.Rdata("\x00\x01"+string(star))),
	}}}
	dir := t.TempDir()
	if err := WriteZones(dir, zones); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, zones[0].File))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "EXAMPLE.NET.") || strings.Contains(strings.SplitN(string(text), "\n", 2)[0], " NS ") {
		t.Errorf("expected upper case somewhere and the SOA first:\n%s", text)
	}
	back, err := LoadZones(fstest.MapFS{"example.net": {Data: text}})
	if err != nil {
		t.Fatal(err)
	}
	got, want := map[record.Key]record.RRset{}, map[record.Key]record.RRset{}
	for _, s := range back[0].Sets {
		got[s.Key] = s
	}
	for _, s := range zones[0].Sets {
		want[s.Key] = s
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestReduce holds that what is left is all that is needed and nothing else.
func TestReduce(t *testing.T) {
	zones, err := LoadZones(fstest.MapFS{
		"example.net": {Data: []byte("@ 60 SOA a b 1 2 3 4 5\n@ 60 NS ns\na 60 A 192.0.2.1\na 60 A 192.0.2.2\nb 60 TXT x\nc 60 TXT y\nd 60 TXT z\n")},
		"example.org": {Data: []byte("@ 60 SOA a b 1 2 3 4 5\n@ 60 NS ns\na 60 A 192.0.2.1\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	tries := 0
	left, err := Reduce(t.Context(), ReduceOptions{Zones: zones, Differs: func(_ context.Context, zs []Zone) (bool, error) {
		tries++
		d := index(zs)
		return len(d.sets[record.Key{Owner: name("c.example.net"), Type: record.TypeTXT}].Data) == 1 &&
			strings.Contains(string(strings.Join(rdatas(d.sets[record.Key{Owner: name("a.example.net"), Type: record.TypeA}]), "|")), "\x02\x02"), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, z := range left {
		for _, s := range z.Sets {
			got = append(got, s.Key.String())
			if len(s.Data) != 1 {
				t.Errorf("%s has %d records left", s.Key, len(s.Data))
			}
		}
	}
	if diff := cmp.Diff([]string{"example.net. SOA", "example.net. NS", "a.example.net. A", "c.example.net. TXT"}, got); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if _, err := Reduce(t.Context(), ReduceOptions{Zones: zones, Differs: func(context.Context, []Zone) (bool, error) { return false, nil }}); err == nil {
		t.Error("zones that do not differ are reduced")
	}
}

func rdatas(s record.RRset) (texts []string) {
	for _, d := range s.Data {
		texts = append(texts, string(d))
	}
	return texts
}

// TestDraw holds that equal seeds ask the same, that others do not, and that every
// way and the special types come up.
func TestDraw(t *testing.T) {
	zones, err := LoadZones(fstest.MapFS{"example.net": {Data: []byte("@ 60 SOA a b 1 2 3 4 5\n@ 60 NS ns\nx.*.ent 60 HINFO a b\n*.w 60 TXT x\n")}})
	if err != nil {
		t.Fatal(err)
	}
	draw := func(seed uint64) (qs []Question) {
		for q := range First(5000, Draw(zones, []record.Name{name("example.com")}, seed)) {
			qs = append(qs, q)
		}
		return qs
	}
	a := draw(1)
	if diff := cmp.Diff(a, draw(1)); diff != "" {
		t.Errorf("one seed, two lists:\n%s", diff)
	}
	if cmp.Equal(a, draw(2)) {
		t.Error("two seeds, one list")
	}
	ways, types, longest, outside := map[Via]int{}, map[record.Type]int{}, 0, 0
	for _, q := range a {
		ways[q.Via]++
		types[q.Type]++
		longest = max(longest, len(q.Name))
		if q.Name.IsSubdomainOf(name("example.com")) {
			outside++
		}
	}
	if len(ways) != int(vias) || types[record.TypeANY] == 0 || types[record.TypeDS] == 0 || types[13] == 0 || longest != 255 || outside == 0 {
		t.Errorf("%d ways, types %v, longest name %d, %d outside", len(ways), types, longest, outside)
	}
}
