package canary

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/replay"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// simple answers with the first record that a name has, or NXDOMAIN: no zones, no wildcards.
type simple map[record.Key]record.RRset

func (s simple) Put(sets []record.RRset) error {
	for _, r := range sets {
		s[r.Key] = r
	}
	return nil
}

func (s simple) Ask(name record.Name, t record.Type) []byte {
	b := append([]byte{0, 0, 0x84, 3, 0, 1, 0, 0, 0, 0, 0, 0}, name...)
	b = binary.BigEndian.AppendUint16(b, uint16(t))
	b = append(b, 0, 1)
	if r, ok := s[record.Key{Owner: name, Type: t}]; ok {
		b[3], b[7] = 0, 1
		b = binary.BigEndian.AppendUint16(append(b, name...), uint16(t))
		b = binary.BigEndian.AppendUint32(append(b, 0, 1), r.TTL)
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(r.Data[0]))), r.Data[0]...)
	}
	return b
}

// world is a store with a dataset of a zone and two names, hosts, and a stage that judges.
type world struct {
	*testing.T
	st      *memstore.Store
	dataset *snapshot.Dataset
	trial   trial.Trial
	beating map[string]tree.Host // hosts whose authority lives
	answers func() (replay.Server, error)
	end     func()
}

func (w *world) name(text string) record.Name {
	n, err := record.ParseName(text)
	if err != nil {
		w.Fatal(err)
	}
	return n
}

func (w *world) commit(ops ...store.Op) {
	w.Helper()
	if _, err := w.st.Commit(w.Context(), store.Txn{Do: ops}); err != nil {
		w.Fatal(err)
	}
}

func (w *world) address(owner string, last byte) record.RRset {
	return record.NewRRset(w.name(owner), record.TypeA, 60, record.Rdata([]byte{192, 0, 2, last}))
}

// settle lets time pass for a while, in which hosts count and report what they answer.
func (w *world) settle(d time.Duration) {
	w.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(min(time.Second, time.Until(end)))
		for _, h := range w.beating {
			if at := h.Datasets["internal"].Trial; at != nil {
				at.After.Milliseconds += 1000
				w.commit(store.Op{Path: tree.HostPath(h.Name), Value: tree.Encode(h)})
			}
		}
		synctest.Wait()
	}
}

// gone has a host die.
func (w *world) gone(name string) {
	delete(w.beating, name)
	w.commit(store.Op{Path: tree.HostPath(name), Delete: true})
}

