//go:build interop

package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/internal/daemon"
	"github.com/zonecast/zonecast/internal/trust"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
)

// TestInteropTinydns is TestFleetThroughTinydns in small, and with a change.
func TestInteropTinydns(t *testing.T) {
	zones, fleetFile := cut()
	z, err := CopyZones(zones, filepath.Join(t.TempDir(), "zones"))
	if err != nil {
		t.Fatal(err)
	}
	up := StartUp(t, UpOptions{Zones: z.Dir, Fleet: fleetFile, Hosts: 1})
	tiny := startTinydns(t, up, "127.53.1.1")
	tiny.compare(t, 1)
	in := Newcomer(1)
	if _, _, err := Register(t.Context(), up.Client(), up.Hosts, in); err != nil {
		t.Fatal(err)
	}
	// Registered is answered by tinydns, too, within its interval.
	for end := time.Now().Add(30 * time.Second); CheckRegistered(t.Context(), []netip.AddrPort{tiny.theirs}, in) != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("tinydns does not answer a registration within 30 s")
		}
	}
}

// tinyHost is a tinydns beside the authority of a host, on the same journal.
type tinyHost struct {
	dir          string
	ours, theirs netip.AddrPort
	dataset      *snapshot.Dataset // as it was when it was read
	told         map[string]map[string]bool
	lines        int
}

// startTinydns runs `zonecast run tinydns` on the journal of the first host of up.
func startTinydns(t *testing.T, up *Up, ip string) *tinyHost {
	t.Helper()
	if _, err := daemon.Find("tinydns"); err != nil {
		t.Skip("tinydns is not installed: apt-get install tinydns")
	}
	if os.Getuid() != 0 {
		t.Skip("tinydns takes port 53 and changes its root, which needs root")
	}
	host := filepath.Join(up.Dir, "hosts", "host0")
	dir, err := os.MkdirTemp("", "zonecast-tinydns-") // its account has to get there
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := &tinyHost{dir: dir, ours: up.Hosts[0], theirs: netip.AddrPortFrom(netip.MustParseAddr(ip), 53)}
	key := filepath.Join(up.Dir, "keys", "publisher.key.pub")
	Start(t, "zonecast run tinydns", "run", "tinydns", "--tinydns-address", ip, "--tinydns-journal", filepath.Join(host, "journal"),
		"--tinydns-status-dir", filepath.Join(dir, "status"), "--tinydns-dir", dir, "--tinydns-keys", key, "--tinydns-fresh-every", "24h")
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, "status", "serving")); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("tinydns answers nothing within a minute")
		}
	}
	ring, err := trust.Open(trust.Config{Keys: []string{key}})
	if err != nil {
		t.Fatal(err)
	}
	if h.dataset, _, err = journal.Load(filepath.Join(host, "journal"), ring.Keys); err != nil {
		t.Fatal(err)
	}
	h.readTold(t)
	return h
}

