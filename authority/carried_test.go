package authority

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/serving"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot/journal"
)

// besides opens the journal of another dataset of the same host.
func (h *host) besides(dataset string) *host {
	h.t.Helper()
	o := &host{Server: h.Server, t: h.t, dir: datasets.Journal(h.dir, "internal", dataset), sign: h.sign, status: datasets.Beside(h.status, "internal", dataset)}
	if err := os.MkdirAll(filepath.Dir(o.dir), 0o755); err != nil {
		h.t.Fatal(err)
	}
	var err error
	if o.writer, o.dataset, err = journal.OpenWriter(o.dir, journal.Options{Dataset: dataset}); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { o.writer.Close() })
	return o
}

// answers waits until a question has this rcode and, unless last is 0, address.
func (h *host) answers(qname string, qtype uint16, rcode int, last byte) {
	h.t.Helper()
	var got *dns.Msg
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		m := new(dns.Msg).SetQuestion(qname, qtype)
		r, err := dns.Exchange(m, h.Addrs()[0].String())
		if err != nil {
			continue
		}
		if got = r; r.Rcode != rcode {
			continue
		}
		if last == 0 {
			return
		}
		if len(r.Answer) == 1 && r.Answer[0].(*dns.A).A.To4()[3] == last {
			return
		}
	}
	h.t.Fatalf("%s: %v, expected %s, address %d", qname, got, dns.RcodeToString[rcode], last)
}

func (h *host) carries(all ...string) {
	h.t.Helper()
	if err := datasets.WriteCarried(h.dir, all); err != nil {
		h.t.Fatal(err)
	}
}

