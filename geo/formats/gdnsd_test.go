package formats

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/geo/mmdb"
	"github.com/zonecast/zonecast/geo/mmdb/mmdbtest"
	"github.com/zonecast/zonecast/record"
)

// world is a database of a few places, in documentation prefixes and some of their
// neighbours.
func world(t testing.TB) *mmdb.DB { return database(t, "Test-City", 6, places) }

var places = map[string]mmdbtest.Record{
	"192.0.2.0/26":       mmdbtest.City("EU", "CH", "GE", "Geneva", 46.2, 6.15),
	"192.0.2.64/26":      mmdbtest.City("EU", "IE", "L", "Dublin", 53.3, -6.2),
	"192.0.2.128/26":     mmdbtest.City("NA", "US", "VA", "Ashburn", 39, -77.5),
	"192.0.2.192/26":     mmdbtest.City("NA", "US", "CA", "San Jose", 37.3, -121.9),
	"198.51.100.0/25":    mmdbtest.City("OC", "AU", "NSW", "Sydney", -33.9, 151.2),
	"198.51.100.128/26":  mmdbtest.City("AS", "JP", "13", "Tokyo", 35.7, 139.7),
	"198.51.100.192/26":  mmdbtest.City("OC", "NZ", "S OTA", "Dunedin", -45.9, 170.5), // two levels
	"203.0.113.0/25":     mmdbtest.City("EU", "FR", "IDF 75", "Paris", 48.9, 2.4),
	"203.0.113.128/26":   mmdbtest.Country("EU", "DE"), // no region, city or coordinates
	"203.0.113.192/27":   {"continent": mmdbtest.Record{"code": mmdbtest.Text("AF")}},
	"2001:db8::/33":      mmdbtest.City("AS", "SG", "", "Singapore", 1.3, 103.9),
	"2001:db8:8000::/33": mmdbtest.City("EU", "CH", "ZH", "Zurich", 47.4, 8.5),
}

