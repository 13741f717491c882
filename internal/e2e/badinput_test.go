package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/api/registryapi"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

const badInputNet = `$ORIGIN example.net.
$TTL 300
@ IN SOA ns0 hostmaster 1 3600 600 86400 300
@ IN NS ns0
ns0 IN A 192.0.2.53
www IN A 192.0.2.80
sub IN NS ns.sub
ns.sub IN A 192.0.2.54
`

const badInputOrg = `$ORIGIN example.org.
$TTL 300
@ IN SOA ns0.example.net. hostmaster.example.net. 1 3600 600 86400 300
@ IN NS ns0.example.net.
www IN A 192.0.2.81
`

const badInputFleet = `{"name":"web1.example.net","addresses":["192.0.2.1","2001:db8::1"],"role":"web","site":"ams"}
{"name":"web2.example.net","addresses":["192.0.2.2"],"role":"web","site":"ams"}
`

// sources are the zone files and the fleet file of a test.
type sources struct {
	t            *testing.T
	zones, fleet string
}

func newSources(t *testing.T) *sources {
	s := &sources{t, filepath.Join(t.TempDir(), "zones"), filepath.Join(t.TempDir(), "fleet.jsonl")}
	s.must(os.Mkdir(s.zones, 0o755))
	s.zone("example.net", badInputNet)
	s.zone("example.org", badInputOrg)
	s.write(s.fleet, badInputFleet)
	return s
}

func (s *sources) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// write replaces a file as careful tools do.
func (s *sources) write(path, text string) {
	s.t.Helper()
	hidden := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	s.must(os.WriteFile(hidden, []byte(text), 0o644))
	s.must(os.Rename(hidden, path))
}

func (s *sources) zone(name, text string) { s.write(filepath.Join(s.zones, name), text) }

// until polls until wrong says nothing.
func until(t *testing.T, wrong func() string) {
	t.Helper()
	const most = 15 * time.Second
	for deadline := time.Now().Add(most); ; time.Sleep(5 * time.Millisecond) {
		w := wrong()
		if w == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %s", most, w)
		}
	}
}

// asked is a host's answer: its rcode and, after a space, its data.
func asked(t *testing.T, host netip.AddrPort, name, typ string) string {
	t.Helper()
	n, err := record.ParseName(name)
	if err != nil {
		t.Fatal(err)
	}
	rt, err := record.ParseType(typ)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	r, err := dnswire.Query(ctx, host, n, rt, false)
	if err != nil {
		return err.Error()
	}
	text := r.RcodeName
	for _, x := range r.Answer {
		for _, d := range x.Data {
			text += " " + dnswire.FormatRdata(x.Type, d)
		}
	}
	return text
}

// served checks that every host goes on answering what people wrote and what the
// fleet has.
func served(t *testing.T, u *Up) {
	t.Helper()
	for _, h := range u.Hosts {
		for _, q := range [][3]string{
			{"www.example.net", "A", "NOERROR 192.0.2.80"},
			{"www.example.org", "A", "NOERROR 192.0.2.81"},
			{"web1.example.net", "AAAA", "NOERROR 2001:db8::1"},
			{"web2.example.net", "A", "NOERROR 192.0.2.2"},
			{"nope.example.org", "A", "NXDOMAIN"},
		} {
			if got := asked(t, h, q[0], q[1]); got != q[2] {
				t.Errorf("%s %s from %s: %s, want %s", q[0], q[1], h, got, q[2])
			}
		}
	}
}

// holds waits until every host answers want.
func holds(t *testing.T, u *Up, name, typ, want string) {
	t.Helper()
	until(t, func() string {
		for _, h := range u.Hosts {
			if got := asked(t, h, name, typ); got != want {
				return fmt.Sprintf("%s %s from %s: %s, want %s", name, typ, h, got, want)
			}
		}
		return ""
	})
}

// state is all that an operation can change: the servers, and the content of the
// dataset.
func state(t *testing.T, u *Up) string {
	t.Helper()
	var sb strings.Builder
	c := Client(t, u.API)
	servers, err := c.Registry.ListServers(t.Context(), "", 0, registryapi.NewFilter())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range servers.Servers {
		fmt.Fprintln(&sb, s.Name, s.Addresses, s.Role, s.Site, s.Options)
	}
	records, err := c.Control.ExportRecords(t.Context(), "internal", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records.Records {
		fmt.Fprintln(&sb, r.Owner, r.TTL, r.Type, r.Rdata)
	}
	return sb.String()
}

// refusal is a command that must fail: its status and all of its standard error,
// in which … stands for anything within a line.
type refusal struct {
	args   []string
	env    []string // name=value
	status int
	says   string
}

func (r refusal) check(t *testing.T, more ...string) {
	t.Helper()
	for _, e := range r.env {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	stdout, stderr, status := Run(t, append(slices.Clone(r.args), more...)...)
	if status != r.status || !likeness(r.says).MatchString(stderr) {
		t.Errorf("zonecast %.200q: status %d, want %d; it says\n%swant\n%s", r.args, status, r.status, stderr, r.says)
	}
	if stdout != "" {
		t.Errorf("zonecast %.200q: standard output has %q", r.args, stdout)
	}
}

func likeness(pattern string) *regexp.Regexp {
	return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), "…", "[^\n]*") + "$")
}

