//go:build interop

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/internal/daemon"
)

// TestInteropUnbound is TestThroughUnbound in small.
func TestInteropUnbound(t *testing.T) {
	zones, _ := cut()
	changed, created := throughUnbound(t, zones, "", 10)
	t.Logf("changed: %s\ncreated: %s", changed, created)
}

// throughUnbound changes n addresses and creates n names, one after another, in a zone
// file with a TTL of a day, and gives the times from the writing of the file until Unbound
// gives the new answer. Before that it gave, and keeps, the old one.
func throughUnbound(t *testing.T, from, fleetFile string, n int) (changed, created Figures) {
	t.Helper()
	if _, err := daemon.Find("unbound"); err != nil {
		t.Skip("unbound is not installed: apt-get install unbound")
	}
	z, err := CopyZones(from, filepath.Join(t.TempDir(), "zones"))
	if err != nil {
		t.Fatal(err)
	}
	octets := make([]int, 2*n) // of each name's address; 0: it is not there
	for i := range n {
		octets[i] = 1
	}
	file := filepath.Join(z.Dir, "through.example.net")
	write := func() {
		var b strings.Builder
		b.WriteString("$ORIGIN through.example.net.\n$TTL 86400\n@ IN SOA ns.through.example.net. host.example.net. 1 7200 1800 604800 86400\n@ IN NS ns.through.example.net.\nns IN A 192.0.2.53\n")
		for i, o := range octets {
			if o > 0 {
				fmt.Fprintf(&b, "n%d IN A 198.51.%d.%d\n", i, i%100, o)
			}
		}
		temporary := filepath.Join(z.Dir, ".through.new")
		if err := os.WriteFile(temporary, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temporary, file); err != nil {
			t.Fatal(err)
		}
	}
	write()
	up := StartUp(t, UpOptions{Zones: z.Dir, Fleet: fleetFile, Hosts: 1})
	base := FreePorts(t, 2)
	listen := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(base))
	dir, err := os.MkdirTemp("", "zonecast-unbound-") // its account has to get there
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	host := filepath.Join(up.Dir, "hosts", "host0")
	p := Start(t, "zonecast run recursor", "run", "recursor", "--recursor-listen", listen.String(), "--recursor-authority", up.Hosts[0].String(),
		"--recursor-journal", filepath.Join(host, "journal"), "--recursor-status-dir", filepath.Join(host, "status"), "--recursor-dir", dir,
		"--recursor-keys", filepath.Join(up.Dir, "keys", "publisher.key.pub"), "--recursor-forward", fmt.Sprintf("127.0.0.1:%d", base+1), "--recursor-trust-anchor", "off")
	t.Cleanup(p.Stop)
	c := dns.Client{Timeout: 5 * time.Second}
	see := func(i int) {
		q := new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.through.example.net.", i), dns.TypeA)
		want := "NXDOMAIN"
		if o := octets[i]; o > 0 {
			want = fmt.Sprintf("198.51.%d.%d", i%100, o)
		}
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			got := ""
			r, _, err := c.Exchange(q, listen.String())
			if err == nil {
				got = dns.RcodeToString[r.Rcode]
				if len(r.Answer) == 1 {
					if a, ok := r.Answer[0].(*dns.A); ok {
						got = a.A.String()
					}
				}
			}
			if got == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: Unbound answers %s (%v), want %s", q.Question[0].Name, got, err, want)
			}
		}
	}
	for i := range n {
		for _, k := range []int{i, n + i} {
			see(k)
			octets[k]++
			write()
			began := time.Now()
			see(k)
			if took := time.Since(began); k == i {
				changed = append(changed, took)
			} else {
				created = append(created, took)
			}
		}
	}
	return changed, created
}
