package fleet_test

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/record"
)

func web1(change func(*fleet.Server)) fleet.Server {
	n, err := record.ParseName("web1.example.net")
	if err != nil {
		panic(err)
	}
	s := fleet.Server{Name: n, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Role: "web", Site: "sfo", Origin: fleet.OriginCall}
	if change != nil {
		change(&s)
	}
	return s
}

func TestCheck(t *testing.T) {
	addr := func(text string) func(*fleet.Server) {
		return func(s *fleet.Server) { s.Addresses = []netip.Addr{netip.MustParseAddr(text)} }
	}
	option := func(kv ...string) func(*fleet.Server) {
		return func(s *fleet.Server) {
			s.Options = map[string]string{"port": "80"}
			for i := 0; i < len(kv); i += 2 {
				s.Options[kv[i]] = kv[i+1]
			}
		}
	}
	name := func(text string) func(*fleet.Server) {
		return func(s *fleet.Server) {
			n, err := record.ParseName(text)
			if err != nil {
				t.Fatal(err)
			}
			s.Name = n
		}
	}
	for _, tc := range []struct {
		what   string
		change func(*fleet.Server)
		want   string // part of the error; "" means none
	}{
		{"plain", nil, ""},
		{"private", addr("10.0.0.1"), ""},
		{"unique local", addr("fd00::1"), ""},
		{"options", option("protocol", "udp", "priority", "0", "weight", "65535"), ""},
		{"no name", func(s *fleet.Server) { s.Name = "" }, "has no name"},
		{"root", name("."), "0 labels"},
		{"one label", name("web1"), "1 labels"},
		{"wildcard", name("*.example.net"), `character '*'`},
		{"escaped dot", name(`a\.b.example.net`), `character '\\'`},
		{"no address", func(s *fleet.Server) { s.Addresses = nil }, "addresses are missing"},
		{"zero address", func(s *fleet.Server) { s.Addresses = []netip.Addr{{}} }, "address is empty"},
		{"twice", func(s *fleet.Server) { s.Addresses = append(s.Addresses, s.Addresses[0]) }, "stands twice"},
		{"too many", func(s *fleet.Server) {
			for i := range 32 {
				s.Addresses = append(s.Addresses, netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}))
			}
		}, "33 addresses, at most 32"},
		{"zone", addr("2001:db8::1%eth0"), "has a zone"},
		{"4in6", addr("::ffff:192.0.2.1"), "expected 192.0.2.1"},
		{"unspecified", addr("::"), "unspecified"},
		{"loopback", addr("127.1.2.3"), "loopback"},
		{"loopback 6", addr("::1"), "loopback"},
		{"link-local", addr("fe80::1"), "link-local"},
		{"multicast", addr("224.0.0.1"), "multicast"},
		{"broadcast", addr("255.255.255.255"), "broadcast"},
		{"no role", func(s *fleet.Server) { s.Role = "" }, "role is missing"},
		{"role with slash", func(s *fleet.Server) { s.Role = "a/b" }, `role "a/b" has the character '/'`},
		{"role dots", func(s *fleet.Server) { s.Role = ".." }, "part of 0 octets"},
		{"upper case", func(s *fleet.Server) { s.Role = "Web" }, "lower case"},
		{"long label", func(s *fleet.Server) { s.Site = strings.Repeat("a", 64) }, "part of 64 octets"},
		{"long role", func(s *fleet.Server) { s.Role = strings.Repeat("a", 63) }, "at most 62"},
		{"role of two labels", func(s *fleet.Server) { s.Role = "a.b" }, "expected one label"},
		{"service name", name("w." + strings.Repeat("a.", 124) + "net"), "service name of role web"},
		{"long site", func(s *fleet.Server) { s.Site = strings.Repeat("a.", 64) + "a" }, "at most 128"},
		{"ttl", func(s *fleet.Server) { s.TTL = 1 << 31 }, "ttl is 2147483648"},
		{"unknown option", option("colour", "red"), `option "colour" is unknown, expected port, protocol, priority or weight`},
		{"port 0", option("port", "0"), "number from 1 to 65535"},
		{"port 65536", option("port", "65536"), "number from 1 to 65535"},
		{"port 080", option("port", "080"), "number from 1 to 65535"},
		{"protocol", option("protocol", "quic"), "expected tcp, udp or sctp"},
		{"no port", func(s *fleet.Server) { s.Options = map[string]string{"weight": "1"} }, "of no use without port"},
		{"author", func(s *fleet.Server) { s.Author = strings.Repeat("a", 1025) }, "author has 1025 octets"},
		{"reason", func(s *fleet.Server) { s.Reason = "\xff" }, "reason is not UTF-8"},
		{"origin", func(s *fleet.Server) { s.Origin = "fleet:" }, "origin is"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			err := web1(tc.change).Check()
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// A server at all its bounds must fit a node of the store, with room.
func TestLargestServerFitsNode(t *testing.T) {
	s := web1(func(s *fleet.Server) {
		s.Addresses = nil
		for i := range fleet.MaxAddresses {
			s.Addresses = append(s.Addresses, netip.MustParseAddr(fmt.Sprintf("2001:db8:1111:2222:3333:4444:5555:%x", 0x1000+i)))
		}
		s.Author, s.Reason = strings.Repeat("\x01", fleet.MaxText), strings.Repeat("\x01", fleet.MaxText)
		s.Options = map[string]string{"port": "65535", "protocol": "sctp", "priority": "65535", "weight": "65535"}
	})
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	if n := len(s.Encode()); n > 32<<10 {
		t.Errorf("the largest server has %d octets", n)
	}
}

func TestParseFleetFile(t *testing.T) {
	in := `{"name": "web1.example.net", "role": "web", "site": "sfo", "cluster": "edge", "addresses": ["2001:db8::1", "192.0.2.1"], "ttl": 60, "options": {"port": 80}}

{"name": "WEB2.example.net.", "role": "web", "site": "sfo", "addresses": ["192.0.2.2"], "author": "alice", "reason": "new rack"}`
	got, err := fleet.ParseFleetFile(strings.NewReader(in), "fleet.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`{"name":"web1.example.net.","addresses":["192.0.2.1","2001:db8::1"],"role":"web","site":"sfo","cluster":"edge","ttl":60,"options":{"port":"80"},"origin":"fleet:fleet.jsonl","author":"fleet:fleet.jsonl","time_ms":0}`,
		`{"name":"web2.example.net.","addresses":["192.0.2.2"],"role":"web","site":"sfo","cluster":"web.sfo","ttl":3600,"origin":"fleet:fleet.jsonl","author":"alice","reason":"new rack","time_ms":0}`,
	}
	for i, w := range want {
		if d := cmp.Diff(w, string(got[i].Encode())); d != "" {
			t.Errorf("server %d (-want +got):\n%s", i, d)
		}
	}
}

func TestParseFleetFileErrors(t *testing.T) {
	const good = `{"name": "web1.example.net", "role": "web", "site": "sfo", "addresses": ["192.0.2.1"]}` + "\n"
	for what, tc := range map[string]struct{ line, want string }{
		"no json":       {`web2.example.net`, `f:2: no JSON at column 1`},
		"cut off":       {`{"name": "web2`, `f:2: found the end of the line`},
		"unknown field": {`{"name": "web2.example.net", "adresses": []}`, `f:2: json: unknown field "adresses"`},
		"two objects":   {`{"name": "w.example.net", "role": "web", "site": "sfo", "addresses": ["192.0.2.2"]} {}`, `f:2: found more`},
		"type":          {`{"name": "web2.example.net", "ttl": "1h"}`, `found a string for "ttl", expected a number of seconds`},
		"no name":       {`{}`, `f:2: found no "name"`},
		"null":          {`null`, `f:2: found no "name"`},
		"address":       {`{"name": "web2.example.net", "role": "web", "site": "sfo", "addresses": ["192.0.2.256"]}`, `f:2: server web2.example.net: address "192.0.2.256" is none`},
		"name":          {`{"name": "` + strings.Repeat("a", 64) + `.example.net"}`, `label of 64 octets`},
		"long name":     {`{"name": "` + strings.Repeat("a.", 128) + `net"}`, `longer than 255 octets`},
		"ttl":           {`{"name": "web2.example.net", "ttl": -1}`, `ttl is -1`},
		"twice":         {good[:len(good)-1], `f:2: server web1.example.net stands in line 1 already`},
		"address twice": {`{"name": "web2.example.net", "role": "web", "site": "sfo", "addresses": ["192.0.2.1"]}`, `f:2: address 192.0.2.1 of server web2.example.net belongs to the server of line 1`},
		"option":        {`{"name": "web2.example.net", "role": "web", "site": "sfo", "addresses": ["192.0.2.2"], "options": {"port": [1]}}`, `option value is [1]`},
		"long line":     {strings.Repeat("x", fleet.MaxLine), `f:2: line is longer than 65536 octets`},
	} {
		t.Run(what, func(t *testing.T) {
			got, err := fleet.ParseFleetFile(strings.NewReader(good+tc.line+"\n"), "f")
			if err == nil || !strings.Contains(err.Error(), tc.want) || got != nil {
				t.Errorf("got %d servers, %v, want %q", len(got), err, tc.want)
			}
		})
	}
}

// A node written by a newer version is still a server.
func TestDecodeNewer(t *testing.T) {
	s := web1(func(s *fleet.Server) { s.Options = map[string]string{"port": "80"} })
	text := strings.Replace(string(s.Encode()), `"port":"80"`, `"colour":"red","port":"80"`, 1)
	text = strings.Replace(text, `"role"`, `"shape":"round","role"`, 1)
	if got, err := fleet.Decode([]byte(text)); err != nil || !got.Same(s.Normal()) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// Equal servers give equal bytes, and what Encode writes Decode reads.
func TestCanonical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := web1(func(s *fleet.Server) {
			s.Addresses = nil
			for _, b := range rapid.SliceOfNDistinct(rapid.Byte(), 1, 10, rapid.ID).Draw(t, "addresses") {
				a := netip.AddrFrom4([4]byte{192, 0, 2, b})
				if b%2 == 0 {
					a = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: b})
				}
				s.Addresses = append(s.Addresses, a)
			}
			s.Options = map[string]string{"port": "80", "weight": "3"}
			s.Reason = rapid.StringN(0, 100, 1000).Draw(t, "reason")
			s.Time = rapid.Int64Range(0, 1<<50).Draw(t, "time")
		})
		mixed := s
		mixed.Addresses = rapid.Permutation(s.Addresses).Draw(t, "order")
		mixed.Options = maps.Clone(s.Options)
		mixed.Cluster, mixed.TTL = "web.sfo", 3600
		if a, b := string(s.Encode()), string(mixed.Encode()); a != b {
			t.Fatalf("%s\n%s", a, b)
		}
		back, err := fleet.Decode(s.Encode())
		if err != nil || !back.Same(s.Normal()) || string(back.Encode()) != string(s.Encode()) {
			t.Fatalf("got %v, %v back", back, err)
		}
	})
}