func database(t testing.TB, kind string, version int, networks map[string]mmdbtest.Record) *mmdb.DB {
	t.Helper()
	db, err := mmdb.OpenBytes(kind+".mmdb", mmdbtest.Build(t, kind, version, networks))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// served are the PoPs of an address, in order.
func served(m *geo.Map, address string) string {
	a := netip.MustParseAddr(address)
	best := geo.Entry{}
	for _, e := range m.Entries {
		if e.Prefix.Contains(a) && (!best.Prefix.IsValid() || e.Prefix.Bits() > best.Prefix.Bits()) {
			best = e
		}
	}
	if order := m.Orders[best.Location]; order != nil {
		return joinPoPs(order)
	}
	return string(best.Location)
}

// gdnsdCases are maps, and the PoPs that gdnsd has for addresses.
var gdnsdCases = []struct {
	name, config string
	files        fstest.MapFS
	embedded     bool
	want         map[string]string // address → PoPs
}{
	{
		name:   "the default is the datacenters in their order",
		config: `datacenters => [one, two, three]`,
		want:   map[string]string{"192.0.2.1": "one two three", "2001:db8::1": "one two three"},
	},
	{
		name: "continent and country",
		config: `geoip2_db => x.mmdb, datacenters => [one, two]
			map => { NA => [two, one], EU => { IE => two, CH => [two] } }`,
		want: map[string]string{"192.0.2.1": "two", "192.0.2.65": "two", "192.0.2.129": "two one", "203.0.113.1": "one two", "198.51.100.1": "one two", "233.252.0.1": "one two"},
	},
	{
		name: "the default of each level, and that of the level around it",
		config: `geoip2_db => x.mmdb, datacenters => [one, two, three]
			map => { default => [three], EU => { default => [two], CH => { ZH => one } }, NA => { US => { CA => one } } }`,
		want: map[string]string{
			"192.0.2.1":   "two",   // Geneva: CH has no default, EU has
			"203.0.113.1": "two",   // France
			"192.0.2.129": "three", // Virginia: neither NA nor US has one
			"192.0.2.193": "one", "2001:db8:8000::1": "one", "198.51.100.1": "three", "233.252.0.1": "three", "2001:db8::1": "three",
		},
	},
	{
		name: "an empty level is its default",
		config: `geoip2_db => x.mmdb, datacenters => [one, two]
			map => { EU => {}, NA => { US => { default => two } } }`,
		want: map[string]string{"192.0.2.1": "one two", "192.0.2.193": "two"},
	},
	{
		name: "levels below the country are passed over",
		config: `geoip2_db => x.mmdb, datacenters => [one, two]
			map => { OC => { NZ => { OTA => two } }, EU => { FR => { Paris => two }, CH => { GE => { Geneva => two } } } }`,
		want: map[string]string{"198.51.100.193": "two", "203.0.113.1": "two", "192.0.2.1": "two", "198.51.100.1": "one two", "2001:db8:8000::1": "one two"},
	},
	{
		name: "continent and country are not passed over",
		config: `geoip2_db => x.mmdb, datacenters => [one, two]
			map => { CH => two, EU => { GE => two, Paris => two } }`,
		want: map[string]string{"192.0.2.1": "one two", "203.0.113.1": "one two"},
	},
	{
		name: "a subdivision is not looked for in the city of the one above it",
		config: `geoip2_db => x.mmdb, datacenters => [one, two]
			map => { NA => { US => { CA => { Ashburn => two }, VA => { "San Jose" => two } } } }`,
		want: map[string]string{"192.0.2.129": "one two", "192.0.2.193": "one two"},
	},
	{
		name: "the case of a place does not count, that of a datacenter does",
		config: `geoip2_db => x.mmdb, datacenters => [one, two]
			map => { na => { us => { ca => { "SAN JOSE" => two } } } }`,
		want: map[string]string{"192.0.2.193": "two", "192.0.2.129": "one two"},
	},
	{
		name: "places that are not whole",
		config: `geoip2_db => x.mmdb, datacenters => [one, two]
			map => { AF => two, EU => { DE => { Berlin => one } } }`,
		want: map[string]string{"203.0.113.193": "two", "203.0.113.129": "one two"},
	},
	{
		name: "nets are above places, whole",
		config: `geoip2_db => x.mmdb, datacenters => [one, two]
			map => { NA => two }
			nets => { 192.0.2.0/24 => one, 192.0.2.200/29 => [two, one] }`,
		want: map[string]string{"192.0.2.129": "one", "192.0.2.201": "two one", "192.0.2.1": "one"},
	},
	{
		name:   "nets in a file",
		config: `datacenters => [one, two], nets => geo.nets`,
		files:  fstest.MapFS{"geo.nets": {Data: []byte("192.0.2.0/24 => two\n\"2001:db8::/32\" => [ two, one ]\n")}},
		want:   map[string]string{"192.0.2.1": "two", "2001:db8::1": "two one", "198.51.100.1": "one two"},
	},
	{
		name:   "bits behind the length, and many small nets",
		config: `datacenters => [one, two, three], nets => { ::1/0 => three, 10.0.0.1/8 => one, 10.129.0.0/9 => two }`,
		want:   map[string]string{"::1": "three", "192.0.2.1": "three", "10.0.0.0": "one", "10.128.0.1": "two", "2001:db8::1": "three"},
	},
	{
		name:   "IPv4 as an IPv6 prefix",
		config: `datacenters => [one, two], nets => { ::192.0.2.0/120 => two, ::/96 => [two, one] }`,
		want:   map[string]string{"192.0.2.1": "two", "198.51.100.1": "two one", "2001:db8::1": "one two"},
	},
	{
		name:   "of prefixes around all of IPv4 the longest counts",
		config: `datacenters => [one, two, three], nets => { ::/64 => two, ::/16 => three }`,
		want:   map[string]string{"192.0.2.1": "two", "0:1::1": "three", "2001:db8::1": "one two three"},
	},
	{
		name:   "the same net twice with one list",
		config: `datacenters => [one, two], nets => { 192.0.2.0/24 => two, ::192.0.2.0/120 => [two] }`,
		want:   map[string]string{"192.0.2.1": "two"},
	},
	{
		name: "nearest first, three at most",
		config: `geoip2_db => x.mmdb, datacenters => [us, ie, sg, br]
			auto_dc_coords => { us => [38.9, -77], ie => [53.3, -6.3], sg => [1.3, 103.9], br => [-22.9, -43.2] }`,
		want: map[string]string{"192.0.2.1": "ie us br", "192.0.2.129": "us ie br", "198.51.100.1": "sg br us", "233.252.0.1": "us ie sg br", "203.0.113.129": "us ie sg br"},
	},
	{
		name: "no limit, and a limit above the number",
		config: `geoip2_db => x.mmdb, datacenters => [us, ie, sg, br], auto_dc_limit = 0
			auto_dc_coords => { us => [38.9, -77], ie => [53.3, -6.3], sg => [1.3, 103.9], br => [-22.9, -43.2] }`,
		want: map[string]string{"192.0.2.1": "ie us br sg", "198.51.100.1": "sg br us ie"},
	},
	{
		name: "a datacenter without coordinates is by hand only",
		config: `geoip2_db => x.mmdb, datacenters => [us, ie, sg, tr], auto_dc_limit => 9
			auto_dc_coords => { us => [38.9, -77], ie => [53.3, -6.3], sg => [1.3, 103.9] }
			map => { AS => { JP => [tr, sg] } }`,
		want: map[string]string{"192.0.2.1": "ie us sg", "198.51.100.129": "tr sg", "2001:db8::1": "sg ie us", "233.252.0.1": "us ie sg tr"},
	},
	{
		name: "a default list, and auto below it",
		config: `geoip2_db => x.mmdb, datacenters => [us, ie, sg]
			auto_dc_coords => { us => [38.9, -77], ie => [53.3, -6.3], sg => [1.3, 103.9] }
			map => { default => [sg, us, ie], EU => auto, NA => { default => auto, US => { VA => [sg] } } }`,
		want: map[string]string{"192.0.2.1": "ie us sg", "198.51.100.1": "sg us ie", "192.0.2.129": "sg", "192.0.2.193": "us ie sg", "233.252.0.1": "sg us ie"},
	},
	{
		name: "an empty list",
		config: `geoip2_db => x.mmdb, datacenters => [one, two], map => { EU => [] }
			nets => { 10.0.1.0/24 => [] }`,
		want: map[string]string{"192.0.2.1": "", "10.0.1.44": "", "10.0.2.1": "one two"},
	},
	{
		name:     "forms of IPv4 in IPv6",
		config:   `geoip2_db => x.mmdb, datacenters => [one, two], map => { EU => two }, nets => { 2000::/3 => [two, one] }`,
		embedded: true,
		want: map[string]string{
			"192.0.2.1": "two", "::192.0.2.1": "two", "::ffff:0:192.0.2.1": "two", "64:ff9b::192.0.2.1": "two", "2002:c000:0201::1": "two",
			"192.0.2.129": "one two", "2002:c000:0281::1": "one two", "64:ff9b::192.0.2.129": "one two", "2003::1": "two one",
		},
	},
}

// TestGDNSD has what gdnsd's documentation and its tests expect of a map, in cases of
// our own; TestInteropGDNSD asks the real one.
func TestGDNSD(t *testing.T) {
	for _, c := range gdnsdCases {
		t.Run(c.name, func(t *testing.T) {
			files := fstest.MapFS{"maps": {Data: []byte("m => {\n" + c.config + "\n}\n")}}
			for name, f := range c.files {
				files[name] = f
			}
			i, err := GDNSD{FS: files, File: "maps", Databases: []*mmdb.DB{world(t)}, EmbeddedIPv4: c.embedded}.Read()
			if err != nil {
				t.Fatal(err)
			}
			i.Map.Name = "m"
			if err := i.Map.Check(); err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for a := range c.want {
				got[a] = served(&i.Map, a)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("PoPs (-want +got):\n%s", d)
			}
		})
	}
}

func TestGDNSDRefused(t *testing.T) {
	for _, c := range []struct{ name, config, want string }{
		{"no map", `x => 1`, "maps:1: no map, expected NAME"},
		{"several", "a => { datacenters => x }\nb => { datacenters => y }", `maps "a", "b", expected that one of them is chosen`},
		{"no datacenters", `m => { datacenters => [] }`, "maps:1: datacenters has 0 names"},
		{"a key", "m => { datacenters => x\n geoip_db => y }", `maps:2: map "m" has the key "geoip_db", expected`},
		{"an unknown datacenter", "m => { datacenters => x, nets => {\n192.0.2.0/24 => y } }", `maps:2: datacenter "y", expected one of datacenters: "x"`},
		{"auto in nets", "m => { datacenters => x, nets => { 192.0.2.0/24 => auto } }", `datacenter "auto"`},
		{"auto without coordinates", "m => { datacenters => x, geoip2_db => y, map => { EU => auto } }", `datacenter "auto"`},
		{"named auto", "m => { datacenters => auto }", "has the name auto"},
		{"a name that no PoP has", "m => { datacenters => a.b }", "expected 1 to 63 letters, digits, hyphens and underscores"},
		{"two of one name", "m => { datacenters => [a A] }", `datacenter "A" is there twice`},
		{"a map without a database", "m => { datacenters => x, map => { EU => x } }", "map without geoip2_db"},
		{"a database for nothing", "m => { datacenters => x, geoip2_db => y }", "maps:1: geoip2_db without map and auto_dc_coords"},
		{"a latitude", "m => { datacenters => x, geoip2_db => y, auto_dc_coords => { x => [91, 0] } }", `latitude of "x" is "91", expected degrees, -90 to 90`},
		{"not a number", "m => { datacenters => x, geoip2_db => y, auto_dc_coords => { x => [NaN, 0] } }", `latitude of "x" is "NaN"`},
		{"coordinates of another", "m => { datacenters => x, geoip2_db => y, auto_dc_coords => { z => [1, 0] } }", `auto_dc_coords has "z"`},
		{"a limit", "m => { datacenters => x, auto_dc_limit => -1 }", `auto_dc_limit is "-1"`},
		{"a net", "m => { datacenters => x, nets => {\n192.0.2.0 => x } }", `maps:2: nets has "192.0.2.0", expected address/length`},
		{"a length", "m => { datacenters => x, nets => { 192.0.2.0/33 => x } }", `nets has "192.0.2.0/33"`},
		{"IPv4-mapped", "m => { datacenters => x, nets => { ::ffff:192.0.2.0/120 => x } }", "nets has ::ffff:192.0.2.0/120, which is IPv4 in the form of IPv6"},
		{"6to4", "m => { datacenters => x, nets => { 2002:c000:200::/40 => x } }", "which is IPv4 in the form of IPv6"},
		{"one net, two lists", "m => { datacenters => [x y], nets => { 192.0.2.0/24 => x\n::192.0.2.0/120 => y } }", "maps:2: 192.0.2.0/24 is there twice with other datacenters, before at maps:1"},
		{"nets", "m => { datacenters => x, nets => [a] }", "nets is an array"},
		{"a file of nets", "m => { datacenters => x, nets => none.nets }", "maps:1: nets: open none.nets"},
		{"ECS", "m => { datacenters => x, ignore_ecs => maybe }", `ignore_ecs is "maybe"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := GDNSD{FS: fstest.MapFS{"maps": {Data: []byte(c.config)}}, File: "maps", Databases: []*mmdb.DB{world(t)}}.Read()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, expected %q", err, c.want)
			}
		})
	}
	t.Run("chosen, and no map", func(t *testing.T) {
		_, err := GDNSD{FS: fstest.MapFS{"maps": {Data: []byte("a => { datacenters => x }\nb => { nets => {} }")}}, File: "maps", Map: "b"}.Read()
		if err == nil || !strings.Contains(err.Error(), `maps:2: map "b" has no datacenters`) {
			t.Error(err)
		}
	})
	t.Run("a database of systems", func(t *testing.T) {
		asn := database(t, "Test-ASN", 6, map[string]mmdbtest.Record{"192.0.2.0/24": mmdbtest.System(64500, "Example")})
		_, err := GDNSD{FS: fstest.MapFS{"maps": {Data: []byte("m => { datacenters => x, geoip2_db => y, map => { EU => x } }")}}, File: "maps", Databases: []*mmdb.DB{asn}}.Read()
		if err == nil || !strings.Contains(err.Error(), "Test-ASN.mmdb (Test-ASN) has no places") {
			t.Error(err)
		}
	})
	t.Run("distances by a database of countries", func(t *testing.T) {
		countries := database(t, "Test-Country", 6, map[string]mmdbtest.Record{"192.0.2.0/24": mmdbtest.Country("EU", "CH")})
		_, err := GDNSD{FS: fstest.MapFS{"maps": {Data: []byte("m => { datacenters => x, geoip2_db => y, auto_dc_coords => { x => [1, 1] } }")}}, File: "maps", Databases: []*mmdb.DB{countries}}.Read()
		if err == nil || !strings.Contains(err.Error(), "has no coordinates") {
			t.Error(err)
		}
	})
}

// TestTwoDatabases has IPv4 and IPv6 in files of their own, in either order.
func TestTwoDatabases(t *testing.T) {
	four := database(t, "Test-City", 4, map[string]mmdbtest.Record{"192.0.2.0/24": mmdbtest.Flat("CH", "", "", 46.2, 6.1)})
	six := database(t, "Test-City", 6, map[string]mmdbtest.Record{"2001:db8::/32": mmdbtest.Flat("CH", "", "", 46.2, 6.1), "192.0.2.0/25": mmdbtest.Flat("US", "", "", 46.2, 6.1)})
	for _, dbs := range [][]*mmdb.DB{{four, six}, {six, four}} {
		i, err := GDNSD{FS: fstest.MapFS{"maps": {Data: []byte("m => { datacenters => [a b], geoip2_db => y, map => { EU => b } }")}}, File: "maps", Databases: dbs}.Read()
		if err != nil {
			t.Fatal(err)
		}
		for address, want := range map[string]string{"192.0.2.1": "b", "192.0.2.129": "b", "2001:db8::1": "b", "198.51.100.1": "a b"} {
			if got := served(&i.Map, address); got != want {
				t.Errorf("%s: %s, expected %s", address, got, want)
			}
		}
	}
}

// TestWideNetwork is a network of IPv6 that has all of IPv4 in it.
func TestWideNetwork(t *testing.T) {
	db := database(t, "Test-City", 6, map[string]mmdbtest.Record{"::/8": mmdbtest.Country("EU", "CH"), "2001:db8::/32": mmdbtest.Country("NA", "US")})
	i, err := GDNSD{FS: fstest.MapFS{"maps": {Data: []byte("m => { datacenters => [a b], geoip2_db => y, map => { EU => b } }")}}, File: "maps", Databases: []*mmdb.DB{db}}.Read()
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{"192.0.2.1": "b", "2001:db8::1": "a b", "64::1": "b"} {
		if got := served(&i.Map, address); got != want {
			t.Errorf("%s: %s, expected %s", address, got, want)
		}
	}
}

func sets(all []record.Set) string {
	var b strings.Builder
	for _, s := range all {
		b.WriteString(s.Key.String())
		for n, d := range s.Data {
			switch s.Type {
			case record.TypeA, record.TypeAAAA:
				a, _ := netip.AddrFromSlice([]byte(d))
				b.WriteString(" " + a.String())
			case record.TypeCNAME:
				b.WriteString(" " + record.Name(d).String())
			default:
				b.WriteString(" " + strings.ReplaceAll(string(d[1:]), " ", "_"))
			}
			if s.Terms != nil {
				b.WriteString("*" + string('0'+rune(s.Terms[n].Weight)))
			}
		}
		if s.Choose > 0 {
			b.WriteString(" choose " + string('0'+rune(s.Choose)))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func names(t testing.TB, all ...string) (out []record.Name) {
	t.Helper()
	for _, text := range all {
		n, err := record.ParseName(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, n)
	}
	return out
}

func TestGDNSDResources(t *testing.T) {
	const config = `
service_types => { http => { plugin => http_status } }
plugins => {
  multifo => { pool => { lb1 => 192.0.2.7, lb2 => 192.0.2.8 } }
  weighted => { service_types => http
    heavy => { lb1 => [ 192.0.2.9, 3 ], lb2 => [ 192.0.2.10, 1 ] }
    spread => { multi => true, a => [ 192.0.2.9, 3 ], b => [ 192.0.2.10, 1 ] } }
  geoip => {
    maps => { m => { datacenters => [a, b, c, d] } }
    resources => {
      www => { map => m, service_types => http, dcmap => {
        a => 192.0.2.1
        b => [ 192.0.2.2, 2001:db8::2 ]
        c => { addrs_v4 => { x => 192.0.2.3, y => 192.0.2.4 }, addrs_v6 => 2001:db8::3 }
        d => { plugin => weighted, lb1 => [ 192.0.2.5, 2 ], lb2 => [ 192.0.2.6, 1 ] }
      } }
      ref => { map => m, plugin => weighted, dcmap => { a => %multifo!pool, b => !heavy, c => "%weighted!spread", d => other.example.org. } }
      first => { map => m, skip_first => true, dcmap => { a => 192.0.2.1, b => 192.0.2.2, c => 192.0.2.3, d => { plugin => simplefo, primary => 192.0.2.4, secondary => 192.0.2.5 } } }
      few => { map => m, dcmap => { a => 192.0.2.1 } }
      other => { map => n, dcmap => { a => 192.0.2.1 } }
      alias => { map => m, dcmap => { a => other, b => x, c => y, d => z } }
      wrong => { map => m, dcmap => { a => { addrs_v6 => 192.0.2.1 }, b => 192.0.2.1, c => 192.0.2.1, d => 192.0.2.1 } }
      loop => { map => m, dcmap => { a => %geoip!loop, b => 192.0.2.1, c => 192.0.2.1, d => 192.0.2.1 } }
    }
  }
}`
	read := func(resource string, who ...string) (*Import, error) {
		return GDNSD{FS: fstest.MapFS{"config": {Data: []byte(config)}}, File: "config", Resource: resource, Names: names(t, who...), TTL: 60}.Read()
	}
	for _, c := range []struct {
		resource, order, want string
		notes                 int
	}{
		{"www", "a b c d", `www.example.net. A @"a" 192.0.2.1
www.example.net. A @"b" 192.0.2.2
www.example.net. A @"c" 192.0.2.3 192.0.2.4
www.example.net. A @"d" 192.0.2.5*2 192.0.2.6*1 choose 1
www.example.net. AAAA @"b" 2001:db8::2
www.example.net. AAAA @"c" 2001:db8::3
`, 1},
		{"ref", "a b c d", `www.example.net. A @"a" 192.0.2.7 192.0.2.8
www.example.net. A @"b" 192.0.2.9*3 192.0.2.10*1 choose 1
www.example.net. A @"c" 192.0.2.9*3 192.0.2.10*1
www.example.net. CNAME @"d" other.example.org.
`, 1},
		{"first", "b c d", `www.example.net. A @"a" 192.0.2.1
www.example.net. A @"b" 192.0.2.2
www.example.net. A @"c" 192.0.2.3
www.example.net. A @"d" 192.0.2.4
`, 1},
	} {
		i, err := read(c.resource, "www.example.net")
		if err != nil {
			t.Fatal(c.resource, err)
		}
		if d := cmp.Diff(c.want, sets(i.Sets)); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.resource, d)
		}
		if got := served(&i.Map, "192.0.2.1"); got != c.order {
			t.Errorf("%s: PoPs %s, expected %s", c.resource, got, c.order)
		}
		if len(i.Notes) != c.notes || len(i.Map.Uses) != 2 {
			t.Errorf("%s: notes %v, uses %v", c.resource, i.Notes, i.Map.Uses)
		}
	}
	for resource, want := range map[string]string{
		"none":  `no resource "none", expected one of "www"`,
		"few":   `dcmap has no datacenter "b" of map "m"`,
		"other": `resource "other" has the map "n", expected "m"`,
		"alias": `found "other", expected an address, or a name that ends with a dot`,
		"wrong": "address 192.0.2.1 is not of the family of its stanza",
		"loop":  `plugin "geoip", expected multifo`,
	} {
		_, err := read(resource, "www.example.net")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "config:") {
			t.Errorf("%s: %v, expected %q", resource, err, want)
		}
	}
}

// TestSkipFirst has lists by distance, which are made from the database only: the first of
// each is skipped as well, unless it is alone.
func TestSkipFirst(t *testing.T) {
	const config = `plugins => { geoip => {
  maps => { m => { geoip2_db => x.mmdb, datacenters => [us, ie, sg]
    auto_dc_coords => { us => [38.9, -77], ie => [53.3, -6.3], sg => [1.3, 103.9] }
    map => { default => [sg, us, ie], EU => auto, NA => [us] } } }
  resources => { second => { map => m, skip_first => true, dcmap => { us => 192.0.2.1, ie => 192.0.2.2, sg => 192.0.2.3 } } } } }`
	i, err := GDNSD{
		FS: fstest.MapFS{"config": {Data: []byte(config)}}, File: "config", Databases: []*mmdb.DB{world(t)},
		Resource: "second", Names: names(t, "www.example.net"), TTL: 60,
	}.Read()
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{"192.0.2.1": "us sg", "198.51.100.1": "us ie", "192.0.2.129": "us"} {
		if got := served(&i.Map, address); got != want {
			t.Errorf("%s: PoPs %s, expected %s", address, got, want)
		}
	}
}

// TestWikimedia reads the maps that the Wikimedia Foundation kept by hand in 2019
// (operations-dns, commit 26687700).
func TestWikimedia(t *testing.T) {
	i, err := GDNSD{
		FS: os.DirFS("testdata"), File: "wikimedia/geo-maps", Resources: "wikimedia/geo-resources", Resource: "text-addrs",
		Databases: []*mmdb.DB{world(t)}, Names: names(t, "en.wikipedia.org"), TTL: 600,
	}.Read()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	want := map[string]string{
		"192.0.2.1": "esams eqiad codfw ulsfo eqsin", "192.0.2.129": "eqiad codfw ulsfo esams eqsin", "192.0.2.193": "ulsfo codfw eqiad esams eqsin",
		"198.51.100.129": "eqsin ulsfo codfw eqiad esams", "208.80.153.1": "codfw eqiad ulsfo esams eqsin", "2620:0:862::1": "esams eqiad codfw ulsfo eqsin",
		"233.252.0.1": "eqiad codfw ulsfo esams eqsin",
	}
	for a := range want {
		got[a] = served(&i.Map, a)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("PoPs (-want +got):\n%s", d)
	}
	if len(i.Sets) != 12 || len(i.Notes) != 0 {
		t.Errorf("%d sets, notes %v", len(i.Sets), i.Notes)
	}
}
