package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/answer"
	"github.com/zonecast/zonecast/api/registryapi"
	"github.com/zonecast/zonecast/internal/atomicfile"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// shortTerms let another process take over as soon as etcd lets it (2 s).
func shortTerms() map[string][]string {
	return map[string][]string{
		"mutator":   {"--mutator-session-ttl", "2s"},
		"presenter": {"--presenter-session-ttl", "2s"},
		"publisher": {"--publisher-session-ttl", "2s"},
	}
}

// stopWithin is how long a stage that is told to stop may take.
const stopWithin = 3 * time.Second

// watch is a watcher for every host, and the truth beside them.
type watch struct {
	t        *testing.T
	truth    *Truth
	watchers []*Watcher
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	once     sync.Once
}

// watchAll watches every host, and the store, until stop or the end of the test.
func watchAll(t *testing.T, a *Apart, mark Mark, zones []record.Name, seed uint64) *watch {
	t.Helper()
	return watchEach(t, a, mark, zones, seed, 0)
}

// watchEach is watchAll with a pause between two questions to a host.
func watchEach(t *testing.T, a *Apart, mark Mark, zones []record.Name, seed uint64, pause time.Duration) *watch {
	t.Helper()
	w := &watch{t: t, truth: NewTruth(t, a)}
	ctx, cancel := context.WithCancel(t.Context())
	w.cancel = cancel
	w.wg.Go(func() { w.truth.Run(ctx) })
	for _, h := range a.Hosts {
		one := NewWatcher(h, mark, zones, seed)
		one.Pause = pause
		w.watchers = append(w.watchers, one)
		w.wg.Go(func() { one.Run(ctx) })
	}
	t.Cleanup(w.stop)
	return w
}

// await waits until every watcher has seen the mark's number.
func (w *watch) await(ctx context.Context, number int) error {
	for i, one := range w.watchers {
		for one.Report().Number != number {
			if err := Pause(ctx, 5*time.Millisecond); err != nil {
				return fmt.Errorf("host%d was seen answering number %d, expected %d: %w", i, one.Report().Number, number, err)
			}
		}
	}
	return nil
}

// stop ends the watchers and reports what they saw; a second time it does nothing.
func (w *watch) stop() {
	w.once.Do(func() {
		w.cancel()
		w.wg.Wait()
		var stamps []map[uint64]string
		for i, one := range w.watchers {
			r := one.Report()
			w.t.Logf("host%d: %s", i, r)
			for _, v := range r.Violations {
				w.t.Errorf("host%d: %s", i, v)
			}
			stamps = append(stamps, r.Stamps)
		}
		compared, violations := w.truth.Check(stamps...)
		w.t.Logf("versions answered whose digests were compared with what was published: %d; answers held against signatures: %d times", compared, w.truth.looks)
		for _, v := range violations {
			w.t.Error(v)
		}
		if compared == 0 || w.truth.looks == 0 {
			w.t.Error("no answered version could be compared with what was published")
		}
	})
}

// insist calls until the call is acknowledged: what was refused because something is
// dead, and what got no answer, is asked again, as calls are idempotent.
func insist[T any](ctx context.Context, call func(context.Context) (T, error)) (T, error) {
	for {
		cctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		v, err := call(cctx)
		cancel()
		switch code := api.Code(err); {
		case err == nil:
			return v, nil
		case code != "" && code != api.Unavailable && code != api.Timeout:
			return v, err
		}
		if perr := Pause(ctx, 20*time.Millisecond); perr != nil {
			return v, fmt.Errorf("%w; the last answer was: %w", perr, err)
		}
	}
}

func register(ctx context.Context, c *api.Client, r *registryapi.Registration) (*answer.Change, error) {
	return insist(ctx, func(ctx context.Context) (*answer.Change, error) { return c.Registry.RegisterServer(ctx, r) })
}

// settle waits until all hosts answer one digest, and gives it.
func settle(ctx context.Context, c *api.Client, hosts int) (string, error) {
	for {
		d, err := OneDigest(ctx, c, hosts)
		if err == nil {
			return d, nil
		}
		if perr := Pause(ctx, 20*time.Millisecond); perr != nil {
			return "", fmt.Errorf("%w: %w", perr, err)
		}
	}
}

