package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/internal/atomicfile"
)

// Change is one line of a churn file: records "owner ttl type rdata" that were added
// and removed together.
type Change struct {
	Time   int64    `json:"time"`
	ID     string   `json:"change"`
	Add    []string `json:"add"`
	Remove []string `json:"remove"`
}

// ReadChurn reads a churn file.
func ReadChurn(path string) ([]Change, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []Change
	s := bufio.NewScanner(f)
	s.Buffer(nil, 64<<20)
	for s.Scan() {
		var c Change
		if err := json.Unmarshal(s.Bytes(), &c); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, len(all)+1, err)
		}
		all = append(all, c)
	}
	return all, s.Err()
}

// ZoneDir is a directory of zone files with one record a line, each file named like
// its zone, and what is in them.
type ZoneDir struct {
	Dir   string
	zones map[string]map[string]bool // zone without final dot → lines
}

// CopyZones copies the zone files of from into a new directory dir.
func CopyZones(from, dir string) (*ZoneDir, error) {
	z := &ZoneDir{Dir: dir, zones: map[string]map[string]bool{}}
	files, err := os.ReadDir(from)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(from, f.Name()))
		if err != nil {
			return nil, err
		}
		lines := map[string]bool{}
		for line := range strings.Lines(string(b)) {
			if fields := strings.Fields(line); len(fields) > 4 && fields[2] == "IN" {
				lines[recordLine(fields[0], fields[1], fields[3], fields[4:])] = true
			}
		}
		z.zones[f.Name()] = lines
		if err := z.write(f.Name()); err != nil {
			return nil, err
		}
	}
	return z, nil
}

func recordLine(owner, ttl, typ string, rdata []string) string {
	return fmt.Sprintf("%s %s IN %s %s", strings.ToLower(owner), ttl, typ, strings.Join(rdata, " "))
}

// zoneOf is the zone whose file has the owner's records.
func (z *ZoneDir) zoneOf(owner string) (string, bool) {
	for name := strings.TrimSuffix(strings.ToLower(owner), "."); name != ""; _, name, _ = strings.Cut(name, ".") {
		if _, ok := z.zones[name]; ok {
			return name, true
		}
	}
	return "", false
}

// Apply changes the files as c says, each atomically, and returns which changed. A
// zone comes with its SOA and goes with it. Records of types that only exist in the
// source's own server (DYNA) are left out.
func (z *ZoneDir) Apply(c Change) ([]string, error) {
	touched := map[string]bool{}
	each := func(records []string, soa bool, do func(zone, line string)) {
		for _, r := range records {
			f := strings.Fields(r)
			if len(f) < 4 || f[2] == "DYNA" || (f[2] == "SOA") != soa {
				continue
			}
			zone, ok := z.zoneOf(f[0])
			if soa {
				zone, ok = strings.TrimSuffix(strings.ToLower(f[0]), "."), true
			}
			if !ok {
				continue // a record of a zone that went in the same change
			}
			touched[zone] = true
			do(zone, recordLine(f[0], f[1], f[2], f[3:]))
		}
	}
	remove := func(zone, line string) { delete(z.zones[zone], line) }
	add := func(zone, line string) {
		if z.zones[zone] == nil {
			z.zones[zone] = map[string]bool{}
		}
		z.zones[zone][line] = true
	}
	each(c.Remove, false, remove)
	each(c.Remove, true, remove)
	each(c.Add, true, add)
	each(c.Add, false, add)
	changed := []string{}
	for zone := range touched {
		changed = append(changed, zone)
	}
	slices.Sort(changed)
	for _, zone := range changed {
		if err := z.write(zone); err != nil {
			return nil, err
		}
	}
	return changed, nil
}

// Has tells whether the zone still has a file.
func (z *ZoneDir) Has(zone string) bool { return z.zones[zone] != nil }

// write writes a zone's file, SOA first, or removes it when the SOA is gone.
func (z *ZoneDir) write(zone string) error {
	path := filepath.Join(z.Dir, zone)
	lines := make([]string, 0, len(z.zones[zone]))
	soa := ""
	for line := range z.zones[zone] {
		if strings.HasPrefix(line, zone+". ") && strings.Fields(line)[3] == "SOA" {
			soa = line
			continue
		}
		lines = append(lines, line)
	}
	if soa == "" {
		delete(z.zones, zone)
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
		return nil
	}
	slices.Sort(lines)
	return atomicfile.Write(path, 0o644, []byte("$ORIGIN "+zone+".\n"+soa+"\n"+strings.Join(lines, "\n")+"\n"))
}
