package protocol

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/authority/image/imagetest"
	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

// locatedView has names that differ by location: /8 is at "a", a /24 within it at "b".
func locatedView(t *testing.T) *data.View {
	atlas := geo.Atlas{
		Maps: map[string][]geo.Entry{
			"subnet":   {{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Location: "a"}, {Prefix: netip.MustParsePrefix("10.4.4.0/24"), Location: "b"}, {Prefix: netip.MustParsePrefix("2001:db8::/32"), Location: "a"}},
			"resolver": {{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Location: "b"}},
		},
		Uses: []geo.Use{
			{Name: "\x03www\x07example\x03net\x00", Kind: geo.BySubnet, Map: "subnet"},
			{Name: "\x04only\x07example\x03net\x00", Kind: geo.BySubnet, Map: "subnet"},
			{Name: record.Root, Below: true, Map: "resolver"},
		},
	}
	b, err := atlas.AppendBinary(nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	sets := []record.Set{
		locatedSet(t, "example.net. 300 IN SOA ns.example.net. host.example.net. 1 2 3 4 5", ""),
		locatedSet(t, "example.net. 300 IN NS ns.example.org.", ""),
		locatedSet(t, "plain.example.net. 300 IN A 192.0.2.9", ""),
		locatedSet(t, "only.example.net. 300 IN A 192.0.2.3", "b"),
		locatedSet(t, "www.example.net. 300 IN A 192.0.2.1", "a"),
		locatedSet(t, "www.example.net. 300 IN A 192.0.2.2", "b"),
		locatedSet(t, "www.example.net. 300 IN TXT everybody", ""),
	}
	im, err := imagetest.Build(filepath.Join(t.TempDir(), "image"), sets, image.Options{NoSync: true, Atlas: b})
	if err != nil {
		t.Fatal(err)
	}
	return data.New(im)
}

// locatedSet is the RRset of one record.
func locatedSet(t *testing.T, text string, l record.Location) record.Set {
	x := mustRR(text)
	buf := make([]byte, 512)
	n, err := dns.PackRR(x, buf, 0, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	owner, size, err := record.NameFromWire(buf[:n])
	if err != nil {
		t.Fatal(err)
	}
	s := record.NewRRset(owner, record.Type(x.Header().Rrtype), x.Header().Ttl, record.Rdata(buf[size+10:n]))
	s.Location = l
	return record.Set{RRset: s}
}

// TestScopes asks on behalf of subnets: each gets the answer of its location, with a
// scope within which all get the same (RFC 7871 §7.2.1).
func TestScopes(t *testing.T) {
	view, k := locatedView(t), NewWorker(Config{})
	for _, c := range []struct {
		name   string
		qtype  uint16
		from   string
		subnet string // none: ""
		want   string
	}{
		{"www", dns.TypeA, "198.51.100.1", "10.1.0.0/16", "NOERROR 192.0.2.1 scope 14"}, // 10.4.4.0/24 is another
		{"www", dns.TypeA, "198.51.100.1", "10.4.4.0/24", "NOERROR 192.0.2.2 scope 24"},
		{"www", dns.TypeA, "198.51.100.1", "10.4.5.0/24", "NOERROR 192.0.2.1 scope 24"},
		{"www", dns.TypeA, "198.51.100.1", "10.200.0.0/16", "NOERROR 192.0.2.1 scope 9"},
		{"www", dns.TypeA, "198.51.100.1", "10.0.0.0/8", "NOERROR 192.0.2.1 scope 14"}, // longer than what was told: ask on
		{"www", dns.TypeA, "198.51.100.1", "2001:db8:1::/48", "NOERROR 192.0.2.1 scope 32"},
		{"www", dns.TypeA, "192.0.2.1", "203.0.113.0/24", "NOERROR 192.0.2.2 scope 1"}, // of nobody: by resolver
		{"www", dns.TypeA, "192.0.2.1", "0.0.0.0/0", "NOERROR 192.0.2.2 scope 0"},
		{"www", dns.TypeA, "192.0.2.1", "", "NOERROR 192.0.2.2"},
		{"www", dns.TypeA, "198.51.100.1", "", "NOERROR"},
		{"www", dns.TypeTXT, "198.51.100.1", "10.4.4.0/24", "NOERROR everybody scope 0"},
		{"plain", dns.TypeA, "198.51.100.1", "10.4.4.0/24", "NOERROR 192.0.2.9 scope 0"},
		{"only", dns.TypeA, "198.51.100.1", "10.4.4.0/24", "NOERROR 192.0.2.3 scope 24"},
		{"only", dns.TypeA, "198.51.100.1", "10.4.5.0/24", "NXDOMAIN scope 24"},
		{"nobody", dns.TypeA, "198.51.100.1", "10.4.4.0/24", "NXDOMAIN scope 0"},
	} {
		q := new(dns.Msg).SetQuestion(c.name+".example.net.", c.qtype)
		if c.subnet != "" {
			p := netip.MustParsePrefix(c.subnet)
			family := uint16(2)
			if p.Addr().Is4() {
				family = 1
			}
			q.SetEdns0(1232, false)
			q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: family, SourceNetmask: uint8(p.Bits()), Address: p.Addr().AsSlice()}}
		}
		b, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		batch := []Message{{Query: b, Client: netip.AddrPortFrom(netip.MustParseAddr(c.from), 53)}}
		k.Answer(view, batch, UDP, time.Now())
		m := new(dns.Msg)
		if err := m.Unpack(batch[0].Response); err != nil {
			t.Fatal(err)
		}
		got := dns.RcodeToString[m.Rcode]
		for _, rr := range m.Answer {
			switch rr := rr.(type) {
			case *dns.A:
				got += " " + rr.A.String()
			case *dns.TXT:
				got += " " + rr.Txt[0]
			}
		}
		if o := m.IsEdns0(); o != nil {
			for _, o := range o.Option {
				if s, ok := o.(*dns.EDNS0_SUBNET); ok {
					got += fmt.Sprintf(" scope %d", s.SourceScope)
					a, _ := netip.AddrFromSlice(s.Address)
					if p := netip.PrefixFrom(a.Unmap(), int(s.SourceNetmask)); p.String() != c.subnet {
						t.Errorf("%s for %s: the response is about %s", c.name, c.subnet, p)
					}
				}
			}
		}
		if got != c.want {
			t.Errorf("%s %s from %s for %s: %s, want %s", c.name, dns.TypeToString[c.qtype], c.from, c.subnet, got, c.want)
		}
	}
}

