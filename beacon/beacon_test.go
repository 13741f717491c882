package beacon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/zonecast/zonecast/beacon/dnslog/dnslogtest"
	"github.com/zonecast/zonecast/beacon/token"
	"github.com/zonecast/zonecast/rtt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const keyLine = "1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

// running is a Beacon whose Run goes on.
type running struct {
	*Beacon
	t    testing.TB
	stop func()
	log  *logged
}

type logged struct {
	mu sync.Mutex // guards below
	b  bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func testConfig(t testing.TB) Config {
	dir := t.TempDir()
	c := DefaultConfig()
	c.Zone, c.PoPs, c.PoP = "Beacon.Example.net", []string{"esams", "eqiad", "ulsfo"}, "esams"
	c.Keys, c.Out, c.Name = filepath.Join(dir, "keys"), filepath.Join(dir, "rtt"), "b1"
	c.Dnstap = []string{filepath.Join(dir, "tap")}
	c.Grace, c.Write = 100*time.Millisecond, 100*time.Millisecond
	if err := os.WriteFile(c.Keys, []byte(keyLine), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

func run(t testing.TB, c Config) *running {
	t.Helper()
	log := &logged{}
	b, err := New(c, Deps{Log: slog.New(slog.NewTextHandler(log, nil)), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	r := &running{Beacon: b, t: t, log: log, stop: sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})}
	t.Cleanup(r.stop)
	return r
}

// eventually waits until ok.
func (r *running) eventually(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("not within 10 s: %s\n%s", what, r.log)
		}
	}
}

// do makes a request from an address.
func (r *running) do(method, path, from, body string, headers ...string) *http.Response {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	req.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(from), 4242).String()
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, req)
	return w.Result()
}

func (r *running) start(from string, headers ...string) (s started, ok bool) {
	r.t.Helper()
	resp := r.do("GET", "/start", from, "", headers...)
	if resp.StatusCode == http.StatusNoContent {
		return s, false
	}
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil || resp.StatusCode != 200 {
		r.t.Fatalf("start: status %d, %v", resp.StatusCode, err)
	}
	return s, true
}

func (r *running) outcomes(v *prometheus.CounterVec) map[string]int {
	got := map[string]int{}
	for _, outcomes := range [][]string{startOutcomes, reportOutcomes, queryOutcomes, askerOutcomes, {"both", "http"}} {
		for _, o := range outcomes {
			c, err := v.GetMetricWithLabelValues(o)
			if err != nil {
				r.t.Fatal(err)
			}
			if n := int(testutil.ToFloat64(c)); n > 0 {
				got[o] = n
			}
		}
	}
	return got
}

// authority is one that tells of queries.
type authority struct {
	*dnslogtest.Authority
	t testing.TB
}

func (r *running) authority() *authority {
	r.t.Helper()
	a, err := dnslogtest.Dial(split(r.cfg.Dnstap[0]))
	if err != nil {
		r.t.Fatal(err)
	}
	return &authority{a, r.t}
}

func (a *authority) tell(name, resolver, subnet string) {
	a.t.Helper()
	var p netip.Prefix
	if subnet != "" {
		p = netip.MustParsePrefix(subnet)
	}
	if err := a.Tell(name, netip.MustParseAddr(resolver), p); err != nil {
		a.t.Fatal(err)
	}
}

func (a *authority) end() {
	a.t.Helper()
	if err := a.Close(); err != nil {
		a.t.Error(err)
	}
}

// lines is what the files say, a line a cell: kind, prefix, PoP, milliseconds, measurements, clients,
// demand, queries.
func (r *running) lines() []string {
	r.t.Helper()
	tables, err := rtt.ReadDir(r.cfg.Out, rtt.Limit{}, time.Time{})
	if err != nil {
		r.t.Fatal(err)
	}
	all, err := rtt.Recent(tables, 0, rtt.Limit{})
	if err != nil {
		r.t.Fatal(err)
	}
	var lines []string
	for row := range all.All() {
		if len(row.Cells) == 0 {
			lines = append(lines, fmt.Sprint(row.Kind, " ", row.Prefix, " - ", row.Demand, " ", row.Queries))
		}
		for _, c := range row.Cells {
			ms := math.Round(c.Times.Quantile(0.5).Seconds()*100) * 10 // to 10 ms
			lines = append(lines, fmt.Sprint(row.Kind, " ", row.Prefix, " ", c.PoP, " ", ms, " ", c.Times.Count(), " ", c.Clients.Count(), " ", row.Demand, " ", row.Queries))
		}
	}
	return lines
}

