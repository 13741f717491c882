package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/api/controlapi"
)

var doer = &controlapi.Doer{Author: "alice", Reason: "test"}

func addresses(name string, rdata ...string) *controlapi.RecordSet {
	return &controlapi.RecordSet{Owner: name, Type: "A", TTL: 60, Rdata: rdata}
}

// TestOverride sets overrides until all hosts answer them, and holds that one ends within a
// second of its time, also when everything was stopped meanwhile. The figures are those of
// the issue: p99 under 200 ms.
func TestOverride(t *testing.T) {
	in := newSources(t)
	in.zone("example.net", zoneOf("www A 192.0.2.80\n"))
	u := StartUp(t, UpOptions{Zones: in.zones})
	holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.80")
	c := u.Client()
	var took Figures
	for i := range 200 {
		address := fmt.Sprintf("192.0.2.%d", 100+i%100)
		began := time.Now()
		d, err := c.Control.SetOverride(t.Context(), addresses("www.example.net", address), 3_600_000, false, doer)
		if err != nil {
			t.Fatal(err)
		}
		a, err := c.Control.Wait(t.Context(), d.Change.Revision, "override", "internal", 10_000)
		if err != nil || !a.Done || a.Hosts != 3 {
			t.Fatalf("%v, %v", a, err)
		}
		took = append(took, time.Since(began))
		for _, h := range u.Hosts {
			if got := asked(t, h, "www.example.net", "A"); got != "NOERROR "+address {
				t.Fatalf("%s answers %s, want %s", h, got, address)
			}
		}
	}
	t.Logf("an override, until all hosts answered it: %s; %s", took, Machine())

	var late Figures
	for range 5 {
		d, err := c.Control.SetOverride(t.Context(), addresses("www.example.net", "192.0.2.7"), 1000, false, doer)
		if err != nil {
			t.Fatal(err)
		}
		list, err := c.Control.Overrides(t.Context())
		if err != nil || len(list) != 1 || list[0].ID != d.ID {
			t.Fatalf("%v, %v", list, err)
		}
		holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.7")
		holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.80")
		late = append(late, time.Since(time.UnixMilli(list[0].UntilMs)))
	}
	t.Logf("an override's end, after its time: %s", late)
	if m := late.At(100); m < 0 || m > time.Second {
		t.Errorf("an override ended %v after its time, expected within a second", m)
	}

	if _, err := c.Control.SetOverride(t.Context(), addresses("www.example.net", "192.0.2.7"), 3000, false, doer); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Control.SetOverride(t.Context(), addresses("mail.example.net", "192.0.2.8"), 3_600_000, false, doer); err != nil {
		t.Fatal(err)
	}
	holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.7")
	u.Stop()
	time.Sleep(3 * time.Second)
	u = StartUp(t, UpOptions{Dir: u.Dir, Zones: in.zones})
	began := time.Now()
	holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.80")
	if took := time.Since(began); took > time.Second {
		t.Errorf("what ran out while everything was stopped is gone %v after the start", took)
	}
	holds(t, u, "mail.example.net", "A", "NOERROR 192.0.2.8")
	out, _, _ := u.Run("audit")
	if !strings.Contains(out, "override ended") || !strings.Contains(out, "its time is over") {
		t.Errorf("audit says\n%s", out)
	}
}

