package dnswire

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// scan gives what fn has and the error, with or without the plain lane, and how
// many entries went through the scanner.
func scan(text, include string, slow bool) (got []string, files []string, err error) {
	fsys := fstest.MapFS{"z": {Data: []byte(text)}, "i": {Data: []byte(include)}}
	last := ""
	p := zoneParser{fsys: fsys, slow: slow, origin: "\x07example\x03net\x00", fn: func(r *ZoneRecord) error {
		if same := last == string(r.Owner); same != r.SameOwner {
			return fmt.Errorf("SameOwner is %v at %s", r.SameOwner, r.Place())
		}
		last = string(r.Owner)
		got = append(got, fmt.Sprintf("%s %q %s %d %x", r.Place(), r.Owner, r.Type, r.TTL, r.Rdata))
		if strings.HasSuffix(string(r.Rdata), "\x07") {
			return fmt.Errorf("fn says no")
		}
		return nil
	}}
	err = p.file("z")
	return got, p.files, err
}

// same fails when the plain lane says another thing than the scanner.
func same(t interface {
	Helper()
	Fatalf(string, ...any)
}, text, include string,
) {
	t.Helper()
	slow, slowFiles, slowErr := scan(text, include, true)
	fast, fastFiles, fastErr := scan(text, include, false)
	if diff := cmp.Diff(slow, fast); diff != "" {
		t.Fatalf("zone %q, include %q: records (-scanner +plain):\n%s", text, include, diff)
	}
	if fmt.Sprint(slowErr) != fmt.Sprint(fastErr) || !slices.Equal(slowFiles, fastFiles) {
		t.Fatalf("zone %q, include %q: scanner says %v (%q), plain %v (%q)", text, include, slowErr, slowFiles, fastErr, fastFiles)
	}
}

// pieces of lines: plain, not plain, and wrong ones.
var pieces = map[string][]string{
	"owner": {
		"a", "A.b", "@", "*", "*.w", "a.b.", "x_y-z/0", "", " ", "\t ", "example.net.", "a..b", ".", ".a", "a.", `a\.b`, `a\032`, "ä", "a:b",
		strings.Repeat("l", 63), strings.Repeat("l", 64), strings.Repeat("abcdefg.", 30) + "ab", strings.Repeat("abcdefg.", 30) + "abc", strings.Repeat("abcdefg.", 31) + "abcde.",
		strings.Repeat("abcdefg.", 31) + "abcdef.", strings.Repeat("abcdefg.", 40), `"q"`, "(a)", "$x", "@a", "@.", "7", "IN", "a\x00", "\xef\xbb\xbfa",
	},
	"ttl":   {"", "", "", "0", "3600", "2147483647", "2147483648", "4294967296", "00000000300", "0000000300", "1h", "1h1", "5 5", "-1", `"5"`},
	"class": {"", "", "", "IN", "in", "iN", "CH", "CLASS1", "CLASS3", "IN IN", "HS", `"IN"`},
	"gap":   {" ", " ", "\t", "  \t", "", "(", " ( ", " ) ", "\r", "\n", "\x0b", `"`},
	"end":   {"\n", "\n", "\n", "\r\n", "\r", " \n", "; c\n", " ; ( \" \\ c\r\n", "", ")\n", " x\n", "\\\n", "\x00\n", "\"\n"},
	"line": {
		"$ORIGIN sub\n", "$ORIGIN .\n", "$ORIGIN example.org.\n", "$TTL 300\n", "$TTL 1h\n", "$INCLUDE i\n", "$INCLUDE i x\n", "\n", "  \n", " ; c\n", "; c\n",
		"$GENERATE 1-3 g$ A 192.0.2.$\n", "@ SOA a b 1 2 3 4 5\n", "@ SOA a b 1 2 3 4 4294967295\n", "s (\n A\n 192.0.2.1 )\n", "t TXT (a\n\"b\")\n", "$BAD\n", "u TYPE99999 x\n", "v TYPE1 \\# 4 c0000201\n",
	},
}

