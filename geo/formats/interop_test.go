//go:build interop || acceptance

package formats

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/geo/mmdb"
	"github.com/zonecast/zonecast/geo/mmdb/mmdbtest"
	"github.com/zonecast/zonecast/internal/ports"
	"github.com/zonecast/zonecast/record"
)

// program finds one of gdnsd's.
func program(t testing.TB, name string) string {
	t.Helper()
	for _, p := range []string{name, "/usr/sbin/" + name} {
		if found, err := exec.LookPath(p); err == nil {
			return found
		}
	}
	t.Fatalf("%s is not there; expected Debian's package gdnsd (scripts/install-test-deps.sh)", name)
	return ""
}

// gdnsdDir makes a configuration directory: stanza is the content of plugins => { geoip => { … } }.
func gdnsdDir(t testing.TB, options, stanza string, geoip map[string][]byte) string {
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

// answered is what gdnsd says of an address: its datacenters, and the scope.
type answered struct {
	pops  string
	scope int
}

// geoipTest lets gdnsd_geoip_test look up addresses in a map.
func geoipTest(t testing.TB, dir, name string, addresses []netip.Addr) []answered {
	t.Helper()
	var in strings.Builder
	for _, a := range addresses {
		fmt.Fprintf(&in, "%s %s\n", name, a)
	}
	cmd := exec.Command(program(t, "gdnsd_geoip_test"), "-c", dir)
	cmd.Stdin = strings.NewReader(in.String())
	var errout bytes.Buffer
	cmd.Stderr = &errout
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("gdnsd_geoip_test: %v: %s", err, errout.String())
	}
	var all []answered
	for line := range strings.Lines(string(out)) {
		// m => 192.0.2.9/24 => a, b
		if _, rest, ok := strings.Cut(strings.TrimRight(line, "\n"), name+" => "); ok {
			network, pops, _ := strings.Cut(rest, " =>")
			_, scope, _ := strings.Cut(network, "/")
			n, err := strconv.Atoi(scope)
			if err != nil {
				t.Fatalf("gdnsd_geoip_test: %q", line)
			}
			pops = strings.TrimSpace(strings.ReplaceAll(pops, ",", ""))
			if pops == "NULL" || strings.HasPrefix(pops, "(") {
				pops = ""
			}
			all = append(all, answered{pops, n})
		}
	}
	if len(all) != len(addresses) {
		t.Fatalf("gdnsd_geoip_test: %d answers for %d addresses: %.300s %.300s", len(all), len(addresses), out, errout.String())
	}
	return all
}

// ours looks up in the map as it was read.
type ours struct {
	m     *geo.Map
	chart *geo.Chart
}