func body(token string, times ...any) string {
	m := [][]any{}
	for i := 0; i < len(times); i += 2 {
		m = append(m, []any{times[i], times[i+1], "esams"})
	}
	b, err := json.Marshal(map[string]any{"t": token, "m": m})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// TestMeasurement is the way of three measurements: by a resolver alone, by one that sends the client
// subnet, and one of which DNS tells nothing.
func TestMeasurement(t *testing.T) {
	c := testConfig(t)
	c.Port = 8080
	r := run(t, c)
	a := r.authority()
	first, _ := r.start("198.51.100.77")
	if len(first.Token) != token.Size || first.Suffix != ".beacon.example.net:8080/b" || len(first.Names) != 5 || !slices.Contains(first.Names, "map") || !slices.Contains(first.Names, "any") || !slices.Contains(first.Names, "ulsfo") {
		t.Fatalf("started %+v", first)
	}
	// As resolvers write it, and of a farm.
	a.tell(strings.ToUpper(first.Token)+".eSams.Beacon.example.net.", "203.0.113.5", "")
	a.tell(first.Token+".eqiad.beacon.example.net.", "203.0.113.99", "")
	a.tell("_8080._https."+first.Token+".map.beacon.example.net.", "198.18.7.1", "0.0.0.0/0")
	r.eventually("queries are taken", func() bool { return r.outcomes(r.metrics.queries)["taken"] == 3 })
	r.do("POST", "/report", "198.51.100.77", body(first.Token, "esams", 20, "eqiad", 90, "map", 40, "any", 30))

	second, _ := r.start("198.51.100.78")
	r.do("POST", "/report", "198.51.100.78", body(second.Token, "esams", 20)) // before DNS tells
	a.tell(second.Token+".esams.beacon.example.net.", "203.0.113.5", "2001:db8:7:8::/56")
	a.tell(second.Token+".esams.beacon.example.net.", "203.0.113.5", "198.51.100.0/24")

	third, _ := r.start("2001:db8:1:2::3")
	r.do("POST", "/report", "2001:db8:1:2::3", body(third.Token, "ulsfo", 150))

	a.tell("www.example.net.", "203.0.113.5", "")
	a.tell("www.example.net.", "203.0.113.5", "198.51.100.0/24")
	a.end()
	want := []string{
		"client 198.51.100.0/24 eqiad 90 1 1 2 1", "client 198.51.100.0/24 esams 20 2 2 2 1",
		"client 2001:db8:1::/48 ulsfo 150 1 1 1 0",
		"client 2001:db8:7::/48 esams 20 1 1 0 0",
		"resolver 198.18.7.0/24 eqiad 90 1 1 0 0", "resolver 198.18.7.0/24 esams 20 1 1 0 0",
		"resolver 203.0.113.0/24 eqiad 90 1 1 1 1", "resolver 203.0.113.0/24 esams 20 1 1 1 1",
	}
	r.eventually("all is written", func() bool { return slices.Equal(r.lines(), want) || r.dump(want) })
	if got := r.outcomes(r.metrics.joins); got["both"] != 2 || got["http"] != 1 {
		t.Errorf("joined %v", got)
	}
	// Over HTTP it is the same.
	w := httptest.NewRecorder()
	r.Times().ServeHTTP(w, httptest.NewRequest("GET", "/rtt", nil))
	if tables, err := rtt.ReadAll(w.Body, rtt.Limit{}, 10); err != nil || len(tables) != 1 || tables[0].Len() != 5 {
		t.Errorf("over HTTP %d tables: %v", len(tables), err)
	}
	if n := testutil.CollectAndCount(r.metrics.regret); n != 1 {
		t.Errorf("%d metrics of regret", n)
	}
	r.stop()
	if text := r.log.String(); strings.Contains(text, "level=ERROR") || strings.Contains(text, "level=WARN") {
		t.Errorf("logged: %s", text)
	}
	// No address is anywhere: not in the files, not in the log.
	files, _ := filepath.Glob(filepath.Join(r.cfg.Out, "*"))
	all := r.log.String()
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all += string(b)
	}
	for _, address := range []string{"198.51.100.77", "198.51.100.78", "203.0.113.5", "203.0.113.99", "2001:db8:1:2"} {
		ip := netip.MustParseAddr(strings.TrimSuffix(address, ":2") + map[bool]string{true: ":2::3"}[strings.HasSuffix(address, ":2")])
		if strings.Contains(all, address) || bytes.Contains([]byte(all), ip.AsSlice()) {
			t.Errorf("%s is in a file or the log", address)
		}
	}
}