// complains waits until the source's error in `status` is like pattern ("" is none)
// and then looks for it in the log.
func complains(t *testing.T, u *Up, source, pattern string) {
	t.Helper()
	found := ""
	c := Client(t, u.API)
	until(t, func() string {
		st, err := c.Control.Status(t.Context())
		if err != nil {
			return err.Error()
		}
		found = ""
		for _, s := range st.Sources {
			if s.Source == source {
				found = s.Error
			}
		}
		if !likeness(pattern).MatchString(found) {
			return fmt.Sprintf("source %s says %q, want %q", source, found, pattern)
		}
		return ""
	})
	quoted, err := json.Marshal(found)
	if err != nil {
		t.Fatal(err)
	}
	until(t, func() string { // the log says it a moment after the store has it
		if found != "" && !strings.Contains(u.Log(), string(quoted)) {
			return fmt.Sprintf("the log does not say %s", quoted)
		}
		return ""
	})
}

func TestBadInput(t *testing.T) {
	in := newSources(t)
	u := StartUp(t, UpOptions{Hosts: 2, Zones: in.zones, Fleet: in.fleet})
	served(t, u)
	t.Run("registration", func(t *testing.T) { badRegistrations(t, u) })
	t.Run("question", func(t *testing.T) { badQuestions(t, u) })
	t.Run("nowhere", func(t *testing.T) { unansweredRegistrations(t, u) })
	t.Run("zone file", func(t *testing.T) { badZoneFiles(t, u, in) })
	t.Run("fleet file", func(t *testing.T) { badFleetFiles(t, u, in) })
	t.Run("start", func(t *testing.T) { badStarts(t, u) })
	t.Run("late host", func(t *testing.T) { lateHost(t, u) })
	u = badJournals(t, u, in)
	badStore(t, u, in)
}

func badRegistrations(t *testing.T, u *Up) {
	label := strings.Repeat("a", 64)
	long := strings.Repeat("a.", 122) + "example.net" // 257 octets in wire form
	before := state(t, u)
	register := func(name, addresses string, more ...string) []string {
		return append([]string{"register", name, "--address", addresses, "--role", "web", "--site", "ams", "--wait", "--api", u.API}, more...)
	}
	for name, r := range map[string]refusal{
		"address": {
			args: register("web3.example.net", "192.0.2.300"), status: 1,
			says: "zonecast: server web3.example.net: address \"192.0.2.300\" is none, expected IPv4 such as 192.0.2.1 or IPv6 such as 2001:db8::1\n",
		},
		"loopback": {
			args: register("web3.example.net", "192.0.2.3,127.0.0.1"), status: 1,
			says: "zonecast: server web3.example.net: address 127.0.0.1 is a loopback address, which is another machine for everybody\n",
		},
		"label": {
			args: register(label+".example.net", "192.0.2.3"), status: 1,
			says: "zonecast: name \"" + label + ".example.net\" has a label of 64 octets (\"" + label + "\"), at most 63 (RFC 1035 §2.3.4)\n",
		},
		"name": {
			args: register(long, "192.0.2.3"), status: 1,
			says: "zonecast: name \"a.a.a.…\" is longer than 255 octets in wire form, at most 255 (RFC 1035 §2.3.4)\n",
		},
		"owner": {
			args: register("web3.example.net", "192.0.2.3,192.0.2.1"), status: 1,
			says: "zonecast: server web3.example.net: address 192.0.2.1 belongs to server web1.example.net\nhint: deregister web1.example.net first, or register it without the address\n",
		},
		"option": {
			args: register("web3.example.net", "192.0.2.3", "--option", "colour=red"), status: 1,
			says: "zonecast: server web3.example.net: option \"colour\" is unknown, expected port, protocol, priority or weight\n",
		},
		"port": {
			args: register("web3.example.net", "192.0.2.3", "--option", "port=99999"), status: 1,
			says: "zonecast: server web3.example.net: option port is \"99999\", expected a number from 1 to 65535\n",
		},
		"no value": {
			args: register("web3.example.net", "192.0.2.3", "--option", "port"), status: 2,
			says: "zonecast: --option \"port\" has no value, expected KEY=VALUE such as port=443\n",
		},
		"no address": {
			args: []string{"register", "web3.example.net", "--role", "web", "--site", "ams", "--api", u.API}, status: 1,
			says: "zonecast: server web3.example.net: addresses are missing, expected at least one IPv4 or IPv6 address\n",
		},
		"absent": {
			args: []string{"deregister", "web9.example.net", "--api", u.API}, status: 1,
			says: "zonecast: server web9.example.net is not registered\nhint: zonecast servers lists what is registered\n",
		},
		"no lease": {
			args: []string{"renew", "web1.example.net", "--api", u.API}, status: 1,
			says: "zonecast: server web1.example.net has no lease: it is not registered, ran out, or was registered without one\nhint: register it with a lease first (register --lease, lease_ms)\n",
		},
	} {
		t.Run(name, func(t *testing.T) { r.check(t) })
	}
	if diff := cmp.Diff(before, state(t, u)); diff != "" {
		t.Errorf("refused registrations changed something:\n%s", diff)
	}
	served(t, u)
	// What was refused is taken once it is right.
	if _, stderr, status := Run(t, register("web3.example.net", "192.0.2.3", "--option", "port=443")...); status != 0 {
		t.Fatal(stderr)
	}
	holds(t, u, "web3.example.net", "A", "NOERROR 192.0.2.3")
	holds(t, u, "_web._tcp.example.net", "SRV", "NOERROR 0 0 443 web3.example.net.")
	if _, stderr, status := Run(t, "deregister", "web3.example.net", "--wait", "--api", u.API); status != 0 {
		t.Fatal(stderr)
	}
	holds(t, u, "web3.example.net", "A", "NXDOMAIN")
}

