package authority

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
)

// try hands the authority a trial as an agent does, signed by the key in a file.
func (h *host) try(key, id string, number uint64, ch reconcile.Change) {
	h.t.Helper()
	k, err := snapshot.LoadOrCreateKey(filepath.Join(filepath.Dir(h.dir), key))
	if err != nil {
		h.t.Fatal(err)
	}
	delta, err := trial.Compose("internal", h.dataset.Version(), ch)
	if err != nil {
		h.t.Fatal(err)
	}
	o := trial.Offer{
		Dataset: "internal", ID: id, Number: number, Base: h.dataset.Version(), Rings: []trial.Ring{{Name: "canary", Hosts: []string{"*"}}},
		Until: time.Now().Add(time.Hour).UnixMilli(), Size: len(delta), SHA256: trial.Sum(delta),
	}
	signed, err := o.Sign(k)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := trial.Write(trial.Path(h.dir), signed, delta); err != nil {
		h.t.Fatal(err)
	}
}

// TestTrial tries a change on a host: it is answered beside the versions that go on below, said
// with what was answered before and since, and gone with its file. What no key signed is not
// taken, and who starts begins without.
func TestTrial(t *testing.T) {
	h := startHost(t)
	h.openJournal()
	a, gone := address("a.example.net", 1), address("gone.example.net", 1)
	h.publish([]record.RRset{soa("example.net"), a, gone}, nil)
	h.reach(1)
	change := reconcile.Change{Put: []record.RRset{address("a.example.net", 9), address("new.example.net", 9)}, Old: []record.RRset{a, gone}, Remove: []record.Key{gone.Key}}

	h.try("stranger", "1", 1, change)
	eventually(t, "the file is looked at", func() bool { return h.says("a.example.net.", dns.TypeA) != "" })
	h.try("key", "2", 2, change)
	h.becomes("a.example.net.", dns.TypeA, "NOERROR, A 192.0.2.9")
	h.becomes("new.example.net.", dns.TypeA, "NOERROR, A 192.0.2.9")
	h.becomes("gone.example.net.", dns.TypeA, "NXDOMAIN")
	if s := h.Serving(); s.Version != 1 || s.Digest != h.dataset.Digest().String() || s.Trial == nil || s.Trial.ID != "2" || s.Trial.Refused != "" || s.Trial.Since == 0 {
		t.Errorf("serving %+v, %+v", s, s.Trial)
	}
	eventually(t, "answers are counted", func() bool { s := h.Serving().Trial; return s != nil && s.After.Answers > 0 && s.After.NXDomain > 0 })

	h.publish([]record.RRset{address("other.example.net", 5)}, nil) // beside it
	h.reach(2)
	h.becomes("other.example.net.", dns.TypeA, "NOERROR, A 192.0.2.5")
	h.becomes("a.example.net.", dns.TypeA, "NOERROR, A 192.0.2.9")
	h.publish([]record.RRset{address("a.example.net", 3)}, nil) // below it: it stands on nothing
	h.reach(3)
	h.becomes("a.example.net.", dns.TypeA, "NOERROR, A 192.0.2.3")
	h.becomes("gone.example.net.", dns.TypeA, "NOERROR, A 192.0.2.1")
	if s := h.Serving().Trial; s == nil || !strings.Contains(s.Refused, "composed anew") {
		t.Errorf("trial %+v", s)
	}
	change.Old[0] = address("a.example.net", 3)
	h.try("key", "2", 3, change) // composed anew
	h.becomes("a.example.net.", dns.TypeA, "NOERROR, A 192.0.2.9")

	// Another life does not begin with it, and takes it when it is confirmed.
	other, stop := h.lifetime(t.TempDir())
	defer stop()
	eventually(t, "the other life answers", func() bool { return other.Serving().Version == 3 })
	time.Sleep(5 * directLook)
	if s := other.Serving(); s.Trial != nil {
		t.Errorf("a trial of an earlier life is on: %+v", s.Trial)
	}
	now := time.Now()
	if err := os.Chtimes(trial.Path(h.dir), now, now); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the trial is confirmed", func() bool { return other.Serving().Trial != nil })

	if err := os.Remove(trial.Path(h.dir)); err != nil {
		t.Fatal(err)
	}
	h.becomes("a.example.net.", dns.TypeA, "NOERROR, A 192.0.2.3")
	h.becomes("new.example.net.", dns.TypeA, "NXDOMAIN")
	h.becomes("gone.example.net.", dns.TypeA, "NOERROR, A 192.0.2.1")
	if s := h.Serving(); s.Trial != nil || s.Digest != h.dataset.Digest().String() {
		t.Errorf("at the end it serves %+v", s)
	}

	// A version that has what was tried changes nothing.
	change.Old[0] = address("a.example.net", 3)
	h.try("key", "3", 4, change)
	h.becomes("a.example.net.", dns.TypeA, "NOERROR, A 192.0.2.9")
	h.publish(change.Put, change.Remove)
	h.reach(4)
	if got := h.says("a.example.net.", dns.TypeA); got != "NOERROR, A 192.0.2.9" {
		t.Errorf("the version has what was tried: %s", got)
	}
}

// TestTrialLease takes a trial off that nobody confirms, as when the agent is dead or cut off,
// and puts it on again when it is confirmed.
func TestTrialLease(t *testing.T) {
	h := startHost(t, func(c *Config) { c.trialLease = 2 * time.Second })
	h.openJournal()
	a := address("a.example.net", 1)
	h.publish([]record.RRset{soa("example.net"), a}, nil)
	h.reach(1)
	h.try("key", "1", 1, reconcile.Change{Put: []record.RRset{address("a.example.net", 9)}, Old: []record.RRset{a}})
	h.becomes("a.example.net.", dns.TypeA, "NOERROR, A 192.0.2.9")
	h.becomes("a.example.net.", dns.TypeA, "NOERROR, A 192.0.2.1")
	now := time.Now()
	if err := os.Chtimes(trial.Path(h.dir), now, now); err != nil {
		t.Fatal(err)
	}
	h.becomes("a.example.net.", dns.TypeA, "NOERROR, A 192.0.2.9")
}
