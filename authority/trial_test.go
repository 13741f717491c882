package authority

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/authority/image/imagetest"
	"github.com/zonecast/zonecast/authority/wire"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
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

// TestTrialBaseline: what was answered while something was tried is not before the next trial.
func TestTrialBaseline(t *testing.T) {
	s := testServer(t.TempDir())
	f := &follower{server: s, again: func() {}}
	var past []tree.Tally
	for i := range uint64(400) {
		past = f.count(past, tree.Tally{Answers: i})
	}
	if len(past) != tallies || past[0].Answers != 100 {
		t.Fatalf("%d counts from %+v on", len(past), past[0])
	}
	f.putTrial(&trial.Offer{ID: "1", Number: 1}, &snapshot.Delta{}, past)
	if got := f.trial.before.Answers; got != tallies-1 {
		t.Errorf("%d answers before the first trial", got)
	}
	past = f.count(past, tree.Tally{Answers: 9000, NXDomain: 8000})
	f.putTrial(nil, nil, past)
	for i := range uint64(3) {
		past = f.count(past, tree.Tally{Answers: 9000 + i, NXDomain: 8000})
	}
	f.putTrial(&trial.Offer{ID: "2", Number: 2}, &snapshot.Delta{}, past)
	if got := f.trial.before; got.Answers != 2 || got.NXDomain != 0 {
		t.Errorf("before the second trial there was %+v", got)
	}
	// A query that a bug took counts as one that failed.
	was := s.tally(time.Now())
	s.lost("a bug", &wire.Message{})
	if got := since(s.tally(time.Now()), was); got.Answers != 1 || got.Servfail != 1 {
		t.Errorf("a lost query is counted as %+v", got)
	}
}

// damagedView is a view of an image that is damaged where www.example.net stands.
func damagedView(t *testing.T) *data.View {
	path := filepath.Join(t.TempDir(), "image")
	www := address("www.example.net", 1)
	if _, err := imagetest.Build(path, []record.Set{{RRset: soa("example.net")}, {RRset: www}}, image.Options{NoSync: true}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, bytes.Replace(b, []byte(www.Owner), bytes.ToUpper([]byte(www.Owner)), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	im, err := image.Open(bad)
	if err != nil {
		t.Fatal(err)
	}
	return data.New(im)
}

// TestTrialThatCannotBeTakenOff: when the view is given up because a trial cannot be taken off
// it, the one that is made anew has what is to be tried now, and not that one.
func TestTrialThatCannotBeTakenOff(t *testing.T) {
	s := testServer(t.TempDir())
	again := 0
	f := &follower{server: s, again: func() { again++ }}
	d := snapshot.NewDataset("internal")
	www := address("www.example.net", 1)
	delta, err := d.Change(1, []record.RRset{soa("example.net"), www}, nil)
	if err == nil {
		err = d.Apply(delta)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := f.event(journal.Event{Reset: d.Clone()}); err != nil {
		t.Fatal(err)
	}
	try := func(number uint64, last byte) (*trial.Offer, *snapshot.Delta) {
		b, err := trial.Compose("internal", 1, reconcile.Change{Put: []record.RRset{address("www.example.net", last)}, Old: []record.RRset{www}})
		if err != nil {
			t.Fatal(err)
		}
		e, err := snapshot.DecodeDelta(b)
		if err != nil {
			t.Fatal(err)
		}
		return &trial.Offer{ID: fmt.Sprint(number), Number: number, Base: 1}, e
	}
	answered := func() byte {
		r, ok := s.current.Load().view.RRset(www.Key)
		if !ok || len(r.Data) != 1 {
			t.Fatalf("%v, %v", r, ok)
		}
		return r.Data[0][3]
	}
	for _, to := range []byte{8, 0} { // to another trial, to none
		o, e := try(1, 7)
		f.putTrial(o, e, nil)
		if got := answered(); got != 7 {
			t.Fatalf("tried is 7, answered %d", got)
		}
		f.view = damagedView(t)
		if o, e = nil, nil; to != 0 {
			o, e = try(2, to)
		}
		was := again
		f.putTrial(o, e, nil)
		if again != was+1 {
			t.Fatalf("the journal is read anew %d times, want once", again-was)
		}
		if err := f.event(journal.Event{Reset: d.Clone()}); err != nil { // as it is read anew
			t.Fatal(err)
		}
		if got := answered(); got != max(to, 1) {
			t.Errorf("answered is %d, want %d", got, max(to, 1))
		}
		f.putTrial(nil, nil, nil)
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
