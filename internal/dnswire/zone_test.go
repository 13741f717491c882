package dnswire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// parse gives a file's records as lines "owner ttl type rdata", sorted, and its
// RRsets. Where records of an RRset differ in TTL it does as BIND: the first one
// of the last run of lines of that owner.
func parse(t testing.TB, fsys fs.FS, file string) (lines []string, sets []record.RRset, err error) {
	t.Helper()
	data := map[record.Key][]record.Rdata{}
	type ttl struct {
		ttl uint32
		run int
	}
	ttls := map[record.Key]ttl{}
	var last record.Name
	run := 0
	_, err = dnswire.ParseZone(fsys, file, name(t, "example.net."),
		func(owner record.Name, rt record.Type, sec uint32, rd record.Rdata, place string) error {
			if owner != last {
				last = owner
				run++
			}
			k := record.Key{Owner: owner, Type: rt}
			if ttls[k].run != run {
				ttls[k] = ttl{sec, run}
			}
			data[k] = append(data[k], rd)
			return nil
		})
	for k, d := range data {
		s := record.NewRRset(k.Owner, k.Type, ttls[k].ttl, d...)
		sets = append(sets, s)
		for _, rd := range s.Data {
			lines = append(lines, fmt.Sprintf("%s %d %s %x", k.Owner, s.TTL, k.Type, string(rd)))
		}
	}
	slices.Sort(lines)
	slices.SortFunc(sets, func(a, b record.RRset) int { return a.Key.Compare(b.Key) })
	return lines, sets, err
}

