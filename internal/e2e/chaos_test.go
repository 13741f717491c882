//go:build acceptance

package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/answer"
	"github.com/zonecast/zonecast/api/registryapi"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// setting reads a number that the environment may say.
func setting(t *testing.T, key string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(key)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return n
}

// Stages are killed at random while the real changes are replayed and servers come
// and go: ZONECAST_KILLS times (100), with the randomness of ZONECAST_SEED.
func TestChaos(t *testing.T) {
	data := NeedData(t)
	kills, seed := int(setting(t, "ZONECAST_KILLS", 100)), setting(t, "ZONECAST_SEED", rand.Uint64())
	t.Logf("seed: ZONECAST_SEED=%d, %d kills", seed, kills)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute+time.Duration(kills)*6*time.Second)
	defer cancel()

	zones, err := CopyZones(filepath.Join(data, "zones"), filepath.Join(t.TempDir(), "zones"))
	if err != nil {
		t.Fatal(err)
	}
	changes, err := ReadChurn(filepath.Join(data, "churn.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	fleet := filepath.Join(data, "fleet.jsonl")
	a := NewApart(t, ApartOptions{Zones: zones.Dir, Fleet: fleet, Extra: shortTerms()})
	a.Start(kinds...)
	c := a.Client(ctx)
	began := time.Now()
	mark, err := NewMark("eqiad.wmnet")
	if err != nil {
		t.Fatal(err)
	}
	if err := awaitImport(t, ctx, c, zones, len(a.Hosts)); err != nil {
		t.Fatal(err)
	}
	t.Logf("all of it is imported and answered after %v", time.Since(began).Round(time.Millisecond))
	var asked []record.Name
	for _, z := range []string{"wmnet", "10.in-addr.arpa", "zonecast.internal", "0.0.0.0.0.0.9.9.0.0.d.f.ip6.arpa", "wikimedia.org"} {
		name, err := record.ParseName(z)
		if err != nil {
			t.Fatal(err)
		}
		asked = append(asked, name)
	}
	seen := watchAll(t, a, mark, asked, seed)

	began = time.Now()
	done := make(chan struct{}) // closed when the killing is over
	var wg sync.WaitGroup
	var number, applied int
	people := newPeople(c, seed)
	wg.Go(func() { number = markOn(t, ctx, c, mark, done) })
	wg.Go(func() { applied = replay(t, zones, changes, done) })
	wg.Go(func() { people.run(t, ctx, done) })

	killer := NewSupervisor(seed)
	for range kills {
		if Pause(ctx, killer.Between(200*time.Millisecond, 2500*time.Millisecond)) != nil {
			break
		}
		killer.KillOne(a, killer.Between(0, 1500*time.Millisecond))
	}
	close(done)
	wg.Wait()
	if err := killer.Wait(); err != nil {
		t.Error(err)
	}
	chaos := time.Since(began)

	settling := time.Now()
	if _, err := insist(ctx, func(ctx context.Context) (int64, error) { return AwaitFiles(ctx, c, zones.Dir, zoneFiles(t, zones)) }); err != nil {
		t.Errorf("zone files: %v", err)
	}
	last, err := register(ctx, c, mark.Registration(number)) // as it is: gives a revision after all calls
	if err != nil {
		t.Fatal(err)
	}
	if _, err := insist(ctx, func(ctx context.Context) (int64, error) { return AwaitServers(ctx, c, last.Revision) }); err != nil {
		t.Errorf("servers: %v", err)
	}
	digest, err := settle(ctx, c, len(a.Hosts))
	if err != nil {
		t.Fatalf("after %v without kills: %v", time.Since(settling), err)
	}
	t.Logf("one digest %v after the last process was started again", time.Since(settling).Round(time.Millisecond))
	if err := seen.await(ctx, number); err != nil {
		t.Error(err)
	}
	for _, err := range people.check(ctx, a.Hosts) {
		t.Error(err)
	}
	seen.stop()
	for _, f := range a.Faults() {
		t.Error(f)
	}
	t.Logf("kills: %v; zone changes: %d; numbers of the mark: %d; registrations and deregistrations acknowledged: %d; %v",
		killer.Kills, applied, number, people.acknowledged, chaos.Round(time.Second))
	for _, s := range slices.Backward(a.Stages) {
		if _, err := s.Stop(stopWithin); err != nil {
			t.Errorf("stop: %v", err)
		}
	}

	undisturbed := StartUp(t, UpOptions{Zones: zones.Dir, Fleet: fleet})
	c = undisturbed.Client()
	for _, r := range append(slices.Collect(maps.Values(people.want)), mark.Registration(number)) {
		if last, err = c.Registry.RegisterServer(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := AwaitServers(ctx, c, last.Revision); err != nil {
		t.Fatal(err)
	}
	want, err := settle(ctx, c, 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("final digest: %s, of an undisturbed run: %s", digest, want)
	if digest != want {
		t.Errorf("final digest is %s, that of an undisturbed run is %s", digest, want)
	}
}

// awaitImport waits until all sources are imported and answered everywhere.
func awaitImport(t *testing.T, ctx context.Context, c *api.Client, zones *ZoneDir, hosts int) error {
	if _, err := insist(ctx, func(ctx context.Context) (int64, error) { return AwaitFiles(ctx, c, zones.Dir, zoneFiles(t, zones)) }); err != nil {
		return err
	}
	_, err := settle(ctx, c, hosts)
	return err
}

// zoneFiles are the names of the zone files there are.
func zoneFiles(t *testing.T, zones *ZoneDir) []string {
	t.Helper()
	entries, err := os.ReadDir(zones.Dir)
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

// markOn registers number after number until done, each acknowledged before the
// next, and returns the last.
func markOn(t *testing.T, ctx context.Context, c *api.Client, mark Mark, done <-chan struct{}) int {
	for n := 1; ; n++ {
		if _, err := register(ctx, c, mark.Registration(n)); err != nil {
			t.Errorf("register number %d: %v", n, err)
			return n
		}
		select {
		case <-done:
			return n
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// replay applies change after change until done and returns how many.
func replay(t *testing.T, zones *ZoneDir, changes []Change, done <-chan struct{}) int {
	for i, c := range changes {
		if _, err := zones.Apply(c); err != nil {
			t.Errorf("change %s: %v", c.ID, err)
			return i
		}
		select {
		case <-done:
			return i + 1
		case <-time.After(200 * time.Millisecond):
		}
	}
	return len(changes)
}

// people register and deregister servers; want is what is acknowledged.
type people struct {
	client       *api.Client
	rng          *rand.Rand
	want         map[string]*registryapi.Registration
	gone         map[string]bool // deregistered, and not registered again
	acknowledged int
}

func newPeople(c *api.Client, seed uint64) *people {
	return &people{client: c, rng: rand.New(rand.NewPCG(seed, 1)), want: map[string]*registryapi.Registration{}, gone: map[string]bool{}}
}

func (p *people) run(t *testing.T, ctx context.Context, done <-chan struct{}) {
	const servers = 60
	for {
		i := p.rng.IntN(servers)
		name := fmt.Sprintf("chaos%d.codfw.wmnet", i)
		if p.want[name] != nil && p.rng.IntN(3) == 0 {
			_, err := insist(ctx, func(ctx context.Context) (*answer.Change, error) {
				change, err := p.client.Registry.DeregisterServer(ctx, name, "chaos", "")
				if api.Code(err) == api.NotFound {
					return change, nil // an earlier try came through unheard
				}
				return change, err
			})
			if err != nil {
				t.Errorf("deregister %s: %v", name, err)
				return
			}
			delete(p.want, name)
			p.gone[name] = true
		} else {
			r := &registryapi.Registration{
				Name: name, Role: fmt.Sprintf("chaos-role%d", i%4), Site: "codfw", TTL: int32(60 + p.rng.IntN(3)),
				Addresses: []string{fmt.Sprintf("10.98.%d.%d", p.rng.IntN(4), i+1), fmt.Sprintf("fd00:98::%x", i+1)},
			}
			if i%5 == 0 {
				r.Options = map[string]string{"port": strconv.Itoa(8000 + p.rng.IntN(9))}
			}
			if _, err := register(ctx, p.client, r); err != nil {
				t.Errorf("register %s: %v", name, err)
				return
			}
			p.want[name] = r
			delete(p.gone, name)
		}
		p.acknowledged++
		select {
		case <-done:
			return
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// check asks every host for every server that was acknowledged, and for those that
// are gone.
func (p *people) check(ctx context.Context, hosts []netip.AddrPort) []error {
	var errs []error
	ask := func(h netip.AddrPort, name string) ([]string, string) {
		n, err := record.ParseName(name)
		if err != nil {
			panic(err) // our own names
		}
		r, err := dnswire.Query(ctx, h, n, record.TypeA, false)
		if err != nil {
			return nil, err.Error()
		}
		var all []string
		for _, set := range r.Answer {
			for _, d := range set.Data {
				all = append(all, dnswire.FormatRdata(set.Type, d))
			}
		}
		return all, r.RcodeName
	}
	for _, h := range hosts {
		for name, r := range p.want {
			if got, rcode := ask(h, name); !slices.Equal(got, r.Addresses[:1]) {
				errs = append(errs, fmt.Errorf("%s answers %s A %v (%s), acknowledged is %s", h, name, got, rcode, r.Addresses[0]))
			}
		}
		for name := range p.gone {
			if got, rcode := ask(h, name); len(got) > 0 || rcode != "NXDOMAIN" {
				errs = append(errs, fmt.Errorf("%s answers %s A %v (%s), it was deregistered", h, name, got, rcode))
			}
		}
	}
	if len(p.want) == 0 || len(p.gone) == 0 {
		errs = append(errs, errors.New("nothing was registered, or nothing deregistered: "+strings.Join(slices.Collect(maps.Keys(p.want)), " ")))
	}
	return errs
}