func (r *running) dump(want []string) bool {
	if testing.Verbose() {
		r.t.Logf("got  %q\nwant %q", r.lines(), want)
		time.Sleep(200 * time.Millisecond)
	}
	return false
}

// TestRefusals: what is not to be counted is not, and is counted as what it is.
func TestRefusals(t *testing.T) {
	c := testConfig(t)
	c.Origins = []string{"https://www.example.net"}
	c.Proxies = []string{"192.0.2.0/28"}
	c.PerMinute = 3
	r := run(t, c)
	keys, err := token.Load(c.Keys)
	if err != nil {
		t.Fatal(err)
	}
	from := func(n int) string { return fmt.Sprintf("198.51.%d.1", n) }
	fresh := func() string { text, _ := keys.Issue(time.Now()); return text }
	old, _ := keys.Issue(time.Now().Add(-c.Life - c.Skew - 2*time.Second))
	future, _ := keys.Issue(time.Now().Add(c.Skew + 3*time.Second))
	foreign, _ := token.Random().Issue(time.Now())
	once := fresh()
	many := make([]any, 0, 2*(maxTimes+1))
	for i := range maxTimes + 1 {
		many = append(many, fmt.Sprint("p", i), 1)
	}
	type request struct {
		name, outcome, from, body string
		headers                   []string
	}
	n := 0
	next := func() string { n++; return from(n) }
	requests := []request{
		{"taken", "taken", next(), body(once, "esams", 1), nil},
		{"again", "repeated", next(), body(once, "esams", 1), nil},
		{"do not track", "opted_out", next(), body(fresh(), "esams", 1), []string{"DNT", "1"}},
		{"privacy control", "opted_out", next(), body(fresh(), "esams", 1), []string{"Sec-GPC", "1"}},
		{"another page", "origin", next(), body(fresh(), "esams", 1), []string{"Origin", "https://www.example.org"}},
		{"our page", "taken", next(), body(fresh(), "esams", 1), []string{"Origin", "https://www.example.net"}},
		{"private", "private", "10.1.2.3", body(fresh(), "esams", 1), nil},
		{"loopback", "private", "127.0.0.1", body(fresh(), "esams", 1), nil},
		{"mapped private", "private", "::ffff:192.168.1.1", body(fresh(), "esams", 1), nil},
		{"unique local", "private", "fd00::1", body(fresh(), "esams", 1), nil},
		{"link local", "private", "fe80::1", body(fresh(), "esams", 1), nil},
		{"carrier", "private", "100.64.3.2", body(fresh(), "esams", 1), nil},
		{"a proxy's word", "private", "192.0.2.1", body(fresh(), "esams", 1), []string{"X-Forwarded-For", "10.0.0.1"}},
		{"a proxy's noise", "private", "192.0.2.1", body(fresh(), "esams", 1), []string{"X-Forwarded-For", "unknown"}},
		{"a stranger's word", "taken", next(), body(fresh(), "esams", 1), []string{"X-Forwarded-For", "10.0.0.1"}},
		{"expired", "expired", next(), body(old, "esams", 1), nil},
		{"future", "future", next(), body(future, "esams", 1), nil},
		{"another key", "forged", next(), body(foreign, "esams", 1), nil},
		{"no token", "malformed", next(), body("", "esams", 1), nil},
		{"a long token", "malformed", next(), body(strings.Repeat("a", 64), "esams", 1), nil},
		{"unknown target", "malformed", next(), body(fresh(), "drmrs", 1), nil},
		{"twice a target", "malformed", next(), body(fresh(), "esams", 1, "esams", 2), nil},
		{"no times", "malformed", next(), body(fresh()), nil},
		{"too many", "malformed", next(), body(fresh(), many...), nil},
		{"zero", "malformed", next(), body(fresh(), "esams", 0), nil},
		{"negative", "malformed", next(), body(fresh(), "esams", -5), nil},
		{"two minutes", "malformed", next(), body(fresh(), "esams", 120_000), nil},
		{"text", "malformed", next(), body(fresh(), "esams", "fast"), nil},
		{"huge", "malformed", next(), `{"t":"` + fresh() + `","m":[["esams",1e999]]}`, nil},
		{"null", "malformed", next(), `{"t":"` + fresh() + `","m":[null]}`, nil},
		{"unknown field", "malformed", next(), `{"t":"` + fresh() + `","m":[["esams",1]],"x":1}`, nil},
		{"something behind", "malformed", next(), body(fresh(), "esams", 1) + "{}", nil},
		{"empty", "malformed", next(), "", nil},
		{"deep", "malformed", next(), strings.Repeat("[", 4000), nil},
		{"too large", "malformed", next(), body(fresh(), "esams", 1) + strings.Repeat(" ", maxBody), nil},
	}
	flood := next()
	for range 3 {
		requests = append(requests, request{"before the bound", "taken", flood, body(fresh(), "esams", 1), nil})
	}
	requests = append(requests, request{"over the bound", "limited", strings.TrimSuffix(flood, ".1") + ".200", body(fresh(), "esams", 1), nil})
	for _, q := range requests {
		before := r.outcomes(r.metrics.reports)[q.outcome]
		resp := r.do("POST", "/report", q.from, q.body, q.headers...)
		if got := r.outcomes(r.metrics.reports)[q.outcome]; got != before+1 || resp.StatusCode != http.StatusNoContent {
			t.Errorf("%s: status %d, outcomes %v, expected one %s more", q.name, resp.StatusCode, r.outcomes(r.metrics.reports), q.outcome)
		}
		if len(resp.Cookies()) > 0 || resp.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: a cookie", q.name)
		}
	}
	if resp := r.do("POST", "/report", next(), body(fresh(), "esams", 1), "Origin", "https://www.example.net"); resp.Header.Get("Access-Control-Allow-Origin") != "https://www.example.net" || resp.Header.Get("Vary") != "Origin" {
		t.Errorf("headers for our page: %v", resp.Header)
	}
	if resp := r.do("GET", "/report", next(), ""); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET of a report: %d", resp.StatusCode)
	}
}