var rdatas = map[string][]string{
	"A": {
		"192.0.2.1", "0.0.0.0", "255.255.255.255", "192.0.2.7", "192.0.2", "192.0.2.1.", "192.0.2.256", "192.0.02.1", "192.0.2.1.2", "1.2.3.", ".1.2.3", "1..2.3", "0000.1.2.3", "::1",
		`"192.0.2.1"`, "192.0.2.1 x", "", `\# 4 c0000201`, "192.0.2.1a", "192.0.2.1000",
	},
	"AAAA": {
		"2001:db8::1", "::", "::1", "1::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8::", "1:2:3:4::5:6:7:8", "1:2:3::4:5:6:7:8:9", "2001:DB8::aBcD", ":1", "1:", "1:::2",
		"1::2::3", "::ffff:192.0.2.1", "fe80::1%eth0", "12345::", "0001::", "00001::", "g::", "192.0.2.1", "", ":", "1", ":::", `"::1"`, "2001:db8::7", "1:2:3:4:5:6:7:", "1:2:3:4:5:6:7:8:9",
	},
	"NS": {"a", "A.b.", "@", ".", "", "a b", `a\.b`, "a..b", strings.Repeat("abcdefg.", 30) + "abc"}, "CNAME": {"a", "@"}, "ptr": {"host.example.net.", "x\x07"},
	"MX":  {"10 a", "0 .", "65535 a.b.", "65536 a", "00010 a", "00000000010 a", "000000000010 a", "a a", "10", "10 a b", "-1 a", "+1 a", "1_0 a", `"10" a`},
	"SRV": {"0 1 2 a", "1 2 65535 a.b.", "1 2 65536 a", "1 2 a", "1 2 3", "1 2 3 @"},
	"TXT": {
		"a", `"a"`, `"a b;c()" d`, `""`, `a"b"c`, `"a""b"`, "a(b)", `a\"b`, `"a\"b"`, `"a`, `a"`, "", ";", strings.Repeat("x", 255), strings.Repeat("x", 256), `"` + strings.Repeat("x", 256) + `"`, "\xff\x01", "\"a\x00b\"", "a\x00b", `"a` + "\n" + `b"`, "x\x07",
		strings.Repeat("x ", 40000), strings.Repeat(strings.Repeat("y", 255)+" ", 256), strings.Repeat(strings.Repeat("y", 255)+" ", 255) + strings.Repeat("z", 254), strings.Repeat(strings.Repeat("y", 255)+" ", 255) + strings.Repeat("z", 255), `\# 1 00`,
	},
	"txt": {"x"}, "A.": {"192.0.2.1"}, "CAA": {`0 issue "ca.example.net"`}, "HINFO": {"a b"}, "SPF": {"x"}, "DNAME": {"a"}, "ANY": {"x"}, "AA": {"x"}, "TYPE1": {"192.0.2.1"}, "": {""},
}

func drawLine(t *rapid.T) string {
	pick := func(kind string) string { return rapid.SampledFrom(pieces[kind]).Draw(t, kind) }
	if rapid.IntRange(0, 4).Draw(t, "other") == 0 {
		return pick("line")
	}
	types := make([]string, 0, len(rdatas))
	for k := range rdatas {
		types = append(types, k)
	}
	slices.Sort(types)
	// Plain gaps for the most part, else hardly a line is plain.
	gap := func() string {
		if rapid.IntRange(0, 15).Draw(t, "odd") > 0 {
			return " "
		}
		return pick("gap")
	}
	kind := rapid.SampledFrom(types).Draw(t, "type")
	words := []string{pick("ttl"), pick("class")}
	if rapid.Bool().Draw(t, "swap") {
		words[0], words[1] = words[1], words[0]
	}
	return pick("owner") + gap() + words[0] + gap() + words[1] + gap() + kind + gap() + rapid.SampledFrom(rdatas[kind]).Draw(t, "rdata") + pick("end")
}

func TestPlainLinesMeanTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, include := "", ""
		if rapid.IntRange(0, 3).Draw(t, "ttl") > 0 {
			text = "$TTL 60\n"
		}
		for range rapid.IntRange(1, 6).Draw(t, "lines") {
			text += drawLine(t)
		}
		for range rapid.IntRange(0, 2).Draw(t, "included") {
			include += drawLine(t)
		}
		same(t, text, include)
	})
}

// TestPlainLinesOneByOne has each RDATA and each owner on a line of its own, so
// that an error of one hides no other.
func TestPlainLinesOneByOne(t *testing.T) {
	for kind, all := range rdatas {
		for _, rd := range all {
			for _, end := range pieces["end"] {
				same(t, "a 5 "+kind+" "+rd+end+"b 5 A 192.0.2.1\n", "")
				same(t, "$TTL 5\n\t IN "+kind+"\t"+rd+end, "")
			}
		}
	}
	for _, owner := range pieces["owner"] {
		for _, ttl := range pieces["ttl"] {
			for _, class := range pieces["class"] {
				same(t, "x 7 A 192.0.2.1\n"+owner+" "+ttl+" "+class+" A 192.0.2.2\n c 1 A 192.0.2.3\n A 192.0.2.3", "")
				same(t, owner+" "+class+" "+ttl+" A 192.0.2.2", "")
			}
		}
	}
}

// TestPlainLinesAreTaken fails when a line of those that zone files are full of
// goes through the scanner, which is right but slow.
func TestPlainLinesAreTaken(t *testing.T) {
	for _, text := range []string{
		"web00001 A 192.0.2.1\n", "web 300 IN AAAA 2001:db8:0:1::1\n", "web IN 300 A 192.0.2.1 ; c\r\n", "@ NS ns1.example.net.\n", "\tA 192.0.2.1",
		"1.0 PTR web00001.example.net.\n", "a CNAME b\n", "a MX 10 mx\n", "_http._tcp.a SRV 10 2 8080 web.example.net.\n", "a TXT \"v=spf1 -all\" b\n", "*.a in a 192.0.2.1\n",
	} {
		p := zoneParser{origin: "\x00", owner: []byte("\x01a\x00"), hasDefault: true, fn: func(*ZoneRecord) error { return nil }}
		if taken, err := p.plainLine(newScanner("z", []byte(text))); !taken || err != nil {
			t.Errorf("%q is not taken, %v", text, err)
		}
	}
}

func FuzzPlainLines(f *testing.F) {
	for kind, all := range rdatas {
		for i, rd := range all {
			f.Add("$TTL 1\n" + pieces["owner"][i%5] + " " + kind + " " + rd + pieces["end"][i%len(pieces["end"])])
		}
	}
	for _, line := range pieces["line"] {
		f.Add("$TTL 1\na A 192.0.2.1\n" + line + " A 192.0.2.2\n")
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) < 1<<12 && !strings.Contains(text, "$GENERATE 1-6") {
			same(t, text, "a A 192.0.2.9\n b 1 A 192.0.2.10\n")
		}
	})
}

func BenchmarkScanZone(b *testing.B) {
	var sb strings.Builder
	sb.WriteString("$TTL 3600\n@ SOA ns1 hostmaster 1 2 3 4 5\n")
	n := 1
	for i := range 20000 {
		fmt.Fprintf(&sb, "web%05d A 192.0.2.%d\nweb%05d AAAA 2001:db8:0:1::%x\n%d.%d PTR web%05d.abc1.example.net.\n", i, i%256, i, i, i%256, i/256, i)
		n += 3
	}
	fsys := fstest.MapFS{"z": {Data: []byte(sb.String())}}
	for _, lane := range []string{"plain", "scanner"} {
		b.Run(lane, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(sb.Len()))
			for b.Loop() {
				p := zoneParser{fsys: fsys, slow: lane == "scanner", origin: "\x07example\x03net\x00", fn: func(*ZoneRecord) error { return nil }}
				if err := p.file("z"); err != nil || p.records != n {
					b.Fatal(p.records, err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrec/s")
		})
	}
}
