//go:build interop

package tinydns_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/internal/tinydns"
	"github.com/zonecast/zonecast/internal/tinydns/tinytest"
)

// compile lets Debian's tinydns-data make a data.cdb.
func compile(t *testing.T, text []byte) []byte {
	t.Helper()
	tool, err := exec.LookPath("tinydns-data")
	if err != nil {
		tool = "/usr/sbin/tinydns-data" // not in everybody's PATH
	}
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	if err := os.WriteFile(data, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(data, changed, changed); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tinydns-data (apt-get install tinydns): %v: %s", err, out)
	}
	cdb, err := os.ReadFile(filepath.Join(dir, "data.cdb"))
	if err != nil {
		t.Fatal(err)
	}
	return cdb
}

// TestTinydnsData: of our text tinydns-data makes the data.cdb that WriteCDB writes;
// and the data.cdb that it makes of anybody's text says what ParseText says.
func TestTinydnsData(t *testing.T) {
	inputs := map[string][]byte{
		"nothing": {},
		"odd":     odd(),
	}
	for seed := range uint64(20) {
		inputs[fmt.Sprint(seed)] = tinytest.Generate(seed, 1000)
	}
	for name, text := range inputs {
		t.Run(name, func(t *testing.T) {
			d := parseText(t, text)
			theirs := compile(t, text)
			read, err := tinydns.ReadCDB(bytes.NewReader(theirs), int64(len(theirs)))
			if err != nil {
				t.Fatal(err)
			}
			a, b := *d, *read
			a.Notes, b.Notes = nil, nil
			if diff := cmp.Diff(dump(&a), dump(&b)); diff != "" {
				t.Errorf("(-text +cdb)\n%s", diff)
			}
			var ours bytes.Buffer
			if _, err := tinydns.WriteText(&ours, slices.Values(d.Sets), &d.Atlas); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(compile(t, ours.Bytes()), writeCDB(t, d)) {
				t.Errorf("data.cdb differs for\n%s", clipText(ours.Bytes()))
			}
		})
	}
}

func clipText(b []byte) []byte { return b[:min(len(b), 4000)] }

// odd is text that tinydns-data takes and that needs care.
func odd() []byte {
	return []byte(`
.example.net:192.0.2.1:a
.example.net:192.0.2.2:b
.:192.0.2.3:root.
&:192.0.2.3:
&a.example.net::ns.
+..dots..example..net..:192.0.2.1
+\141\.b\\.example.net:192.0.2.1
+end\:192.0.2.1
+ttl.example.net:192.0.2.1:300 # comment
+ttl2.example.net:192.0.2.1:x
+ip.example.net:192.0.2.001/24:60
+short.example.net:192.0.2.1:60:4
+lo.example.net:192.0.2.1:60::abcdef
+extra.example.net:192.0.2.1:60:::more:and:more:1:2:3:4:5:6:7:8:9:10:11:12
+noip.example.net::60
'empty.example.net:
'open.example.net
'colon.example.net:v=spf1 ip4:192.0.2.1 -all
'last.example.net:text\
'cr.example.net:text` + "\r" + `
@mx.example.net::*
@mx2.example.net:192.0.2.1:.:5x
=*.wild.example.net:192.0.2.9
Zsoa.example.net:a:b
Zsoa.example.net:c:d:0:0:0:0:0:0
Ztimes.example.net:a:b:1:::::0:4000000065000000
Ztimes.example.net:a:b:2:::::60:4000000065000000
Ztimes.example.net:a:b:3
%a:
%b:10
%c:10.1.2.3
%d:10
%:10.1
:unknown.example.net:65400:\\:\0\08\008\0008
:naptr.example.net:35:\000\001\000\002\001S\003SIP\000\003SRV\007EXAMPLE\003net\000
`)
}