func name(t testing.TB, text string) record.Name {
	t.Helper()
	n, err := record.ParseName(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func zones(t testing.TB) []string {
	t.Helper()
	all, err := filepath.Glob("testdata/zones/*.zone")
	if err != nil || len(all) < 9 {
		t.Fatalf("%d zones, %v", len(all), err)
	}
	for i := range all {
		all[i] = filepath.Base(all[i])
	}
	return all
}

// TestWrittenZonesReadBack: write∘parse is identity, and independent of order.
func TestWrittenZonesReadBack(t *testing.T) {
	for _, z := range zones(t) {
		t.Run(z, func(t *testing.T) {
			want, sets, err := parse(t, os.DirFS("testdata/zones"), z)
			if err != nil {
				t.Fatal(err)
			}
			var buf, again bytes.Buffer
			if err := dnswire.WriteZone(&buf, name(t, "example.net."), sets); err != nil {
				t.Fatal(err)
			}
			slices.Reverse(sets)
			if err := dnswire.WriteZone(&again, name(t, "example.net."), sets); err != nil || !bytes.Equal(buf.Bytes(), again.Bytes()) {
				t.Errorf("%v: the order of RRsets changes the file", err)
			}
			got, _, err := parse(t, fstest.MapFS{"z": {Data: buf.Bytes()}}, "z")
			if err != nil {
				t.Fatalf("%v in\n%s", err, buf.Bytes())
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("records (-want +got):\n%s\nfile:\n%s", diff, buf.Bytes())
			}
		})
	}
}

func TestPlacesAndFiles(t *testing.T) {
	var got []string
	files, err := dnswire.ParseZone(os.DirFS("testdata/zones"), "include.zone", name(t, "example.net."),
		func(owner record.Name, rt record.Type, ttl uint32, rd record.Rdata, place string) error {
			got = append(got, fmt.Sprintf("%s %s %d %s", owner, rt, ttl, place))
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"example.net. SOA 100 include.zone:3",
		"example.net. NS 100 include.zone:4",
		"ns1.example.net. A 100 include.zone:5",
		"cur.example.net. A 100 include.zone:6",
		"cur.example.net. TXT 100 inc/part.inc:1",
		"p.sub.example.net. A 100 inc/part.inc:2",
		"q.deeper.sub.example.net. A 100 inc/part.inc:4",
		"cur.example.net. TXT 100 include.zone:8",
		"after.example.net. A 100 include.zone:9",
		"after.example.net. TXT 100 inc/part.inc:1",
		"p.example.net. A 100 inc/part.inc:2",
		"q.deeper.sub.example.net. A 100 inc/part.inc:4",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"include.zone", "inc/part.inc"}, files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

const soa = "$TTL 300\n@ SOA ns1 admin 1 2 3 4 5\n@ NS ns1\nns1 A 192.0.2.1\n"

// refused are zone files with an error. BIND refuses them too unless lenient says
// why it does not.
var refused = []struct {
	name, text, want, lenient string
}{
	{"byte order mark", "\ufeff" + soa, "z:1:1: file starts with a byte order mark", ""},
	{"no rdata", soa + "www A\n", "z:5:5: A: an IPv4 address is missing", ""},
	{"no type", soa + "www\n", "z:5:1: record ends before its type", ""},
	{"bad address", soa + "www A 192.0.2.256\n", `z:5:7: A: expected an IPv4 address, found "192.0.2.256"`, ""},
	{"address of the other family", soa + "www A 2001:db8::1\n", "z:5:7: A: expected an IPv4", ""},
	{"mapped address with zone", soa + "www AAAA fe80::1%eth0\n", "z:5:10: AAAA: expected an IPv6", ""},
	{"too much rdata", soa + "www A 192.0.2.1 192.0.2.2\n", `z:5:17: A: RDATA is complete before "192.0.2.2"`, ""},
	{"long label", soa + strings.Repeat("a", 64) + " A 192.0.2.1\n", "z:5:1: name", ""},
	{"long name", soa + strings.Repeat(strings.Repeat("a", 49)+".", 5) + "a A 192.0.2.1\n", "z:5:1: name", ""},
	{"empty label", soa + "a..b A 192.0.2.1\n", "z:5:1: name", ""},
	{"unknown type", soa + "www WAT 1\n", `z:5:5: type "WAT" is unknown`, ""},
	{"unknown directive", soa + "$WAT 1\n", `z:5:1: directive "$WAT" is unknown`, ""},
	{"other class", soa + "www CH A 192.0.2.1\n", "z:5:5: class is CH, only IN", ""},
	{"open parenthesis", soa + "www A ( 192.0.2.1\n", "z:5:7: opening parenthesis is never closed", ""},
	{"closing parenthesis", soa + "www A 192.0.2.1 )\n", "z:5:17: closing parenthesis", ""},
	{"open quote", soa + "www TXT \"a\nwww2 A 192.0.2.1\n", "z:5:9: quoted text is not closed on its line", ""},
	{"open quote at the end", soa + "www TXT \"a", "z:5:9: quoted text is not closed", ""},
	{"long text", soa + "www TXT " + strings.Repeat("x", 256) + "\n", "z:5:9: TXT: text of 256 octets", ""},
	{"ttl too large", soa + "www 2147483648 A 192.0.2.1\n", "z:5:5: TTL is 2147483648", "takes it as 0, with a warning"},
	{"ttl of no number", soa + "www 1x A 192.0.2.1\n", `z:5:5: type "1x" is unknown`, ""},
	{"ttl with a rest", soa + "www 1h30 A 192.0.2.1\n", `z:5:5: type "1h30" is unknown`, ""},
	{"no ttl", "@ NS ns1\n@ SOA ns1 admin 1 2 3 4 5\n", "z:1:3: no TTL", ""},
	{"no owner", " SOA ns1 admin 1 2 3 4 5\n", "z:1:2: the first record has no owner", ""},
	{"mx without preference", soa + "@ MX mail\n", `z:5:6: MX: expected a number from 0 to 65535, found "mail"`, ""},
	{"generic length", soa + "@ TYPE65280 \\# 3 0102\n", "z:5:16: TYPE65280: length is 3, found 2 octets", ""},
	{"generic of a known type", soa + "@ A \\# 3 010203\n", "z:5:10: A: malformed RDATA of 3 octets", ""},
	{"generate backwards", soa + "$GENERATE 5-1 a$ A 192.0.2.$\n", "z:5:11: $GENERATE range", ""},
	{"generate without range", soa + "$GENERATE a$ A 192.0.2.$\n", "z:5:", ""},
	{"generate beyond the address", soa + "$GENERATE 255-256 a$ A 192.0.2.$\n", `z:5:24: A: expected an IPv4 address, found "192.0.2.256"`, ""},
	{"generate bad base", soa + "$GENERATE 1-2 a${0,1,q} A 192.0.2.$\n", "z:5:15:", ""},
	{"generate too much", soa + "$GENERATE 0-65536 a$ A 192.0.2.1\n", "z:5:11: $GENERATE range", "has no bound"},
	{"include of nothing", soa + "$INCLUDE nothing.inc\n", `z:5:10: $INCLUDE "nothing.inc": `, ""},
	{"include outside", soa + "$INCLUDE ../outside\n", "z:5:10: $INCLUDE \"../outside\": path leads out of the zone directory", ""},
	{"include absolute", soa + "$INCLUDE /etc/passwd\n", "z:5:10: $INCLUDE \"/etc/passwd\": path is absolute", ""},
	{"include itself", soa + "$INCLUDE z\n", "z:5:10: $INCLUDE \"z\": files include one another more than 16 deep", ""},
	{"nul", soa + "a\x00b A 192.0.2.1\n", "z:5:2: octet 0x00", ""},
	{"control octet", soa + "a\x01b A 192.0.2.1\n", "z:5:1: name", "takes it as any octet"},
	{"bad escape", soa + "a\\999 A 192.0.2.1\n", "z:5:1: name", ""},
	{"backslash at the end", soa + "a\\\n", "z:5:2: backslash at the end", ""},
	{"meta type", soa + "@ ANY 1\n", "z:5:3: type ANY is for questions", ""},
	{"soa cut off", "$TTL 1\n@ SOA ns1 admin 1 2 3\n", "z:2:21: SOA: a time in seconds is missing", ""},
}

func TestRefusedZonesSayWhere(t *testing.T) {
	for _, c := range refused {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := parse(t, fstest.MapFS{"z": {Data: []byte(c.text)}}, "z")
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("error is %v, want one that begins with %q", err, c.want)
			}
		})
	}
}

func TestErrorOfYieldHasThePlace(t *testing.T) {
	mine := errors.New("mine")
	_, err := dnswire.ParseZone(fstest.MapFS{"z": {Data: []byte(soa)}}, "z", record.Root,
		func(record.Name, record.Type, uint32, record.Rdata, string) error { return mine })
	if !errors.Is(err, mine) || err.Error() != "z:2:1: mine" {
		t.Errorf("error is %v, want z:2:1: mine", err)
	}
}

func TestWriteZoneRefuses(t *testing.T) {
	apex := name(t, "example.net.")
	a := record.NewRRset(name(t, "www.example.net."), record.TypeA, 1, "\xc0\x00\x02\x01")
	rd, err := dnswire.ParseRdata(record.TypeSOA, "a b 1 2 3 4 5", apex)
	if err != nil {
		t.Fatal(err)
	}
	soa := record.NewRRset(apex, record.TypeSOA, 1, rd)
	outside := record.NewRRset(name(t, "example.org."), record.TypeA, 1, "\xc0\x00\x02\x01")
	for want, sets := range map[string][]record.RRset{"has no SOA": {a}, "is outside": {soa, outside}} {
		if err := dnswire.WriteZone(&bytes.Buffer{}, apex, sets); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one with %q", err, want)
		}
	}
	a.Location = "eu\nwest"
	var buf bytes.Buffer
	if err := dnswire.WriteZone(&buf, apex, []record.RRset{a, soa}); err != nil {
		t.Fatal(err)
	}
	if got, _, err := parse(t, fstest.MapFS{"z": {Data: buf.Bytes()}}, "z"); err != nil || len(got) != 1 {
		t.Errorf("%d records, %v; want only the SOA, a location is a comment", len(got), err)
	}
}