func TestStart(t *testing.T) {
	c := testConfig(t)
	c.PerMinute, c.Targets, c.Most, c.Anycast = 2, 2, 16, ""
	r := run(t, c)
	s, ok := r.start("198.51.1.1")
	if !ok || len(s.Names) != 3 || slices.Contains(s.Names, "any") || !slices.Contains(s.Names, "map") {
		t.Errorf("started %v %+v", ok, s)
	}
	for name, headers := range map[string][]string{"opted_out": {"DNT", "1"}} {
		if _, ok := r.start("198.51.2.1", headers...); ok {
			t.Errorf("%s: a token", name)
		}
	}
	if _, ok := r.start("10.0.0.1"); ok {
		t.Error("a private address has a token")
	}
	r.start("198.51.1.2")
	if _, ok := r.start("198.51.1.3"); ok {
		t.Error("a third token in a minute")
	}
	if got := r.outcomes(r.metrics.starts); got["issued"] != 2 || got["opted_out"] != 1 || got["private"] != 1 || got["limited"] != 1 {
		t.Errorf("outcomes %v", got)
	}
	keys, _ := token.Load(c.Keys)
	for i := range 16 {
		text, _ := keys.Issue(time.Now())
		r.do("POST", "/report", fmt.Sprintf("198.51.%d.1", 50+i), body(text, "esams", 1))
	}
	if _, ok := r.start("198.51.3.1"); ok || r.outcomes(r.metrics.starts)["full"] != 1 {
		t.Error("a token while there is no room")
	}
	text, _ := keys.Issue(time.Now())
	r.do("POST", "/report", "198.51.99.1", body(text, "esams", 1))
	if r.outcomes(r.metrics.reports)["full"] != 1 {
		t.Errorf("reports %v", r.outcomes(r.metrics.reports))
	}
}

