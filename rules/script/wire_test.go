package script

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/record"
)

func drawServer(t *rapid.T) fleet.Server {
	text := rapid.StringMatching(`[a-z0-9]{0,12}`)
	s := fleet.Server{
		Name: record.Name(rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "name")), Role: text.Draw(t, "role"), Site: text.Draw(t, "site"),
		Cluster: text.Draw(t, "cluster"), TTL: rapid.Uint32().Draw(t, "ttl"), Origin: text.Draw(t, "origin"),
		Author: text.Draw(t, "author"), Reason: rapid.String().Draw(t, "reason"), Time: rapid.Int64().Draw(t, "time"),
		Addresses: []netip.Addr{},
	}
	for range rapid.IntRange(0, 4).Draw(t, "addresses") {
		b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address")
		if rapid.Bool().Draw(t, "v4") {
			b = b[:4]
		}
		a, _ := netip.AddrFromSlice(b)
		s.Addresses = append(s.Addresses, a)
	}
	if o := rapid.MapOfN(text, text, 0, 3).Draw(t, "options"); len(o) > 0 {
		s.Options = o
	}
	return s
}

// TestWire holds that what is sent is received.
func TestWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Custom(drawServer), 1, 3).Draw(t, "servers")
		r := wireReader{b: callOf(wireClaims, "g.web", want...)[1:], texts: map[string]string{}}
		if shard := r.text(); shard != "g.web" {
			t.Fatalf("shard %q", shard)
		}
		got := make([]fleet.Server, 0, r.count(minServer))
		for range cap(got) {
			got = append(got, r.server())
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
		if diff := cmp.Diff(want, got, same); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestWireRefuses what a child may not answer.
func TestWireRefuses(t *testing.T) {
	for _, c := range []struct {
		what  string
		bytes []byte
		says  string
	}{
		{"a count beyond the end", []byte{200, 1}, "cut off"},
		{"a slash in a shard", appendText([]byte{1}, "g.a/b"), `shard "g.a/b"`},
		{"a shard of the tree's own", appendText([]byte{1}, "@head"), `shard "@head"`},
		{"many shards", append([]byte{100}, bytes.Repeat([]byte{1, 'g'}, 100)...), "100 shards of a server, at most 67"},
	} {
		r := wireReader{b: c.bytes}
		if got := r.shards(); len(got) != 0 || r.err == nil || !strings.Contains(r.err.Error(), c.says) {
			t.Errorf("%s: %q, %v", c.what, got, r.err)
		}
	}
	one := made{RRset: record.NewRRset("\x01a\x00", record.TypeA, 60, "\xc0\x00\x02\x01"), file: "x.star", line: 7}
	good := appendMade(nil, []made{one, one})
	r := wireReader{b: good}
	if got := r.made(); len(got) != 2 || !got[1].Equal(one.RRset) || got[1].file != "x.star" || got[1].line != 7 || r.end() != nil {
		t.Errorf("%+v, %v", got, r.err)
	}
	for i := range good {
		r := wireReader{b: good[:i]}
		if r.made(); r.err == nil {
			t.Errorf("cut after %d octets, and read", i)
		}
	}
	flags := slices.Clone(good)
	flags[1] = 2
	if r = (wireReader{b: flags}); r.made() != nil || r.err == nil || !strings.Contains(r.err.Error(), "flags 0x02") {
		t.Error(r.err)
	}
}

// FuzzWire reads what neither side wrote: no panic, and no more memory than the message has.
func FuzzWire(f *testing.F) {
	f.Add(callOf(wireBoth, "", fleet.Server{Name: "\x01a\x00"})[1:])
	f.Add(appendMade(nil, []made{{RRset: record.NewRRset("\x01a\x00", record.TypeA, 60, "\xc0\x00\x02\x01"), file: "x.star", line: 7}}))
	f.Add(appendText([]byte{1}, "g.web"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := wireReader{b: b, texts: map[string]string{}}
		if s := r.server(); r.err == nil && len(s.Addresses) > len(b) {
			t.Error("more than there is")
		}
		r = wireReader{b: b}
		all := r.made()
		for _, m := range all {
			if err := m.Check(); err != nil {
				t.Error(err)
			}
		}
		r = wireReader{b: b}
		for _, s := range r.shards() {
			if strings.Contains(s, "/") {
				t.Errorf("shard %q", s)
			}
		}
		if c := (&child{programs: map[uint64]map[record.Source]*Program{}}); len(b) > 0 && b[0] != wireLoad {
			if out, err := c.answer(b); err == nil {
				t.Errorf("an answer without rules: %q", fmt.Sprint(out))
			}
		}
	})
}