// TestRollback makes a mistake of 10,000 records and takes it back: every host answers what
// was before, also after everything was started again; a robot's change waits and is there
// after release.
func TestRollback(t *testing.T) {
	const records = 10_000
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "h%d A 192.0.2.%d\n", i, i%250)
		}
		return b.String()
	}
	in := newSources(t)
	in.zone("example.net", zoneOf("www A 192.0.2.80\n"))
	in.zone("example.org", zoneOf(many(records)))
	u := StartUp(t, UpOptions{Zones: in.zones})
	holds(t, u, "h9999.example.org", "A", "NOERROR 192.0.2.249")
	c := u.Client()
	h, err := c.Control.History(t.Context(), 1)
	if err != nil || len(h.Versions) != 1 {
		t.Fatal(h, err)
	}
	good := h.Versions[0].Version

	in.zone("example.org", zoneOf("")) // the mistake
	holds(t, u, "h9999.example.org", "A", "NXDOMAIN")
	d, err := c.Control.Diff(t.Context(), good, 0, 10)
	if err != nil || d.Removed != records || len(d.Differences) != 10 {
		t.Fatalf("diff says %v, %v", d, err)
	}
	began := time.Now()
	done, err := c.Control.Rollback(t.Context(), good, doer)
	if err != nil || !done.Change.Changed {
		t.Fatal(done, err)
	}
	a, err := c.Control.Wait(t.Context(), done.Change.Revision, "version", "internal", 10_000)
	if err != nil || !a.Done || a.Hosts != 3 {
		t.Fatal(a, err)
	}
	t.Logf("rollback of %d records, until all hosts answered: %v; %s", records, time.Since(began), Machine())
	holds(t, u, "h9999.example.org", "A", "NOERROR 192.0.2.249")
	if d, err := c.Control.Diff(t.Context(), good, 0, 10); err != nil || len(d.Differences) > 0 {
		t.Fatalf("after the rollback diff says %v, %v", d, err)
	}
	for _, bad := range []int64{0, -1, 99999} {
		if _, err := c.Control.Rollback(t.Context(), bad, doer); err == nil {
			t.Errorf("rollback to %d is taken", bad)
		}
	}

	u.Stop()
	u = StartUp(t, UpOptions{Dir: u.Dir, Zones: in.zones})
	c = u.Client()
	in.zone("example.net", zoneOf("www A 192.0.2.81\n"))
	until(t, func() string {
		s, err := c.Control.Why(t.Context(), "www.example.net", "A")
		if err != nil || len(s.Claims) != 1 || s.Claims[0].Rdata[0] != "192.0.2.81" {
			return fmt.Sprint("not claimed yet: ", s, err)
		}
		return ""
	})
	holds(t, u, "h9999.example.org", "A", "NOERROR 192.0.2.249")
	holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.80")
	status, _, _ := u.Run("status")
	if !strings.Contains(status, "PINNED at the content of version") {
		t.Errorf("status says\n%s", status)
	}
	if _, err := c.Control.ReleasePin(t.Context(), doer); err != nil {
		t.Fatal(err)
	}
	holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.81")
	holds(t, u, "h9999.example.org", "A", "NXDOMAIN")
	if _, err := c.Control.ReleasePin(t.Context(), doer); err == nil {
		t.Error("released twice")
	}
	out, stderr, _ := u.Run("audit", "--versions")
	for _, want := range []string{
		"10000 RRsets created, 0 replaced, 0 removed (h0.example.org. A, h1.example.org. A, h10.example.org. A, ...), pinned at the content of version",
		"10000 removed (h0.example.org. A, ", "zone/example.org (by ", "rollback", "0 RRsets created, 1 replaced, 10000 removed",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the audit does not say %q:\n%s%s", want, out, stderr)
		}
	}
}

// TestOperators lets nobody act but who has a key, by commands as a person types them.
func TestOperators(t *testing.T) {
	in := newSources(t)
	in.zone("example.net", zoneOf("www A 192.0.2.80\n"))
	dir := t.TempDir()
	key, file := filepath.Join(dir, "alice.key"), filepath.Join(dir, "operators")
	line, stderr, status := Run(t, "operator", "keygen", "alice", "--out", key)
	if status != 0 || !strings.HasPrefix(line, "alice ") {
		t.Fatal(line, stderr)
	}
	if err := os.WriteFile(file, []byte(line), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, status := Run(t, "operator", "keygen", "bob", "--out", key); status == 0 {
		t.Error("a key is written over")
	}
	u := StartUp(t, UpOptions{Zones: in.zones, Args: []string{"--control-operators", file}})
	set := []string{"override", "set", "www.example.net", "A", "192.0.2.7", "--for", "1h", "--reason", "fire", "--wait", "--author", "alice"}
	if _, stderr, status := u.Run(set...); status == 0 || !strings.Contains(stderr, "is not signed, and only operators may act here") || !strings.Contains(stderr, "--key FILE") {
		t.Errorf("exit status %d: %s", status, stderr)
	}
	holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.80")
	if _, stderr, status := u.Run(append(set, "--key", key)...); status != 0 {
		t.Errorf("exit status %d: %s", status, stderr)
	}
	holds(t, u, "www.example.net", "A", "NOERROR 192.0.2.7")
}

func zoneOf(records string) string {
	return "$TTL 300\n@ SOA ns1 admin 1 7200 900 604800 60\n@ NS ns1\nns1 A 192.0.2.53\n" + records
}