// TestCarried: a host answers from several datasets, each name from the one with the closest
// zone; it takes them up and drops them while it runs.
func TestCarried(t *testing.T) {
	h := startHost(t)
	h.openJournal()
	h.publish([]record.RRset{soa("example.net."), address("www.example.net.", 1), address("www.sub.example.net.", 2)}, nil)
	h.answers("www.example.net.", dns.TypeA, dns.RcodeSuccess, 1)
	h.answers("www.sub.example.net.", dns.TypeA, dns.RcodeSuccess, 2)
	h.answers("www.example.org.", dns.TypeA, dns.RcodeRefused, 0)

	edge := h.besides("edge")
	edge.publish([]record.RRset{soa("example.org."), address("www.example.org.", 3), soa("sub.example.net."), address("www.sub.example.net.", 4)}, nil)
	h.carries("internal", "edge")
	h.answers("www.example.org.", dns.TypeA, dns.RcodeSuccess, 3)
	h.answers("www.sub.example.net.", dns.TypeA, dns.RcodeSuccess, 4) // the zone below goes before
	h.answers("www.example.net.", dns.TypeA, dns.RcodeSuccess, 1)
	h.answers("no.example.org.", dns.TypeA, dns.RcodeNameError, 0)
	h.answers("www.example.com.", dns.TypeA, dns.RcodeRefused, 0)
	if s, err := serving.Read(edge.status); err != nil || s.Version != 1 || s.Digest != edge.dataset.Digest().String() {
		t.Errorf("edge is said to be %+v, %v", s, err)
	}
	// A DS is the upper zone's to answer.
	for qname, zone := range map[string]string{"sub.example.net.": "example.net.", "example.org.": "example.org."} {
		r, err := dns.Exchange(new(dns.Msg).SetQuestion(qname, dns.TypeDS), h.Addrs()[0].String())
		if err != nil || len(r.Ns) != 1 || r.Ns[0].Header().Name != zone {
			t.Errorf("DS of %s: %v, %v, expected none by the zone %s", qname, r, err, zone)
		}
	}
	edge.publish([]record.RRset{address("www.example.org.", 33)}, nil)
	h.answers("www.example.org.", dns.TypeA, dns.RcodeSuccess, 33)
	h.publish([]record.RRset{address("www.example.net.", 11)}, nil)
	h.answers("www.example.net.", dns.TypeA, dns.RcodeSuccess, 11)

	// The same zone in two: the first of the list answers, and it is said.
	before := h.problems.Load()
	edge.publish([]record.RRset{soa("example.net."), address("www.example.net.", 5)}, nil)
	h.carries("edge", "internal")
	h.answers("www.example.net.", dns.TypeA, dns.RcodeSuccess, 5)
	h.carries("internal", "edge")
	h.answers("www.example.net.", dns.TypeA, dns.RcodeSuccess, 11)
	if text := overlap(*h.carried.Load()); text != "example.net. in internal and edge" {
		t.Errorf("two datasets with one zone: %q", text)
	}
	for end := time.Now().Add(time.Minute); h.problems.Load() == before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody is told that two datasets have one zone")
		}
	}
	// Without the first one, and back.
	h.carries("edge")
	h.answers("www.sub.example.net.", dns.TypeA, dns.RcodeSuccess, 4)
	h.answers("www.example.net.", dns.TypeA, dns.RcodeSuccess, 5)
	h.carries("internal")
	h.answers("www.example.org.", dns.TypeA, dns.RcodeRefused, 0)
	h.answers("www.example.net.", dns.TypeA, dns.RcodeSuccess, 11)
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(edge.status, serving.File)); os.IsNotExist(err) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("what is carried no more is still said to be answered")
		}
	}
	// One that has no data yet: its names are not refused meanwhile, and what may be its name below
	// a zone that is here is not said not to exist; what is known to be another's is answered.
	h.publish([]record.RRset{address("*.wild.example.net.", 12), record.NewRRset(name("cut.example.net."), record.TypeNS, 60, record.Rdata(name("ns.example.org.")))}, nil)
	h.answers("x.wild.example.net.", dns.TypeA, dns.RcodeSuccess, 12)
	h.carries("internal", "new")
	h.answers("www.example.com.", dns.TypeA, dns.RcodeServerFailure, 0)
	h.answers("www.example.net.", dns.TypeA, dns.RcodeSuccess, 11)
	h.answers("www.new.example.net.", dns.TypeA, dns.RcodeServerFailure, 0)
	h.answers("x.wild.example.net.", dns.TypeA, dns.RcodeServerFailure, 0)
	h.answers("www.example.net.", dns.TypeTXT, dns.RcodeSuccess, 0)
	h.answers("www.cut.example.net.", dns.TypeA, dns.RcodeSuccess, 0) // a referral
	later := h.besides("new")
	later.publish([]record.RRset{soa("new.example.net."), address("www.new.example.net.", 6)}, nil)
	h.answers("www.new.example.net.", dns.TypeA, dns.RcodeSuccess, 6)
	h.answers("x.wild.example.net.", dns.TypeA, dns.RcodeSuccess, 12)
	h.answers("no.example.net.", dns.TypeA, dns.RcodeNameError, 0)
}

// TestCarriedInPart: of two datasets that are to be taken up only one can be; when neither is
// wanted any more, none goes on.
func TestCarriedInPart(t *testing.T) {
	h := startHost(t)
	h.openJournal()
	h.publish([]record.RRset{soa("example.net."), address("www.example.net.", 1)}, nil)
	h.answers("www.example.net.", dns.TypeA, dns.RcodeSuccess, 1)
	edge := h.besides("edge")
	edge.publish([]record.RRset{soa("example.org."), address("www.example.org.", 3)}, nil)
	inTheWay := datasets.Beside(h.status, "internal", "odd") // where its directory is to be
	if err := os.MkdirAll(filepath.Dir(inTheWay), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.carries("internal", "edge", "odd")
	said := filepath.Join(edge.status, serving.File)
	eventually(t, "edge is taken up", func() bool { _, err := os.Stat(said); return err == nil })
	h.carries("internal")
	eventually(t, "edge is dropped", func() bool { _, err := os.Stat(said); return os.IsNotExist(err) })
	h.answers("www.example.org.", dns.TypeA, dns.RcodeRefused, 0)
}