// TestZoneOfALocation: a zone, and a cut, that some clients see only: the others get
// what is above.
func TestZoneOfALocation(t *testing.T) {
	atlas := geo.Atlas{
		Maps: map[string][]geo.Entry{"m": {{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Location: "in"}}},
		Uses: []geo.Use{{Name: record.Root, Below: true, Map: "m"}},
	}
	b, err := atlas.AppendBinary(nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	var sets []record.Set
	for _, x := range []struct {
		text     string
		location record.Location
	}{
		{"example.net. 300 IN SOA ns.example.net. host.example.net. 1 2 3 4 50", ""},
		{"lab.example.net. 300 IN SOA ns.example.net. host.example.net. 2 2 3 4 60", "in"},
		{"lab.example.net. 300 IN NS ns.example.org.", ""},
		{"www.lab.example.net. 300 IN A 192.0.2.1", ""},
		{"cut.example.net. 300 IN NS ns.cut.example.net.", "in"},
		{"ns.cut.example.net. 300 IN A 192.0.2.2", ""},
	} {
		sets = append(sets, locatedSet(t, x.text, x.location))
	}
	im, err := imagetest.Build(filepath.Join(t.TempDir(), "image"), sets, image.Options{NoSync: true, Atlas: b})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := im.Check(); err != nil {
		t.Fatal(err)
	}
	view, k := data.New(im), NewWorker(Config{})
	for _, c := range []struct{ name, from, want string }{
		{"www.lab.example.net.", "192.0.2.1", "NOERROR aa www.lab.example.net. 192.0.2.1"},
		{"www.lab.example.net.", "198.51.100.1", "NOERROR lab.example.net. NS"}, // a referral
		{"x.lab.example.net.", "192.0.2.1", "NXDOMAIN aa lab.example.net. SOA 60"},
		{"ns.cut.example.net.", "192.0.2.1", "NOERROR cut.example.net. NS"},
		{"ns.cut.example.net.", "198.51.100.1", "NOERROR aa ns.cut.example.net. 192.0.2.2"},
	} {
		query, err := new(dns.Msg).SetQuestion(c.name, dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		batch := []Message{{Query: query, Client: netip.AddrPortFrom(netip.MustParseAddr(c.from), 53)}}
		k.Answer(view, batch, UDP, time.Now())
		m := new(dns.Msg)
		if err := m.Unpack(batch[0].Response); err != nil {
			t.Fatal(err)
		}
		got := dns.RcodeToString[m.Rcode]
		if m.Authoritative {
			got += " aa"
		}
		for _, rr := range append(m.Answer, m.Ns...) {
			got += " " + rr.Header().Name
			switch rr := rr.(type) {
			case *dns.A:
				got += " " + rr.A.String()
			case *dns.NS:
				got += " NS"
			case *dns.SOA:
				got += fmt.Sprint(" SOA ", rr.Hdr.Ttl)
			}
		}
		if got != c.want {
			t.Errorf("%s from %s: %s, want %s", c.name, c.from, got, c.want)
		}
	}
}
