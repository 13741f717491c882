package tinydns

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/internal/tinydns"
	"github.com/zonecast/zonecast/record"
)

func set(t *testing.T, owner string, typ record.Type, data ...record.Rdata) record.RRset {
	t.Helper()
	n, err := record.ParseName(owner)
	if err != nil {
		t.Fatal(err)
	}
	return record.NewRRset(n, typ, 300, data...)
}

// Every reason, and what is no reason.
func TestSurvey(t *testing.T) {
	located := set(t, "loc.example.net", record.TypeNS, "\x02ns\x00")
	located.Location = "aa"
	s := newSurvey()
	for _, r := range []record.RRset{
		set(t, "example.net", record.TypeSOA, soa), set(t, "example.net", record.TypeNS, "\x02ns\x00"),
		set(t, "a.deep.example.net", record.TypeA, "\xc0\x00\x02\x01"),
		set(t, "*.alone.example.net", record.TypeA, "\xc0\x00\x02\x01"),
		set(t, "*.w.example.net", record.TypeA, "\xc0\x00\x02\x01"), set(t, "x.w.example.net", record.TypeA, "\xc0\x00\x02\x01"), set(t, "w.example.net", record.TypeA, "\xc0\x00\x02\x01"),
		set(t, "sub.example.net", record.TypeNS, "\x02ns\x00"), set(t, "sub.example.net", record.TypeDS, "\x00\x01\x08\x02abcd"),
		set(t, "old.example.net", record.TypeDNAME, "\x03new\x00"),
		set(t, "big.example.net", record.TypeTXT, record.Rdata("\xff"+strings.Repeat("x", 255)), record.Rdata("\xff"+strings.Repeat("y", 255))),
		set(t, "bare.example.org", record.TypeSOA, soa),
		located,
	} {
		s.add(&r)
	}
	all := sorted(s.finish(), []tinydns.Problem{{What: "x.example.net. A", Why: "because"}, {What: "y.example.net. A", Why: "because", Written: true}})
	var got []string
	for _, u := range all {
		got = append(got, string(u.Reason)+" "+u.What)
	}
	want := []string{
		"format x.example.net. A", "format y.example.net. A", "no-ns bare.example.org. SOA",
		"empty alone.example.net.", "empty deep.example.net.", "wildcard *.w.example.net.",
		"cut sub.example.net. DS", "dname old.example.net. DNAME", "truncated big.example.net. TXT", `located loc.example.net. NS @"aa"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, want := summary(count(all)), "format 2, no-ns 1, empty 2, wildcard 1, cut 1, dname 1, truncated 1, located 1"; got != want {
		t.Errorf("summary is %q, want %q", got, want)
	}
	file := string(text("internal", all))
	for _, want := range []string{
		"# format, 2: ", "\nformat x.example.net. A: left out: because\n", "\nformat y.example.net. A: said differently: because\n",
		"\n# empty, 2: no records, but names below", "\nempty deep.example.net.\n", "octets, names in RDATA not compressed\n",
	} {
		if !strings.Contains(file, want) {
			t.Errorf("unsaid.txt lacks %q:\n%s", want, file)
		}
	}
	for _, r := range Reasons() {
		if explained[r] == "" {
			t.Errorf("reason %s is not explained", r)
		}
	}
}

func TestValidate(t *testing.T) {
	good := DefaultConfig()
	good.Journal, good.StatusDir, good.Keys, good.Dir = "j", "s", []string{"k.pub"}, "d"
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for key, spoil := range map[string]func(*Config){
		"address":     func(c *Config) { c.Address = "2001:db8::1" },
		"dataset":     func(c *Config) { c.Dataset = "" },
		"journal":     func(c *Config) { c.Journal = "" },
		"status-dir":  func(c *Config) { c.StatusDir = "" },
		"keys":        func(c *Config) { c.Keys = nil },
		"dir":         func(c *Config) { c.Dir = "" },
		"user":        func(c *Config) { c.User = "" },
		"every":       func(c *Config) { c.Every = -1 },
		"fresh-every": func(c *Config) { c.FreshEvery = -1 },
	} {
		c := good
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), key+":") {
			t.Errorf("%s spoilt: error is %v", key, err)
		}
	}
}