func inWorld(t *testing.T, f func(w *world)) {
	bubbletest.Run(t, func(t *testing.T) {
		w := &world{T: t, st: memstore.New(), dataset: snapshot.NewDataset("internal"), beating: map[string]tree.Host{}}
		w.answers = func() (replay.Server, error) { return simple{}, nil }
		defer w.st.Close()
		soa := record.NewRRset(w.name("example.net."), record.TypeSOA, 60, record.Rdata(w.name("ns.example.net."))+record.Rdata(w.name("root.example.net."))+record.Rdata(make([]byte, 20)))
		d, err := w.dataset.Replace(1, []record.RRset{soa, w.address("www.example.net.", 1), w.address("ftp.example.net.", 1)})
		if err == nil {
			err = w.dataset.Apply(d)
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := d.Encode()
		if err != nil {
			t.Fatal(err)
		}
		_, log, err := follow.LogOps("internal", d.Version, b)
		if err != nil {
			t.Fatal(err)
		}
		w.commit(log, store.Op{Path: tree.HeadPath("internal"), Value: tree.Encode(tree.Head{
			Version: d.Version, Digest: w.dataset.Digest().String(), Chain: w.dataset.Chain().String(), Time: 1, Content: d.Version, Gated: true,
		})})
		w.begin()
		defer func() { w.end() }()
		f(w)
	})
}

// begin begins a life of the stage.
func (w *world) begin() {
	w.Helper()
	c, err := New(DefaultConfig(), Deps{
		Store: w.st, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Name: "test",
		Answers: func() (replay.Server, error) { return w.answers() },
	})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	w.end = func() { cancel(); <-done }
}

// try puts a trial into the store that takes names away.
func (w *world) try(id string, gone ...string) {
	w.Helper()
	ch := reconcile.Change{Put: []record.RRset{w.address("new.example.net.", 1)}}
	for _, g := range gone {
		r := w.address(g, 1)
		ch.Remove, ch.Old = append(ch.Remove, r.Key), append(ch.Old, r)
	}
	b, err := trial.Compose("internal", 1, ch)
	if err != nil {
		w.Fatal(err)
	}
	p := trial.DefaultPolicy()
	p.Rings = []trial.Ring{{Name: "canary", Soak: time.Minute, Hosts: []string{"dns1"}}, {Name: "none", Soak: time.Minute, Hosts: []string{"site=nowhere"}}, {Name: "rest", Soak: time.Minute, Hosts: []string{"*"}}}
	w.trial = trial.Trial{
		ID: id, Dataset: "internal", Source: "config/x", Since: time.Now().UnixMilli(), Until: time.Now().Add(p.Limit).UnixMilli(), Number: uint64(time.Now().UnixMilli()),
		Base: 1, Size: len(b), SHA256: trial.Sum(b), Policy: p,
	}
	for _, ops := range trial.PartOps("internal", w.trial.Number, b) {
		w.commit(ops...)
	}
	w.commit(store.Op{Path: tree.TrialPath("internal"), Value: tree.Encode(w.trial)})
}

// host reports a host; on tells whether it answers the trial.
func (w *world) host(name string, on bool, refused string, after tree.Tally) {
	w.Helper()
	h := tree.Host{Name: name, Datasets: map[string]tree.HostDataset{"internal": {Version: 1}}}
	if on || refused != "" {
		h.Datasets["internal"] = tree.HostDataset{Version: 1, Trial: &tree.TrialState{
			ID: w.trial.ID, Number: w.trial.Number, Since: 1, Refused: refused, Before: tree.Tally{Milliseconds: 1000, Answers: 1000}, After: after,
		}}
	}
	w.beating[name] = h
	w.commit(store.Op{Path: tree.HostPath(name), Value: tree.Encode(h)})
}

func (w *world) sample(name string, asked ...string) {
	s := tree.Sample{From: time.Now().Add(-time.Minute).UnixMilli(), To: time.Now().UnixMilli(), Queries: 1000}
	for _, a := range asked {
		s.Questions = append(s.Questions, tree.SampleQuestion{Times: 10, Was: "positive", Type: record.TypeA, Name: w.name(a)})
		s.Drawn += 10
	}
	w.commit(store.Op{Path: tree.SamplePath("internal", name), Value: tree.Encode(s)})
}

// judged gives what is said of the trial now.
func (w *world) judged(state trial.State, ring int, words string) trial.Judgement {
	w.Helper()
	n, err := w.st.Get(w.Context(), tree.JudgementPath("internal"))
	var j trial.Judgement
	if err == nil {
		err = tree.Decode(n, &j)
	}
	if err != nil {
		w.Fatal(err)
	}
	if all := j.Text + "\n" + strings.Join(j.Evidence, "\n"); j.ID != w.trial.ID || j.Begun != w.trial.Since || j.Number != w.trial.Number || j.State != state || j.Ring != ring || !strings.Contains(all, words) {
		w.Fatalf("%+v, want %s in ring %d with %q", j, state, ring, words)
	}
	return j
}

// TestJudge takes a trial through its rings: it waits for hosts, soaks, passes over a ring
// without any, goes on where another process left off, and passes.
func TestJudge(t *testing.T) {
	inWorld(t, func(w *world) {
		w.try("1")
		w.settle(10 * time.Minute)
		w.judged(trial.Offered, 0, "no host of ring canary is live")
		w.host("dns1", false, "", tree.Tally{})
		w.host("dns2", false, "", tree.Tally{})
		w.settle(10 * time.Minute)
		w.judged(trial.Offered, 0, "waits for 1 of 1 host to answer it: dns1")
		w.host("dns1", false, "it does not fit", tree.Tally{})
		w.settle(10 * time.Second)
		w.judged(trial.Offered, 0, "dns1 (it does not fit)")
		w.host("dns1", true, "", tree.Tally{Answers: 500})
		w.settle(30 * time.Second)
		w.judged(trial.Soaking, 0, "no sampled queries to replay yet")
		w.sample("dns2", "www.example.net.", "ftp.example.net.")
		w.settle(15 * time.Second)
		w.judged(trial.Soaking, 0, "replayed: 0 % of 20 sampled queries of 1 host would be answered otherwise")

		// The host dies and comes back: it soaks from the beginning.
		w.gone("dns1")
		w.settle(5 * time.Minute)
		w.judged(trial.Offered, 0, "answered it, and is gone")
		w.host("dns1", true, "", tree.Tally{Answers: 500})
		w.settle(50 * time.Second)
		w.judged(trial.Soaking, 0, "")

		// Another process takes over.
		w.end()
		w.begin()
		w.settle(50 * time.Second)
		w.judged(trial.Soaking, 0, "1 host of ring canary")
		w.settle(20 * time.Second)
		w.judged(trial.Offered, 2, "waits for 1 of 2 hosts to answer it: dns2")
		w.host("dns2", true, "", tree.Tally{})
		w.sample("dns2", "www.example.net.")
		w.settle(65 * time.Second)
		w.judged(trial.Passed, 2, "nothing was found")

		// It is composed anew before it was made a version: hosts have not answered this one.
		w.trial.Number++
		w.commit(store.Op{Path: tree.TrialPath("internal"), Value: tree.Encode(w.trial)})
		w.settle(10 * time.Minute)
		w.judged(trial.Offered, 2, "waits for 2 of 2 hosts to answer it")
	})
}

// TestWithdraw withdraws what breaks answers on the hosts, or would of those that are replayed.
func TestWithdraw(t *testing.T) {
	inWorld(t, func(w *world) {
		w.try("1")
		w.host("dns1", true, "", tree.Tally{Answers: 1000, Servfail: 500})
		w.settle(5 * time.Second)
		w.judged(trial.Withdrawn, 0, "SERVFAIL: 50 % of 1000 answers, before 0 %")

		w.try("2", "ftp.example.net.")
		w.sample("dns1", "www.example.net.", "www.example.net.", "www.example.net.", "ftp.example.net.")
		w.settle(5 * time.Second)
		w.judged(trial.Offered, 0, "dns1") // not before a host answers it
		w.host("dns1", true, "", tree.Tally{})
		w.settle(5 * time.Second)
		j := w.judged(trial.Withdrawn, 0, "25 % of 40 sampled queries would lose their answer")
		if all := strings.Join(j.Evidence, "\n"); !strings.Contains(all, "in zone example.net., of all queries: NXDOMAIN 25 %") || !strings.Contains(all, "ftp.example.net. A (25 % of queries): NXDOMAIN, before 192.0.2.1") || len(j.Hosts) != 1 {
			t.Errorf("evidence:\n%s\nhosts %q", all, j.Hosts)
		}
		w.settle(time.Hour)
		w.judged(trial.Withdrawn, 0, "") // for good
	})
}

// TestSilentAuthority: the agent of a host whose authority is dead says what that said last; such
// a host answers nothing, and what it tries does not soak.
func TestSilentAuthority(t *testing.T) {
	inWorld(t, func(w *world) {
		w.try("1")
		w.host("dns1", true, "", tree.Tally{Answers: 500})
		w.settle(30 * time.Second)
		w.judged(trial.Soaking, 0, "1 host of ring canary")
		delete(w.beating, "dns1")
		w.settle(5 * time.Minute)
		w.judged(trial.Offered, 0, "dns1 (its authority has counted nothing for 15s: is it dead?)")
		w.end() // another judge does not believe it either
		w.begin()
		w.settle(5 * time.Minute)
		w.judged(trial.Offered, 0, "is it dead?")
		w.host("dns1", true, "", tree.Tally{Answers: 10})
		w.settle(70 * time.Second)
		w.judged(trial.Passed, 2, "") // no other ring has hosts
	})
}

// TestAnsweredIsHandedOver: who judges next waits for every host that answered, however many.
func TestAnsweredIsHandedOver(t *testing.T) {
	inWorld(t, func(w *world) {
		w.try("1")
		w.trial.Policy.Rings[0].Hosts = []string{"dns*"}
		w.commit(store.Op{Path: tree.TrialPath("internal"), Value: tree.Encode(w.trial)})
		for i := range 150 {
			w.host(fmt.Sprintf("dns%03d", i), true, "", tree.Tally{})
		}
		w.settle(10 * time.Second)
		if j := w.judged(trial.Soaking, 0, "150 hosts"); len(j.Hosts) != maxHosts {
			t.Errorf("%d hosts are named", len(j.Hosts))
		}
		w.gone("dns149")
		w.end()
		w.begin()
		w.settle(2 * time.Minute)
		w.judged(trial.Offered, 0, "dns149 (answered it, and is gone)")
	})
}

// TestReplayTrouble: what cannot be replayed keeps nothing from being judged by what hosts answer,
// and does not pass; samples that come late are replayed.
func TestReplayTrouble(t *testing.T) {
	inWorld(t, func(w *world) {
		w.answers = func() (replay.Server, error) { return nil, errors.New("no room") }
		w.try("1")
		w.sample("dns1", "www.example.net.")
		w.host("dns1", true, "", tree.Tally{Answers: 500})
		w.settle(5 * time.Minute)
		w.judged(trial.Soaking, 0, "sampled queries cannot be replayed: ")
		w.host("dns1", true, "", tree.Tally{Answers: 500, Servfail: 400})
		w.settle(5 * time.Second)
		w.judged(trial.Withdrawn, 0, "SERVFAIL: 80 % of 500 answers")

		w.answers = func() (replay.Server, error) { return simple{}, nil }
		w.commit(store.Op{Path: tree.SamplePath("internal", "dns1"), Delete: true})
		w.try("2", "ftp.example.net.")
		w.trial.Policy.Rings[0].Soak = time.Hour
		w.commit(store.Op{Path: tree.TrialPath("internal"), Value: tree.Encode(w.trial)})
		w.host("dns1", true, "", tree.Tally{})
		w.settle(10 * time.Minute)
		w.judged(trial.Soaking, 0, noSamples)
		w.sample("dns1", "ftp.example.net.")
		w.settle(15 * time.Second)
		w.judged(trial.Withdrawn, 0, "100 % of 10 sampled queries would lose their answer")
	})
}

// TestSlowReplay: hosts that were not listened to, while queries were replayed, are not silent.
func TestSlowReplay(t *testing.T) {
	inWorld(t, func(w *world) {
		w.answers = func() (replay.Server, error) {
			time.Sleep(2 * time.Minute)
			return simple{}, nil
		}
		w.try("1")
		w.trial.Policy.Rings[0].Hosts, w.trial.Policy.Rings[0].Soak = []string{"dns*"}, 10*time.Minute
		w.commit(store.Op{Path: tree.TrialPath("internal"), Value: tree.Encode(w.trial)})
		for i := range 20 {
			w.host(fmt.Sprintf("dns%d", i), true, "", tree.Tally{})
		}
		w.settle(10 * time.Second)
		since := w.judged(trial.Soaking, 0, "20 hosts").Since
		w.sample("dns1", "www.example.net.")
		w.settle(5 * time.Minute)
		if j := w.judged(trial.Soaking, 0, "0 % of 10 sampled queries"); j.Since != since {
			t.Errorf("it soaks since %d, before since %d", j.Since, since)
		}
	})
}