// What authorities tell that is of no measurement.
func TestQueries(t *testing.T) {
	c := testConfig(t)
	r := run(t, c)
	a := r.authority()
	keys, _ := token.Load(c.Keys)
	text, _ := keys.Issue(time.Now())
	foreign, _ := token.Random().Issue(time.Now())
	for _, name := range []string{
		foreign + ".esams.beacon.example.net.", text + ".drmrs.beacon.example.net.", text + ".beacon.example.net.", "_8080._https." + text + ".drmrs.beacon.example.net.",
		"x.esams.beacon.example.net.", "esams.beacon.example.net.", strings.Repeat("a", 63) + ".esams.beacon.example.net.",
	} {
		a.tell(name, "203.0.113.5", "")
	}
	a.tell(text+".esams.beacon.example.net.", "10.0.0.5", "")
	a.tell(text+".esams.beacon.example.net.", "127.0.0.1", "192.168.0.0/16") // a private subnet says nothing
	a.tell("beacon.example.net.", "203.0.113.5", "0.0.0.0/0")
	a.tell("example.net.", "203.0.113.5", "128.0.0.0/1") // two continents: as good as none
	if err := a.Send([]byte("\xff")); err != nil {
		t.Fatal(err)
	}
	a.end()
	want := map[string]int{"forged": 1, "malformed": 7, "private": 2, "sampled": 2}
	r.eventually("all are counted", func() bool {
		return fmt.Sprint(r.outcomes(r.metrics.queries)) == fmt.Sprint(want) || r.dump([]string{fmt.Sprint(r.outcomes(r.metrics.queries))})
	})
	r.eventually("written", func() bool { return slices.Equal(r.lines(), []string{"resolver 203.0.113.0/24 - 0 2"}) || r.dump(nil) })

	// One that is no authority is told of, and is let go alone.
	network, address := split(c.Dnstap[0])
	stranger, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	io.WriteString(stranger, "GET / HTTP/1.1\r\n\r\n")
	r.eventually("refused", func() bool { return strings.Contains(r.log.String(), "ended without order") })
	r.authority().end()
}

func TestOverTCP(t *testing.T) {
	c := testConfig(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.Dnstap = []string{"tcp://" + l.Addr().String()}
	l.Close()
	r := run(t, c)
	a := r.authority()
	a.tell("www.example.net.", "203.0.113.5", "")
	r.eventually("told", func() bool { return r.outcomes(r.metrics.queries)["sampled"] == 1 })
	r.stop() // while the authority is there
	a.Hang()
}

// A key is changed while measurements are on their way.
func TestKeyRotation(t *testing.T) {
	c := testConfig(t)
	r := run(t, c)
	s, _ := r.start("198.51.1.1")
	const next = "2 ffeeddccbbaa99887766554433221100"
	for _, step := range []string{keyLine + "\n" + next, next + "\n" + keyLine} {
		if err := os.WriteFile(c.Keys, []byte(step), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.loadKeys(); err != nil {
			t.Fatal(err)
		}
	}
	r.do("POST", "/report", "198.51.1.1", body(s.Token, "esams", 1))
	s, _ = r.start("198.51.1.1")
	r.do("POST", "/report", "198.51.1.1", body(s.Token, "esams", 1))
	if got := r.outcomes(r.metrics.reports); got["taken"] != 2 {
		t.Errorf("reports %v", got)
	}
	if err := os.WriteFile(c.Keys, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.loadKeys(); err == nil {
		t.Error("a broken file of keys was read")
	}
	if _, ok := r.start("198.51.1.1"); !ok {
		t.Error("the keys of before are gone")
	}
}

func TestScript(t *testing.T) {
	r := run(t, testConfig(t))
	resp := r.do("GET", "/beacon.js", "198.51.1.1", "")
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) >= 2048 {
		t.Errorf("the script has %d octets, expected less than 2048", len(b))
	}
	for _, word := range []string{"__RATE__", "cookie", "localStorage", "sessionStorage", "indexedDB", "userAgent"} {
		if bytes.Contains(b, []byte(word)) {
			t.Errorf("the script has %s", word)
		}
	}
	for _, word := range []string{"Math.random()>=0.01", "globalPrivacyControl", "doNotTrack", "sendBeacon"} {
		if !bytes.Contains(b, []byte(word)) {
			t.Errorf("the script has no %s", word)
		}
	}
	if resp.Header.Get("Content-Type") != "text/javascript; charset=utf-8" || resp.Header.Get("Cache-Control") == "" {
		t.Errorf("headers %v", resp.Header)
	}
	resp = r.do("GET", "/b", "198.51.1.1", "")
	if b, _ := io.ReadAll(resp.Body); string(b) != "esams" || resp.Header.Get("Timing-Allow-Origin") != "*" || resp.Header.Get("Access-Control-Allow-Origin") != "*" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("what is measured: %q, %v", b, resp.Header)
	}
	if resp := r.do("OPTIONS", "/report", "198.51.1.1", ""); resp.StatusCode != 204 || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("preflight: %d, %v", resp.StatusCode, resp.Header)
	}
}

