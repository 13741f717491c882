package rules_test

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/rules"
	"github.com/zonecast/zonecast/store"
)

var update = flag.Bool("update", false, "write the golden files")

func builtIn(t interface {
	Helper()
	Fatal(...any)
},
) []rules.Rule {
	t.Helper()
	rs, err := rules.BuiltIn(rules.DefaultParams())
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// claims runs all rules on the servers: claims by "source shard".
func claims(t interface {
	Helper()
	Fatal(...any)
}, servers []fleet.Server,
) map[string][]record.Claim {
	t.Helper()
	type key struct {
		rule  rules.Rule
		shard string
	}
	members := make(map[key][]fleet.Server)
	for _, r := range builtIn(t) {
		for _, s := range servers {
			shards, err := r.Shards(s)
			if err != nil {
				t.Fatal(err)
			}
			for _, shard := range shards {
				members[key{r, shard}] = append(members[key{r, shard}], s)
			}
		}
	}
	out := make(map[string][]record.Claim)
	for k, m := range members {
		slices.SortFunc(m, func(a, b fleet.Server) int { return strings.Compare(string(a.Name), string(b.Name)) })
		cs, err := k.rule.Claims(k.shard, func() []fleet.Server { return m })
		if err != nil && (len(cs) == 0 || !strings.Contains(err.Error(), "left out")) {
			t.Fatal(err)
		}
		if len(cs) > 0 {
			out[string(k.rule.Source())+" "+k.shard] = cs
		}
	}
	return out
}

// text writes claims as a person reads them, in order of source and shard.
func text(all map[string][]record.Claim) string {
	var sb strings.Builder
	keys := make([]string, 0, len(all))
	for k := range all {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		fmt.Fprintf(&sb, "%s\n", k)
		for _, c := range all[k] {
			for _, d := range c.Data {
				fmt.Fprintf(&sb, "\t%s %d %s %s\n", c.Owner, c.TTL, c.Type, dnswire.FormatRdata(c.Type, d))
			}
			fallback, when := "", "no time"
			if c.Fallback {
				fallback = " fallback"
			}
			if !c.Time.IsZero() {
				when = c.Time.UTC().Format("15:04:05.000")
			}
			fmt.Fprintf(&sb, "\t\tby %q because %q at %s%s: %s\n", c.Author, c.Reason, when, fallback, c.Place)
		}
	}
	return sb.String()
}

// Golden files: a fleet file, and what the rules make of it. The n-th server is
// registered n seconds after 1970 began.
func TestGolden(t *testing.T) {
	files, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".txtar") {
			continue
		}
		ran++
		t.Run(f.Name(), func(t *testing.T) {
			path := "testdata/" + f.Name()
			a, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			servers, err := fleet.ParseFleetFile(bytes.NewReader(a.Files[0].Data), "fleet.jsonl")
			if err != nil {
				t.Fatal(err)
			}
			for i := range servers {
				servers[i].Time = int64(i+1) * 1000
			}
			got := text(claims(t, servers))
			if *update {
				a.Files = []txtar.File{a.Files[0], {Name: "claims", Data: []byte(got)}}
				if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(string(a.Files[1].Data), got); d != "" {
				t.Errorf("claims (-want +got):\n%s", d)
			}
		})
	}
	if ran == 0 {
		t.Fatal("no golden files")
	}
}

func TestReverseZone(t *testing.T) {
	for a, want := range map[string]string{
		"10.64.0.9":         "10.in-addr.arpa.",
		"192.168.3.4":       "168.192.in-addr.arpa.",
		"172.16.0.1":        "16.172.in-addr.arpa.",
		"172.31.255.1":      "31.172.in-addr.arpa.",
		"172.32.0.1":        "0.32.172.in-addr.arpa.",
		"172.15.0.1":        "0.15.172.in-addr.arpa.",
		"192.0.2.1":         "2.0.192.in-addr.arpa.",
		"2001:db8:12:34::1": "2.1.0.0.8.b.d.0.1.0.0.2.ip6.arpa.",
		"fd12:3456:789a::1": "a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa.",
	} {
		addr := netip.MustParseAddr(a)
		zone, name := rules.ReverseZone(addr), rules.ReverseName(addr)
		if zone.String() != want {
			t.Errorf("%s: got %s, want %s", a, zone, want)
		}
		if !name.IsSubdomainOf(zone) || name == zone {
			t.Errorf("%s: %s is not below %s", a, name, zone)
		}
	}
	if got, want := rules.ReverseName(netip.MustParseAddr("192.0.2.130")).String(), "130.2.0.192.in-addr.arpa."; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := rules.ReverseName(netip.MustParseAddr("2001:db8::567:89ab")).String(),
		"b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa."; got != want { // RFC 3596 §2.5's form
		t.Errorf("got %s, want %s", got, want)
	}
}

