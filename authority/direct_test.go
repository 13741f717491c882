package authority

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/internal/direct"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
)

// says gives what is answered, in short: the rcode and the data.
func (h *host) says(name string, t uint16) string {
	h.t.Helper()
	m := h.ask("udp", name, t)
	words := []string{dns.RcodeToString[m.Rcode]}
	for _, r := range m.Answer {
		words = append(words, strings.Join(strings.Split(r.String(), "\t")[3:], " "))
	}
	return strings.Join(words, ", ")
}

func (h *host) becomes(name string, t uint16, want string) {
	h.t.Helper()
	got := ""
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got = h.says(name, t); got == want {
			return
		}
	}
	h.t.Fatalf("%s %s: %s, want %s", name, dns.TypeToString[t], got, want)
}

func text(owner, s string) record.RRset {
	return record.NewRRset(name(owner), record.TypeTXT, 300, record.Rdata(string(rune(len(s)))+s))
}

func onTop(id, owner, typ string, length time.Duration, rdata ...string) tree.Direct {
	now := time.Now()
	return tree.Direct{ID: id, Owner: owner, Type: typ, TTL: 60, Rdata: rdata, Set: now.UnixMilli(), Until: now.Add(length).UnixMilli(), Operator: "alice"}
}

// TestDirect puts overrides on top and takes them off while the dataset goes on below: what
// is hidden changes unseen, version and digest stay the dataset's, and at the end everything
// is answered as the dataset has it.
func TestDirect(t *testing.T) {
	h := startHost(t)
	h.openJournal()
	alias := record.NewRRset(name("b.example.net"), record.TypeCNAME, 300, record.Rdata(name("a.example.net")))
	cut := record.NewRRset(name("sub.example.net"), record.TypeNS, 300, record.Rdata(name("ns.example.org")))
	h.publish([]record.RRset{soa("example.net"), address("a.example.net", 1), alias, address("c.example.net", 1), text("c.example.net", "one"), cut}, nil)
	h.reach(1)
	put := func(all ...tree.Direct) {
		t.Helper()
		if err := direct.Write(direct.Path(h.dir), direct.Kept{Overrides: all}); err != nil {
			t.Fatal(err)
		}
	}
	const hour = time.Hour
	a := onTop("1", "a.example.net.", "A", hour, "192.0.2.9")
	put(a)
	h.becomes("a.example.net.", dns.TypeA, "NOERROR, A 192.0.2.9")
	h.becomes("b.example.net.", dns.TypeA, "NOERROR, CNAME a.example.net., A 192.0.2.9")
	if s := h.Serving(); s.Version != 1 || s.Digest != h.dataset.Digest().String() || len(s.Direct) != 1 || s.Direct[0].Operator != "alice" {
		t.Errorf("serving %+v", s)
	}
	if got := h.says("example.net.", dns.TypeSOA); !strings.Contains(got, " 1001 ") {
		t.Errorf("the serial is another: %s", got)
	}
	h.publish([]record.RRset{address("a.example.net", 2)}, nil)
	h.reach(2)
	h.becomes("a.example.net.", dns.TypeA, "NOERROR, A 192.0.2.9")

	c := onTop("2", "c.example.net.", "CNAME", hour, "a.example.net.")
	n := onTop("3", "n.example.net.", "A", hour, "192.0.2.7", "192.0.2.8")
	put(a, c, n, onTop("4", "x.example.org.", "A", hour, "192.0.2.1"), onTop("5", "x.sub.example.net.", "A", hour, "192.0.2.1"), onTop("6", "example.net.", "CNAME", hour, "a."))
	h.becomes("c.example.net.", dns.TypeTXT, "NOERROR, CNAME a.example.net.")
	h.becomes("n.example.net.", dns.TypeA, "NOERROR, A 192.0.2.7, A 192.0.2.8")
	var refused []string
	for _, d := range h.Serving().Direct {
		refused = append(refused, d.ID+" "+d.Refused)
	}
	if want := []string{"1 ", "2 ", "3 ", "4 x.example.org. is in no zone of dataset internal", "5 x.sub.example.net. lies at or below the zone cut sub.example.net.", "6 example.net. is the apex of a zone, where no CNAME can be"}; !slices.Equal(refused, want) {
		t.Errorf("refused %q", refused)
	}
	h.publish([]record.RRset{text("c.example.net", "two"), text("n.example.net", "n")}, []record.Key{address("c.example.net", 0).Key})
	h.reach(3)
	h.becomes("c.example.net.", dns.TypeTXT, "NOERROR, CNAME a.example.net.")
	h.becomes("n.example.net.", dns.TypeTXT, `NOERROR, TXT "n"`)
	if s := h.Serving(); s.Digest != h.dataset.Digest().String() {
		t.Errorf("digest %s, the dataset's is %s", s.Digest, h.dataset.Digest())
	}

	// One that cannot be read changes nothing; the end comes by itself.
	if err := os.WriteFile(direct.Path(h.dir), []byte("nonsense"), 0o644); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * directLook)
	h.becomes("n.example.net.", dns.TypeA, "NOERROR, A 192.0.2.7, A 192.0.2.8")
	short := onTop("7", "n.example.net.", "A", 300*time.Millisecond, "192.0.2.6")
	put(short)
	h.becomes("n.example.net.", dns.TypeA, "NOERROR, A 192.0.2.6")
	h.becomes("n.example.net.", dns.TypeA, "NOERROR")
	if late := time.Since(time.UnixMilli(short.Until)); late > time.Second {
		t.Errorf("ended %v after its time", late)
	}
	h.becomes("a.example.net.", dns.TypeA, "NOERROR, A 192.0.2.2")
	h.becomes("c.example.net.", dns.TypeTXT, `NOERROR, TXT "two"`)
	h.becomes("c.example.net.", dns.TypeA, "NOERROR")

	// A dataset that begins anew comes below what is on top.
	put(a)
	h.becomes("a.example.net.", dns.TypeA, "NOERROR, A 192.0.2.9")
	h.publishWhole([]record.RRset{soa("example.net"), address("a.example.net", 5)})
	h.becomes("c.example.net.", dns.TypeTXT, "NXDOMAIN")
	h.becomes("a.example.net.", dns.TypeA, "NOERROR, A 192.0.2.9")
	put()
	h.becomes("a.example.net.", dns.TypeA, "NOERROR, A 192.0.2.5")
	if s := h.Serving(); len(s.Direct) != 0 || s.Digest != h.dataset.Digest().String() {
		t.Errorf("at the end it serves %+v", s)
	}
}

