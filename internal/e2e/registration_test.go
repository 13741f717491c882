package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/api/registryapi"
	"github.com/zonecast/zonecast/fleet"
)

// TestRegistrations is TestRegistrationLatency and TestFleetAtOnce in small. Its bounds
// are not the aims: those are for the acceptance runs, on a machine left alone.
func TestRegistrations(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a zonecast")
	}
	zones, fleetFile := cut()
	z, err := CopyZones(zones, filepath.Join(t.TempDir(), "zones"))
	if err != nil {
		t.Fatal(err)
	}
	following := filepath.Join(t.TempDir(), "fleet.jsonl")
	if err := os.WriteFile(following, []byte(`{"servers": 0}`+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	up := StartUp(t, UpOptions{Zones: z.Dir, Fleet: following})
	t.Run("call", func(t *testing.T) {
		answered, asked := registerCalls(t, up, 0, 20)
		t.Logf("answered: %s\nasked: %s", answered, asked)
		if late := answered.At(50); late > 2*time.Second {
			t.Errorf("half of the registrations took over %v", late)
		}
	})
	t.Run("command", func(t *testing.T) {
		took, said := registerCommands(t, up, 100, 3)
		t.Logf("process: %s\nit says: %s", took, said)
	})
	t.Run("fleet file", func(t *testing.T) {
		t.Logf("answered everywhere after %v", appear(t, up, z.Dir, following, fleetFile))
	})
}

// registerCalls registers n newcomers from the first one, one after another.
func registerCalls(t *testing.T, up *Up, first, n int) (answered, asked Figures) {
	t.Helper()
	c := up.Client()
	for i := range n {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		a, b, err := Register(ctx, c, up.Hosts, Newcomer(first+i))
		cancel()
		if err != nil {
			t.Fatalf("registration %d: %v", i, err)
		}
		answered, asked = append(answered, a), append(asked, b)
		if a > 500*time.Millisecond { // what the log of that time says may be the reason
			t.Logf("registration %d took %v, until %s", i, a, time.Now().UTC().Format("15:04:05.000"))
		}
	}
	return answered, asked
}

// registerCommands does so with the command: took is the life of its process, said
// what it says itself.
func registerCommands(t *testing.T, up *Up, first, n int) (took, said Figures) {
	t.Helper()
	for i := range n {
		in := Newcomer(first + i)
		began := time.Now()
		stdout, stderr, status := up.Run("register", in.Name, "--address", strings.Join(in.Addresses, ","), "--role", in.Role, "--site", in.Site, "--wait", "--json")
		took = append(took, time.Since(began))
		if status != 0 {
			t.Fatalf("register %s: exit status %d: %s", in.Name, status, stderr)
		}
		var a struct {
			Milliseconds float64 `json:"ms"`
			Hosts        int     `json:"hosts"`
			Waited       bool    `json:"waited"`
		}
		if err := json.Unmarshal([]byte(stdout), &a); err != nil {
			t.Fatalf("register %s says %q: %v", in.Name, stdout, err)
		}
		if a.Hosts != len(up.Hosts) || !a.Waited {
			t.Fatalf("register %s says %q, expected %d hosts", in.Name, stdout, len(up.Hosts))
		}
		said = append(said, time.Duration(a.Milliseconds*float64(time.Millisecond)))
		if err := CheckRegistered(t.Context(), up.Hosts, in); err != nil {
			t.Fatal(err)
		}
	}
	return took, said
}

// readFleet reads a fleet file.
func readFleet(t *testing.T, file string) []fleet.Server {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	servers, err := fleet.ParseFleetFile(f, filepath.Base(file))
	if err != nil {
		t.Fatal(err)
	}
	return servers
}

// appear puts the content of file in the place of the fleet file that up follows, and
// gives the time from the rename until all hosts answer all of its servers.
func appear(t *testing.T, up *Up, zones, following, file string) time.Duration {
	t.Helper()
	w, err := NewWorld(zones, file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(following+".new", b, 0o644); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := os.Rename(following+".new", following); err != nil {
		t.Fatal(err)
	}
	return w.allAnswered(t, up, began)
}

// allAnswered waits until all hosts answer everything that rules make, and gives the
// time since began.
func (w *World) allAnswered(t *testing.T, up *Up, began time.Time) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, host := range up.Hosts {
		for key := range w.ruled {
			for {
				err := askOne(ctx, host, w.Expect(key))
				if err == nil {
					break
				}
				select {
				case <-ctx.Done():
					t.Fatalf("host %s: %v", host, err)
				case <-time.After(5 * time.Millisecond):
				}
			}
		}
	}
	return time.Since(began)
}

// registerAtOnce registers all servers by one call and waits until every live host
// answers them.
func registerAtOnce(t *testing.T, up *Up, servers []fleet.Server) time.Duration {
	t.Helper()
	var in []*registryapi.Registration
	for _, s := range servers {
		r := &registryapi.Registration{Name: s.ID(), Role: s.Role, Site: s.Site, Cluster: s.Cluster, TTL: int32(s.TTL), Options: s.Options}
		for _, a := range s.Addresses {
			r.Addresses = append(r.Addresses, a.String())
		}
		in = append(in, r)
	}
	c := up.Client()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	out, err := c.Registry.RegisterServers(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	last := int64(0)
	for _, o := range out {
		if o.Code != "" || o.Change == nil {
			t.Fatalf("server %s: %s: %s", o.Name, o.Code, o.Message)
		}
		last = max(last, o.Change.Revision)
	}
	committed := time.Since(began)
	if _, err := AwaitServers(ctx, c, last); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d servers: committed after %v, all hosts say they answer after %v", len(in), committed, time.Since(began))
	return time.Since(began)
}
