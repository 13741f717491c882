package compile

import (
	"fmt"
	"testing"
	"testing/fstest"
)

// largeTree is 10,000 programs of a zone each with 12 records, by helpers of their own,
// with validators of zones, one of which looks at all of them.
func largeTree(n int) fstest.MapFS {
	files := map[string]string{
		"lib/site.star": `load("//zonecast.star", "a", "aaaa", "cname", "mx", "ns", "soa", "txt", "zone")

def site(origin, n, extra = []):
    return zone(
        origin,
        soa("ns1.example.net.", "hostmaster.example.net."),
        ns("@", "ns1.example.net.", "ns2.example.net."),
        mx("@", 10, "mail.example.net."),
        txt("@", "v=spf1 -all"),
        a("@", "192.0.2.%d" % (n % 250 + 1)),
        [a("web%d" % i, "10.%d.%d.%d" % (n // 250, n % 250, i)) for i in range(1, 5)],
        aaaa("www", "2001:db8::%x" % n),
        cname("ftp", "www"),
        extra,
    )
`,
		"Zone.validate.star": `def validate(zone):
    if zone.ttl < 60:
        fail("a TTL below a minute")

def validate_all(configs):
    seen = {}
    for path, zone in configs.items():
        if type(zone) == "Zone":
            if zone.origin in seen:
                problem("zone is also in %s" % seen[zone.origin], at = zone)
            seen[zone.origin] = path
`,
	}
	for i := range n {
		files[fmt.Sprintf("zones/%02d/zone%d.star", i%100, i)] = fmt.Sprintf(`load("//lib/site.star", "site")
load("//zonecast.star", "a")

export(site("zone%d.example.net", %d, extra = [
    a("own", "192.0.2.7"),
]))
`, i, i)
	}
	return treeOf(files)
}

func BenchmarkCompile10000(b *testing.B) {
	tree := largeTree(10_000)
	for b.Loop() {
		b.StopTimer()
		c := New(Options{})
		b.StartTimer()
		r, err := c.Compile(b.Context(), tree, nil, nil)
		if err != nil || len(r.Configs) != 10_000 {
			b.Fatal(err)
		}
		b.StopTimer()
		c.Close()
		b.StartTimer()
	}
}

func BenchmarkOneChangeOf10000(b *testing.B) {
	tree := largeTree(10_000)
	c := compiler(b, Options{})
	base, err := c.Compile(b.Context(), tree, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	const file = "zones/07/zone4207.star"
	text := string(tree[file].Data)
	n := 0
	for b.Loop() {
		n++
		tree[file] = &fstest.MapFile{Data: fmt.Appendf(nil, "%s# change %d\nprint('x')\n", text, n)}
		r, err := c.Compile(b.Context(), tree, base, []string{file})
		if err != nil || len(r.Configs) != 10_000 {
			b.Fatal(err)
		}
		base = r
	}
}
