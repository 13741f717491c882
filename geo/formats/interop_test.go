//go:build interop || acceptance

package formats

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/geo/formats/formatstest"
	"github.com/zonecast/zonecast/geo/mmdb"
	"github.com/zonecast/zonecast/geo/mmdb/mmdbtest"
	"github.com/zonecast/zonecast/record"
)

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
	cmd := exec.Command(formatstest.Program(t, "gdnsd_geoip_test"), "-c", dir)
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
			dir := formatstest.GDNSDDir(t, "", "maps => {\nm => {\n"+c.config+"\n}\n}\nresources => {}", files)
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
					addresses = append(addresses, formatstest.Random(r, netip.MustParsePrefix(p)))
				}
			}
			for _, p := range []string{"0.0.0.0/0", "10.0.0.0/15", "192.0.2.0/24", "2000::/3", "::/0", "2001:db8::/32", "::/64"} {
				for range 40 {
					addresses = append(addresses, formatstest.Random(r, netip.MustParsePrefix(p)))
				}
			}
			for _, a := range slices.Clone(addresses) {
				if a.Is4() {
					addresses = append(addresses, formatstest.Forms(a)...)
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
func beside(t *testing.T, d formatstest.GDNSD, i *Import, clients, teredos, resolvers []netip.Addr) (differ int) {
	t.Helper()
	_, want := expect(t, i)
	wrong := 0
	tell := func(format string, args ...any) {
		if wrong++; wrong <= 20 {
			t.Errorf(format, args...)
		}
	}
	got := map[string]int{}
	for n, a := range formatstest.AskAll(t, d.Address, "www.example.net.", dns.TypeA, clients) {
		if w := want(clients[n]); w != a.Records {
			tell("client %s: %s, gdnsd answers %s", clients[n], w, a.Records)
		}
		got[a.Records]++
	}
	for n, a := range formatstest.AskAll(t, d.Address, "www.example.net.", dns.TypeA, teredos) {
		if want(teredos[n]) != a.Records {
			differ++
		}
	}
	for _, r := range resolvers {
		a, err := d.AskFrom(r)
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
	d := formatstest.StartGDNSD(t, formatstest.Wikimedia(t, "testdata/wikimedia"), files, 20*time.Second)
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
		a := formatstest.Random(r, p)
		clients = append(clients, a)
		if a.Is4() {
			if r.IntN(4) == 0 {
				clients = append(clients, formatstest.Forms(a)...)
			}
			if r.IntN(8) == 0 {
				teredos = append(teredos, formatstest.Teredo(a))
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
		a := formatstest.Random(r, netip.MustParsePrefix([]string{"0.0.0.0/0", "2000::/3"}[r.IntN(2)]))
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
