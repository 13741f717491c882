package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/atomicfile"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// small is a zone and a fleet that a test can say in a few lines.
const smallZone = `$TTL 300
@ IN SOA ns hostmaster 2026112301 3600 600 86400 60
@ IN NS ns
ns IN A 192.0.2.53
www IN CNAME web
`

func fleetLines(n int) string {
	var sb strings.Builder
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&sb, `{"name": "web%d.example.net", "role": "web", "site": "ams", "addresses": ["192.0.2.%d", "2001:db8::%d"]}`+"\n", i, i, i)
	}
	return sb.String()
}

// lookup asks a host for the RDATA of a name, as text, and the response code.
func lookup(t *testing.T, host netip.AddrPort, name, typ string) (data []string, rcode string) {
	t.Helper()
	n, err := record.ParseName(name)
	if err != nil {
		t.Fatal(err)
	}
	ty, err := record.ParseType(typ)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	r, err := dnswire.Query(ctx, host, n, ty, false)
	if err != nil {
		t.Fatalf("%s %s of %s: %v", name, typ, host, err)
	}
	for _, rr := range r.Answer {
		if rr.Type == ty {
			for _, d := range rr.Data {
				data = append(data, dnswire.FormatRdata(ty, d))
			}
		}
	}
	slices.Sort(data)
	return data, r.RcodeName
}

// eventually repeats f until it is content.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// answers checks on every host of u that a name has exactly these data.
func (u *Up) answers(t *testing.T, name, typ string, want ...string) {
	t.Helper()
	slices.Sort(want)
	eventually(t, name+" "+typ, func() error {
		for _, h := range u.Hosts {
			if got, rcode := lookup(t, h, name, typ); !slices.Equal(got, want) {
				return fmt.Errorf("%s answers %s %q, want %q", h, rcode, got, want)
			}
		}
		return nil
	})
}

type statusJSON struct {
	Datasets []struct {
		Name    string
		Version int64
		Content int64
		Digest  string
		Hosts   []struct {
			Name    string
			Version int64
			Digest  string
			Age     int64 `json:"age_ms"`
		}
	}
	Sources []struct {
		Source string
		Error  string
	}
}

// TestUpLivesThroughItsDay goes through what people do with `up`: live files, calls
// beside them, leases, a restart, and reads the outputs that the README promises.
func TestUpLivesThroughItsDay(t *testing.T) {
	base := t.TempDir()
	zones, fleet := filepath.Join(base, "zones"), filepath.Join(base, "fleet.jsonl")
	if err := os.Mkdir(zones, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(path, content string) {
		t.Helper()
		if err := atomicfile.Write(path, 0o644, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(zones, "example.net"), smallZone)
	write(fleet, fleetLines(3))
	opts := UpOptions{Dir: filepath.Join(base, "data"), Hosts: 2, Zones: zones, Fleet: fleet}
	u := StartUp(t, opts)

	u.answers(t, "web1.example.net", "A", "192.0.2.1")
	u.answers(t, "web.example.net", "AAAA", "2001:db8::1", "2001:db8::2", "2001:db8::3")
	u.answers(t, "3.2.0.192.in-addr.arpa", "PTR", "web3.example.net.")
	u.answers(t, "www.example.net", "A", "192.0.2.1", "192.0.2.2", "192.0.2.3") // through the CNAME

	var ends struct {
		API, HTTP string
		Hosts     []struct{ Name, DNS string }
	}
	b, err := os.ReadFile(filepath.Join(opts.Dir, "endpoints.json"))
	if err == nil {
		err = json.Unmarshal(b, &ends)
	}
	if err != nil || ends.API != u.API || ends.HTTP != u.HTTP || len(ends.Hosts) != 2 || ends.Hosts[1].DNS != u.Hosts[1].String() || ends.Hosts[1].Name != "host1" {
		t.Errorf("endpoints.json = %s, %v", b, err)
	}

	// The store is found by its directory, and the API in it.
	for _, args := range [][]string{{"servers", "--json"}, {"swarm", "status", "--json"}} {
		if stdout, stderr, status := Run(t, append(args, "--store", "embedded", "--dir", opts.Dir)...); status != 0 || !strings.HasPrefix(stdout, "{") {
			t.Errorf("%q by the embedded store: status %d\n%s%s", args, status, stdout, stderr)
		}
	}

	// A call beside the fleet file.
	stdout, stderr, status := u.Run("register", "web9.example.net", "--address", "192.0.2.9", "--role", "web", "--site", "ams", "--option", "port=443", "--wait")
	if status != 0 || !strings.Contains(stdout, "answered by 2 hosts as version") {
		t.Fatalf("register --wait: status %d\n%s%s", status, stdout, stderr)
	}
	for _, h := range u.Hosts { // no patience: --wait has waited
		if got, _ := lookup(t, h, "web9.example.net", "A"); !slices.Equal(got, []string{"192.0.2.9"}) {
			t.Errorf("%s answers %q right after --wait", h, got)
		}
	}
	u.answers(t, "_web._tcp.example.net", "SRV", "0 0 443 web9.example.net.")

	// The file loses a server: it goes, the one by call stays.
	write(fleet, fleetLines(2))
	u.answers(t, "web3.example.net", "A")
	u.answers(t, "web9.example.net", "A", "192.0.2.9")
	// People win over rules, and `why` says so.
	write(filepath.Join(zones, "example.net"), strings.Replace(smallZone, "www IN", "web2 IN A 192.0.2.222\nwww IN", 1))
	u.answers(t, "web2.example.net", "A", "192.0.2.222")
	stdout, _, _ = u.Run("why", "web2.example.net", "A")
	for _, want := range []string{"wins ", "loses ", "zone/example.net at example.net:5", "rule/address at server web2.example.net", "people before robots"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("why does not say %q:\n%s", want, stdout)
		}
	}

	// A lease that nobody renews.
	if _, stderr, status := u.Run("register", "spot1.example.net", "--address", "192.0.2.77", "--role", "spot", "--site", "ams", "--lease", "5s", "--wait"); status != 0 {
		t.Fatalf("register --lease: %s", stderr)
	}
	u.answers(t, "spot1.example.net", "A") // gone by itself

	var before, after statusJSON
	u.JSON(&before, "status")
	u.Stop()
	if status, err := u.Exit(time.Second); err != nil || status != 0 {
		t.Errorf("exit status %d, %v; want 0", status, err)
	}
	first := u.Took
	u = StartUp(t, opts)
	t.Logf("ready after %v the first time, %v after the restart", first, u.Took)
	u.answers(t, "web9.example.net", "A", "192.0.2.9")
	u.answers(t, "web2.example.net", "A", "192.0.2.222")
	u.JSON(&after, "status")
	was, is := before.Datasets[0], after.Datasets[0]
	if is.Digest != was.Digest || is.Content != was.Content {
		t.Errorf("after the restart content version %d digest %s, before it %d and %s", is.Content, is.Digest, was.Content, was.Digest)
	}
	if is.Version < was.Version || len(is.Hosts) != 2 || is.Hosts[0].Digest != is.Digest {
		t.Errorf("status after the restart: %+v", is)
	}
}
