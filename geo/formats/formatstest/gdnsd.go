package formatstest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/internal/daemon"
	"github.com/zonecast/zonecast/internal/ports"
)

// Program finds a server's program, or one that comes with it.
func Program(t testing.TB, name string) string {
	t.Helper()
	found, err := daemon.Find(name)
	if err != nil {
		t.Fatalf("%v; expected Debian's packages gdnsd and knot (scripts/install-test-deps.sh)", err)
	}
	return found
}

// start starts a daemon that ends with the test: with its end in the channel, once, and what it said.
func start(t testing.TB, cmd *exec.Cmd) (ended chan error, log *bytes.Buffer) {
	t.Helper()
	log = new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended = make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			cmd.Process.Kill()
			<-ended
		}
	})
	return ended, log
}

// GDNSDDir makes a configuration directory: stanza is the content of plugins => { geoip => { … } },
// geoip what lies in the directory of that name. Its zone example.net has www, which is
// resource www.
func GDNSDDir(t testing.TB, options, stanza string, geoip map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"geoip", "zones", "run", "state"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("config", fmt.Appendf(nil, "options => { run_dir => \"%[1]s/run\", state_dir => \"%[1]s/state\", %[2]s }\nplugins => { geoip => {\n%[3]s\n} }\n", dir, options, stanza))
	write("zones/example.net", []byte("@ SOA ns1 hostmaster 1 7200 1800 259200 900\n@ NS ns1\nns1 A 192.0.2.53\nwww 60 DYNA geoip!www\n"))
	for name, b := range geoip {
		write("geoip/"+name, b)
	}
	return dir
}

// Wikimedia is the Wikimedia Foundation's maps and resources, which lie in dir
// (geo/formats/testdata/wikimedia), as a stanza: text-addrs is resource www, and the database
// is x.mmdb.
func Wikimedia(t testing.TB, dir string) string {
	t.Helper()
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	return "maps => {\n" + strings.Replace(read("geo-maps"), "GeoIP2-City.mmdb", "x.mmdb", 1) + "}\nresources => {\n" +
		strings.Replace(read("geo-resources"), "text-addrs", "www", 1) + "}\n"
}

// GDNSD is a gdnsd that runs. On Proxied it takes the address that asks from the PROXY
// protocol.
type GDNSD struct {
	Address, Proxied string
}

// StartGDNSD starts a daemon and waits until it answers.
func StartGDNSD(t *testing.T, stanza string, geoip map[string][]byte, wait time.Duration) GDNSD {
	t.Helper()
	port := ports.Free(t, 2)
	d := GDNSD{fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("127.0.0.1:%d", port+1)}
	dir := GDNSDDir(t, fmt.Sprintf("listen => { %s => { udp_threads => 1, tcp_threads => 1 }, %s => { tcp_proxy => true, tcp_threads => 1 } }", d.Address, d.Proxied), stanza, geoip)
	cmd := exec.Command(Program(t, "gdnsd"), "-c", dir, "start")
	ended, log := start(t, cmd)
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	for {
		if _, _, err := (&dns.Client{Timeout: time.Second}).ExchangeContext(ctx, question("www.example.net.", dns.TypeA, netip.Addr{}), d.Address); err == nil {
			return d
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("gdnsd: %v: %s", err, log.String())
		case <-ctx.Done():
			t.Fatalf("gdnsd does not answer: %s", log.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// AskFrom asks for www.example.net as a resolver of an address without ECS.
func (d GDNSD) AskFrom(a netip.Addr) (string, error) {
	c, err := net.DialTimeout("tcp", d.Proxied, 2*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	family, to := "TCP4", "192.0.2.53"
	if a.Is6() {
		family, to = "TCP6", "2001:db8::53"
	}
	if _, err := fmt.Fprintf(c, "PROXY %s %s %s 4711 53\r\n", family, a, to); err != nil {
		return "", err
	}
	conn := dns.Conn{Conn: c}
	if err := conn.WriteMsg(question("www.example.net.", dns.TypeA, netip.Addr{})); err != nil {
		return "", err
	}
	m, err := conn.ReadMsg()
	if err != nil {
		return "", err
	}
	return answerOf(m).Records, nil
}