func newOurs(t testing.TB, m *geo.Map) ours {
	t.Helper()
	a := geo.Atlas{Maps: map[string][]geo.Entry{"m": m.Entries}, Uses: []geo.Use{{Name: record.Root, Below: true, Kind: geo.BySubnet, Map: "m"}, {Name: record.Root, Below: true, Kind: geo.ByResolver, Map: "m"}}}
	b, err := a.AppendBinary(nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	c, err := geo.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	return ours{m, c}
}

func (o ours) ask(a netip.Addr) answered {
	p := o.chart.Locate([]byte(record.Root), 0, netip.Addr{}, netip.PrefixFrom(a, a.BitLen()))
	l := record.Location(p.Location)
	if order := o.m.Orders[l]; order != nil {
		return answered{joinPoPs(order), int(p.Scope)}
	}
	return answered{string(l), int(p.Scope)}
}

// forms are addresses of IPv6 with an IPv4 address in them.
func forms(a netip.Addr) []netip.Addr {
	b := a.As4()
	at := func(p netip.Prefix) netip.Addr {
		all := p.Addr().As16()
		copy(all[p.Bits()/8:], b[:])
		return netip.AddrFrom16(all)
	}
	return []netip.Addr{at(compatible), at(siit), at(wellKnown), at(sixToFour)}
}

func ofTeredo(a netip.Addr) netip.Addr {
	all, b := teredo.Addr().As16(), a.As4()
	all[8] = 7 // the port and the like, which do not count
	for i := range b {
		all[12+i] = ^b[i]
	}
	return netip.AddrFrom16(all)
}

// random draws an address of a prefix.
func random(r *rand.Rand, p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := range b {
		free := 8 - min(8, max(0, p.Bits()-8*i))
		b[i] |= byte(r.Uint32()) & byte(1<<free-1)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// TestInteropGDNSD asks gdnsd's own gdnsd_geoip_test for all maps of TestGDNSD: the
// datacenters of each address in their order, and the scope.
func TestInteropGDNSD(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range gdnsdCases {
		t.Run(c.name, func(t *testing.T) {
			files := map[string][]byte{"x.mmdb": mmdbtest.Build(t, "Test-City", 6, places)}
			fsys := fstest.MapFS{"maps": {Data: []byte("m => {\n" + c.config + "\n}\n")}}
			for name, f := range c.files {
				files[name], fsys[name] = f.Data, f
			}
			dir := gdnsdDir(t, "", "maps => {\nm => {\n"+c.config+"\n}\n}\nresources => {}", files)
			i, err := GDNSD{FS: fsys, File: "maps", Databases: []*mmdb.DB{world(t)}, EmbeddedIPv4: true}.Read()
			if err != nil {
				t.Fatal(err)
			}
			o := newOurs(t, &i.Map)
			var addresses []netip.Addr
			for a := range c.want {
				addresses = append(addresses, netip.MustParseAddr(a))
			}
			for p := range places {
				for range 5 {
					addresses = append(addresses, random(r, netip.MustParsePrefix(p)))
				}
			}
			for _, p := range []string{"0.0.0.0/0", "10.0.0.0/15", "192.0.2.0/24", "2000::/3", "::/0", "2001:db8::/32", "::/64"} {
				for range 40 {
					addresses = append(addresses, random(r, netip.MustParsePrefix(p)))
				}
			}
			for _, a := range slices.Clone(addresses) {
				if a.Is4() {
					addresses = append(addresses, forms(a)...)
				}
			}
			theirs := geoipTest(t, dir, "m", addresses)
			for n, a := range addresses {
				got, want := o.ask(a), theirs[n]
				if got.pops != want.pops {
					t.Errorf("%s: %q, gdnsd says %q", a, got.pops, want.pops)
				}
				if w, ok := c.want[a.String()]; ok && (c.embedded || a.Is4()) && w != want.pops {
					t.Errorf("%s: gdnsd says %q, the table %q", a, want.pops, w)
				}
				if a.Is4() && !scopeFits(got, want) {
					t.Errorf("%s: scope /%d, gdnsd says /%d", a, got.scope, want.scope)
				}
			}
		})
	}
}

// scopeFits tells whether our scope is gdnsd's. gdnsd has 1 where a whole family has one
// list; and it has no wider one for a network around IPv4.
func scopeFits(got, want answered) bool {
	return got.scope == want.scope || got.scope == 0 && want.scope <= 1
}

// daemon is a gdnsd that runs.
type daemon struct {
	address, proxied string
}

// startGDNSD starts a daemon on loopback.
func startGDNSD(t *testing.T, stanza string, geoip map[string][]byte, wait time.Duration) daemon {
	t.Helper()
	port := ports.Free(t, 2)
	d := daemon{fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("127.0.0.1:%d", port+1)}
	dir := gdnsdDir(t, fmt.Sprintf("listen => { %s => { udp_threads => 1, tcp_threads => 1 }, %s => { tcp_proxy => true, tcp_threads => 1 } }", d.address, d.proxied), stanza, geoip)
	cmd := exec.Command(program(t, "gdnsd"), "-c", dir, "start")
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
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
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	for {
		if _, err := d.ask(ctx, netip.MustParseAddr("192.0.2.1")); err == nil {
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

func question(a netip.Addr) *dns.Msg {
	q := new(dns.Msg)
	q.SetQuestion("www.example.net.", dns.TypeA)
	q.SetEdns0(1232, false)
	if a.IsValid() {
		family := uint16(1)
		if a.Is6() {
			family = 2
		}
		q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: family, SourceNetmask: uint8(a.BitLen()), Address: a.AsSlice()})
	}
	return q
}

func addressOf(m *dns.Msg) string {
	var all []string
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok {
			all = append(all, a.A.String())
		}
	}
	return strings.Join(all, " ")
}

// ask asks as a resolver on behalf of a client (ECS).
func (d daemon) ask(ctx context.Context, a netip.Addr) (string, error) {
	c := dns.Client{Timeout: time.Second}
	m, _, err := c.ExchangeContext(ctx, question(a), d.address)
	if err != nil {
		return "", err
	}
	return addressOf(m), nil
}

// askAll asks for many addresses over some sockets.
func (d daemon) askAll(t *testing.T, all []netip.Addr) []string {
	t.Helper()
	out := make([]string, len(all))
	const sockets = 4
	errs := make([]error, sockets)
	var group sync.WaitGroup
	for s := range sockets {
		group.Go(func() {
			c, err := dns.Dial("udp", d.address)
			if err != nil {
				errs[s] = err
				return
			}
			defer c.Close()
			for i := s; i < len(all); i += sockets {
				if out[i], errs[s] = exchange(c, all[i]); errs[s] != nil {
					return
				}
			}
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return out
}

// exchange asks up to five times: a machine under load loses packets of UDP.
func exchange(c *dns.Conn, a netip.Addr) (string, error) {
	q := question(a)
	var last error
	for range 5 {
		c.SetDeadline(time.Now().Add(2 * time.Second))
		if last = c.WriteMsg(q); last != nil {
			continue
		}
		for {
			m, err := c.ReadMsg()
			if err != nil {
				last = err
				break
			}
			if m.Id == q.Id {
				return addressOf(m), nil
			}
		}
	}
	return "", fmt.Errorf("%s: %w", a, last)
}

// askFrom asks as a resolver of an address without ECS: gdnsd takes its address from
// the PROXY protocol.
func (d daemon) askFrom(a netip.Addr) (string, error) {
	c, err := net.DialTimeout("tcp", d.proxied, 2*time.Second)
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
	if err := conn.WriteMsg(question(netip.Addr{})); err != nil {
		return "", err
	}
	m, err := conn.ReadMsg()
	if err != nil {
		return "", err
	}
	return addressOf(m), nil
}

// wikimediaWith are the Wikimedia Foundation's maps with another name of database, as
// stanza of gdnsd; text-addrs is resource www.
func wikimediaWith(t *testing.T) string {
	t.Helper()
	maps, err := os.ReadFile("testdata/wikimedia/geo-maps")
	if err != nil {
		t.Fatal(err)
	}
	resources, err := os.ReadFile("testdata/wikimedia/geo-resources")
	if err != nil {
		t.Fatal(err)
	}
	return "maps => {\n" + strings.Replace(string(maps), "GeoIP2-City.mmdb", "x.mmdb", 1) + "}\nresources => {\n" +
		strings.Replace(string(resources), "text-addrs", "www", 1) + "}\n"
}

// expect is the address that a client gets by what was read: that of the first PoP.
func expect(t *testing.T, i *Import) (ours, func(netip.Addr) string) {
	o := newOurs(t, &i.Map)
	at := map[string]string{}
	for _, s := range i.Sets {
		if s.Type == record.TypeA {
			a, _ := netip.AddrFromSlice([]byte(s.Data[0]))
			at[string(s.Location)] = a.String()
		}
	}
	if len(at) < 5 {
		t.Fatalf("addresses of %d PoPs", len(at))
	}
	return o, func(a netip.Addr) string {
		first, _, _ := strings.Cut(o.ask(a).pops, " ")
		return at[first]
	}
}

// beside compares every answer of gdnsd with what was read. It gives the differences of
// Teredo, which no prefix can say.
func beside(t *testing.T, d daemon, i *Import, clients, teredos, resolvers []netip.Addr) (differ int) {
	t.Helper()
	_, want := expect(t, i)
	wrong := 0
	tell := func(format string, args ...any) {
		if wrong++; wrong <= 20 {
			t.Errorf(format, args...)
		}
	}
	got := map[string]int{}
	for n, a := range d.askAll(t, clients) {
		if w := want(clients[n]); w != a {
			tell("client %s: %s, gdnsd answers %s", clients[n], w, a)
		}
		got[a]++
	}
	for n, a := range d.askAll(t, teredos) {
		if want(teredos[n]) != a {
			differ++
		}
	}
	for _, r := range resolvers {
		a, err := d.askFrom(r)
		if err != nil {
			t.Fatal(err)
		}
		if w := want(r); w != a {
			tell("resolver %s: %s, gdnsd answers %s", r, w, a)
		}
	}
	t.Logf("%d clients, %d resolvers: %d differences; of %d clients behind Teredo %d; answers %v", len(clients), len(resolvers), wrong, len(teredos), differ, got)
	if len(got) < 5 {
		t.Errorf("answers %v, expected all five PoPs", got)
	}
	return differ
}

// TestInteropWikimedia has a real gdnsd answer with the maps of Wikimedia, over UDP with
// ECS, and over TCP for resolvers. The database is one of our own in which each prefix
// of a random part of the world has a random country.
func TestInteropWikimedia(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	database := drawn(r)
	files := map[string][]byte{"x.mmdb": mmdbtest.Build(t, "Test-City", 6, database)}
	d := startGDNSD(t, wikimediaWith(t), files, 20*time.Second)
	db, err := mmdb.OpenBytes("x.mmdb", files["x.mmdb"])
	if err != nil {
		t.Fatal(err)
	}
	i, err := GDNSD{
		FS: os.DirFS("testdata/wikimedia"), File: "geo-maps", Resources: "geo-resources", Resource: "text-addrs", Databases: []*mmdb.DB{db},
		EmbeddedIPv4: true, Names: names(t, "www.example.net"), TTL: 60,
	}.Read()
	if err != nil {
		t.Fatal(err)
	}
	prefixes := make([]netip.Prefix, 0, len(database)+2)
	for p := range database {
		prefixes = append(prefixes, netip.MustParsePrefix(p))
	}
	for _, p := range []string{"0.0.0.0/0", "2000::/3", "208.80.152.0/22", "31.13.24.0/21", "2620:0:860::/44", "8.0.0.0/16"} {
		for range 500 {
			prefixes = append(prefixes, netip.MustParsePrefix(p))
		}
	}
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int { return a.Compare(b) })
	var clients, teredos, resolvers []netip.Addr
	for _, p := range prefixes {
		a := random(r, p)
		clients = append(clients, a)
		if a.Is4() {
			if r.IntN(4) == 0 {
				clients = append(clients, forms(a)...)
			}
			if r.IntN(8) == 0 {
				teredos = append(teredos, ofTeredo(a))
			}
		}
		if r.IntN(20) == 0 && !within(netip.PrefixFrom(a, a.BitLen()), []netip.Prefix{teredo}) {
			resolvers = append(resolvers, a)
		}
	}
	differ := beside(t, d, i, clients, teredos, resolvers)
	if differ == 0 || differ == len(teredos) {
		t.Errorf("%d of %d clients behind Teredo differ, expected some: no prefix can say where they are", differ, len(teredos))
	}
}

// drawn is a database of random places in random prefixes.
func drawn(r *rand.Rand) map[string]mmdbtest.Record {
	all := map[string]mmdbtest.Record{}
	places := strings.Fields("EU/CH/ZH EU/FR/IDF NA/US/CA NA/US/VA NA/US/TX NA/US/WA NA/CA/ON NA/CA/BC AS/JP/13 AS/IN/MH AS/CN/BJ AS/AE/DU OC/AU/NSW OC/NZ/OTA OC/FJ/C SA/BR/SP AF/ZA/GP AN/AQ/x NA/MX/CMX EU/RU/MOW AS/TR/34")
	for range 4000 {
		a := random(r, netip.MustParsePrefix([]string{"0.0.0.0/0", "2000::/3"}[r.IntN(2)]))
		bits := 8 + r.IntN(17)
		if a.Is6() {
			bits = 16 + r.IntN(33)
		}
		p := netip.PrefixFrom(a, bits).Masked()
		if within(p, embedding) || p.Contains(netip.MustParseAddr("2001::")) || p.Contains(netip.MustParseAddr("2002::")) {
			continue // aliases in the writer's tree
		}
		at := strings.Split(places[r.IntN(len(places))], "/")
		all[p.String()] = mmdbtest.City(at[0], at[1], at[2], "", 1, 1)
	}
	return all
}
