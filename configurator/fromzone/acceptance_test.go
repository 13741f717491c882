//go:build acceptance

package fromzone_test

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/configurator/compile"
	"github.com/zonecast/zonecast/configurator/fromzone"
	"github.com/zonecast/zonecast/record"
)

const realZones = "../../../shared/data/wikimedia-2019/zones"

// readReal reads the real zones as programs.
func readReal(t *testing.T) map[string]*fromzone.Program {
	t.Helper()
	files, err := os.ReadDir(realZones)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*fromzone.Program{}
	for _, f := range files {
		p, err := fromzone.Write(os.DirFS(realZones), f.Name())
		if err != nil {
			t.Fatal(err)
		}
		all[f.Name()] = p
	}
	if len(all) != 198 {
		t.Fatalf("%d zones", len(all))
	}
	return all
}

// TestRealZonesMove: all real zones, written as programs, compile to the same RRsets.
func TestRealZonesMove(t *testing.T) {
	zones := readReal(t)
	tree := fstest.MapFS{}
	before, after := 0, 0
	for file, p := range zones {
		tree["zones/"+p.Name] = &fstest.MapFile{Data: []byte(p.Text)}
		b, err := os.ReadFile(filepath.Join(realZones, file))
		if err != nil {
			t.Fatal(err)
		}
		before += strings.Count(string(b), "\n")
		after += strings.Count(p.Text, "\n")
	}
	c := compile.New(compile.Options{})
	defer c.Close()
	r, err := c.Compile(t.Context(), tree, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	records := 0
	for _, config := range r.Configs {
		p := zones[path.Base(config.Path)]
		if diff := cmp.Diff(sets(p.Zone.Claims), sets(config.Claims)); diff != "" {
			t.Errorf("%s (-zone file +program):\n%s", config.Path, diff)
		}
		records += p.Zone.Records
	}
	if len(r.Configs) != len(zones) {
		t.Errorf("%d of %d zones", len(r.Configs), len(zones))
	}
	t.Logf("%d zones, %d records, %d lines of zone files, %d lines of programs; differences: none unless said above", len(r.Configs), records, before, after)
}

// TestExampleIsTheRealZones: the zones of examples/wikimedia-config are the real ones, in
// a tenth of the lines at most.
func TestExampleIsTheRealZones(t *testing.T) {
	const dir = "../../examples/wikimedia-config"
	zones := readReal(t)
	c := compile.New(compile.Options{})
	defer c.Close()
	r, err := c.Compile(t.Context(), os.DirFS(dir), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	zoneLines, lines, records := 0, 0, 0
	for _, config := range r.Configs {
		name := path.Base(config.Path)
		p := zones[name]
		if p == nil {
			t.Errorf("%s is no real zone", name)
			continue
		}
		if diff := cmp.Diff(sets(p.Zone.Claims), sets(config.Claims)); diff != "" {
			t.Errorf("%s (-zone file +example):\n%s", name, diff)
		}
		b, err := os.ReadFile(filepath.Join(realZones, name))
		if err != nil {
			t.Fatal(err)
		}
		zoneLines += strings.Count(string(b), "\n")
		records += count(config.Claims)
	}
	for _, f := range r.Files() {
		b, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		lines += strings.Count(string(b), "\n")
	}
	t.Logf("%d zones, %d records: %d lines of zone files, %d lines of programs", len(r.Configs), records, zoneLines, lines)
	if len(r.Configs) < 150 || lines*10 > zoneLines {
		t.Errorf("%d zones in %d lines, which were %d", len(r.Configs), lines, zoneLines)
	}
}

func count(claims []record.Claim) int {
	n := 0
	for _, c := range claims {
		n += len(c.Data)
	}
	return n
}