// A flood from many prefixes takes no more memory and rows than there may be.
func TestReportFlood(t *testing.T) {
	c := testConfig(t)
	c.Rows, c.Most, c.Write = 50, 1000, time.Hour
	r := run(t, c)
	keys, _ := token.Load(c.Keys)
	for i := range 3000 {
		text, _ := keys.Issue(time.Now())
		r.do("POST", "/report", fmt.Sprintf("198.%d.%d.1", i/250, i%250), body(text, "esams", 1))
	}
	got := r.outcomes(r.metrics.reports)
	if got["taken"] != 1000 || got["full"] != 2000 {
		t.Errorf("reports %v", got)
	}
	r.eventually("counted", func() bool { return r.outcomes(r.metrics.joins)["http"] == 1000 })
	r.stop()
	if n := len(r.lines()); n != 50 || r.files.evicted.Load() != 950 {
		t.Errorf("%d rows, %d evicted", n, r.files.evicted.Load())
	}
}

// One who says 1 ms, more often than he may, does not move what his neighbours measure, once he is one of
// many, and is seen as one client.
func TestLiar(t *testing.T) {
	r := run(t, testConfig(t))
	for i := range 20 {
		from := fmt.Sprintf("198.51.100.%d", 1+i)
		s, _ := r.start(from)
		r.do("POST", "/report", from, body(s.Token, "esams", 80))
	}
	for range 10 {
		s, _ := r.start("198.51.100.66")
		r.do("POST", "/report", "198.51.100.66", body(s.Token, "esams", 1))
	}
	if got := r.outcomes(r.metrics.reports); got["limited"] != 4 {
		t.Errorf("reports %v, expected 4 of 10 over what one client may", got)
	}
	s, _ := r.start("203.0.113.1")
	r.do("POST", "/report", "203.0.113.1", body(s.Token, "esams", 1))
	r.eventually("written", func() bool { return len(r.lines()) == 2 })
	r.eventually("robust", func() bool {
		lines := r.lines()
		return strings.HasPrefix(lines[0], "client 198.51.100.0/24 esams 80 26 ") && strings.HasPrefix(lines[1], "client 203.0.113.0/24 esams 0 1 1 ") || r.dump(nil)
	})
}

// A liar makes up client subnets, which resolvers pass on, and uses the resolvers of others: no row of another
// network is made of what he says alone, and in those that there are he is two clients that come as
// often as one.
func TestLiarElsewhere(t *testing.T) {
	c := testConfig(t)
	c.Grace = 300 * time.Millisecond
	r := run(t, c)
	a := r.authority()
	told := 0
	for i := range 40 { // of as many addresses of one /24
		from := fmt.Sprintf("198.51.100.%d", 1+i)
		s, ok := r.start(from)
		if !ok {
			t.Fatal("no token")
		}
		name := s.Token + ".esams.beacon.example.net."
		for _, subnet := range []string{"203.0.113.0/24", "198.51.96.0/20", "2001:db8:7::/48", ""} {
			a.tell(name, "192.0.2.53", subnet)
			told++
		}
		r.eventually("told", func() bool { return r.outcomes(r.metrics.queries)["taken"] == told })
		r.do("POST", "/report", from, body(s.Token, "esams", 1))
	}
	a.end()
	r.eventually("counted", func() bool { return r.outcomes(r.metrics.joins)["both"] == 40 })
	r.stop()
	lines := r.lines()
	for i, want := range []string{
		"client 198.51.96.0/20 esams 0 6 2 ", // around him, and his neighbours
		"client 198.51.100.0/24 esams 0 40 ", // his own
		"client 2001:db8:7::/48 esams 0 6 2 ",
		"resolver 192.0.2.0/24 esams 0 6 2 ",
	} {
		if i >= len(lines) || !strings.HasPrefix(lines[i], want) {
			t.Fatalf("rows are %q, number %d expected to begin with %q", lines, i, want)
		}
	}
	if got := r.outcomes(r.metrics.askers); len(lines) != 4 || got["elsewhere"] != 40 || got["counted"] != 18 || got["limited"] != 102 {
		t.Errorf("%d rows, askers %v, expected 4, and none of a subnet that is somebody else's", len(lines), got)
	}
}

