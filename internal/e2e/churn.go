package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing/fstest"

	"github.com/zonecast/zonecast/internal/zonefile"
	"github.com/zonecast/zonecast/record"
)

// Change is one line of a churn file: records "owner ttl type rdata" that were added
// and removed together.
type Change struct {
	Time   int64    `json:"time"` // unix seconds
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
	e := &Edit{}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(from, f.Name()))
		if err != nil {
			return nil, err
		}
		lines := map[string]bool{}
		number := 0
		for text := range strings.Lines(string(b)) {
			number++
			text = strings.TrimSpace(text)
			if text == "" || text[0] == ';' || text[0] == '$' {
				continue
			}
			owner, rest, _ := cutField(text)
			ttl, rest, _ := cutField(rest)
			class, rest, _ := cutField(rest)
			typ, rdata, ok := cutField(rest)
			if !ok || class != "IN" {
				return nil, fmt.Errorf("%s:%d: %q, expected owner ttl IN type rdata", filepath.Join(from, f.Name()), number, text)
			}
			lines[recordLine(owner, ttl, typ, rdata)] = true
		}
		z.zones[f.Name()] = lines
		e.Files = append(e.Files, FileEdit{Name: f.Name(), Content: z.content(f.Name())})
	}
	return z, e.write(dir)
}

// cutField cuts the first field off; what follows is verbatim, since blanks in
// quoted text count.
func cutField(s string) (field, rest string, ok bool) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, "", false
	}
	return s[:i], strings.TrimLeft(s[i:], " \t"), true
}

func recordLine(owner, ttl, typ, rdata string) string {
	return strings.ToLower(owner) + " " + ttl + " IN " + typ + " " + rdata
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

// Edit is a change as new contents of zone files, not written yet.
type Edit struct {
	Files []FileEdit // in order of their names
	// Keys are those of the records that the change names.
	Keys           []record.Key
	Added, Removed int // records
	// Skipped counts records of types that only exist in the source's own server
	// (DYNA).
	Skipped int
}

// FileEdit is one file of an Edit. Zone is nil when the file goes, or is refused.
type FileEdit struct {
	Name    string
	Content []byte // nil: the file goes
	Zone    *zonefile.Zone
	Refused error // why the file cannot be a zone
}

// Prepare makes the Edit of c, in memory. A zone comes with its SOA and goes with it.
// A record that c removes and that is not there, or adds and that is there, is an
// error: a churn that does not fit its zones proves nothing.
func (z *ZoneDir) Prepare(c Change) (*Edit, error) {
	e := &Edit{}
	touched, err := z.apply(e, c)
	if err != nil {
		return nil, err
	}
	e.take(z, touched)
	return e, nil
}

// apply makes what c says the state of z, which is written by nobody yet, and counts it in e.
func (z *ZoneDir) apply(e *Edit, c Change) (touched map[string]bool, err error) {
	touched = map[string]bool{}
	keys := map[record.Key]bool{}
	var misfits []error
	each := func(records []string, soa, add bool) {
		for _, r := range records {
			owner, rest, _ := cutField(r)
			ttl, rest, _ := cutField(rest)
			typ, rdata, ok := cutField(rest)
			if (typ == "SOA") != soa {
				continue
			}
			if typ == "DYNA" {
				e.Skipped++
				continue
			}
			zone, found := z.zoneOf(owner)
			if soa {
				zone, found = strings.TrimSuffix(strings.ToLower(owner), "."), true
			}
			key, err := keyOf(owner, typ)
			line := recordLine(owner, ttl, typ, rdata)
			switch {
			case !ok || err != nil:
				misfits = append(misfits, fmt.Errorf("%q is no record: %w", r, err))
				continue
			case !found:
				misfits = append(misfits, fmt.Errorf("%q lies in no zone", r))
				continue
			case z.zones[zone][line] == add:
				misfits = append(misfits, fmt.Errorf("%q: added %v, there before %v", r, add, z.zones[zone][line]))
				continue
			}
			touched[zone], keys[key] = true, true
			if !add {
				e.Removed++
				delete(z.zones[zone], line)
				continue
			}
			e.Added++
			if z.zones[zone] == nil {
				z.zones[zone] = map[string]bool{}
			}
			z.zones[zone][line] = true
		}
	}
	each(c.Remove, false, false)
	each(c.Remove, true, false)
	each(c.Add, true, true)
	each(c.Add, false, true)
	if misfits != nil {
		return nil, fmt.Errorf("change %s: %w", c.ID, errors.Join(misfits...))
	}
	for k := range keys {
		e.Keys = append(e.Keys, k)
	}
	slices.SortFunc(e.Keys, record.Key.Compare)
	return touched, nil
}

// take makes the files of zones what z has of them.
func (e *Edit) take(z *ZoneDir, zones map[string]bool) {
	for zone := range zones {
		f := FileEdit{Name: zone, Content: z.content(zone)}
		if f.Content == nil {
			delete(z.zones, zone)
		} else {
			f.parse()
		}
		e.Files = append(e.Files, f)
	}
	slices.SortFunc(e.Files, func(a, b FileEdit) int { return strings.Compare(a.Name, b.Name) })
}

func (f *FileEdit) parse() {
	f.Zone, f.Refused = zonefile.Parse(fstest.MapFS{f.Name: {Data: f.Content}}, f.Name, record.Provenance{})
	if f.Refused != nil {
		f.Zone = nil
	}
}

func keyOf(owner, typ string) (record.Key, error) {
	n, err := record.ParseName(owner)
	if err != nil {
		return record.Key{}, err
	}
	t, err := record.ParseType(typ)
	return record.Key{Owner: n, Type: t}, err
}

// Write puts the contents beside the files, and then replaces them in one go, each
// atomically: renaming is called before the first one.
func (z *ZoneDir) Write(e *Edit, renaming func()) error {
	for _, f := range e.Files {
		if f.Content == nil {
			continue
		}
		if err := os.WriteFile(z.beside(f), f.Content, 0o644); err != nil {
			return err
		}
	}
	renaming()
	for _, f := range e.Files {
		err := error(nil)
		if path := filepath.Join(z.Dir, f.Name); f.Content == nil {
			err = os.Remove(path)
		} else {
			err = os.Rename(z.beside(f), path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *Edit) write(dir string) error {
	return (&ZoneDir{Dir: dir}).Write(e, func() {})
}

// beside is a name that is no zone file's.
func (z *ZoneDir) beside(f FileEdit) string { return filepath.Join(z.Dir, "."+f.Name+".new") }

// Apply changes the files as c says, each atomically, and returns which changed.
func (z *ZoneDir) Apply(c Change) ([]string, error) {
	e, err := z.Prepare(c)
	if err != nil {
		return nil, err
	}
	changed := []string{}
	for _, f := range e.Files {
		changed = append(changed, f.Name)
	}
	return changed, z.Write(e, func() {})
}

// Has tells whether the zone still has a file.
func (z *ZoneDir) Has(zone string) bool { return z.zones[zone] != nil }

// content is a zone's file, SOA first; nil when the SOA is gone.
func (z *ZoneDir) content(zone string) []byte {
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
		return nil
	}
	slices.Sort(lines)
	return []byte("$ORIGIN " + zone + ".\n" + soa + "\n" + strings.Join(lines, "\n") + "\n")
}