func writeZone(t *testing.T, dir, zone string, lines ...string) {
	t.Helper()
	text := "$ORIGIN " + zone + ".\n$TTL 300\n@ SOA ns.example.net. hostmaster.example.net. 1 7200 1800 1209600 300\n@ NS ns.example.net.\n" + strings.Join(lines, "\n") + "\n"
	if err := atomicfile.Write(filepath.Join(dir, zone), 0o644, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// Every stage as its own process, started as docs/running.md says and in the wrong
// order: changes arrive; one of each kind is killed; all is as it should be.
func TestStagesApart(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	zones := t.TempDir()
	writeZone(t, zones, "example.net", "ns A 192.0.2.1", "www A 192.0.2.2")
	writeZone(t, zones, "example.com", "@ MX 10 mail.example.net.")
	a := NewApart(t, ApartOptions{Zones: zones, Extra: shortTerms(), Canary: true})

	// The store comes last: what needs it waits.
	a.Start("registry", "update", "mutator", "presenter", "canary", "publisher", "agent", "authority", "monitor")
	if err := Pause(ctx, 500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	a.Start("store")
	c := a.Client(ctx)
	mark, err := NewMark("example.net")
	if err != nil {
		t.Fatal(err)
	}
	zone, err := record.ParseName("example.net")
	if err != nil {
		t.Fatal(err)
	}
	seen := watchAll(t, a, mark, []record.Name{zone}, 1)

	number := 0
	step := func(what string) {
		t.Helper()
		began := time.Now()
		number++
		change, err := register(ctx, c, mark.Registration(number))
		if err != nil {
			t.Fatalf("%s: register number %d: %v", what, number, err)
		}
		if _, err := insist(ctx, func(ctx context.Context) (int64, error) { return AwaitServers(ctx, c, change.Revision) }); err != nil {
			t.Fatalf("%s: number %d: %v", what, number, err)
		}
		if _, err := settle(ctx, c, len(a.Hosts)); err != nil {
			t.Fatalf("%s: number %d: %v", what, number, err)
		}
		t.Logf("%s: answered everywhere after %v", what, time.Since(began).Round(time.Millisecond))
	}
	step("a store that came late")
	step("all well")
	step("all well")

	writeZone(t, zones, "example.com", "@ MX 20 mail.example.net.")
	if _, err := insist(ctx, func(ctx context.Context) (int64, error) {
		return AwaitFiles(ctx, c, zones, []string{"example.com", "example.net"})
	}); err != nil {
		t.Fatal(err)
	}
	for _, h := range a.Hosts {
		if got, want := mx(t, ctx, h, "example.com"), []string{"20 mail.example.net."}; !slices.Equal(got, want) {
			t.Errorf("%s answers MX %v, expected %v", h, got, want)
		}
	}

	killer := NewSupervisor(1)
	for _, kind := range kinds {
		for !killer.Kill(a.Of(kind)[0], 100*time.Millisecond) {
			t.Fatalf("%s is dead", kind)
		}
	}
	number++ // while all that is dead comes back
	if _, err := register(ctx, c, mark.Registration(number)); err != nil {
		t.Fatalf("register while one of each kind is dead: %v", err)
	}
	if err := killer.Wait(); err != nil {
		t.Fatal(err)
	}
	step("one of each kind was killed")

	if err := seen.await(ctx, number); err != nil {
		t.Error(err)
	}
	seen.stop()
	for _, f := range a.Faults() {
		t.Error(f)
	}
	for _, kind := range slices.Backward(kinds) {
		for _, s := range a.Of(kind) {
			took, err := s.Stop(stopWithin)
			if err != nil {
				t.Errorf("stop: %v", err)
			}
			t.Logf("%-10s stopped in %v", s.Name, took.Round(time.Millisecond))
		}
	}
}

func mx(t *testing.T, ctx context.Context, host netip.AddrPort, zone string) []string {
	t.Helper()
	name, err := record.ParseName(zone)
	if err != nil {
		t.Fatal(err)
	}
	r, err := dnswire.Query(ctx, host, name, record.TypeMX, false)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, set := range r.Answer {
		for _, d := range set.Data {
			all = append(all, dnswire.FormatRdata(set.Type, d))
		}
	}
	return all
}

// The commands on the page are those that TestStagesApart starts: same stages, same
// options.
func TestRunningPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(Root(), "docs", "running.md"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^zonecast run (\w+)((?:.*\\\n)*.*)$`).FindAllStringSubmatch(string(page), -1) {
		got[m[1]] = append(got[m[1]], flags(strings.Fields(m[2]))...)
	}
	want := map[string][]string{}
	for _, s := range NewApart(t, ApartOptions{Zones: "zones", Fleet: "fleet.jsonl"}).Stages {
		want[s.Kind] = append(want[s.Kind], flags(s.Args)...)
	}
	for _, m := range []map[string][]string{got, want} {
		for kind := range m {
			slices.Sort(m[kind])
			m[kind] = slices.Compact(m[kind])
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("options of docs/running.md (+) and of the test (-), stages %v:\n%s", slices.Sorted(maps.Keys(want)), diff)
	}
}

// flags are the options among args, without those that only a test on one machine
// needs.
func flags(args []string) []string {
	var all []string
	for _, a := range args {
		if name, ok := strings.CutPrefix(a, "--"); ok && name != "log-format" && name != "authority-udp-workers" {
			all = append(all, name)
		}
	}
	return all
}
