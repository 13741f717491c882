//go:build interop || acceptance

package e2e

import (
	"context"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/difftest"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// against compares a running zonecast with other servers.
type against struct {
	up       *Up
	client   *api.Client
	zones    string // directory of people's zone files
	fleet    string
	*overlay        // of the two
	written  string // directory with all of it as zone files
	stamps   map[record.Name]uint32
}

// newAgainst works out what must be answered and checks that what was published is
// exactly that.
func newAgainst(t *testing.T, up *Up, zones, fleet string) *against {
	t.Helper()
	o, err := newOverlay(zones, fleet)
	if err != nil {
		t.Fatal(err)
	}
	a := &against{up: up, client: up.Client(), zones: zones, fleet: fleet, overlay: o, written: t.TempDir()}
	if err := o.write(a.written); err != nil {
		t.Fatal(err)
	}
	a.checkPublished(t)
	a.checkWhy(t)
	a.readStamps(t)
	return a
}

// checkPublished holds the published dataset against the overlay.
func (a *against) checkPublished(t *testing.T) {
	t.Helper()
	missing := maps.Clone(a.all.sets)
	delete(missing, record.Key{Owner: freshOwner, Type: record.TypeTXT}) // no export has it
	for after := ""; ; {
		page, err := a.client.Control.ExportRecords(t.Context(), dataset, after, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Records {
			owner, err := record.ParseName(r.Owner)
			if err != nil {
				t.Fatal(err)
			}
			typ, err := record.ParseType(r.Type)
			if err != nil {
				t.Fatal(err)
			}
			var data []record.Rdata
			for _, text := range r.Rdata {
				d, err := dnswire.ParseRdata(typ, text, record.Root)
				if err != nil {
					t.Fatal(err)
				}
				data = append(data, d)
			}
			got := record.NewRRset(owner, typ, uint32(r.TTL), data...)
			want, ok := missing[got.Key]
			delete(missing, got.Key)
			if !ok || !got.Equal(want) {
				t.Errorf("published is %s, expected %s", dnswire.FormatRRset(got), dnswire.FormatRRset(want))
			}
		}
		if after = page.NextAfter; after == "" {
			break
		}
	}
	for _, s := range missing {
		t.Errorf("not published: %s", dnswire.FormatRRset(s))
	}
	t.Logf("published: %d RRsets, %d of them only because of the fleet in %d zones of its own; %d of the fleet's yield to people's",
		len(a.all.sets), len(a.added), len(a.all.apex)-len(a.people.apex), len(a.yielded))
}

// checkWhy asks `why` about all that the fleet added, and all that it could not.
func (a *against) checkWhy(t *testing.T) {
	t.Helper()
	for k := range a.added {
		x, err := a.client.Control.Why(t.Context(), k.Owner.String(), k.Type.String())
		if err != nil {
			t.Fatal(err)
		}
		wins := 0
		for _, c := range x.Claims {
			if c.Type != k.Type.String() {
				continue // what competes with it
			}
			if c.Verdict == "wins" && strings.HasPrefix(c.Source, "rule/") {
				wins++
			}
			if strings.HasPrefix(c.Source, "zone/") {
				t.Errorf("%s is added by the fleet, but %s (%s) claims it, too", k, c.Source, c.Place)
			}
		}
		if wins != 1 {
			t.Errorf("%s is added by the fleet, but `why` has %d winning claims of rules, expected 1: %v", k, wins, x.Claims)
		}
	}
	for _, k := range a.yielded {
		x, err := a.client.Control.Why(t.Context(), k.Owner.String(), k.Type.String())
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(x.Claims, func(c *controlapi.Claim) bool {
			return strings.HasPrefix(c.Source, "rule/") && c.Verdict != "wins" && c.Rule != ""
		}) {
			t.Errorf("%s: people's data stands, but `why` does not say what the fleet's lost against: %v", k, x.Claims)
		}
	}
}

// readStamps asks every host for every serial. What it adds to the claimed serial is
// the version of the zone's last change: above zero, at most the newest version, and
// the same on every host.
func (a *against) readStamps(t *testing.T) {
	t.Helper()
	st, err := a.client.Control.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	newest := uint32(st.Datasets[0].Content)
	a.stamps = map[record.Name]uint32{}
	for _, z := range a.all.zones {
		claimed := serialOf(a.all.sets[record.Key{Owner: z.Apex, Type: record.TypeSOA}].Data[0])
		for i, h := range a.up.Hosts {
			r, err := dnswire.Query(t.Context(), h, z.Apex, record.TypeSOA, false)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Answer) != 1 || r.Answer[0].Type != record.TypeSOA {
				t.Fatalf("%s answers for the SOA of %s: %v", h, z.Apex, r)
			}
			stamp := serialOf(r.Answer[0].Data[0]) - claimed
			if stamp == 0 || stamp > newest {
				t.Errorf("%s adds %d to the serial of %s, expected 1 to %d", h, stamp, z.Apex, newest)
			}
			if i > 0 && stamp != a.stamps[z.Apex] {
				t.Errorf("%s adds %d to the serial of %s, another host %d", h, stamp, z.Apex, a.stamps[z.Apex])
			}
			a.stamps[z.Apex] = stamp
		}
	}
}

// serialOf is the serial in a SOA (RFC 1035 §3.3.13: 20 octets from its end).
func serialOf(rd record.Rdata) uint32 {
	b := []byte(rd[len(rd)-20:])
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// compare starts the program twice, with people's zone files and with all of the
// data, and asks the questions of all hosts in turn: ours must answer what the second
// answers, and may differ from the first only where the fleet has added something.
//
// Of the questions to the second, and to other programs than named, one in every is
// asked; complete says that no rule may be left over.
func (a *against) compare(t *testing.T, p difftest.Program, ask iter.Seq[difftest.Question], every int, complete bool) {
	t.Helper()
	for _, pass := range []struct {
		what, dir, allowed string
		zones              []difftest.Zone
		explain            func(difftest.Difference) string
	}{
		{"zones and fleet", a.written, p.Name + ".txt", a.all.zones, a.explainAll},
		{"zones alone", a.zones, p.Name + "-without-fleet.txt", a.people.zones, a.explain},
	} {
		ask := ask
		if pass.dir == a.written {
			ask = oneIn(every, ask)
		}
		allowed := readAllowed(t, pass.allowed)
		if allowed == nil {
			continue // only the first pass is for this program
		}
		server, err := difftest.Start(t.Context(), p, pass.dir, pass.zones, 0, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		report, err := difftest.Compare(t.Context(), difftest.Options{
			Zones: pass.zones, Ours: a.up.Hosts, Peer: server, Ask: ask, Allowed: allowed, Explain: pass.explain,
			Stamps: a.stamps, Workers: 16, Most: 60,
		})
		t.Logf("%s with %s: %s", p.Name, pass.what, report)
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		if report.Differences > 0 {
			t.Errorf("%d differences from %s with %s, expected none that %s does not allow", report.Differences, p.Name, pass.what, pass.allowed)
		}
		if complete && len(report.Unused) > 0 {
			t.Errorf("%d rules of %s allow nothing: take them out", len(report.Unused), pass.allowed)
		}
		if report.Questions < 500 {
			t.Errorf("only %d questions were asked", report.Questions)
		}
	}
}

// oneIn takes one in n of what there is.
func oneIn(n int, all iter.Seq[difftest.Question]) iter.Seq[difftest.Question] {
	return func(yield func(difftest.Question) bool) {
		at := 0
		for q := range all {
			if at++; at%n == 0 && !yield(q) {
				return
			}
		}
	}
}

// readAllowed reads a file of allowed differences; nil when there is none.
func readAllowed(t *testing.T, file string) *difftest.Allowed {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "differences", file))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	allowed, err := difftest.ReadAllowed(f, file)
	if err != nil {
		t.Fatal(err)
	}
	return allowed
}

// identical asks every host a sample of the questions, with the same IDs. The
// freshness record, which changes every second, is not among them.
func (a *against) identical(t *testing.T, most int) {
	t.Helper()
	total := 0
	for range difftest.Questions(a.all.zones) {
		total++
	}
	stride := max(1, total/most)
	at := 0
	asked, err := difftest.Identical(t.Context(), a.up.Hosts, func(yield func(difftest.Question) bool) {
		n := 0
		for q := range difftest.Questions(a.all.zones) {
			if at++; at%stride == 0 && q.Name != freshOwner && n < most {
				if n++; !yield(q) {
					return
				}
			}
		}
	})
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d of %d questions with the same ID: the same octets from %d hosts", asked, total, len(a.up.Hosts))
	if asked < min(most, total)/2 {
		t.Errorf("only %d questions were asked, expected %d", asked, most)
	}
}

// change applies changes to the running zonecast's zone files and compares again what
// is about the names that changed and their neighbours.
func (a *against) change(t *testing.T, zones *ZoneDir, changes []Change) {
	t.Helper()
	changed := map[string]bool{}
	for _, c := range changes {
		files, err := zones.Apply(c)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			changed[f] = true
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	version, err := AwaitFiles(ctx, a.client, zones.Dir, slices.Sorted(maps.Keys(changed)))
	if err != nil {
		t.Fatal(err)
	}
	after := newAgainst(t, a.up, zones.Dir, a.fleet)
	near := neighbours(a.all, after.all)
	maps.Copy(near, neighbours(a.people, after.people)) // the fleet may have taken over what people gave up
	t.Logf("%d changes to %d zone files, version %d: %d names changed or are next to one that did", len(changes), len(changed), version, len(near))
	for z, stamp := range after.stamps {
		if after.stamps[z] < a.stamps[z] {
			t.Errorf("the serial of %s went back from +%d to +%d", z, a.stamps[z], stamp)
		}
	}
	union := slices.Concat(after.all.zones, a.all.zones) // what went is asked for, too
	after.compare(t, difftest.Named(), func(yield func(difftest.Question) bool) {
		for q := range difftest.Questions(union) {
			if near.have(q.Name) && !yield(q) {
				return
			}
		}
	}, 1, false)
}

// nameSet is a set of names.
type nameSet map[record.Name]bool

// have is true for the names and for those made up below them.
func (s nameSet) have(n record.Name) bool {
	for !s[n] {
		if label := n.FirstLabel(); label != "*" && !strings.HasPrefix(label, "zz-") {
			return false
		}
		n = n.Parent()
	}
	return true
}

// neighbours are the owners of RRsets that differ between the two, and on either side
// of each the two owners next to it.
func neighbours(before, after *names) nameSet {
	differ := nameSet{}
	owners := nameSet{}
	for _, pair := range [][2]*names{{before, after}, {after, before}} {
		for k, s := range pair[0].sets {
			owners[k.Owner] = true
			if other, ok := pair[1].sets[k]; !ok || !other.Equal(s) {
				differ[k.Owner] = true
			}
		}
	}
	near := maps.Clone(differ)
	order := slices.SortedFunc(maps.Keys(owners), record.Name.Compare)
	for n := range differ {
		at, _ := slices.BinarySearchFunc(order, n, record.Name.Compare)
		for _, m := range order[max(0, at-2):min(len(order), at+3)] {
			near[m] = true
		}
	}
	return near
}

// startOn starts zonecast on copies of the files, which can then be changed.
func startOn(t *testing.T, zoneDir, fleetFile string) (*Up, *ZoneDir, string) {
	t.Helper()
	dir := t.TempDir()
	zones, err := CopyZones(zoneDir, filepath.Join(dir, "zones"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(fleetFile)
	if err != nil {
		t.Fatal(err)
	}
	fleet := filepath.Join(dir, "fleet.jsonl")
	if err := os.WriteFile(fleet, b, 0o644); err != nil {
		t.Fatal(err)
	}
	up := StartUp(t, UpOptions{Zones: zones.Dir, Fleet: fleet})
	t.Logf("%s", up.Ready)
	return up, zones, fleet
}