// TestDirectIsNotInImages holds that what is on top is in no image: a fold that is due waits.
func TestDirectIsNotInImages(t *testing.T) {
	h := startHost(t)
	h.openJournal()
	h.publish([]record.RRset{soa("example.net"), address("a.example.net", 1)}, nil)
	h.reach(1)
	if err := direct.Write(direct.Path(h.dir), direct.Kept{Overrides: []tree.Direct{onTop("1", "a.example.net.", "A", time.Hour, "192.0.2.9")}}); err != nil {
		t.Fatal(err)
	}
	h.becomes("a.example.net.", dns.TypeA, "NOERROR, A 192.0.2.9")
	var many []record.RRset
	for i := range 2 * foldNames {
		many = append(many, address(fmt.Sprintf("h%d.example.net", i), byte(i)))
	}
	h.publish(many, nil)
	h.reach(2)
	time.Sleep(4 * foldLook)
	if n := h.metrics()["folds_total"]; n != 0 {
		t.Errorf("%v folds while an override is on top", n)
	}
	if err := direct.Write(direct.Path(h.dir), direct.Kept{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "folded", func() bool { return h.metrics()["folds_total"] > 0 })
	h.becomes("a.example.net.", dns.TypeA, "NOERROR, A 192.0.2.1")
}