func badQuestions(t *testing.T, u *Up) {
	nobody := FreePorts(t, 1)
	for name, r := range map[string]refusal{
		"name":      {args: []string{"get", "a..b", "--api", u.API}, status: 2, says: "zonecast: name \"a..b\" has an empty label at octet 3, expected a label of 1 to 63 octets\n"},
		"why":       {args: []string{"why", "a..b", "--api", u.API}, status: 2, says: "zonecast: name \"a..b\" has an empty label at octet 3, expected a label of 1 to 63 octets\n"},
		"type":      {args: []string{"get", "www.example.net", "BOGUS", "--api", u.API}, status: 2, says: "zonecast: type \"BOGUS\" is unknown, expected a mnemonic such as AAAA or TYPEnnn (RFC 3597)\n"},
		"none":      {args: []string{"get", "nope.example.net", "--api", u.API}, status: 1, says: "zonecast: nope.example.net has no such records in version …\nhint: `zonecast why nope.example.net` shows who claims something there\n"},
		"dataset":   {args: []string{"export", "json", "--dataset", "nope", "--api", u.API}, status: 1, says: "zonecast: dataset \"nope\" is not served here, expected one of internal\nhint: --policy-datasets of the registry's process says which are\n"},
		"no API":    {args: []string{"status", "--api", fmt.Sprintf("127.0.0.1:%d", nobody)}, status: 1, says: "zonecast: dial tcp 127.0.0.1:…: connect: connection refused\nhint: is zonecast running there? `zonecast up` starts it; --api HOST:PORT or ZONECAST_API says where, --store finds it\n"},
		"not API":   {args: []string{"status", "--timeout", "1s", "--api", u.HTTP}, status: 3, says: "zonecast: no answer from " + u.HTTP + " within 1s\nhint: the same command again does no harm, with a longer --timeout if need be; whether a change was taken is not known\n"},
		"API":       {args: []string{"status", "--api", "nonsense"}, status: 1, says: "zonecast: address \"nonsense\": expected host:port such as 127.0.0.1:7353, or unix:///path\nhint: …\n"},
		"file":      {args: []string{"import", "/nonexistent/example.com", "--api", u.API}, status: 1, says: "zonecast: open /nonexistent/example.com: no such file or directory\n"},
		"one claim": {args: []string{"get", "--api", u.API}, status: 2, says: "zonecast: zonecast get takes NAME [TYPE], found []\nhint: see zonecast get --help\n"},
	} {
		t.Run(name, func(t *testing.T) { r.check(t) })
	}
	stdout, stderr, status := Run(t, "why", "host.nowhere.test", "--api", u.API)
	if want := "note: no zone of the dataset holds host.nowhere.test.: queries for it are refused\n"; status != 0 || !strings.HasSuffix(stdout, want) {
		t.Errorf("why host.nowhere.test: status %d, %q %q, want %q", status, stdout, stderr, want)
	}
	broken := filepath.Join(t.TempDir(), "example.com")
	if err := os.WriteFile(broken, []byte("$ORIGIN example.com.\n@ 300 SOA ns h 1 2 3 4 5\n@ 300 NS ns\nns 300 A 192.0.2.555\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := state(t, u)
	refusal{args: []string{"import", broken, "--api", u.API}, status: 1, says: "zonecast: example.com:4:10: A: expected an IPv4 address, found \"192.0.2.555\"\nhint: mend the file and import it again; what it claimed before still holds\n"}.check(t)
	if diff := cmp.Diff(before, state(t, u)); diff != "" {
		t.Errorf("an import that was refused changed something:\n%s", diff)
	}
}

// unansweredRegistrations registers names that no zone can give to anybody.
func unansweredRegistrations(t *testing.T, u *Up) {
	for _, x := range []struct{ name, why string }{
		{"web1.nowhere.test", "no zone holds the name"},
		{"x.sub.example.net", "it is below the zone cut sub.example.net. and no glue for an NS of the zone"},
	} {
		register := []string{"register", x.name, "--address", "192.0.2.99", "--role", "web", "--site", "ams", "--wait", "--api", u.API}
		refusal{args: register, status: 1, says: "zonecast: register " + x.name + " is stored, but no record of it is answered: " + x.why + "\nhint: `zonecast why " + x.name +
			"` shows what holds there; a name in no zone needs a zone file; `zonecast deregister " + x.name + "` takes it back\n"}.check(t)
		stdout, _, status := Run(t, append(register, "--json")...)
		var v struct{ Unanswered []struct{ Owner, Why string } }
		if err := json.Unmarshal([]byte(stdout), &v); err != nil || status != 1 || len(v.Unanswered) != 1 || v.Unanswered[0].Why != x.why {
			t.Errorf("register %s --json: status %d, %v, %s", x.name, status, err, stdout)
		}
		if conflicts, _, _ := Run(t, "conflicts", "--api", u.API); !strings.Contains(conflicts, x.name) {
			t.Errorf("conflicts does not name %s:\n%s", x.name, conflicts)
		}
		served(t, u)
		if _, stderr, status := Run(t, "deregister", x.name, "--wait", "--api", u.API); status != 0 {
			t.Fatal(stderr)
		}
	}
}

func badZoneFiles(t *testing.T, u *Up, in *sources) {
	before := state(t, u)
	unchanged := func(what string) {
		t.Helper()
		if diff := cmp.Diff(before, state(t, u)); diff != "" {
			t.Errorf("%s changed something:\n%s", what, diff)
		}
		served(t, u)
	}
	in.zone("example.org", strings.Replace(badInputOrg, "192.0.2.81", "192.0.2.381", 1))
	complains(t, u, "zone/example.org", `example.org:5:10: A: expected an IPv4 address, found "192.0.2.381"`)
	unchanged("a zone file with an error")
	// The rest goes on: another file is a change meanwhile.
	in.zone("example.net", badInputNet+"new IN A 192.0.2.82\n")
	holds(t, u, "new.example.net", "A", "NOERROR 192.0.2.82")
	in.zone("example.net", badInputNet)
	holds(t, u, "new.example.net", "A", "NXDOMAIN")
	in.zone("example.org", badInputOrg)
	complains(t, u, "zone/example.org", "")
	unchanged("a mended zone file")

	in.zone("copy", badInputOrg+"extra IN A 192.0.2.83\n")
	complains(t, u, "zone/copy", "copy:1: zone example.org. is in the file example.org already, which stays in force; one zone is one file: remove one of the two")
	unchanged("a second file for a zone")
	in.must(os.Remove(filepath.Join(in.zones, "copy")))
	complains(t, u, "zone/copy", "")

	in.zone("example.net", badInputNet+"below.sub IN A 192.0.2.84\n")
	until(t, func() string {
		stdout, _, _ := Run(t, "conflicts", "--api", u.API)
		if want := "below.sub.example.net. A: zone/example.net (example.net:9, by "; !strings.Contains(stdout, want) || !strings.Contains(stdout, "below the zone cut sub.example.net.") {
			return fmt.Sprintf("conflicts say %q, want %q", stdout, want)
		}
		return ""
	})
	unchanged("a record below a delegation")
	in.zone("example.net", badInputNet)
	until(t, func() string {
		if stdout, _, _ := Run(t, "conflicts", "--api", u.API); stdout != "0 conflicts\n" {
			return stdout
		}
		return ""
	})

	away := in.zones + ".away"
	in.must(os.Rename(in.zones, away))
	complains(t, u, "zone", "zone directory: open "+in.zones+": no such file or directory; what its files claimed stays until it is back")
	unchanged("a zone directory that is gone")
	in.must(os.Mkdir(in.zones, 0o755))
	complains(t, u, "zone", "zone directory "+in.zones+" has no zone file any more, is it mounted? What 2 files claimed stays; to remove it make a file .allow-empty there")
	unchanged("an empty zone directory")
	in.must(os.Remove(in.zones))
	in.must(os.Rename(away, in.zones))
	complains(t, u, "zone", "")
	unchanged("a zone directory that is back")
	in.zone("example.org", badInputOrg+"back IN A 192.0.2.85\n")
	holds(t, u, "back.example.org", "A", "NOERROR 192.0.2.85")
	in.zone("example.org", badInputOrg)
	holds(t, u, "back.example.org", "A", "NXDOMAIN")
}

func badFleetFiles(t *testing.T, u *Up, in *sources) {
	const source = "update/fleet-fleet.jsonl"
	before := state(t, u)
	for _, x := range []struct{ name, text, says string }{
		{"half a line", badInputFleet + `{"name":"web3`, "fleet.jsonl:3: found the end of the line, expected the rest of a JSON object: one server is one line"},
		{
			"an address that is none", badInputFleet + `{"name":"web3.example.net","addresses":["192.0.2"],"role":"web","site":"ams"}`,
			`fleet.jsonl:3: server web3.example.net: address "192.0.2" is none, expected IPv4 such as 192.0.2.1 or IPv6 such as 2001:db8::1`,
		},
		{
			"an owner twice", badInputFleet + `{"name":"web3.example.net","addresses":["192.0.2.2"],"role":"web","site":"ams"}`,
			"fleet.jsonl:3: address 192.0.2.2 of server web3.example.net belongs to the server of line 2 already",
		},
		{"nothing", "", `fleet.jsonl: no server found, expected one a line; if there are to be none, write the line {"servers": 0}`},
	} {
		in.write(in.fleet, x.text)
		complains(t, u, source, x.says)
		if diff := cmp.Diff(before, state(t, u)); diff != "" {
			t.Errorf("a fleet file with %s changed something:\n%s", x.name, diff)
		}
	}
	in.must(os.Remove(in.fleet))
	complains(t, u, source, in.fleet+": the file is missing; its servers stay registered")
	served(t, u)
	in.write(in.fleet, badInputFleet+`{"name":"web4.example.net","addresses":["192.0.2.4"],"role":"web","site":"ams"}`+"\n")
	complains(t, u, source, "")
	holds(t, u, "web4.example.net", "A", "NOERROR 192.0.2.4")
	in.write(in.fleet, badInputFleet)
	holds(t, u, "web4.example.net", "A", "NXDOMAIN")
}

// badStarts are starts that cannot be: each says why and leaves the running one be.
func badStarts(t *testing.T, u *Up) {
	base := FreePorts(t, 6)
	address := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", base+i) }
	tcp, err := net.Listen("tcp", address(0))
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", address(1))
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	dir := filepath.Join(t.TempDir(), "new")
	file := filepath.Join(t.TempDir(), "zonecast.toml")
	if err := os.WriteFile(file, []byte("hosts = 2\n\n[presenter]\ngahter = \"20ms\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	up := func(more ...string) []string {
		return append([]string{"up", "--dir", dir, "--hosts", "1", "--dns", address(2), "--api", address(3), "--http", address(4)}, more...)
	}
	const advice = "hint: another process has the port (`ss -lpn 'sport = :%d'` shows which): stop it, or choose another %s\n"
	inUse := func(i int, option string) string { return fmt.Sprintf(advice, base+i, option) }
	for name, r := range map[string]refusal{
		"directory": {args: up("--dir", u.Dir), status: 1, says: "zonecast: directory " + u.Dir + " is in use by another zonecast (process …)\nhint: stop that one first, or give another --dir\n"},
		"api":       {args: up("--api", address(0)), status: 1, says: "zonecast: --api " + address(0) + ": listen tcp " + address(0) + ": bind: address already in use\n" + inUse(0, "--api")},
		"http":      {args: up("--http", address(0)), status: 1, says: "zonecast: --http " + address(0) + ": listen tcp " + address(0) + ": bind: address already in use\n" + inUse(0, "--http")},
		"dns tcp": {
			args: up("--dns", address(0)), status: 1,
			says: "zonecast: listen " + address(0) + ": address " + address(0) + " is in use by another server: tcp: address already in use\n" + inUse(0, "--dns"),
		},
		"dns udp": {
			args: up("--dns", address(1)), status: 1,
			says: "zonecast: listen " + address(1) + ": address " + address(1) + " is in use by another server: udp: address already in use\n" + inUse(1, "--dns"),
		},
		"store": {
			args: []string{"run", "store", "--etcd-dir", dir + "-store", "--etcd-listen", address(0)}, status: 1,
			says: "zonecast: store listen tcp " + address(0) + ": bind: address already in use: another process listens there: stop it or choose another address\n",
		},
		"no port":   {args: up("--api", "nonsense"), status: 1, says: "zonecast: --api nonsense: listen tcp: address nonsense: missing port in address\nhint: --api takes address:port such as 127.0.0.1:7353\n"},
		"flag":      {args: up("--colour", "red"), status: 2, says: "zonecast: unknown flag: --colour\nhint: see zonecast up --help\n"},
		"value":     {args: up("--hosts", "0"), status: 2, says: "zonecast: hosts = \"0\" (flag --hosts): expected 1 to 100\nhint: see zonecast up --help\n"},
		"key":       {args: up("--config", file), status: 2, says: "zonecast: " + file + ":4: unknown key presenter.gahter…\nhint: see zonecast up --help\n"},
		"no file":   {args: up("--config", file+".not"), status: 2, says: "zonecast: read options: open " + file + ".not: no such file or directory\nhint: see zonecast up --help\n"},
		"variable":  {args: up(), env: []string{"ZONECAST_PRESENTER_GATHER=soon"}, status: 2, says: "zonecast: variable ZONECAST_PRESENTER_GATHER = \"soon\": expected a duration such as 20ms or 1m30s\nhint: see zonecast up --help\n"},
		"command":   {args: []string{"statsu"}, status: 2, says: "zonecast: there is no command \"statsu\"\nhint: did you mean status? `zonecast --help` lists them all\n"},
		"no parent": {args: up("--dir", file+"/dir"), status: 1, says: "zonecast: mkdir " + file + ": not a directory\nhint: --dir must be a directory that can be written\n"},
	} {
		t.Run(name, func(t *testing.T) { r.check(t) })
	}
	served(t, u)
	// With the ports free the same directory starts.
	other := StartUp(t, UpOptions{Dir: dir, Hosts: 1})
	if want := "ready: 1 host up after … s; there are no records yet: --zones, --fleet, `zonecast import` and `zonecast register` bring some"; !likeness(want).MatchString(other.Ready) {
		t.Errorf("after failed starts it says %q, want %q", other.Ready, want)
	}
	zone := filepath.Join(t.TempDir(), "example.com")
	if err := os.WriteFile(zone, []byte("@ 300 SOA ns h 1 2 3 4 5\n@ 300 NS ns\nns 300 A 192.0.2.55\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if stdout, stderr, status := other.Run("import", zone, "--wait"); status != 0 {
		t.Errorf("import: status %d, %s%s", status, stdout, stderr)
	}
	holds(t, other, "ns.example.com", "A", "NOERROR 192.0.2.55")
	other.Stop()
}

// lateHost waits for a host that fetches and does not answer, and names it.
func lateHost(t *testing.T, u *Up) {
	var ends struct{ Store string }
	b, err := os.ReadFile(filepath.Join(u.Dir, "endpoints.json"))
	if err == nil {
		err = json.Unmarshal(b, &ends)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir, port := t.TempDir(), FreePorts(t, 1)
	dns := fmt.Sprintf("127.0.0.1:%d", port)
	key := filepath.Join(u.Dir, "keys", "publisher.key.pub")
	journal, status := filepath.Join(dir, "journal"), filepath.Join(dir, "status")
	for _, d := range []string{journal, status} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	agent := Start(t, "agent late", "run", "agent", "--store", ends.Store, "--http", "", "--agent-host", "late", "--agent-dns", dns,
		"--agent-journal", journal, "--agent-status-dir", status, "--agent-keys", key)
	until(t, func() string {
		if stdout, _, _ := Run(t, "status", "--api", u.API); !strings.Contains(stdout, "late") {
			return stdout
		}
		return ""
	})
	register := []string{"register", "web5.example.net", "--address", "192.0.2.5", "--role", "web", "--site", "ams", "--wait", "--api", u.API, "--timeout"}
	refusal{
		args: append(slices.Clone(register), "1500ms"), status: 3,
		says: "zonecast: register web5.example.net is stored, but not answered everywhere after 1.…s: version … is missing on 1 host: late answers version 0\n" +
			"hint: `zonecast status` shows every host; nothing is lost: hosts that come back fetch it\n",
	}.check(t)
	holds(t, u, "web5.example.net", "A", "NOERROR 192.0.2.5") // of the others
	authority := Start(t, "authority late", "run", "authority", "--http", "", "--authority-listen", dns, "--authority-journal", journal,
		"--authority-status-dir", status, "--authority-keys", key)
	stdout, stderr, code := Run(t, append(register, "20s")...)
	if want := "register web5.example.net: answered by 3 hosts as version … after … ms\n"; code != 0 || !likeness(want).MatchString(stdout) {
		t.Errorf("once it answers: status %d, %q %q, want %q", code, stdout, stderr, want)
	}
	if got := asked(t, netip.MustParseAddrPort(dns), "web5.example.net", "A"); got != "NOERROR 192.0.2.5" {
		t.Errorf("late answers %s", got)
	}
	agent.Stop()
	authority.Stop()
	if _, stderr, code := Run(t, "deregister", "web5.example.net", "--wait", "--api", u.API); code != 0 {
		t.Fatal(stderr)
	}
}

// damage flips octets in the middle of a file.
func damage(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	at := len(b) / 2
	for i := range 8 {
		b[at+i] ^= 0xff
	}
	_, err = f.WriteAt(b[at:at+8], int64(at))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func journalLog(t *testing.T, u *Up, host int) string {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(u.Dir, "hosts", fmt.Sprintf("host%d", host), "journal", "log-*"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no log in the journal of host%d (%v)", host, err)
	}
	return logs[len(logs)-1]
}

// badJournals damages one host's journal while it runs and the other's while it
// does not, and gives the zonecast that runs afterwards.
func badJournals(t *testing.T, u *Up, in *sources) *Up {
	damage(t, journalLog(t, u, 1))
	served(t, u)
	if stdout, stderr, status := Run(t, "register", "web6.example.net", "--address", "192.0.2.6", "--role", "web", "--site", "ams", "--wait", "--api", u.API); status != 0 {
		t.Fatalf("%s%s", stdout, stderr)
	}
	before := state(t, u)
	u.Stop()
	damage(t, journalLog(t, u, 0))
	u = StartUp(t, UpOptions{Dir: u.Dir, Hosts: 2, Zones: in.zones, Fleet: in.fleet})
	served(t, u)
	holds(t, u, "web6.example.net", "A", "NOERROR 192.0.2.6")
	for _, host := range []string{"host0", "host1"} {
		aside := filepath.Join(u.Dir, "hosts", host, "journal.corrupt-1")
		if _, err := os.Stat(filepath.Join(aside, "CURRENT")); err != nil {
			t.Errorf("the damaged journal of %s was not kept: %v", host, err)
		}
		if !regexp.MustCompile(`"level":"ERROR","msg":"journal is damaged: moved aside, fetching anew; the authority serves what it has","host":"` + host + `"[^\n]*"moved":"` +
			regexp.QuoteMeta(aside) + `","error":"[^\n]*journal is damaged: [^\n]*/log-[0-9]+: offset [0-9]+: CRC-32C of the group(?:'s [0-9]+ octets| header) is [0-9a-f]{8}, expected [0-9a-f]{8}`).MatchString(u.Log()) {
			t.Errorf("the log does not say what became of the journal of %s:\n%s", host, u.Log())
		}
	}
	if diff := cmp.Diff(before, state(t, u)); diff != "" {
		t.Errorf("damaged journals changed the data:\n%s", diff)
	}
	if _, stderr, status := Run(t, "deregister", "web6.example.net", "--wait", "--api", u.API); status != 0 {
		t.Fatal(stderr)
	}
	holds(t, u, "web6.example.net", "A", "NXDOMAIN")
	return u
}

// badStore damages the store's files: no start, nothing made worse, and the files
// put back are as before.
func badStore(t *testing.T, u *Up, in *sources) {
	before := state(t, u)
	u.Stop()
	logs, err := filepath.Glob(filepath.Join(u.Dir, "store", "etcd", "member", "wal", "*.wal"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no log of the store (%v)", err)
	}
	base := FreePorts(t, 3)
	const advice = "the data directory is damaged: keep a copy of …/store, then put back a backup, or move the directory away to start empty (docs/store.md)\n"
	for _, x := range []struct {
		name, file string
		left       int64 // octets
		says       string
	}{
		{"database truncated", filepath.Join(u.Dir, "store", "etcd", "member", "snap", "db"), 1000, "store in …/store: failed to open database (…/snap/db): invalid database: "},
		{"log truncated", logs[0], 5000, "store in …/store: the log ends at entry …, the database is at entry …: "},
		{"log cut between entries", logs[0], entryEnd(t, logs[0], 5000), "store in …/store: the log ends at entry …, the database is at entry …: "},
		{"log empty", logs[0], 0, "start store in …/store: etcd stumbled over what it read (…): "},
	} {
		t.Run(x.name, func(t *testing.T) {
			good, err := os.ReadFile(x.file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(x.file, x.left); err != nil {
				t.Fatal(err)
			}
			_, stderr, status := Run(t, "up", "--dir", u.Dir, "--hosts", "1", "--dns", fmt.Sprintf("127.0.0.1:%d", base),
				"--api", fmt.Sprintf("127.0.0.1:%d", base+1), "--http", fmt.Sprintf("127.0.0.1:%d", base+2), "--log-level", "error+4")
			if want := "zonecast: start store in …/store: the child process ended (exit status …): " + x.says + advice; status != 1 || !likeness(want).MatchString(stderr) {
				t.Errorf("status %d, it says\n%swant\n%s", status, stderr, want)
			}
			left, err := os.ReadFile(x.file)
			// An entry that the cut tore is cut off, and kept in a file of its own; a cut between
			// two entries leaves a log that can be appended to.
			if err == nil && !bytes.HasPrefix(left, good[:x.left]) {
				left, err = os.ReadFile(x.file + ".broken")
			}
			if err != nil || !bytes.HasPrefix(left, good[:x.left]) {
				t.Errorf("what was left of the file is not there any more: %d octets, %v", len(left), err)
			}
			if err := os.WriteFile(x.file, good, 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
	u = StartUp(t, UpOptions{Dir: u.Dir, Hosts: 2, Zones: in.zones, Fleet: in.fleet})
	served(t, u)
	if diff := cmp.Diff(before, state(t, u)); diff != "" {
		t.Errorf("the store put back has other data:\n%s", diff)
	}
}

// entryEnd gives the first offset, behind the one given, at which an entry of
// etcd's log ends: 8 octets of length and padding, little-endian, before each.
func entryEnd(t *testing.T, log string, behind int64) int64 {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var at int64
	for at <= behind {
		frame := binary.LittleEndian.Uint64(b[at:])
		if frame == 0 {
			t.Fatalf("the log has %d octets, expected more than %d", at, behind)
		}
		at += 8 + int64(frame<<8>>8)
		if frame>>63 == 1 {
			at += int64(frame >> 56 & 7)
		}
	}
	return at
}

// TestFullDisk fills the disk under a running zonecast and frees it again.
func TestFullDisk(t *testing.T) {
	t.Parallel() // it waits more than it works
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	// etcd sets 64 MB aside for its log, and as much again for the next one.
	mount := t.TempDir()
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=140m"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(mount, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := syscall.Mount("", mount, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	refusal{args: []string{"up", "--dir", filepath.Join(mount, "d")}, status: 1, says: "zonecast: mkdir " + mount + "/d: read-only file system\nhint: --dir must be a directory that can be written\n"}.check(t)
	if err := syscall.Mount("", mount, "", syscall.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	in := newSources(t)
	u := StartUp(t, UpOptions{Dir: filepath.Join(mount, "d"), Hosts: 2, Zones: in.zones, Fleet: in.fleet})
	register := func(n int, more ...string) []string {
		return append([]string{"register", fmt.Sprintf("web%d.example.net", n), "--address", fmt.Sprintf("192.0.2.%d", n), "--role", "web", "--site", "ams", "--wait", "--api", u.API}, more...)
	}
	if _, stderr, status := Run(t, register(3)...); status != 0 {
		t.Fatal(stderr)
	}
	filler := filepath.Join(mount, "filler")
	fill(t, filler)
	// What fits into space already set aside may still be taken: what is acknowledged
	// is acknowledged, and the first that is not says why.
	taken, refused := 3, ""
	for n := 4; n < 64 && refused == ""; n++ {
		_, stderr, status := Run(t, register(n)...)
		switch status {
		case 0:
			taken = n
		case 3: // stored; the hosts' own disk is full, too
		default:
			refused = stderr
		}
	}
	if want := "zonecast: …store unavailable: no answer within 5s (the store process does not run: …: no space left on device: free space there; nothing acknowledged is lost, and the store goes on when there is room)\nhint: whether it happened is not known; repeating it is safe\n"; !likeness(want).MatchString(refused) {
		t.Errorf("on a full disk a registration says\n%swant\n%s", refused, want)
	}
	served(t, u)
	for n := 3; n <= taken; n++ {
		holds(t, u, fmt.Sprintf("web%d.example.net", n), "A", fmt.Sprintf("NOERROR 192.0.2.%d", n))
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	until(t, func() string {
		_, stderr, status := Run(t, register(99)...)
		if status != 0 {
			return stderr
		}
		return ""
	})
	served(t, u)
	holds(t, u, "web99.example.net", "A", "NOERROR 192.0.2.99")
	holds(t, u, fmt.Sprintf("web%d.example.net", taken), "A", fmt.Sprintf("NOERROR 192.0.2.%d", taken))
	if !u.Running() {
		t.Error("zonecast ended")
	}
}

// fill writes a file until there is no space.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}
