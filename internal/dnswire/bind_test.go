//go:build interop

package dnswire_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// checkzone asks BIND's named-checkzone about a file; accepted gives the records as
// parse does, read from its dump by another parser than ours. The checks that look
// at more than one record are off: they are reconcile's.
func checkzone(t *testing.T, dir, file string) (lines []string, output string, accepted bool) {
	t.Helper()
	dump := filepath.Join(t.TempDir(), "dump")
	cmd := exec.Command("named-checkzone", "-i", "none", "-k", "ignore", "-D", "-o", dump, "-w", dir, "example.net", file)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, string(out), false
	}
	f, err := os.Open(dump)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zp := dns.NewZoneParser(f, ".", "dump")
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		h := rr.Header()
		owner, ttl, rtype := name(t, h.Name), h.Ttl, record.Type(h.Rrtype)
		h.Name = "."
		buf := make([]byte, 70000)
		n, err := dns.PackRR(rr, buf, 0, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		rd, err := dnswire.Canonical(rtype, buf[11:n])
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%s %d %s %x", owner, ttl, rtype, string(rd)))
	}
	if err := zp.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return slices.Compact(lines), string(out), true
}

func TestBINDReadsTheSame(t *testing.T) {
	for _, z := range zones(t) {
		t.Run(z, func(t *testing.T) {
			want, out, ok := checkzone(t, "testdata/zones", z)
			if !ok {
				t.Fatalf("BIND refuses it: %s", out)
			}
			got, sets, err := parse(t, os.DirFS("testdata/zones"), z)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("records (-BIND +ours):\n%s", diff)
			}
			// What we write, BIND reads as the same.
			var buf bytes.Buffer
			if err := dnswire.WriteZone(&buf, name(t, "example.net."), sets); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "z"), buf.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			back, out, ok := checkzone(t, dir, "z")
			if diff := cmp.Diff(want, back); !ok || diff != "" {
				t.Errorf("written zone: %s (-read by BIND before +now):\n%s", out, diff)
			}
		})
	}
}

func TestBINDRefusesWhatWeRefuse(t *testing.T) {
	for _, c := range refused {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "z"), []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			_, out, ok := checkzone(t, dir, "z")
			if ok && c.lenient == "" {
				t.Errorf("BIND takes it: %s", out)
			}
			if !ok && c.lenient != "" && !strings.Contains(out, "example.net/IN: loaded") {
				t.Errorf("BIND refuses it, although the table says that it %s: %s", c.lenient, out)
			}
		})
	}
}
