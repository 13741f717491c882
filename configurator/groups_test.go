package configurator

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/configurator/review"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// TestGroupsLand: groups of hosts come and go with the configuration, and those that were set by command
// are theirs who set them.
func TestGroupsLand(t *testing.T) {
	b := newBench(t)
	b.start()
	groups := func() map[string]tree.Group {
		t.Helper()
		nodes, _, err := b.store.List(t.Context(), tree.Groups)
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]tree.Group{}
		for _, n := range nodes {
			var g tree.Group
			if err := tree.Decode(n, &g); err != nil {
				t.Fatal(err)
			}
			all[strings.TrimPrefix(n.Path, tree.Groups)] = g
		}
		return all
	}
	set := func(name string, g tree.Group) {
		t.Helper()
		if _, err := b.store.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.GroupPath(name), Value: tree.Encode(g)}}}); err != nil {
			t.Fatal(err)
		}
	}
	group := func(hosts, datasets string) string {
		return "load(\"//zonecast.thrift\", \"Group\")\nexport(Group(hosts = [" + hosts + "], datasets = [" + datasets + "]))\n"
	}
	byHand := tree.Group{Datasets: []string{"internal"}, Hosts: []string{"dns9"}, Set: 7000, Author: "zoe"}
	set("byhand", byHand)

	l, _ := b.land("alice", "Divide", map[string]string{
		"groups/edge.star": group(`"role=edge"`, `"edge", "internal"`), "zones/example.net.star": zone("example.net"),
		"groups.star": "load(\"//zonecast.thrift\", \"Group\")\nexport(Group(hosts = [\"dns*\"], datasets = [\"internal\"]), name = \"inside\")\n",
	})
	from := l.Commit.String()[:12]
	want := map[string]tree.Group{
		"byhand": byHand,
		"edge":   {Datasets: []string{"edge", "internal"}, Hosts: []string{"role=edge"}, Author: "alice", Reason: "Divide", From: from, Config: "groups/edge"},
		"inside": {Datasets: []string{"internal"}, Hosts: []string{"dns*"}, Author: "alice", Reason: "Divide", From: from, Config: "groups/inside"},
	}
	same := func() {
		t.Helper()
		got := groups()
		for name, g := range got {
			if g.Config != "" {
				if g.Set == 0 {
					t.Errorf("group %s has no time", name)
				}
				g.Set = 0
				got[name] = g
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	same()

	// Another change leaves the groups as they are, and whose they are.
	b.land("bob", "A zone", map[string]string{"zones/example.org.star": zone("example.org")})
	same()
	_, before, err := b.store.List(t.Context(), tree.Groups)
	if err != nil {
		t.Fatal(err)
	}
	b.stop()
	b.start()
	if _, err := b.s.Landed(t.Context(), tip(b.desk())); err != nil {
		t.Fatal(err)
	}
	nodes, _, err := b.store.List(t.Context(), tree.Groups)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if n.Modified > before {
			t.Errorf("%s was written by a restart", n.Path)
		}
	}

	// What cannot be is refused, with words.
	for says, files := range map[string]map[string]string{
		"group byhand was set by command, by zoe": {"groups/byhand.star": group(`"x"`, `"edge"`)},
		"expected groups/NAME":                    {"zones/x.star": group(`"x"`, `"edge"`)},
		"a host has files called so":              {"groups/x.star": group(`"x"`, `"list"`)},
		"selects no hosts":                        {"groups/x.star": group(`"[x"`, `"edge"`)},
		"is there twice":                          {"groups/x.star": group(`"x"`, `"edge", "edge"`)},
	} {
		_, err := b.desk().Review.Propose(t.Context(), review.Act{Who: "alice"}, review.Draft{Title: "Groups", Reason: "because", Files: octets(files)})
		var bad *review.SourceError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: error %v, want %q", files, err, says)
		}
	}

	// One that was set by command between approval and landing stays, and nothing lands.
	d := b.desk()
	n := b.approved(d, "alice", "Late", map[string]string{"groups/late.star": group(`"x"`, `"edge"`)})
	late := tree.Group{Datasets: []string{"internal"}, Hosts: []string{"y"}, Set: 8000, Author: "zoe"}
	set("late", late)
	want["late"] = late
	if _, err := b.landOne(d, n, "alice"); err == nil || !strings.Contains(err.Error(), "group late was set by command, by zoe") {
		t.Errorf("landed with %v", err)
	}
	same()

	b.land("carol", "One group", map[string]string{"groups.star": "", "groups/edge.star": group(`"role=edge", "share:10%"`, `"edge"`)})
	delete(want, "inside")
	g := want["edge"]
	g.Hosts, g.Datasets, g.Author, g.Reason, g.From = []string{"role=edge", "share:10%"}, []string{"edge"}, "carol", "One group", groups()["edge"].From
	want["edge"] = g
	same()
}
