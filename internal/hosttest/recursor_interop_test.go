//go:build interop

package hosttest

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/authority"
	"github.com/zonecast/zonecast/internal/daemon"
	"github.com/zonecast/zonecast/internal/ports"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/recursor"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
)

// dnsHost is a host whose agent is the test: a journal, an authority, and Unbound.
type dnsHost struct {
	t        testing.TB
	dir      string
	writer   *journal.Writer
	dataset  *snapshot.Dataset
	sign     func(*snapshot.Manifest) []byte
	config   recursor.Config
	registry *prometheus.Registry
	answers  *authority.Server
}

func needUnbound(t testing.TB) {
	if _, err := daemon.Find("unbound"); err != nil {
		t.Skip("unbound is not installed: apt-get install unbound")
	}
}

// newJournals makes a host on which nothing runs.
func newJournals(t testing.TB) *dnsHost {
	t.Helper()
	// Not one of t, whose parent Unbound's account cannot pass.
	dir, err := os.MkdirTemp("", "zonecast-host-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := &dnsHost{t: t, dir: dir}
	key, err := snapshot.LoadOrCreateKey(filepath.Join(h.dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	h.sign = func(m *snapshot.Manifest) []byte {
		b, err := m.Sign(key)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if h.writer, h.dataset, err = journal.OpenWriter(filepath.Join(h.dir, "journal"), journal.Options{Dataset: "internal"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.writer.Close() })
	c := &h.config
	*c = recursor.DefaultConfig()
	c.Journal, c.StatusDir, c.Keys = filepath.Join(h.dir, "journal"), filepath.Join(h.dir, "status"), []string{filepath.Join(h.dir, "key.pub")}
	if err := os.Mkdir(c.StatusDir, 0o755); err != nil {
		t.Fatal(err)
	}
	return h
}

// newDNSHost makes a host with its authority; Unbound is configured and not started.
func newDNSHost(t testing.TB) *dnsHost {
	t.Helper()
	needUnbound(t)
	h := newJournals(t)
	base := ports.Free(t, 3)
	local := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", base+i) }
	c := &h.config
	c.Listen, c.Authority, c.Dir = []string{local(0)}, local(1), filepath.Join(h.dir, "recursor")
	c.Forward = []string{local(2)}
	c.Threads, c.CacheSize = 1, 4<<20
	h.internet(local(2))
	ac := authority.DefaultConfig()
	ac.Listen, ac.Journal, ac.StatusDir, ac.Keys, ac.UDPWorkers, ac.Sample = []string{c.Authority}, c.Journal, c.StatusDir, c.Keys, 1, 0
	var err error
	if h.answers, err = authority.New(ac, authority.Deps{Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()}); err != nil {
		t.Fatal(err)
	}
	h.run("authority", h.answers.Run)
	return h
}

// run runs a stage until the test ends, or what it returns is called.
func (h *dnsHost) run(name string, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx); err != nil {
			h.t.Errorf("%s: %v", name, err)
		}
	}()
	stop = func() { cancel(); <-done }
	h.t.Cleanup(stop)
	return stop
}

// internet stands for all other servers: it knows no name.
func (h *dnsHost) internet(at string) {
	h.t.Helper()
	c, err := net.ListenPacket("udp", at)
	if err != nil {
		h.t.Fatal(err)
	}
	s := &dns.Server{PacketConn: c, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		soa, err := dns.NewRR(". 60 IN SOA a.root. host.root. 1 60 60 60 60")
		if err != nil {
			h.t.Error(err)
		}
		m := new(dns.Msg).SetRcode(q, dns.RcodeNameError)
		m.RecursionAvailable, m.Ns = true, []dns.RR{soa}
		_ = w.WriteMsg(m) // who asked may be gone
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.ActivateAndServe(); err != nil {
			h.t.Error(err)
		}
	}()
	h.t.Cleanup(func() {
		if err := s.Shutdown(); err != nil {
			h.t.Error(err)
		}
		<-done
	})
}

// recurse starts Unbound's driver.
func (h *dnsHost) recurse() (r *recursor.Recursor, stop func()) {
	h.t.Helper()
	h.registry = prometheus.NewRegistry()
	log := slog.New(slog.NewTextHandler(h.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	r, err := recursor.New(h.config, recursor.Deps{Log: log, Metrics: h.registry})
	if err != nil {
		h.t.Fatal(err)
	}
	return r, h.run("recursor", r.Run)
}

// publish makes a version of text: lines of records, those with a minus before them go.
func (h *dnsHost) publish(text string) {
	h.t.Helper()
	sets := map[record.Key]record.RRset{}
	var put []record.RRset
	var remove []record.Key
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		line, gone := strings.CutPrefix(line, "-")
		rr, err := dns.NewRR(line)
		if err != nil {
			h.t.Fatalf("%s: %v", line, err)
		}
		wire := make([]byte, 65535)
		n, err := dns.PackRR(rr, wire, 0, nil, false)
		if err != nil {
			h.t.Fatal(err)
		}
		owner, err := record.ParseName(rr.Header().Name)
		if err != nil {
			h.t.Fatal(err)
		}
		k := record.Key{Owner: owner, Type: record.Type(rr.Header().Rrtype)}
		if gone {
			remove = append(remove, k)
			continue
		}
		data := append(slices.Clone(sets[k].Data), record.Rdata(wire[n-int(rr.Header().Rdlength):n]))
		sets[k] = record.NewRRset(owner, k.Type, rr.Header().Ttl, data...)
	}
	for _, s := range sets {
		put = append(put, s)
	}
	delta, err := h.dataset.Change(time.Now().UnixMilli(), put, remove)
	if err != nil {
		h.t.Fatal(err)
	}
	encoded, err := delta.Encode()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.dataset.Apply(delta); err != nil {
		h.t.Fatal(err)
	}
	d := h.dataset
	if err := h.writer.Append([][]byte{encoded}, h.sign(&snapshot.Manifest{
		Dataset: d.Name(), Version: d.Version(), Time: d.Time(), Digest: d.Digest(), Chain: d.Chain(), Content: d.Content(), Oldest: 1,
	})); err != nil {
		h.t.Fatal(err)
	}
}

// ask asks Unbound and gives code and records of the answer as text.
func (h *dnsHost) ask(name, qtype string) string {
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.StringToType[qtype])
	c := dns.Client{Timeout: 2 * time.Second}
	r, _, err := c.Exchange(m, h.config.Listen[0])
	if err != nil {
		return err.Error()
	}
	var parts []string
	for _, rr := range r.Answer {
		parts = append(parts, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(parts)
	return strings.Join(append([]string{dns.RcodeToString[r.Rcode]}, parts...), " ")
}

// see waits until Unbound answers so.
func (h *dnsHost) see(name, qtype, want string) {
	h.t.Helper()
	end := time.Now().Add(20 * time.Second)
	for {
		got := h.ask(name, qtype)
		if got == want {
			return
		}
		if time.Now().After(end) {
			h.t.Fatalf("%s %s: Unbound answers %q, want %q", name, qtype, got, want)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// counter is a metric of the recursor; -1 when it is not there.
func (h *dnsHost) counter(name, label, value string) float64 {
	h.t.Helper()
	all, err := h.registry.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range all {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetName() == label && l.GetValue() == value {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	return -1
}

const zoneText = `
	example.net. 86400 IN SOA ns.example.net. host.example.net. 1 7200 1800 604800 86400
	example.net. 86400 IN NS ns.example.net.
	ns.example.net. 86400 IN A 192.0.2.53
	www.example.net. 86400 IN A 192.0.2.1
	alias.example.net. 86400 IN CNAME www.example.net.
	txt.example.net. 86400 IN TXT "one"
	*.w.example.net. 86400 IN A 192.0.2.77
	*.w.example.net. 86400 IN TXT "wild"
`

// What changes in the dataset is seen through a real Unbound that has the old answer,
// or that there was none, in its cache for a day.
func TestInteropThroughUnbound(t *testing.T) {
	h := newDNSHost(t)
	h.publish(zoneText)
	r, _ := h.recurse()
	type seen struct{ name, qtype, want string }
	for _, step := range []struct {
		what   string
		before []seen
		change string
		after  []seen
	}{
		{
			"an address",
			[]seen{{"www.example.net", "A", "NOERROR 192.0.2.1"}, {"alias.example.net", "A", "NOERROR 192.0.2.1 www.example.net."}},
			"www.example.net. 86400 IN A 192.0.2.2",
			[]seen{{"www.example.net", "A", "NOERROR 192.0.2.2"}, {"alias.example.net", "A", "NOERROR 192.0.2.2 www.example.net."}},
		},
		{
			"an alias", nil, "alias.example.net. 86400 IN CNAME ns.example.net.",
			[]seen{{"alias.example.net", "A", "NOERROR 192.0.2.53 ns.example.net."}},
		},
		{
			"a type that flush leaves",
			[]seen{{"txt.example.net", "TXT", `NOERROR "one"`}},
			`txt.example.net. 86400 IN TXT "two"`,
			[]seen{{"txt.example.net", "TXT", `NOERROR "two"`}},
		},
		{
			"a created name",
			[]seen{{"new.example.net", "A", "NXDOMAIN"}, {"new.example.net", "TXT", "NXDOMAIN"}, {"new.example.net", "CAA", "NXDOMAIN"}},
			"new.example.net. 86400 IN A 192.0.2.3",
			[]seen{{"new.example.net", "A", "NOERROR 192.0.2.3"}, {"new.example.net", "TXT", "NOERROR"}, {"new.example.net", "CAA", "NOERROR"}},
		},
		{
			"a removed name", nil, "-new.example.net. 86400 IN A 192.0.2.3",
			[]seen{{"new.example.net", "A", "NXDOMAIN"}, {"new.example.net", "TXT", "NXDOMAIN"}},
		},
		{
			"an empty non-terminal",
			[]seen{{"empty.example.net", "A", "NXDOMAIN"}},
			"below.empty.example.net. 86400 IN A 192.0.2.4",
			[]seen{{"empty.example.net", "A", "NOERROR"}},
		},
		{
			"a name that a wildcard had",
			[]seen{{"y.w.example.net", "TXT", `NOERROR "wild"`}, {"x.y.w.example.net", "TXT", `NOERROR "wild"`}},
			"y.w.example.net. 86400 IN A 192.0.2.5",
			[]seen{{"y.w.example.net", "A", "NOERROR 192.0.2.5"}, {"y.w.example.net", "TXT", "NOERROR"}, {"x.y.w.example.net", "TXT", "NXDOMAIN"}},
		},
		{
			"a name that a wildcard has again", nil, "-y.w.example.net. 86400 IN A 192.0.2.5",
			[]seen{{"y.w.example.net", "A", "NOERROR 192.0.2.77"}, {"x.y.w.example.net", "TXT", `NOERROR "wild"`}},
		},
		{
			"a wildcard",
			[]seen{{"some.w.example.net", "A", "NOERROR 192.0.2.77"}},
			"*.w.example.net. 86400 IN A 192.0.2.78",
			[]seen{{"some.w.example.net", "A", "NOERROR 192.0.2.78"}},
		},
		{
			"a zone", nil,
			`example.org. 86400 IN SOA ns.example.net. host.example.net. 1 7200 1800 604800 86400
			www.example.org. 86400 IN A 192.0.2.6`,
			[]seen{{"www.example.org", "A", "NOERROR 192.0.2.6"}},
		},
		{
			"a zone that Unbound answers itself",
			[]seen{{"9.0.0.10.in-addr.arpa", "PTR", "NXDOMAIN"}},
			`10.in-addr.arpa. 86400 IN SOA ns.example.net. host.example.net. 1 7200 1800 604800 86400
			9.0.0.10.in-addr.arpa. 86400 IN PTR www.example.net.`,
			[]seen{{"9.0.0.10.in-addr.arpa", "PTR", "NOERROR www.example.net."}},
		},
		{
			"a zone that goes and leaves its part to Unbound", nil,
			`-10.in-addr.arpa. 86400 IN SOA ns.example.net. host.example.net. 1 7200 1800 604800 86400
			-9.0.0.10.in-addr.arpa. 86400 IN PTR www.example.net.`,
			[]seen{{"9.0.0.10.in-addr.arpa", "PTR", "NXDOMAIN"}, {"www.example.net", "A", "NOERROR 192.0.2.2"}},
		},
		{
			"many names", nil, manyRecords(700, 1),
			[]seen{{"n699.example.net", "A", "NOERROR 198.51.100.1"}},
		},
		{
			"many names again",
			[]seen{{"n0.example.net", "A", "NOERROR 198.51.100.1"}, {"n350.example.net", "A", "NOERROR 198.51.100.1"}},
			manyRecords(700, 2),
			[]seen{{"n0.example.net", "A", "NOERROR 198.51.100.2"}, {"n350.example.net", "A", "NOERROR 198.51.100.2"}, {"n699.example.net", "A", "NOERROR 198.51.100.2"}},
		},
	} {
		for _, s := range step.before {
			h.see(s.name, s.qtype, s.want)
		}
		began := time.Now()
		h.publish(step.change)
		for _, s := range step.after {
			h.see(s.name, s.qtype, s.want)
		}
		t.Logf("%s: seen after %v", step.what, time.Since(began).Round(100*time.Microsecond))
	}
	for command, least := range map[string]float64{"flush": 5, "flush_type": 10, "flush_zone": 5} {
		if n := h.counter("zonecast_recursor_flushes_total", "command", command); n < least {
			t.Errorf("%s was given %v times, want %v at least", command, n, least)
		}
	}
	if n := h.counter("zonecast_recursor_answers_total", "rcode", "NXDOMAIN"); n == 0 {
		t.Error("Unbound's statistics have no NXDOMAIN")
	}
	if all := r.Troubles(); len(all) > 0 {
		t.Errorf("troubles: %q", all)
	}
	if s := r.Status().Carried; len(s) != 1 || s[0].Version == 0 || s[0].Zones != 2 {
		t.Errorf("status is %+v, want 2 zones", s)
	}
}

func manyRecords(n int, last byte) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "n%d.example.net. 86400 IN A 198.51.100.%d\n", i, last)
	}
	return b.String()
}