// readTold reads unsaid.txt: by reason, what it names.
func (h *tinyHost) readTold(t *testing.T) {
	t.Helper()
	f, err := os.Open(filepath.Join(h.dir, "unsaid.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h.told = map[string]map[string]bool{}
	s := bufio.NewScanner(f)
	for s.Scan() {
		line := s.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		reason, what, _ := strings.Cut(line, " ")
		what, _, _ = strings.Cut(what, ": ")
		if h.told[reason] == nil {
			h.told[reason] = map[string]bool{}
		}
		h.told[reason][what] = true
		h.lines++
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
}

// why tells the reason that was told for a question, if any.
func (h *tinyHost) why(owner record.Name, qtype record.Type) string {
	k := record.Key{Owner: owner, Type: qtype}.String()
	for _, reason := range []string{"format", "truncated", "cut", "located"} {
		if h.told[reason][k] {
			return reason
		}
	}
	if h.told["empty"][owner.String()] {
		return "empty"
	}
	for n := owner; n != ""; n = n.Parent() {
		if h.told["no-ns"][record.Key{Owner: n, Type: record.TypeSOA}.String()] {
			return "no-ns"
		}
		if h.told["dname"][record.Key{Owner: n, Type: record.TypeDNAME}.String()] {
			return "dname"
		}
		if w, err := n.Wildcard(); err == nil && h.told["wildcard"][w.String()] {
			return "wildcard"
		}
	}
	return ""
}

// tinyQuestion is one to both servers.
type tinyQuestion struct {
	owner record.Name
	qtype record.Type
}

// compare asks both servers for every RRset, and for what is not there at and below every
// several-th owner.
func (h *tinyHost) compare(t *testing.T, every int) {
	t.Helper()
	var questions []tinyQuestion
	var last record.Name
	owners := 0
	for r := range h.dataset.All() {
		if snapshot.IsFreshness(r.Key) {
			continue // of another second
		}
		questions = append(questions, tinyQuestion{r.Owner, r.Type})
		if r.Owner == last {
			continue
		}
		last = r.Owner
		if owners++; owners%every == 0 {
			questions = append(questions, tinyQuestion{r.Owner, record.TypeCAA})
			if n, err := r.Owner.Child("not-there"); err == nil && !r.Owner.IsWildcard() { // which unsaid.txt tells of all
				questions = append(questions, tinyQuestion{n, record.TypeA})
			}
		}
	}
	for name := range h.told["empty"] {
		n, err := record.ParseName(name)
		if err != nil {
			t.Fatal(err)
		}
		questions = append(questions, tinyQuestion{n, record.TypeA})
	}
	var mu sync.Mutex
	same, told, quiet := 0, map[string]int{}, 0
	var wg sync.WaitGroup
	for lane := range 4 {
		wg.Go(func() {
			c := newTinyClient(t)
			defer c.close()
			for i := lane; i < len(questions); i += 4 {
				q := questions[i]
				why := h.why(q.owner, q.qtype)
				difference := h.ask(c, q, why)
				mu.Lock()
				switch {
				case difference == "":
					same++
				case why != "":
					told[why]++
				default:
					if quiet++; quiet <= 20 {
						t.Errorf("%s %s differs, and was not told: %s", q.owner, q.qtype, difference)
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d RRsets, %d questions: %d answers are the same, others as told in %d lines: %v; %d not told", h.dataset.Len(), len(questions), same, h.lines, told, quiet)
	if same < len(questions)*3/4 {
		t.Errorf("only %d of %d answers are the same", same, len(questions))
	}
}

// ask gives how the answers to a question differ; "" when they do not.
func (h *tinyHost) ask(c *tinyClient, q tinyQuestion, why string) string {
	ours := c.exchange(h.ours, q, 10*time.Second)
	if ours == nil {
		return "the authority does not answer"
	}
	wait := 10 * time.Second
	if why == "no-ns" || ours.Rcode == dns.RcodeRefused {
		wait = 50 * time.Millisecond
	}
	theirs := c.exchange(h.theirs, q, wait)
	switch {
	case theirs == nil && ours.Rcode == dns.RcodeRefused:
		return ""
	case theirs == nil:
		return "tinydns does not answer"
	case theirs.Truncated || ours.Truncated:
		return "truncated"
	}
	own, other := tinyRecords(ours.Answer), tinyRecords(theirs.Answer)
	if len(theirs.Answer) > 0 && theirs.Answer[0].Header().Rrtype == dns.TypeCNAME && q.qtype != record.TypeCNAME && len(own) > 0 {
		// We go on at the name that an alias leads to, whose code then counts (RFC 6604 §3).
		if own = tinyRecords(ours.Answer[:1]); slices.Equal(own, other) {
			return ""
		}
	}
	if theirs.Rcode != ours.Rcode {
		return fmt.Sprintf("rcode %s, the authority's %s", dns.RcodeToString[theirs.Rcode], dns.RcodeToString[ours.Rcode])
	}
	if !slices.Equal(own, other) {
		return fmt.Sprintf("answer %q, the authority's %q", other, own)
	}
	if ours.Authoritative != theirs.Authoritative {
		return fmt.Sprintf("AA %t, the authority's %t", theirs.Authoritative, ours.Authoritative)
	}
	if len(own) == 0 && !ours.Authoritative && !slices.Equal(tinyRecords(ours.Ns), tinyRecords(theirs.Ns)) {
		return fmt.Sprintf("referral %q, the authority's %q", tinyRecords(theirs.Ns), tinyRecords(ours.Ns))
	}
	return ""
}

func tinyRecords(rrs []dns.RR) []string {
	var out []string
	for _, rr := range rrs {
		out = append(out, strings.ToLower(rr.String()))
	}
	slices.Sort(out)
	return out
}

// tinyClient asks over one socket a server.
type tinyClient struct {
	t     testing.TB
	conns map[netip.AddrPort]*dns.Conn
}

func newTinyClient(t testing.TB) *tinyClient {
	return &tinyClient{t: t, conns: map[netip.AddrPort]*dns.Conn{}}
}

func (c *tinyClient) close() {
	for _, conn := range c.conns {
		conn.Close()
	}
}

// exchange asks; nil is no answer.
func (c *tinyClient) exchange(server netip.AddrPort, q tinyQuestion, wait time.Duration) *dns.Msg {
	conn := c.conns[server]
	if conn == nil {
		raw, err := net.Dial("udp", server.String())
		if err != nil {
			c.t.Error(err)
			return nil
		}
		conn = &dns.Conn{Conn: raw}
		c.conns[server] = conn
	}
	m := new(dns.Msg).SetQuestion(q.owner.String(), uint16(q.qtype))
	m.RecursionDesired = false
	if err := conn.WriteMsg(m); err != nil {
		return nil // nobody listens
	}
	_ = conn.SetReadDeadline(time.Now().Add(wait))
	for {
		r, err := conn.ReadMsg()
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() || err != nil && r == nil {
			return nil
		}
		if err == nil && r.Id == m.Id {
			return r
		}
	}
}
