//go:build acceptance && linux

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/zonecast/zonecast/beacon/dnslog/dnslogtest"
	"github.com/zonecast/zonecast/beacon/token"
	"github.com/zonecast/zonecast/internal/dnsload"
	"github.com/zonecast/zonecast/record"
)

// beaconProcess is a running `zonecast run beacon`.
type beaconProcess struct {
	*Process
	at, http, tap string
	keys          *token.Keys
}

// startBeacon starts one that believes this machine what it says of clients.
func startBeacon(t *testing.T, args ...string) *beaconProcess {
	t.Helper()
	dir, base := t.TempDir(), FreePorts(t, 2)
	b := &beaconProcess{at: fmt.Sprintf("127.0.0.1:%d", base), http: fmt.Sprintf("127.0.0.1:%d", base+1), tap: filepath.Join(dir, "tap")}
	keys := filepath.Join(dir, "keys")
	err := os.WriteFile(keys, []byte("1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"), 0o600)
	if err == nil {
		b.keys, err = token.Load(keys)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.Process = Start(t, "beacon", append([]string{
		"run", "beacon", "--log-format", "text", "--beacon-listen", b.at, "--beacon-zone", "beacon.example.net", "--beacon-pops", "esams,eqiad,ulsfo", "--beacon-dnstap", b.tap,
		"--beacon-keys", keys, "--beacon-out", filepath.Join(dir, "rtt"), "--beacon-proxies", "127.0.0.1", "--http", b.http,
	}, args...)...)
	eventually(t, "the beacon answers", func() error {
		_, err := counters(b.http)
		return err
	})
	return b
}

// counters reads the metrics of a process, by name and labels but for that of the service.
func counters(at string) (map[string]float64, error) {
	resp, err := http.Get("http://" + at + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	all := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		at := strings.LastIndexByte(line, ' ') // labels may have some
		if at < 0 || !strings.HasPrefix(line, "zonecast_") {
			continue
		}
		name, _, _ := strings.Cut(line[:at], `service="`)
		if all[strings.TrimRight(name, "{,")], err = strconv.ParseFloat(line[at+1:], 64); err != nil {
			return nil, err
		}
	}
	return all, err
}

func (b *beaconProcess) counter(t *testing.T, name string) float64 {
	t.Helper()
	all, err := counters(b.http)
	if err != nil {
		t.Fatal(err)
	}
	return all["zonecast_beacon_"+name]
}

// tell tells of n queries of n measurements by 10,000 resolvers, and waits until all were read.
func (b *beaconProcess) tell(t *testing.T, n int, name func(i int) string) {
	t.Helper()
	a, err := dnslogtest.Dial("unix", b.tap)
	if err != nil {
		t.Fatal(err)
	}
	began, used := time.Now(), cpuOf(t, b.Process)
	for i := range n {
		frame, err := dnslogtest.Message(name(i), netip.AddrFrom4([4]byte{198, byte(i / 256 % 40), byte(i), 53}), netip.Prefix{})
		if err == nil {
			err = a.Write(frame)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil { // confirmed
		t.Fatal(err)
	}
	b.log(t, "dnstap messages", n, began, used)
}

// log tells of what was done, and of the processor time that the beacon took.
func (b *beaconProcess) log(t *testing.T, what string, n int, began time.Time, used time.Duration) {
	t.Helper()
	took, used := time.Since(began), cpuOf(t, b.Process)-used
	t.Logf("%d %s in %.1f s: %.0f a second; %.1f µs of processor each; memory %d MiB at most until now; %s", n, what, took.Seconds(), float64(n)/took.Seconds(),
		float64(used.Microseconds())/float64(n), memoryOf(t, b.Process)>>20, Machine())
}

// report sends n reports over a few connections, each several at a time.
func (b *beaconProcess) report(t *testing.T, n int, of func(i int) (client netip.Addr, token string)) {
	t.Helper()
	const connections, together = 4, 50
	began, used := time.Now(), cpuOf(t, b.Process)
	var wg sync.WaitGroup
	for c := range connections {
		wg.Go(func() {
			conn, err := net.Dial("tcp", b.at)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			r := bufio.NewReader(conn)
			for i := c; i < n; {
				var requests strings.Builder
				sent := 0
				for ; sent < together && i < n; i += connections {
					client, text := of(i)
					body := fmt.Sprintf(`{"t":"%s","m":[["esams",%d],["eqiad",93.5],["ulsfo",150],["map",12],["any",13]]}`, text, 5+i%90)
					fmt.Fprintf(&requests, "POST /report HTTP/1.1\r\nHost: beacon.example.net\r\nX-Forwarded-For: %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", client, len(body), body)
					sent++
				}
				if _, err := io.WriteString(conn, requests.String()); err != nil {
					t.Error(err)
					return
				}
				for range sent {
					if err := noContent(r); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	b.log(t, "reports", n, began, used)
}

// noContent reads a response of status 204, which has no body.
func noContent(r *bufio.Reader) error {
	for first := true; ; first = false {
		line, err := r.ReadString('\n')
		switch {
		case err != nil:
			return err
		case first && !strings.HasPrefix(line, "HTTP/1.1 204 "):
			return fmt.Errorf("response %q, expected status 204", line)
		case line == "\r\n":
			return nil
		}
	}
}

// TestBeaconLoad: a million clients in 250,000 networks measure, by a million queries and as many reports;
// then as many forgeries come. All is counted as what it is, and forgeries take no memory.
func TestBeaconLoad(t *testing.T) {
	const clients, networks = 1_000_000, 250_000
	b := startBeacon(t, "--beacon-measurements", "4000000", "--beacon-token-life", "1h")
	address := func(i int) netip.Addr {
		n := i % networks
		return netip.AddrFrom4([4]byte{byte(20 + n>>16), byte(n >> 8), byte(n), byte(1 + i/networks)})
	}
	tokens := make([]string, clients)
	for i := range tokens {
		tokens[i], _ = b.keys.Issue(time.Now())
	}
	b.tell(t, clients, func(i int) string { return tokens[i] + ".esams.beacon.example.net." })
	b.report(t, clients, func(i int) (netip.Addr, string) { return address(i), tokens[i] })
	taken, limited := b.counter(t, `reports_total{outcome="taken"`), b.counter(t, `reports_total{outcome="limited"`)
	// Counters of clients are shared by their hashes: some are taken for others.
	if taken+limited != clients || limited > clients/1000 {
		t.Errorf("%v reports are taken and %v limited, expected all of %d but a few", taken, limited, clients)
	}
	if n := b.counter(t, `queries_total{outcome="taken"`); n != clients {
		t.Errorf("%v queries are taken, expected %d", n, clients)
	}
	eventually(t, "all is joined", func() error {
		if n := b.counter(t, `joined_total{outcome="both"`); n != taken {
			return fmt.Errorf("%v measurements are joined, expected %v", n, taken)
		}
		return nil
	})
	if rows := b.counter(t, "rows"); rows > 200_000 {
		t.Errorf("%v rows, expected 200,000 at most", rows)
	}
	before := memoryOf(t, b.Process)
	t.Logf("memory with %d measurements under way and %v rows: %d MiB at most", clients, b.counter(t, "rows"), before>>20)
	if before > 3<<30 {
		t.Errorf("%d octets of memory, expected 3 GiB at most", before)
	}

	forger := token.Random()
	forged := func(int) string {
		text, _ := forger.Issue(time.Now())
		return text
	}
	b.tell(t, clients, func(i int) string { return forged(i) + ".esams.beacon.example.net." })
	b.report(t, clients, func(i int) (netip.Addr, string) { return address(i), forged(i) })
	if n := b.counter(t, `queries_total{outcome="forged"`); n != clients {
		t.Errorf("%v queries are forged, expected %d", n, clients)
	}
	n, limited := b.counter(t, `reports_total{outcome="forged"`), b.counter(t, `reports_total{outcome="limited"`)-limited
	if n+limited != clients || b.counter(t, `reports_total{outcome="taken"`) != taken {
		t.Errorf("%v reports are forged and %v limited, expected %d, and that no more are taken", n, limited, clients)
	}
	if after := memoryOf(t, b.Process); after > before+before/5 {
		t.Errorf("%d MiB of memory after the forgeries, %d before", after>>20, before>>20)
	}
}

// flooded is an authority under a flood.
type flooded struct {
	*Process
	at   netip.AddrPort
	http string
}

func startFlooded(t *testing.T, zone string, args ...string) *flooded {
	t.Helper()
	base := FreePorts(t, 2)
	f := &flooded{at: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(base)), http: fmt.Sprintf("127.0.0.1:%d", base+1)}
	f.Process = Start(t, "serve", append([]string{"serve", "--listen", f.at.String(), "--http", f.http, "--log-format", "text"}, append(args, zone)...)...)
	if _, err := f.WaitLine("ready", time.Minute); err != nil {
		t.Fatal(err)
	}
	return f
}

// under asks for another name, a thousand times a second, while a flood of names goes on: its
// answers, and those of the flood.
func (f *flooded) under(t *testing.T, flood *dnsload.Queries, rate float64, other record.Name) (asked, flooded *dnsload.Result) {
	t.Helper()
	const long = 5 * time.Second
	var wg sync.WaitGroup
	wg.Go(func() {
		var err error
		if flooded, err = dnsload.Run(t.Context(), dnsload.Config{Target: f.at, Rate: rate, Sockets: 16, Time: long + time.Second, ServerPIDs: []int{f.cmd.Process.Pid}}, flood); err != nil {
			t.Error(err)
		}
	})
	time.Sleep(500 * time.Millisecond)
	asked, err := dnsload.Run(t.Context(), dnsload.Config{Target: f.at, Rate: 1000, Time: long}, dnsload.OneQuery(other, record.TypeA, dnsload.Encoding{EDNS: true}))
	if wg.Wait(); err != nil || t.Failed() {
		t.Fatal(err)
	}
	return asked, flooded
}

// TestBeaconFlood: names below the beacon's zone come in a flood - labels that somebody made up, tokens that are
// forged, one that is good over and over - and an authority that tells the beacon of them answers other names as well
// as one that tells nobody, also while the beacon hangs. What dnstap has no room for is counted.
func TestBeaconFlood(t *testing.T) {
	const rate = 40_000 // a second: four times what dnstap takes
	b := startBeacon(t)
	zone := filepath.Join(t.TempDir(), "example.net.zone")
	text := "$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 192.0.2.53\nwww A 192.0.2.80\n*.esams.beacon A 198.51.100.1\n*.eqiad.beacon A 203.0.113.1\n"
	if err := os.WriteFile(zone, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := startFlooded(t, zone)
	tapped := startFlooded(t, zone, "--dnstap-socket", b.tap, "--dnstap-always", "beacon.example.net")
	unbounded := startFlooded(t, zone, "--dnstap-socket", b.tap, "--dnstap-always", "beacon.example.net", "--dnstap-always-rate", "-1")
	var names strings.Builder
	forger := token.Random()
	good, _ := b.keys.Issue(time.Now())
	for range 30_000 {
		forged, _ := forger.Issue(time.Now())
		fmt.Fprintf(&names, "x%d.esams.beacon.example.net A\n%s.esams.beacon.example.net A\n%s.eqiad.beacon.example.net A\n", rand.Uint64(), forged, good)
	}
	flood, err := dnsload.ReadQueries(strings.NewReader(names.String()), "flood", dnsload.Encoding{Subnet: netip.MustParsePrefix("198.51.100.0/24")}) // we are private
	if err != nil {
		t.Fatal(err)
	}
	www, err := record.ParseName("www.example.net")
	if err != nil {
		t.Fatal(err)
	}
	type figures struct {
		lost, p50, p99 []time.Duration
		cpu            Figures // for each answer, in nanoseconds
		late           bool    // the generator was: latencies are the machine's
	}
	run := func(f *flooded, to *figures) {
		t.Helper()
		asked, all := f.under(t, flood, rate, www)
		to.p50, to.p99 = append(to.p50, asked.Latency.Quantile(0.5)), append(to.p99, asked.Latency.Quantile(0.99))
		to.late = to.late || !asked.KeptSchedule()
		to.lost = append(to.lost, time.Duration(asked.Lost))
		to.cpu = append(to.cpu, all.ServerCPU/time.Duration(max(all.Answered, 1)))
	}
	var without, with, all, hung figures
	for range 3 { // in turn: they see the same machine
		run(plain, &without)
		run(tapped, &with)
		run(unbounded, &all)
	}
	unbounded.Stop()
	b.Signal(syscall.SIGSTOP)
	for range 3 {
		run(tapped, &hung)
	}
	b.Signal(syscall.SIGCONT)
	for what, f := range map[string]figures{"without dnstap": without, "with": with, "with, without a bound": all, "while the beacon hangs": hung} {
		t.Logf("%s: of others lost %v of 5000, p50 %v, p99 %v; processor for each answer %v; memory %d and %d MiB; %s", what, f.lost, f.p50, f.p99, []time.Duration(f.cpu), memoryOf(t, plain.Process)>>20, memoryOf(t, tapped.Process)>>20, Machine())
	}
	for what, f := range map[string]figures{"with": with, "while the beacon hangs": hung} {
		if a, b := f.cpu.At(50), without.cpu.At(50); a > 2*b {
			t.Errorf("%s, an answer takes %v of processor, and %v without dnstap", what, a, b)
		}
		if a, b := Figures(f.p99).At(50), Figures(without.p99).At(50); a > 4*b+20*time.Millisecond && !f.late && !without.late {
			t.Errorf("%s, p99 of others is %v, and %v without dnstap", what, a, b)
		}
		if a, b := Figures(f.lost).At(50), Figures(without.lost).At(50); a > b+50 {
			t.Errorf("%s, %d of 5000 answers are lost, and %d without dnstap", what, a, b)
		}
	}
	if a, b := memoryOf(t, tapped.Process), memoryOf(t, plain.Process); a > b+64<<20 {
		t.Errorf("%d MiB of memory with dnstap, %d without, expected its queue of 16 MiB and some", a>>20, b>>20)
	}
	told, err := counters(tapped.http)
	if err != nil {
		t.Fatal(err)
	}
	var written, lost float64
	for name, n := range told {
		if strings.HasPrefix(name, "zonecast_authority_dnstap_written_total") {
			written += n
		} else if strings.HasPrefix(name, "zonecast_authority_dnstap_lost_total") {
			lost += n
		}
	}
	t.Logf("dnstap: %.0f written, %.0f lost", written, lost)
	if lost == 0 || written == 0 || written > 12_000*7*6 {
		t.Errorf("%v messages are written and %v lost, expected both, and 10,000 a second at most", written, lost)
	}
	for _, outcome := range []string{"forged", "malformed", "taken"} {
		if n := b.counter(t, `queries_total{outcome="`+outcome+`"`); n == 0 {
			t.Errorf("no query is %s", outcome)
		} else {
			t.Logf("beacon: %.0f %s", n, outcome)
		}
	}
	if n := b.counter(t, "measurements"); n > 1 {
		t.Errorf("%v measurements are under way, expected the one whose name came again and again", n)
	}
	if n := memoryOf(t, b.Process); n > 256<<20 {
		t.Errorf("the beacon has %d MiB of memory", n>>20)
	}
}
