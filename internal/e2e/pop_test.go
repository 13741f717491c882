package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/steering"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/etcd"
)

// openStore is a client of the store of u.
func openStore(t *testing.T, u *Up) store.Store {
	t.Helper()
	var ends struct {
		Store string `json:"store"`
	}
	b, err := os.ReadFile(filepath.Join(u.Dir, "endpoints.json"))
	if err == nil {
		err = json.Unmarshal(b, &ends)
	}
	if err != nil {
		t.Fatal(err)
	}
	st, err := etcd.Open(t.Context(), etcd.Config{Endpoints: []string{strings.Replace(ends.Store, "etcd+unix://", "unix://", 1)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return st
}

// flips is how many times a PoP is drained, or undrained, in TestDrain.
const flips = 100

// TestDrain: users of a PoP that is drained are sent to the next one by every host, in under a
// second; so they are by what is found of its health; the last PoP is not drained, and a map
// that is damaged takes no answer away. It judges times.
func TestDrain(t *testing.T) {
	in := newSources(t)
	in.zone("example.net", zoneOf("www A 192.0.2.80\n"))
	u := StartUp(t, UpOptions{Zones: in.zones, Guarded: true})
	st := openStore(t, u)
	pop := func(args ...string) (string, int) {
		t.Helper()
		stdout, stderr, status := Run(t, append(append([]string{"pop"}, args...), "--dir", u.Dir)...)
		return stdout + stderr, status
	}
	for _, name := range []string{"esams", "drmrs"} {
		if text, status := pop("add", name, "--latitude", "52", "--longitude", "4", "--capacity", "100"); status != 0 {
			t.Fatal(text)
		}
	}
	// We ask from this machine, which is everybody's resolver.
	world := geo.Map{
		Name:    "world",
		Entries: []geo.Entry{{Prefix: netip.MustParsePrefix("127.0.0.0/8"), Location: "here"}, {Prefix: netip.MustParsePrefix("198.51.100.0/24"), Location: "there"}},
		Orders:  map[record.Location][]record.Location{"here": {"esams", "drmrs"}, "there": {"drmrs", "esams"}},
		Uses:    []geo.Use{{Name: record.Root, Below: true}, {Name: record.Root, Below: true, Kind: geo.BySubnet}},
	}
	claims, err := steering.Claims(&world, geo.Zone, "map/world", record.Provenance{Author: "alice", Time: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	www := record.Name("\x03www\x07example\x03net\x00")
	for location, address := range map[record.Location]record.Rdata{"esams": "\xc0\x00\x02\x51", "drmrs": "\xc0\x00\x02\x52"} {
		r := record.NewRRset(www, record.TypeA, 60, address)
		r.Location = location
		claims = append(claims, record.Claim{RRset: r, Source: "map/world", Place: "test"})
	}
	if _, _, err := claimtree.Replace(t.Context(), st, "map/world", claims); err != nil {
		t.Fatal(err)
	}
	esams, drmrs := "NOERROR 192.0.2.81", "NOERROR 192.0.2.82"
	all := func(want string) {
		t.Helper()
		for _, h := range u.Hosts {
			for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(500 * time.Microsecond) {
				got := addressOf(t.Context(), h, "www.example.net")
				if got == want {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%s answers %q, want %q", h, got, want)
				}
			}
		}
	}
	all(esams)

	if text, status := pop("drain", "esams", "--reason", "power work"); status != 0 || !strings.Contains(text, "PoP esams: drained; it is drained") {
		t.Fatalf("status %d: %s", status, text)
	}
	all(drmrs)
	stdout, stderr, _ := Run(t, "map", "explain", "198.51.100.7", "www.example.net", "--resolver", "127.0.0.1", "--api", u.API)
	for _, want := range []string{"198.51.100.0/24 is at there", "=> drmrs up", "esams drained", "192.0.2.82", "127.0.0.0/8 is at here"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("map explain has no %q:\n%s%s", want, stdout, stderr)
		}
	}
	if text, status := pop("drain", "drmrs"); status == 0 || !strings.Contains(text, "PoP drmrs is the last one that is up (esams is drained)") {
		t.Errorf("the last one is drained: status %d, %s", status, text)
	}
	if text, _ := pop("list"); !strings.Contains(text, "power work") || !strings.Contains(text, "drained") {
		t.Errorf("list:\n%s", text)
	}
	if stdout, _, _ := Run(t, "audit", "--api", u.API); !strings.Contains(stdout, "pop drain") {
		t.Errorf("audit:\n%s", stdout)
	}
	if text, status := pop("undrain", "esams"); status != 0 {
		t.Fatal(text)
	}
	all(esams)
	// As it is found: all are down, and the first in order answers.
	for _, step := range [][2]string{{"esams", drmrs}, {"drmrs", esams}} {
		if text, status := pop("health", step[0], "down"); status != 0 {
			t.Fatal(text)
		}
		all(step[1])
	}
	for _, name := range []string{"esams", "drmrs"} {
		if text, status := pop("health", name, "up"); status != 0 {
			t.Fatal(text)
		}
	}
	all(esams)

	// How long it takes until every host answers otherwise.
	var took []time.Duration
	for i := range flips {
		drained, want := i%2 == 0, esams
		if drained {
			want = drmrs
		}
		began := time.Now()
		if _, _, err := steering.Do(t.Context(), st, "esams", steering.Change{Action: "pop flip", People: true, Apply: func(p *tree.PoP, _ bool) error {
			p.Drained = drained
			return nil
		}}, steering.By{Author: "test"}, began); err != nil {
			t.Fatal(err)
		}
		all(want)
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	p50, p99 := took[flips/2], took[flips*99/100]
	t.Logf("%d drains and undrains of a PoP until all of %d hosts answer by it: p50 %s, p99 %s, largest %s", flips, len(u.Hosts), p50, p99, took[flips-1])
	if p99 > 5*time.Second {
		t.Errorf("p99 is %s, expected well under a second on a quiet machine, and 5s on any", p99)
	}

	// A damaged block among the claims is held, and the map that was there answers on.
	before := addressOf(context.Background(), u.Hosts[0], "www.example.net")
	for i := range claims {
		if claims[i].Type == record.TypeMapBlock {
			claims[i].Data = []record.Rdata{"\x04\x7f\x00\x00\x01\x08here"}
		}
	}
	if _, _, err := claimtree.Replace(t.Context(), st, "map/world", claims); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the hold", func() error {
		stdout, stderr, _ := Run(t, "holds", "--api", u.API)
		if !strings.Contains(stdout, "malformed") || !strings.Contains(stdout, "127.0.0.1/8 has bits behind its length") {
			return fmt.Errorf("holds:\n%s%s", stdout, stderr)
		}
		return nil
	})
	if got := addressOf(context.Background(), u.Hosts[0], "www.example.net"); got != before || !strings.HasPrefix(got, "NOERROR 192.0.2.8") {
		t.Errorf("with a damaged map www.example.net is answered with %q, before with %q", got, before)
	}
}
