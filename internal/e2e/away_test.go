//go:build acceptance

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// The store is away for ZONECAST_AWAY seconds (60): hosts answer, nobody is busy
// with it, everything goes on when it is back. Then it is away for good, and all can
// still be stopped in time.
func TestStoreAway(t *testing.T) {
	away := time.Duration(setting(t, "ZONECAST_AWAY", 60)) * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute+away)
	defer cancel()
	zones := filepath.Join(Root(), "examples", "wikimedia-cut", "zones")
	a := NewApart(t, ApartOptions{Zones: zones, Fleet: filepath.Join(Root(), "examples", "wikimedia-cut", "fleet.jsonl"), Extra: shortTerms()})
	a.Start(kinds...)
	c := a.Client(ctx)
	mark, err := NewMark("eqiad.wmnet")
	if err != nil {
		t.Fatal(err)
	}
	everywhere := func(number int) {
		t.Helper()
		began := time.Now()
		change, err := register(ctx, c, mark.Registration(number))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := insist(ctx, func(ctx context.Context) (int64, error) { return AwaitServers(ctx, c, change.Revision) }); err != nil {
			t.Fatal(err)
		}
		if _, err := settle(ctx, c, len(a.Hosts)); err != nil {
			t.Fatal(err)
		}
		t.Logf("number %d answered everywhere after %v", number, time.Since(began).Round(time.Millisecond))
	}
	everywhere(1)

	store := a.Of("store")[0]
	store.Kill()
	before, written := a.cpuTimes(t), a.logSizes(t)
	asked := 0
	for began := time.Now(); time.Since(began) < away; asked++ {
		for i, h := range a.Hosts {
			r, err := dnswire.Query(ctx, h, mark.Server, record.TypeA, false)
			if err != nil || len(r.Answer) != 1 {
				t.Fatalf("host%d, %v after the store was killed: %v, %+v", i, time.Since(began), err, r)
			}
		}
		if err := Pause(ctx, 100*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	after := a.cpuTimes(t)
	for i, grown := range a.logSizes(t) {
		s := a.Stages[i]
		if s == store {
			continue
		}
		busy, said := after[i]-before[i], grown-written[i]
		t.Logf("%-10s %v of CPU and %d octets of log while the store was away for %v", s.Name, busy.Round(10*time.Millisecond), said, away)
		if busy > away/20 {
			t.Errorf("%s was busy for %v of %v", s.Name, busy, away)
		}
		if most := int(away/time.Second)*200 + 4000; said > most {
			t.Errorf("%s wrote %d octets of log in %v, expected at most %d", s.Name, said, away, most)
		}
	}
	t.Logf("%d questions to each host, all answered", asked)
	if err := store.Start(); err != nil {
		t.Fatal(err)
	}
	everywhere(2)
	for _, f := range a.Faults() {
		t.Error(f)
	}

	store.Process().Signal(syscall.SIGSTOP) // worse than dead: it takes connections and says nothing
	defer store.Process().Signal(syscall.SIGCONT)
	twice := a.Of("registry")[0]
	p := twice.unwanted()
	p.Signal(syscall.SIGINT)
	if err := Pause(ctx, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if p.Running() {
		p.Signal(syscall.SIGINT)
	}
	status, err := p.Exit(stopWithin)
	if err != nil {
		t.Error(err)
	}
	t.Logf("a second SIGINT ended %s after %v with status %d", twice.Name, time.Since(began).Round(time.Millisecond), status)
	if took := time.Since(began); took > 500*time.Millisecond || status != 130 {
		t.Errorf("a second SIGINT ended %s after %v with status %d, expected at once and 130", twice.Name, took, status)
	}
	for _, s := range slices.Backward(a.Stages) {
		if s == store || s == twice {
			continue
		}
		p := s.unwanted()
		began := time.Now()
		p.Signal(syscall.SIGTERM)
		// The exit status may say that something could not be taken back.
		if _, err := p.Exit(stopWithin); err != nil {
			t.Errorf("stop without a store: %v", err)
			continue
		}
		t.Logf("%-10s stopped in %v without a store", s.Name, time.Since(began).Round(time.Millisecond))
	}
}

// cpuTimes are what the processes of all stages have used since they started.
func (a *Apart) cpuTimes(t *testing.T) []time.Duration {
	t.Helper()
	all := make([]time.Duration, len(a.Stages))
	for i, s := range a.Stages {
		if !s.Running() {
			continue
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.Process().cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		d, err := statCPU(string(b))
		if err != nil {
			t.Fatal(err)
		}
		all[i] = d
	}
	return all
}

// logSizes are the octets that all stages have written.
func (a *Apart) logSizes(t *testing.T) []int {
	t.Helper()
	all := make([]int, len(a.Stages))
	for i, s := range a.Stages {
		info, err := s.log.Stat()
		if err != nil {
			t.Fatal(err)
		}
		all[i] = int(info.Size())
	}
	return all
}
