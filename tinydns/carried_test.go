package tinydns

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
)

const soa = "\x02ns\x00\x04host\x00\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\x04\x00\x00\x00\x05"

func dataset(t *testing.T, name string, sets ...record.RRset) *snapshot.Dataset {
	t.Helper()
	d := snapshot.NewDataset(name)
	delta, err := d.Change(1, sets, nil)
	if err == nil {
		err = d.Apply(delta)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestUnion: of several datasets each name is as that has it which the authority would answer from: the one
// with the closest zone, of DS the zone above, of the same zone the first. What is left out is told.
func TestUnion(t *testing.T) {
	const ns, address, ds = "\x02ns\x00", "\xc0\x00\x02\x01", "\x00\x01\x08\x02abcd"
	inside := dataset(
		t, "internal", set(t, "example.net", record.TypeSOA, soa), set(t, "example.net", record.TypeNS, ns), set(t, "www.example.net", record.TypeA, address),
		set(t, "sub.example.net", record.TypeNS, ns), set(t, "sub.example.net", record.TypeDS, ds), set(t, "ns.sub.example.net", record.TypeA, address),
	)
	edge := dataset(
		t, "edge", set(t, "sub.example.net", record.TypeSOA, soa), set(t, "sub.example.net", record.TypeNS, ns), set(t, "www.sub.example.net", record.TypeA, address),
		set(t, "example.net", record.TypeSOA, soa), set(t, "ftp.example.net", record.TypeA, address), set(t, "example.org", record.TypeSOA, soa),
	)
	var got, beside []string
	for r := range union([]*snapshot.Dataset{inside, edge}, func(r *record.RRset, by string) { beside = append(beside, r.Key.String()+" by "+by) }) {
		got = append(got, r.Key.String())
		if r.Type == record.TypeSOA && r.Data[0] == soa {
			t.Errorf("%s has the serial as it was claimed", r.Key)
		}
	}
	want := []string{
		"example.net. NS", "example.net. SOA", "sub.example.net. DS", "www.example.net. A",
		"sub.example.net. NS", "sub.example.net. SOA", "www.sub.example.net. A", "example.org. SOA",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answered (-want +got):\n%s", diff)
	}
	want = []string{"sub.example.net. NS by edge", "ns.sub.example.net. A by edge", "example.net. SOA by internal", "ftp.example.net. A by internal"}
	if diff := cmp.Diff(want, beside); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
	n := 0
	for range union([]*snapshot.Dataset{inside}, func(r *record.RRset, _ string) { t.Errorf("%s is left out of the only dataset", r.Key) }) {
		n++
	}
	if n != inside.Len() {
		t.Errorf("%d RRsets of one dataset, want %d", n, inside.Len())
	}
}

// TestDue: data.cdb is made anew when any dataset changed, when another is carried, and not before there
// is a version of all.
func TestDue(t *testing.T) {
	s := &Server{cfg: DefaultConfig(), log: slog.New(slog.DiscardHandler)}
	a, b := &carried{Server: s, dataset: "internal"}, &carried{Server: s, dataset: "edge"}
	is := func(what string, want time.Duration, due bool) {
		t.Helper()
		if got, is := s.due(0); got != want || is != due {
			t.Errorf("%s: %v, %v; want %v, %v", what, got, is, want, due)
		}
	}
	built := func() {
		for _, c := range s.carried {
			c.built.Version, c.built.Digest, c.content = c.data.Version(), c.data.Digest().String(), c.data.Content()
		}
		s.in = s.carried
	}
	is("nothing is carried", 0, false)
	s.carried = []*carried{a}
	is("no version yet", 0, false)
	a.data = dataset(t, "internal", set(t, "example.net", record.TypeSOA, soa))
	is("a version", s.cfg.Every, true)
	built()
	is("made", 0, false)
	s.carried = []*carried{a, b}
	is("another is carried, without a version", 0, false)
	if got := s.Status().Missing; got != "data.cdb waits for what no journal has yet: edge" {
		t.Errorf("missing is %q", got)
	}
	b.data = dataset(t, "edge", set(t, "example.org", record.TypeSOA, soa))
	is("another, with a version", s.cfg.Every, true)
	built()
	is("made", 0, false)
	fresh, err := b.data.Change(2, []record.RRset{set(t, "_fresh.edge.example.org", record.TypeTXT, "\x01x")}, nil)
	if err == nil {
		err = b.data.Apply(fresh)
	}
	if err != nil {
		t.Fatal(err)
	}
	is("a freshness record", s.cfg.FreshEvery, true)
	built()
	s.carried = []*carried{b}
	is("one is dropped", s.cfg.Every, true)
}