func FuzzParseZone(f *testing.F) {
	for _, z := range zones(f) {
		b, err := os.ReadFile("testdata/zones/" + z)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, c := range refused {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if bytes.Count(b, []byte("$")) > 2 && len(b) > 1000 {
			return // many long $GENERATE lines only make it slow
		}
		want, sets, err := parse(t, fstest.MapFS{"z": {Data: b}}, "z")
		if len(want) > 1000 {
			return
		}
		if err != nil {
			if !strings.HasPrefix(err.Error(), "z:") {
				t.Errorf("error without its place: %v", err)
			}
			return
		}
		var text strings.Builder
		for _, s := range sets {
			text.WriteString(dnswire.FormatRRset(s))
		}
		got, _, err := parse(t, fstest.MapFS{"z": {Data: []byte(text.String())}}, "z")
		if err != nil {
			t.Fatalf("%v in\n%s", err, text.String())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("records (-first +printed and read again):\n%s", diff)
		}
	})
}

func BenchmarkParseZone(b *testing.B) {
	var text bytes.Buffer
	text.WriteString(soa)
	for i := range 100000 {
		fmt.Fprintf(&text, "host%06d\t3600\tIN\tA\t10.%d.%d.%d\nhost%06d IN AAAA 2001:db8::%x:%x\n", i, i>>16, i>>8&255, i&255, i, i>>16, i&0xffff)
	}
	fsys := fstest.MapFS{"z": {Data: text.Bytes()}}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		n := 0
		if _, err := dnswire.ParseZone(fsys, "z", name(b, "example.net."),
			func(record.Name, record.Type, uint32, record.Rdata, string) error { n++; return nil }); err != nil || n != 200003 {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(200003*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
