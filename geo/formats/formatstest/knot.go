package formatstest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/internal/ports"
)

// KnotZone is a zone of knotd and the module geoip in it.
type KnotZone struct {
	Name     string // "example.net"
	Records  string // zone text
	Geo      string // the module's file
	Mode     string // subnet, geodb or weighted
	Keys     string // geodb-key: country/iso_code, city/names/en
	Database []byte // geodb-file; nil: none
	TTL      int    // seconds
}

// StartKnot starts a knotd with zones, waits until it answers and gives where.
func StartKnot(t *testing.T, zones ...KnotZone) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	port := ports.Free(t, 1)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	var conf, ends strings.Builder
	fmt.Fprintf(&conf, `server:
    listen: 127.0.0.1@%d
    rundir: "%s"
    edns-client-subnet: on
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
    udp-max-payload: 1232
    answer-rotation: off
database:
    storage: "%s"
log:
  - target: stderr
    any: warning
template:
  - id: default
    zonefile-sync: -1
    journal-content: none
mod-geoip:
`, port, dir, dir)
	for n, z := range zones {
		fmt.Fprintf(&conf, "  - id: m%d\n    config-file: \"%s\"\n    ttl: %d\n    mode: %s\n", n, write(fmt.Sprintf("geo%d.conf", n), []byte(z.Geo)), z.TTL, z.Mode)
		if z.Database != nil {
			fmt.Fprintf(&conf, "    geodb-file: \"%s\"\n    geodb-key: [ %s ]\n", write(fmt.Sprintf("geo%d.mmdb", n), z.Database), z.Keys)
		}
		fmt.Fprintf(&ends, "  - domain: %s\n    file: \"%s\"\n    module: mod-geoip/m%d\n", z.Name, write(fmt.Sprintf("zone%d", n), []byte(z.Records)), n)
	}
	path := write("knot.conf", []byte(conf.String()+"zone:\n"+ends.String()))
	cmd := exec.Command(Program(t, "knotd"), "-c", path)
	ended, log := start(t, cmd)
	end := time.Now().Add(30 * time.Second)
	for _, z := range zones {
		for {
			q := new(dns.Msg).SetQuestion(dns.Fqdn(z.Name), dns.TypeSOA)
			m, _, err := (&dns.Client{Timeout: time.Second}).Exchange(q, address)
			if err == nil && m.Authoritative && len(m.Answer) == 1 {
				break
			}
			select {
			case err := <-ended:
				ended <- err
				t.Fatalf("knotd: %v: %s", err, log.String())
			case <-time.After(50 * time.Millisecond):
			}
			if time.Now().After(end) {
				t.Fatalf("knotd does not answer for %s: %v", z.Name, err)
			}
		}
	}
	return address
}
