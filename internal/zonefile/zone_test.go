package zonefile_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/internal/zonefile"
	"github.com/zonecast/zonecast/record"
)

const soa = "$TTL 300\n@ SOA ns1 admin 1 2 3 4 5\n@ NS ns1\n"

func TestParse(t *testing.T) {
	who := record.Provenance{Author: "alice", Time: time.UnixMilli(1700000000000).UTC()}
	text := soa + "b 500 A 192.0.2.1\nb 600 A 192.0.2.2\na A 192.0.2.1\na A 192.0.2.1\nb 60 A 192.0.2.3\nb 70 A 192.0.2.4\n"
	z, err := zonefile.Parse(fstest.MapFS{"example.net": {Data: []byte(text)}}, "example.net", who)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range z.Claims {
		got = append(got, fmt.Sprintf("%s %d x%d %s", c.Key, c.TTL, len(c.Data), c.Place))
		if c.Source != "zone/example.net" || c.Author != "alice" || !c.Time.Equal(who.Time) || c.Revision != z.Revision || len(c.Revision) != 16 {
			t.Errorf("%s: source %s, provenance %+v", c.Key, c.Source, c.Provenance)
		}
	}
	want := []string{
		"example.net. NS 300 x1 example.net:3", "example.net. SOA 300 x1 example.net:2",
		"a.example.net. A 300 x1 example.net:6", "b.example.net. A 60 x4 example.net:4",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	if z.Records != 7 || z.Apex.String() != "example.net." {
		t.Errorf("%d records of %s, want 7 of example.net.", z.Records, z.Apex)
	}
}

func TestOrigin(t *testing.T) {
	for file, want := range map[string]string{
		"example.net": "example.net.", "example.net.zone": "example.net.", "example.net.db": "example.net.",
		"db.example.net": "example.net.", "sub/2.0.192.in-addr.arpa": "2.0.192.in-addr.arpa.", "root": ".", "root.zone": ".",
	} {
		got, err := zonefile.Origin(file)
		if err != nil || got.String() != want {
			t.Errorf("origin of %s is %s, %v; want %s", file, got, err, want)
		}
	}
	if _, err := zonefile.Origin("a..b"); err == nil {
		t.Error("a..b is no name and has an origin")
	}
}

func TestOriginInTheFileWins(t *testing.T) {
	z, err := zonefile.Parse(fstest.MapFS{"parking": {Data: []byte("$ORIGIN example.org.\n" + soa)}}, "parking", record.Provenance{})
	if err != nil || z.Apex.String() != "example.org." {
		t.Errorf("apex is %s, %v; want example.org.", z.Apex, err)
	}
}

func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "example.net:1: no SOA record",
		"www 1 A 192.0.2.1\n":                 "example.net:1: no SOA record",
		soa + "www A\n":                       "example.net:4:5: A: an IPv4 address is missing",
		soa + "example.org. A 192.0.2.1\n":    "example.net:4:1: example.org. is outside the zone example.net. (its SOA is at example.net:2)",
		soa + "@ SOA ns1 admin 2 2 3 4 5\n":   "example.net:4:1: example.net. has a second SOA record, the first is at example.net:2",
		soa + "sub SOA ns1 admin 1 2 3 4 5\n": "example.net:4:1: second SOA, for sub.example.net., the first at example.net:2 is for example.net.",
		soa + "a CNAME b\na CNAME c\n":        "example.net:5:1: a.example.net. has a second CNAME record, the first is at example.net:4",
		soa + "a A 192.0.2.1\na CNAME b\n":    "example.net:5:1: a.example.net. has a CNAME and also A at example.net:4",
		soa + "a CNAME b\na TXT x\n":          "example.net:4:1: a.example.net. has a CNAME and also TXT at example.net:5",
		soa + strings.Repeat("a TXT "+strings.Repeat("x", 250)+"\n", 1): "",
	} {
		z, err := zonefile.Parse(fstest.MapFS{"example.net": {Data: []byte(text)}}, "example.net", record.Provenance{})
		switch {
		case want == "" && err != nil:
			t.Errorf("%.200q: %v", text, err)
		case want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)):
			t.Errorf("%.200q: error is %v, want %s", text, err, want)
		}
		if len(z.Files) != 1 || z.Revision == "" {
			t.Errorf("%.200q: files %q and revision %q beside the error", text, z.Files, z.Revision)
		}
	}
	if _, err := zonefile.Parse(fstest.MapFS{"example.net": {}}, "example.net", record.Provenance{}); !errors.Is(err, zonefile.ErrNoZone) {
		t.Errorf("empty file: %v, want ErrNoZone", err)
	}
}

func TestRevisionIsOfAllFiles(t *testing.T) {
	rev := func(inc string) string {
		fsys := fstest.MapFS{"example.net": {Data: []byte(soa + "$INCLUDE inc\n")}}
		if inc != "-" {
			fsys["inc"] = &fstest.MapFile{Data: []byte(inc)}
		}
		z, _ := zonefile.Parse(fsys, "example.net", record.Provenance{})
		return z.Revision
	}
	seen := map[string]bool{}
	for _, inc := range []string{"a A 192.0.2.1\n", "a A 192.0.2.2\n", "", "-"} {
		if r := rev(inc); seen[r] || r == "" {
			t.Errorf("revision %q of include %q is not new", r, inc)
		} else {
			seen[r] = true
		}
	}
	if first, second := rev("x"), rev("x"); first != second {
		t.Error("revisions of the same files differ")
	}
}