func TestFleetFileWithoutServers(t *testing.T) {
	for in, ok := range map[string]bool{
		"": false, "\n \n": false, `{"servers": 0}`: true, "\n{\"servers\": 0}\n": true, `{"servers": 1}`: false,
		"{\"servers\": 0}\n{\"servers\": 0}": false,
		`{"servers": 0}` + "\n" + `{"name": "web1.example.net", "role": "web", "site": "sfo", "addresses": ["192.0.2.1"]}`: false,
		`{"name": "web1.example.net", "role": "web", "site": "sfo", "addresses": ["192.0.2.1"]}` + "\n" + `{"servers": 0}`: false,
	} {
		if got, err := fleet.ParseFleetFile(strings.NewReader(in), "f"); (err == nil) != ok || len(got) > 0 {
			t.Errorf("%q: got %d servers, %v, want ok %t", in, len(got), err, ok)
		}
	}
}

func FuzzParseFleetFile(f *testing.F) {
	f.Add([]byte(`{"name": "web1.example.net", "role": "web", "site": "sfo", "addresses": ["192.0.2.1"], "options": {"port": 80}}`))
	f.Add([]byte("{\n}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		servers, err := fleet.ParseFleetFile(strings.NewReader(string(b)), "f")
		if err != nil && servers != nil {
			t.Fatal("an error and servers")
		}
		for _, s := range servers {
			back, err := fleet.Decode(s.Encode())
			if err != nil || !back.Same(s) {
				t.Fatalf("%s: %v", s.Encode(), err)
			}
		}
	})
}
