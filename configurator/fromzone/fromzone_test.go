package fromzone_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/configurator/compile"
	"github.com/zonecast/zonecast/configurator/fromzone"
	"github.com/zonecast/zonecast/internal/sandbox"
	"github.com/zonecast/zonecast/record"
)

func TestMain(m *testing.M) {
	sandbox.Main(map[string]func() (sandbox.Handler, error){compile.SandboxName: compile.SandboxHandler})
	os.Exit(m.Run())
}

// sets are RRsets as text, for comparison.
func sets(claims []record.Claim) (all []string) {
	for _, c := range claims {
		all = append(all, fmt.Sprintf("%s %d %q", c.Key, c.TTL, c.Data))
	}
	return all
}

// same compiles a program and compares its claims with those of the zone file.
func same(t interface {
	Fatalf(string, ...any)
	Errorf(string, ...any)
}, c *compile.Compiler, p *fromzone.Program,
) {
	dir, name := fstest.MapFS{p.Name: {Data: []byte(p.Text)}}, strings.TrimSuffix(p.Name, ".star")
	r, err := c.Compile(context.Background(), dir, nil, nil)
	if err != nil {
		t.Fatalf("%v in\n%s", err, p.Text)
	}
	if len(r.Configs) != 1 || r.Configs[0].Path != name {
		t.Fatalf("%d configurations", len(r.Configs))
	}
	if diff := cmp.Diff(sets(p.Zone.Claims), sets(r.Configs[0].Claims)); diff != "" {
		t.Errorf("RRsets (-zone file +program):\n%s\nprogram:\n%s", diff, p.Text)
	}
}

// TestProgram is what comes out for a zone file with everything that people write.
func TestProgram(t *testing.T) {
	p, err := fromzone.Write(os.DirFS("testdata"), "example.net")
	if err != nil {
		t.Fatal(err)
	}
	const file = "testdata/example.net.star"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(p.Text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), p.Text); diff != "" {
		t.Errorf("(-want +got), UPDATE=1 writes it anew:\n%s", diff)
	}
	c := compile.New(compile.Options{})
	defer c.Close()
	same(t, c, p)
}

// TestHardZones: zone files with the oddest things compile to the same records.
func TestHardZones(t *testing.T) {
	c := compile.New(compile.Options{})
	defer c.Close()
	const dir = "../../internal/dnswire/testdata/zones"
	files, err := filepath.Glob(dir + "/*.zone")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	moved := 0
	for _, file := range files {
		p, err := fromzone.Write(os.DirFS(dir), filepath.Base(file))
		if err != nil {
			t.Logf("no zone: %v", err)
			continue
		}
		same(t, c, p)
		moved++
	}
	if moved < 5 {
		t.Errorf("only %d zones", moved)
	}
}

// drawZone makes a zone file.
func drawZone(t *rapid.T) string {
	var b strings.Builder
	label := rapid.SampledFrom([]string{"a", "www", "example", "net", "*", "_sip._tcp", `o\"dd`, `d\.ot`, `\032`, `\@`, `s\;emi`, "x.example.net", "mail", "deep.er"})
	name := func() string {
		switch rapid.IntRange(0, 5).Draw(t, "form") {
		case 0:
			return "@"
		case 1:
			return label.Draw(t, "label") + ".example.org."
		case 2:
			return label.Draw(t, "label") + ".example.net."
		}
		return label.Draw(t, "label")
	}
	owner := func() string {
		for {
			if n := name(); !strings.HasSuffix(n, "org.") {
				return n
			}
		}
	}
	fmt.Fprintf(&b, "$TTL %d\n", rapid.SampledFrom([]int{0, 60, 3600}).Draw(t, "default"))
	if rapid.Bool().Draw(t, "comment") {
		b.WriteString("; before the zone \"x\" # y\n")
	}
	fmt.Fprintf(&b, "@ %s SOA %s %s %d 2 3 4 5 ; serial\n", rapid.SampledFrom([]string{"", "77"}).Draw(t, "ttl"), name(), name(), rapid.Uint32().Draw(t, "serial"))
	text := rapid.SampledFrom([]string{`"plain"`, `"two" "parts"`, `"q\"uote;"`, `"\200\000"`, `"ü"`, `""`, `word`, `"back\\slash"`, `"` + strings.Repeat("x", 255) + `" "y"`, `"% {} # no comment"`})
	for range rapid.IntRange(0, 30).Draw(t, "records") {
		line := owner() + rapid.SampledFrom([]string{" ", " 300 "}).Draw(t, "ttl")
		switch rapid.IntRange(0, 10).Draw(t, "type") {
		case 0:
			line += fmt.Sprintf("A 192.0.2.%d", rapid.IntRange(0, 3).Draw(t, "address"))
		case 1:
			line += fmt.Sprintf("AAAA 2001:db8::%x", rapid.IntRange(0, 3).Draw(t, "address"))
		case 2:
			line += "NS " + name()
		case 3:
			line += fmt.Sprintf("MX %d %s", rapid.IntRange(0, 65535).Draw(t, "preference"), name())
		case 4:
			line += "TXT " + text.Draw(t, "text")
		case 5:
			line += fmt.Sprintf("SRV 0 %d 443 %s", rapid.IntRange(0, 9).Draw(t, "weight"), name())
		case 6:
			line += `CAA 0 issue ` + rapid.SampledFrom([]string{`"ca.example.org; a=b"`, `"\034"`, `"%"`}).Draw(t, "value")
		case 7:
			line += "PTR " + name()
		case 8:
			line += `TYPE65280 \# 2 abcd`
		case 9:
			line += "HINFO cpu os"
		case 10:
			line += "NAPTR 1 2 \"u\" \"sip\" \"!^.*$!x!\" " + name()
		}
		if rapid.Bool().Draw(t, "comment") {
			line += " ; why"
		}
		b.WriteString(line + "\n")
		if rapid.IntRange(0, 5).Draw(t, "between") == 0 {
			b.WriteString(";; between\n\n")
		}
	}
	n := rapid.IntRange(0, 12).Draw(t, "alike")
	for i := range n {
		fmt.Fprintf(&b, "alias%d CNAME web%s\n", i, rapid.SampledFrom([]string{"", ".example.org."}).Draw(t, "outside"))
	}
	if rapid.Bool().Draw(t, "generate") {
		b.WriteString("$GENERATE 1-7 gen$ A 192.0.2.1$ ; many\n")
	}
	return b.String()
}

// TestEveryZoneMeansTheSame: whatever zone file there is, its program has its records.
func TestEveryZoneMeansTheSame(t *testing.T) {
	c := compile.New(compile.Options{})
	defer c.Close()
	rapid.Check(t, func(t *rapid.T) {
		p, err := fromzone.Write(fstest.MapFS{"example.net": {Data: []byte(drawZone(t))}}, "example.net")
		if err != nil {
			t.Skip(err) // a CNAME beside others, say
		}
		same(t, c, p)
	})
}

func FuzzWrite(f *testing.F) {
	b, err := os.ReadFile("testdata/example.net")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(b))
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1000 && strings.Count(text, "$") > 2 {
			return
		}
		p, err := fromzone.Write(fstest.MapFS{"example.net": {Data: []byte(text)}}, "example.net")
		if err == nil && !strings.Contains(p.Text, "export(") {
			t.Error("no export")
		}
	})
}
