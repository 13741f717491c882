//go:build acceptance

package script

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	diff "github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/rules"
)

// TestWholeFleet holds that the rules in examples/rules make of all servers of a real fleet,
// in a child, the records that the built-in ones make, with the same provenance. Servers get
// ports, so that there are SRV records.
func TestWholeFleet(t *testing.T) {
	path := filepath.Join(cmp.Or(os.Getenv("ZONECAST_DATA"), "../../../shared/data/wikimedia-2019"), "fleet.jsonl")
	f, err := os.Open(path)
	if err != nil {
		t.Skipf("the real fleet is not here: %v", err)
	}
	defer f.Close()
	servers, err := fleet.ParseFleetFile(f, "fleet.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for i := range servers {
		servers[i].Time = int64(i+1) * 1000
		if i%3 == 0 {
			servers[i].Options = map[string]string{fleet.OptionPort: "443", fleet.OptionWeight: fmt.Sprint(i % 1000)}
		}
	}
	builtIn, err := rules.BuiltIn(rules.DefaultParams())
	if err != nil {
		t.Fatal(err)
	}
	written, err := newHost(t).Load(os.DirFS("../../examples/rules"))
	if err != nil || len(written) != len(builtIn) {
		t.Fatalf("%d rules, %d are built in: %v", len(written), len(builtIn), err)
	}
	for _, r := range builtIn {
		i := slices.IndexFunc(written, func(l Loaded) bool { return l.Source == r.Source() })
		if i < 0 || written[i].Err != nil {
			t.Fatalf("%s: %+v", r.Source(), written)
		}
		var want []string
		for shard, members := range shards(t, r.Shards, servers) {
			claims, err := r.Claims(shard, func() []fleet.Server { return members })
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, lines(claims)...)
		}
		began := time.Now()
		claims, failures := Fleet(written[i].Rule, servers)
		took := time.Since(began)
		if len(failures) > 0 {
			t.Fatalf("%s: %v", r.Source(), failures[0].Err)
		}
		got := lines(claims)
		slices.Sort(want)
		slices.Sort(got)
		if d := diff.Diff(want, got); d != "" || len(got) == 0 {
			t.Errorf("%s: %d records (-built in +written in Starlark):\n%s", r.Source(), len(got), d[:min(len(d), 4000)])
		}
		t.Logf("%s: %d servers, %d records, in %v", strings.TrimPrefix(string(r.Source()), "rule/"), len(servers), len(got), took.Round(time.Millisecond))
	}
}