func server(t *rapid.T, n int) fleet.Server {
	name, err := record.ParseName(fmt.Sprintf("h%d.%s", n, rapid.SampledFrom([]string{"example.net", "sfo.example.net"}).Draw(t, "domain")))
	if err != nil {
		t.Fatal(err)
	}
	s := fleet.Server{
		Name: name, Role: rapid.SampledFrom([]string{"web", "db", "h1"}).Draw(t, "role"), Site: "sfo", Origin: fleet.OriginCall,
		Cluster: rapid.SampledFrom([]string{"", "edge"}).Draw(t, "cluster"), TTL: rapid.Uint32Range(0, 9).Draw(t, "ttl"),
		Time: rapid.Int64Range(0, 3).Draw(t, "time"), Author: rapid.SampledFrom([]string{"", "alice"}).Draw(t, "author"),
	}
	if rapid.Bool().Draw(t, "v4") {
		s.Addresses = append(s.Addresses, netip.AddrFrom4([4]byte{byte(rapid.SampledFrom([]int{10, 198}).Draw(t, "net")), 51, 100, byte(n)}))
	}
	if len(s.Addresses) == 0 || rapid.Bool().Draw(t, "v6") {
		s.Addresses = append(s.Addresses, netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(n + 1)}))
	}
	if rapid.Bool().Draw(t, "srv") {
		s.Options = map[string]string{"port": fmt.Sprint(80 + n), "protocol": rapid.SampledFrom([]string{"tcp", "udp"}).Draw(t, "protocol")}
	}
	return s.Normal()
}

// Claims depend on the set of servers, each is fit for a dataset, and each PTR lies
// in a zone that is claimed.
func TestClaimsProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var servers []fleet.Server
		for n := range rapid.IntRange(0, 12).Draw(t, "servers") {
			servers = append(servers, server(t, n))
		}
		all := claims(t, servers)
		if d := cmp.Diff(text(all), text(claims(t, rapid.Permutation(servers).Draw(t, "order")))); d != "" {
			t.Fatalf("another order gives other claims:\n%s", d)
		}
		zones := make(map[record.Name]bool)
		want, ptrs := 0, 0
		for _, s := range servers {
			want += len(s.Addresses)
		}
		for k, cs := range all {
			source, shard, _ := strings.Cut(k, " ")
			for _, c := range cs {
				if err := c.Check(); err != nil {
					t.Fatalf("%s: %v", k, err)
				}
				if string(c.Source) != source || c.Source.Check() != nil || c.Place == "" {
					t.Fatalf("%s: source %q, place %q", k, c.Source, c.Place)
				}
				if c.Type == record.TypeSOA {
					zones[c.Owner] = true
				}
			}
			if err := store.CheckPath("/claims/" + source + "/" + shard); err != nil || strings.HasPrefix(shard, "@") {
				t.Fatalf("shard %q: %v", shard, err)
			}
		}
		for _, cs := range all {
			for _, c := range cs {
				if c.Type != record.TypePTR {
					continue
				}
				ptrs++
				zone := c.Owner
				for zone != "" && !zones[zone] {
					zone = zone.Parent()
				}
				if zone == "" {
					t.Fatalf("%s lies in no zone", c.Owner)
				}
			}
		}
		if ptrs != want {
			t.Fatalf("%d PTRs for %d addresses", ptrs, want)
		}
	})
}

// A service with more members than a message or a node can hold stays within both,
// and says so.
func TestHugeService(t *testing.T) {
	var servers []fleet.Server
	for i := range 5000 {
		name, err := record.ParseName(fmt.Sprintf("a-rather-long-name-for-a-server-%d.example.net", i))
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, fleet.Server{
			Name: name, Role: "web", Site: "sfo", Origin: fleet.OriginCall, Options: map[string]string{"port": "80"},
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 8: byte(i * 7), 14: byte(i >> 8), 15: byte(i)})},
		}.Normal())
	}
	all := claims(t, servers)
	for _, k := range []string{"rule/service web.example.net", "rule/srv _web._tcp.example.net"} {
		cs := all[k]
		if len(cs) == 0 {
			t.Fatalf("%s: no claims", k)
		}
		for _, c := range cs {
			if err := c.Check(); err != nil {
				t.Errorf("%s: %v", k, err)
			}
			if !strings.Contains(c.Place, "left out") {
				t.Errorf("%s: the place is %q, want it to say that some are left out", k, c.Place)
			}
		}
		if n := len(record.EncodeShard(cs[0].Source, cs)); n > store.MaxValue {
			t.Errorf("%s: the shard has %d octets, at most %d fit a node", k, n, store.MaxValue)
		}
	}
}
