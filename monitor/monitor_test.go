package monitor

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// fakeHost answers the freshness record with the text it is given; "" is silence.
func fakeHost(t *testing.T, text *atomic.Value) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		s, _ := text.Load().(string)
		if s == "" {
			return
		}
		m := new(dns.Msg).SetReply(q)
		m.Authoritative = true
		m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: "_fresh.internal.zonecast.internal.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{s}}}
		w.WriteMsg(m)
	})}
	done := make(chan error, 1)
	go func() { done <- srv.ActivateAndServe() }()
	t.Cleanup(func() {
		srv.Shutdown()
		<-done
	})
	return pc.LocalAddr().String()
}

func stampNow() string { return fmt.Sprintf("v=7 t=%d d=0123456789abcdef", time.Now().UnixMilli()) }

func TestHostStates(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	st := memstore.New()
	t.Cleanup(func() { st.Close() })
	var text atomic.Value
	text.Store(stampNow())
	put := func(name, addr, digest string) {
		t.Helper()
		h := tree.Host{Name: name, DNS: addr, Datasets: map[string]tree.HostDataset{"internal": {Version: 7, Digest: digest}}}
		if _, err := st.Commit(ctx, store.Txn{Do: []store.Op{{Path: tree.HostPath(name), Value: tree.Encode(h)}}}); err != nil {
			t.Fatal(err)
		}
	}
	head := tree.Head{Version: 7, Digest: "aa"}
	if _, err := st.Commit(ctx, store.Txn{Do: []store.Op{{Path: tree.HeadPath("internal"), Value: tree.Encode(head)}}}); err != nil {
		t.Fatal(err)
	}
	put("host0", fakeHost(t, &text), "aa")

	cfg := DefaultConfig()
	cfg.Interval, cfg.Timeout, cfg.StaleAfter = 10*time.Millisecond, 200*time.Millisecond, 5*time.Second
	var log strings.Builder
	var passed atomic.Int64 // nanoseconds that the monitor's clock is ahead
	reg := prometheus.NewRegistry()
	m, err := New(cfg, Deps{Store: st, Log: slog.New(slog.NewTextHandler(&log, nil)), Metrics: reg, Now: func() time.Time { return time.Now().Add(time.Duration(passed.Load())) }})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()

	until := func(name string, want State) HostReport {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
			for _, h := range m.Report().Hosts {
				if h.Name == name && h.State == want {
					return h
				}
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s is not %s: %+v", name, want, m.Report())
			}
		}
	}
	if h := until("host0", Fresh); h.AgeMs < 0 || h.AgeMs > 5000 {
		t.Errorf("age %d ms, want 0 to 5000", h.AgeMs)
	}
	text.Store(fmt.Sprintf("v=7 t=%d d=00", time.Now().Add(-time.Minute).UnixMilli()))
	if h := until("host0", Stale); h.AgeMs < 60_000 {
		t.Errorf("age %d ms, want at least 60000", h.AgeMs)
	}
	text.Store("nonsense")
	until("host0", Silent)
	text.Store(stampNow())
	until("host0", Fresh)
	put("host1", fakeHost(t, &text), "bb")
	if h := until("host1", Disagrees); !strings.Contains(h.Why, "bb") || !strings.Contains(h.Why, "aa") {
		t.Errorf("why = %q, want both digests", h.Why)
	}
	put("host1", fakeHost(t, &text), "aa")
	until("host1", Fresh)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	moved := map[string]float64{}
	for _, f := range families {
		for _, x := range f.Metric {
			moved[f.GetName()] += x.GetCounter().GetValue() + x.GetGauge().GetValue() + float64(x.GetHistogram().GetSampleCount())
		}
	}
	for name, least := range map[string]float64{
		"zonecast_monitor_age_seconds": 3, "zonecast_monitor_probe_seconds": 3, "zonecast_monitor_hosts": 2,
		"zonecast_monitor_probe_failures_total": 1, "zonecast_monitor_disagreements_total": 1,
	} {
		if moved[name] < least {
			t.Errorf("%s = %v, want at least %v", name, moved[name], least)
		}
	}
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/fleet", nil))
	var r Report
	if err := json.Unmarshal(rec.Body.Bytes(), &r); err != nil || len(r.Hosts) != 2 || r.Version != 7 {
		t.Errorf("report %s: %v", rec.Body, err)
	}
	if _, err := st.Commit(ctx, store.Txn{Do: []store.Op{{Path: tree.HostPath("host1"), Delete: true}}}); err != nil {
		t.Fatal(err)
	}
	// A host that was there is missing for a while, and then forgotten.
	if h := until("host1", Missing); !strings.Contains(h.Why, "gone from the store") {
		t.Errorf("why = %q", h.Why)
	}
	put("host1", fakeHost(t, &text), "aa")
	until("host1", Fresh)
	if _, err := st.Commit(ctx, store.Txn{Do: []store.Op{{Path: tree.HostPath("host1"), Delete: true}}}); err != nil {
		t.Fatal(err)
	}
	until("host1", Missing)
	passed.Store(int64(cfg.MissingFor))
	for deadline := time.Now().Add(10 * time.Second); len(m.Report().Hosts) != 1; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a host that is gone for an hour is still reported")
		}
	}
	passed.Store(0)
	until("host0", Fresh)
	// A clock that is ahead does not make a host fresh.
	text.Store(fmt.Sprintf("v=7 t=%d d=00", time.Now().Add(time.Minute).UnixMilli()))
	if h := until("host0", Stale); !strings.Contains(h.Why, "future") {
		t.Errorf("why = %q, want that the clocks disagree", h.Why)
	}
	// What a host says that a person should look at is passed on, and counted.
	alarmed := tree.Host{Name: "host0", DNS: "192.0.2.1:53", Datasets: map[string]tree.HostDataset{"internal": {Version: 7, Digest: "aa"}}, Alarms: []string{"manifest was valid until yesterday"}}
	if _, err := st.Commit(ctx, store.Txn{Do: []store.Op{{Path: tree.HostPath("host0"), Value: tree.Encode(alarmed)}}}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		hosts := m.Report().Hosts
		if len(hosts) > 0 && slices.Equal(hosts[0].Alarms, alarmed.Alarms) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no alarm: %+v", hosts)
		}
	}
	families, err = reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "zonecast_monitor_alarmed_hosts" && f.GetMetric()[0].GetGauge().GetValue() != 1 {
			t.Errorf("hosts with alarms: %v, expected 1", f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	// A host of another dataset is none of ours.
	other := tree.Host{Name: "host2", DNS: "192.0.2.1:53", Datasets: map[string]tree.HostDataset{"external": {Version: 7, Digest: "cc"}}}
	if _, err := st.Commit(ctx, store.Txn{Do: []store.Op{{Path: tree.HostPath("host2"), Value: tree.Encode(other)}}}); err != nil {
		t.Fatal(err)
	}
	put("host3", fakeHost(t, &text), "aa")
	until("host3", Stale)
	for _, h := range m.Report().Hosts {
		if h.Name == "host2" {
			t.Errorf("a host of another dataset is reported: %+v", h)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	if !strings.Contains(log.String(), "is=stale") || !strings.Contains(log.String(), "is=fresh") {
		t.Errorf("the log does not tell the changes of state:\n%s", log.String())
	}
}

// TestJoining: a host that takes a dataset up beside others is not silent before a minute is over; one
// that has answered it is, at once.
func TestJoining(t *testing.T) {
	now := time.Now()
	m, err := New(DefaultConfig(), Deps{Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	var text atomic.Value
	text.Store("nonsense")
	addr := fakeHost(t, &text)
	says := func(version uint64) {
		h := tree.Host{Name: "host0", DNS: addr, Carries: []string{"external", "internal"}, Datasets: map[string]tree.HostDataset{"external": {Version: 7, Digest: "cc"}}}
		if version > 0 {
			h.Datasets["internal"] = tree.HostDataset{Version: version, Digest: "aa"}
		}
		m.take(tree.Hosts, store.Batch{Puts: []store.Node{{Path: tree.HostPath("host0"), Value: tree.Encode(h)}}})
	}
	is := func(want State, why string) {
		t.Helper()
		m.probe(t.Context(), "host0", addr)
		if h := m.Report().Hosts[0]; h.State != want || !strings.Contains(h.Why, why) {
			t.Errorf("%+v, want %s because %s", h, want, why)
		}
	}
	says(0)
	is(Unknown, "takes the dataset up since")
	now = now.Add(joining)
	is(Silent, "no time")
	text.Store(stampNow())
	says(7)
	is(Stale, "") // by the clock that was put forward
	text.Store("nonsense")
	says(0)
	is(Silent, "no time")
}

func TestDigestsStayBounded(t *testing.T) {
	d := digests{}
	for v := range uint64(10_000) {
		d.note(v, "x")
	}
	if len(d) > 2*remembered {
		t.Errorf("%d versions remembered, at most %d", len(d), 2*remembered)
	}
	if _, ok := d.check(9_999, "y"); ok {
		t.Error("another digest of the newest version passes")
	}
}

func TestMissingHostsStayBounded(t *testing.T) {
	m, err := New(DefaultConfig(), Deps{Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	var puts []store.Node
	for i := range maxMissing + 10 {
		puts = append(puts, store.Node{Path: tree.HostPath(fmt.Sprintf("h%d", i)), Value: []byte("{}")})
	}
	m.take(tree.Hosts, store.Batch{Puts: puts})
	m.take(tree.Hosts, store.Batch{Deletes: []string{puts[0].Path}})
	m.take(tree.Hosts, store.Batch{Reset: true})
	if n := len(m.hosts); n != maxMissing || m.hosts["h0"] != nil {
		t.Errorf("%d missing hosts, want %d without the first", n, maxMissing)
	}
}