// What was reported before a restart is not counted again after it.
func TestRestart(t *testing.T) {
	c := testConfig(t)
	keys, err := token.Load(c.Keys)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := keys.Issue(time.Now().Add(-2 * time.Second))
	r := run(t, c)
	r.began = r.began.Add(-time.Minute) // it has been running
	r.do("POST", "/report", "198.51.100.1", body(text, "esams", 10))
	r.eventually("counted", func() bool { return len(r.lines()) == 1 })
	r.stop()
	again := run(t, c)
	again.do("POST", "/report", "198.51.100.1", body(text, "esams", 10))
	if got := again.outcomes(again.metrics.reports); got["restarted"] != 1 || len(got) != 1 {
		t.Errorf("reports %v, expected that one is refused", got)
	}
	s, _ := again.start("198.51.100.1")
	again.do("POST", "/report", "198.51.100.1", body(s.Token, "esams", 10))
	again.eventually("counted", func() bool {
		return slices.Equal(again.lines(), []string{"client 198.51.100.0/24 esams 10 2 1 2 0"}) || again.dump(nil)
	})
	if files, _ := filepath.Glob(filepath.Join(c.Out, "*"+rtt.Suffix)); len(files) != 1 {
		t.Errorf("%d files, expected that the second life goes on with the first one's", len(files))
	}
}

// One network of 65,536 clients uses up what it has, and not what all others have; nor does one client
// use up what its neighbours have.
func TestOneNetworkFloods(t *testing.T) {
	r := run(t, testConfig(t))
	for i := range 200_000 { // as many as clients' counters have in all, were each counted
		if i >= 100 && i%1000 != 0 { // the Handler takes its time; what it asks is asked here
			r.mu.Lock()
			a := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 1, byte(i >> 8), byte(i)})
			now := time.Now()
			r.admitted(a, netip.PrefixFrom(a, 48).Masked(), now)
			r.mu.Unlock()
			continue
		}
		r.do("POST", "/report", fmt.Sprintf("2001:db8:1:%x::1", i%65536), "x")
	}
	got := r.outcomes(r.metrics.reports)
	if got["malformed"] != r.cfg.PerMinute {
		t.Errorf("reports %v, expected that %d are looked at", got, r.cfg.PerMinute)
	}
	limited := 0
	for i := range 1000 {
		s, ok := r.start(fmt.Sprintf("198.%d.%d.1", 51+i/250, i%250))
		if !ok {
			limited++
			continue
		}
		r.do("POST", "/report", fmt.Sprintf("198.%d.%d.1", 51+i/250, i%250), body(s.Token, "esams", 10))
	}
	if got := r.outcomes(r.metrics.reports); limited != 0 || got["taken"] < 999 {
		t.Errorf("%d may not begin, reports %v, expected that nearly all others are taken", limited, got)
	}
	for range 100 {
		r.do("POST", "/report", "192.0.2.1", "x")
	}
	s, _ := r.start("192.0.2.2")
	before := r.outcomes(r.metrics.reports)["taken"]
	r.do("POST", "/report", "192.0.2.2", body(s.Token, "esams", 10))
	if r.outcomes(r.metrics.reports)["taken"] != before+1 {
		t.Error("a client that comes too often takes what its neighbours have")
	}
}
