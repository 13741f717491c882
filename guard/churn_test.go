//go:build acceptance

package guard_test

import (
	"bufio"
	"cmp"
	"encoding/json"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/zonecast/zonecast/guard"
	"github.com/zonecast/zonecast/internal/zonefile"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
)

// TestChurn judges a year of a real fleet's changes, each at its time, a zone file a
// source as the updater has them. The zone files of the data set are the start. What
// is held, a person lets through.
func TestChurn(t *testing.T) {
	data := cmp.Or(os.Getenv("ZONECAST_DATA"), "../../shared/data/wikimedia-2019")
	if _, err := os.Stat(data); err != nil {
		t.Skip("the data set wikimedia-2019 is not here: set ZONECAST_DATA to its directory")
	}
	state := reconcile.New(reconcile.DefaultPolicy())
	zones := map[string]map[string]bool{} // file → lines
	made := map[record.Source]int{}
	files, err := os.ReadDir(filepath.Join(data, "zones"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(data, "zones", f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		zones[f.Name()] = map[string]bool{}
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != ';' && line[0] != '$' {
				zones[f.Name()][line] = true
			}
		}
		c := claims(t, f.Name(), zones[f.Name()])
		made[source(f.Name())] = len(c)
		state.Replace(source(f.Name()), "", c)
	}
	state.Reconcile()
	judge, err := guard.New(guard.DefaultBounds(), func() iter.Seq[record.RRset] { return state.All() }, made)
	if err != nil {
		t.Fatal(err)
	}
	// What other bounds would hold, for comparison.
	others := map[string]*other{}
	for what, change := range map[string]func(*guard.Bounds){
		"few is 4":          func(b *guard.Bounds) { b.Few = 4 },
		"nobody reviews":    func(b *guard.Bounds) { b.Reviewed = nil },
		"window is 1h":      func(b *guard.Bounds) { b.Window = time.Hour },
		"window is 24h":     func(b *guard.Bounds) { b.Window = 24 * time.Hour },
		"30 % of 10 and up": func(b *guard.Bounds) { *b = thirtyPercent() },
	} {
		b := guard.DefaultBounds()
		change(&b)
		j, err := guard.New(b, func() iter.Seq[record.RRset] { return state.All() }, made)
		if err != nil {
			t.Fatal(err)
		}
		others[what] = &other{judge: j, held: map[string]bool{}}
	}
	t.Logf("%d RRsets in %d zones, %d of them content", state.Len(), len(zones), judge.Size())

	file, err := os.Open(filepath.Join(data, "churn.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	changes, held, judged := 0, []string{}, 0
	var took time.Duration
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 64<<20)
	for ; lines.Scan(); changes++ {
		var c struct {
			Time        int64
			Change      string
			Add, Remove []string
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		now := time.Unix(c.Time, 0)
		touched := map[string]bool{}
		for _, add := range []bool{false, true} {
			for _, soa := range []bool{add, !add} { // a zone comes with its SOA and goes with it
				for _, r := range map[bool][]string{false: c.Remove, true: c.Add}[add] {
					f := strings.SplitN(r, " ", 4)
					if f[2] == "DYNA" || (f[2] == "SOA") != soa {
						continue
					}
					zone := strings.TrimSuffix(f[0], ".")
					for !soa && zones[zone] == nil {
						_, zone, _ = strings.Cut(zone, ".")
						if zone == "" {
							t.Fatalf("change %s: %s lies in no zone", c.Change, r)
						}
					}
					line := f[0] + " " + f[1] + " IN " + f[2] + " " + f[3]
					touched[zone] = true
					switch {
					case zones[zone] == nil:
						zones[zone] = map[string]bool{line: true}
					case zones[zone][line] == add:
						t.Fatalf("change %s: %s: added %v, there before %v", c.Change, r, add, !add)
					case add:
						zones[zone][line] = true
					default:
						delete(zones[zone], line)
					}
				}
			}
		}
		why := ""
		for _, f := range slices.Sorted(maps.Keys(touched)) {
			if len(zones[f]) == 0 {
				delete(zones, f)
			}
			state.Replace(source(f), "", claims(t, f, zones[f]))
			change := state.Reconcile()
			for _, o := range others {
				if o.judge.Judge(source(f), change, now).Held() {
					o.held[c.Change] = true
					o.judge.Admit(source(f), change, now)
				} else {
					o.judge.Accept(source(f), change, now)
				}
			}
			began := time.Now()
			v := judge.Judge(source(f), change, now)
			took += time.Since(began)
			judged++
			if v.Held() {
				why += "\n" + v.String()
				judge.Admit(source(f), change, now)
			} else {
				judge.Accept(source(f), change, now)
			}
		}
		if why != "" {
			held = append(held, c.Change)
			t.Logf("change %d (%s, %s) is held:%s", changes+1, c.Change, now.UTC().Format(time.DateTime), why)
		}
	}
	t.Logf("%d of %d changes held (%.2f %%); %d judgements took %v", len(held), changes, 100*float64(len(held))/float64(changes), judged, took)
	for what, o := range others {
		t.Logf("if %s: %d", what, len(o.held))
	}
	if changes != 772 {
		t.Errorf("%d changes, expected 772", changes)
	}
	if 100*len(held) >= changes {
		t.Errorf("%d changes are held, expected fewer than 1 %%", len(held))
	}
	// The four that take a zone away: a person may look at these.
	for _, id := range []string{"7b935413d5", "2b03ea9f66", "bc9768d5ae", "156c26bad3"} {
		if !slices.Contains(held, id) {
			t.Errorf("change %s takes a zone away and is not held", id)
		}
	}
	// The Judge's books, after all of this, are what is there.
	fresh, err := guard.New(guard.DefaultBounds(), func() iter.Seq[record.RRset] { return state.All() }, made)
	if err != nil {
		t.Fatal(err)
	}
	if judge.Size() != fresh.Size() {
		t.Errorf("the judge counts %d RRsets, there are %d", judge.Size(), fresh.Size())
	}
}

type other struct {
	judge *guard.Judge
	held  map[string]bool
}

// thirtyPercent is octoDNS's plan: 30 % of a zone of at least ten RRsets may be updated
// or deleted, whatever their number.
func thirtyPercent() guard.Bounds {
	b := guard.DefaultBounds()
	b.Few, b.Reviewed, b.Source, b.Overall = 3, nil, guard.Limits{}, guard.Limits{}
	third := guard.Bound{Percent: 30, Floor: 3, Ceiling: 1 << 30}
	b.Zone = guard.Limits{Removed: third, Replaced: third}
	return b
}

func source(file string) record.Source { return record.Source("zone/" + file) }

// claims are those of a zone file with the lines.
func claims(t *testing.T, file string, lines map[string]bool) []record.Claim {
	t.Helper()
	if len(lines) == 0 {
		return nil
	}
	text := strings.Join(slices.Sorted(maps.Keys(lines)), "\n") + "\n"
	z, err := zonefile.Parse(fstest.MapFS{file: {Data: []byte(text)}}, file, record.Provenance{})
	if err != nil {
		t.Fatal(err)
	}
	return z.Claims
}
