package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// TestWhatWaits holds that claims which are held, frozen or kept out by a pin are said to
// wait, with what ends that, by why and by wait; that what is in force is explained by what
// is admitted; and that what is let through has arrived.
func TestWhatWaits(t *testing.T) {
	w := newWorld(t)
	const zone, rule record.Source = "zone/example.net", "rule/address"
	claim := func(s record.Source, owner string, typ record.Type, data record.Rdata) record.Claim {
		return record.Claim{RRset: rrset(t, owner, typ, data), Source: s}
	}
	www := func(n byte) record.Claim {
		return claim(rule, "www.example.net.", record.TypeA, record.Rdata([]byte{192, 0, 2, n}))
	}
	soa := record.Rdata("\x02ns\x07example\x03net\x00\x04root\x07example\x03net\x00") + record.Rdata(make([]byte, 20))
	file, other := []record.Claim{claim(zone, "example.net.", record.TypeSOA, soa)}, claim(rule, "old.example.net.", record.TypeTXT, "\x01x")
	admitted := func(s record.Source, name string, claims ...record.Claim) store.Op {
		return store.Op{Path: tree.AdmittedPath("internal", s, name), Value: record.EncodeShard(s, claims), Delete: len(claims) == 0}
	}
	published := []record.RRset{file[0].RRset, www(1).RRset, other.RRset}
	// made is what a presenter does.
	made := func(claims store.Revision, pinned uint64, ops ...store.Op) {
		t.Helper()
		d, err := w.dataset.Replace(w.dataset.Time()+1, published)
		if err == nil {
			err = w.dataset.Apply(d)
		}
		var b []byte
		if err == nil {
			b, err = d.Encode()
		}
		var log store.Op
		if err == nil {
			_, log, err = follow.LogOps("internal", d.Version, b)
		}
		if err != nil {
			t.Fatal(err)
		}
		w.commit(append(ops, log, store.Op{Path: tree.HeadPath("internal"), Value: tree.Encode(tree.Head{
			Version: d.Version, Digest: w.dataset.Digest().String(), Chain: w.dataset.Chain().String(), Time: w.dataset.Time(), Claims: claims, Content: d.Version, Pinned: pinned, Gated: true,
		})})...)
	}
	says := func(name string, want ...string) {
		t.Helper()
		w.eventually(func() error {
			x, err := w.Why(t.Context(), name, "")
			if err != nil {
				return err
			}
			var got []string
			for _, c := range x.Claims {
				got = append(got, fmt.Sprintf("%s %s %s: %s", c.Verdict, c.Type, strings.Join(c.Rdata, " "), c.Rule))
			}
			text := strings.Join(append(got, x.Notes...), "\n")
			for _, want := range want {
				if !strings.Contains(text, want) {
					return fmt.Errorf("why %s says\n%s\nwant %s", name, text, want)
				}
			}
			return nil
		})
	}
	arrival := func(rev store.Revision, want string) {
		t.Helper()
		w.eventually(func() error {
			a, err := w.Wait(t.Context(), int64(rev), "claims", "internal", 0)
			if err != nil || a.Done != (want == "") || !strings.Contains(a.Stage, want) {
				return fmt.Errorf("%+v, %v, want %q", a, err, want)
			}
			return nil
		})
	}
	w.host("host0", 1000)
	rev := w.commit(claimtree.Ops(zone, "a", file), claimtree.Ops(rule, "a", []record.Claim{www(1), other}))
	made(rev, 0, admitted(zone, "a", file...), admitted(rule, "a", www(1), other))
	says("www.example.net", "wins A 192.0.2.1")
	arrival(rev, "")

	held := w.commit(claimtree.Ops(rule, "a", []record.Claim{www(2), claim(rule, "new.example.net.", record.TypeTXT, "\x01x")}))
	h := tree.Hold{ID: "5ad3c1e0", Dataset: "internal", Source: rule, Why: []string{"rule/address would do it"}}
	hold := store.Op{Path: tree.HoldPath(h.ID), Value: tree.Encode(h)}
	made(held, 0, hold)
	wait := "hold 5ad3c1e0: rule/address would do it: `zonecast release 5ad3c1e0` or `zonecast drop 5ad3c1e0`"
	says("www.example.net", "wins A 192.0.2.1", "waits A 192.0.2.2: "+wait)
	says("new.example.net", "waits TXT \"x\": "+wait)
	says("old.example.net", "wins TXT", `rule/address does not claim TXT "x" any more; that waits: `+wait)
	arrival(held, "rule/address waits: "+wait)
	// Others' changes are not said to wait, and overrides are judged by what is in force.
	rev = w.commit(claimtree.Ops("update/key", "a", []record.Claim{claim("update/key", "x.example.net.", record.TypeTXT, "\x01x")}))
	arrival(rev, "the presenter has not made a version of it yet")
	made(rev, 0, admitted("update/key", "a", claim("update/key", "x.example.net.", record.TypeTXT, "\x01x")))
	arrival(rev, "")
	if _, err := w.SetOverride(t.Context(), &controlapi.RecordSet{Owner: "old.example.net", Type: "CNAME", TTL: 60, Rdata: []string{"www.example.net."}}, 60_000, false, alice); api.Code(err) != api.Invalid {
		t.Errorf("an alias over what is in force: %v", err)
	}
	if _, err := w.SetOverride(t.Context(), &controlapi.RecordSet{Owner: "new.example.net", Type: "CNAME", TTL: 60, Rdata: []string{"www.example.net."}}, 60_000, false, alice); err != nil {
		t.Errorf("an alias over what is not in force: %v", err)
	}

	h.Decision, h.Author = "drop", "alice"
	w.commit(store.Op{Path: hold.Path, Value: tree.Encode(h)})
	arrival(held, "rule/address waits: kept out by alice (hold 5ad3c1e0, drop)")
	w.commit(store.Op{Path: tree.FreezePath("0b9e77d2"), Value: tree.Encode(tree.Freeze{Source: "rule/*", Author: "bob", Reason: "moving"})})
	arrival(held, "rule/address waits: frozen by bob (moving): `zonecast thaw 0b9e77d2`")
	if d, err := w.Decide(t.Context(), h.ID, "release", alice); err != nil || !strings.Contains(strings.Join(d.Text, "\n"), "it comes with `zonecast thaw 0b9e77d2`") {
		t.Errorf("release of what is frozen: %v, %v", d, err)
	}
	w.commit(store.Op{Path: hold.Path, Value: tree.Encode(h)})
	w.commit(store.Op{Path: tree.FreezePath("0b9e77d2"), Delete: true})

	w.commit(store.Op{Path: tree.PinPath("internal"), Value: tree.Encode(tree.Pin{Version: 1, Author: "carol", Reason: "mistake"})})
	published = []record.RRset{file[0].RRset, www(7).RRset}
	made(rev, 1)
	says("www.example.net", "waits A 192.0.2.1: the dataset is pinned at the content of version 1 since", "by carol (mistake): `zonecast release`", "waits A 192.0.2.2: "+"kept out by alice")
	arrival(held, "pinned at the content of version 1")
	w.commit(store.Op{Path: tree.PinPath("internal"), Delete: true})

	// What cannot be read does not go.
	damaged := w.commit(store.Op{Path: claimtree.Path("update/key", "a"), Value: []byte("damaged")})
	again := startedOn(t, w.st)
	again.eventually(func() error {
		x, err := again.Why(t.Context(), "x.example.net.", "")
		if err == nil && (len(x.Claims) != 1 || x.Claims[0].Verdict != "wins" || strings.Contains(fmt.Sprint(x.Notes), "any more")) {
			err = fmt.Errorf("after a restart, of what cannot be read: %+v", x)
		}
		return err
	})
	made(damaged, 0)

	published = []record.RRset{file[0].RRset, www(2).RRset}
	made(rev, 0, admitted(rule, "a", www(2), claim(rule, "new.example.net.", record.TypeTXT, "\x01x")), store.Op{Path: hold.Path, Delete: true})
	says("www.example.net", "wins A 192.0.2.2")
	arrival(held, "")
}

// TestWhyTellsOfRules holds that whoever asks about a name is told that the rule fails which
// makes its claims, or would: where, and since when.
func TestWhyTellsOfRules(t *testing.T) {
	w := newWorld(t)
	const day = 24 * 3600 * 1000
	began := int64(1_700_000_000_000) // 2023-11-14
	claim := func(source record.Source, owner string) record.Claim {
		return record.Claim{RRset: rrset(t, owner, record.TypeTXT, "\x01x"), Source: source}
	}
	source := func(s record.Source, failing int) store.Op {
		return store.Op{Path: tree.SourcePath(s), Value: tree.Encode(tree.Source{
			Source: s, Where: "rules/x.star", Time: began + 3*day, Since: began, Error: "x.star:3:9: one of them (and more)", Failing: failing,
		})}
	}
	fails := func(s record.Source, shard, server string, since int64, text string) store.Op {
		return store.Op{Path: tree.FailurePath(s, shard, server), Value: tree.Encode(tree.Failure{Shard: shard, Server: server, Error: text, Since: since})}
	}
	ops := func(s record.Source, shard string, owners ...string) store.Op {
		var all []record.Claim
		for _, o := range owners {
			all = append(all, claim(s, o))
		}
		return claimtree.Ops(s, shard, all)
	}
	w.publish(w.commit(
		// racks: all failures are written one by one.
		ops("rule/racks", "s.web1.example.net", "rack-web1.example.net."), ops("rule/racks", "s.web2.example.net", "rack-web2.example.net."),
		source("rule/racks", 2),
		fails("rule/racks", "s.web2.example.net", "web2.example.net", began+day, "racks.star:3:9: server web2.example.net: fail: no rack"),
		fails("rule/racks", "s.web3.example.net", "web3.example.net", began+2*day, "racks.star:3:9: server web3.example.net: fail: no rack"),
		// sites: of a server it is not known in which group it is.
		ops("rule/sites", "g.sfo", "sfo.example.net."), source("rule/sites", 1),
		fails("rule/sites", "", "web4.example.net", began+day, "sites.star:2:5: groups of server web4.example.net: fail: lost"),
		// many: there are more failures than are written. broken: the rule itself.
		ops("rule/many", "s.web5.example.net", "many.example.net."), source("rule/many", 2), fails("rule/many", "s.web9.example.net", "web9.example.net", began, "many.star:1"),
		ops("rule/broken", "s.web6.example.net", "broken.example.net."), source("rule/broken", 0),
	))
	for name, want := range map[string]string{
		"web2.example.net":      "rule/racks fails for this server since 2023-11-15 22:13:20Z, and what it claimed of it before stays: racks.star:3:9: server web2.example.net: fail: no rack",
		"rack-web2.example.net": "rule/racks fails since 2023-11-15 22:13:20Z where it makes this name, and what it claimed before stays: racks.star:3:9: server web2.example.net",
		"web3.example.net":      "rule/racks fails for this server since 2023-11-16 22:13:20Z",
		"web4.example.net":      "rule/sites fails for this server since 2023-11-15 22:13:20Z, and what it claimed of it before stays: sites.star:2:5: groups of server",
		"sfo.example.net":       "rule/sites fails since 2023-11-14 22:13:20Z; what it claimed before stays where it does: x.star:3:9",
		"many.example.net":      "rule/many fails since 2023-11-14 22:13:20Z; what it claimed before stays where it does: x.star:3:9",
		"broken.example.net":    "rule/broken fails since 2023-11-14 22:13:20Z; what it claimed before stays where it does: x.star:3:9",
		"rack-web1.example.net": "", // it is made as it should be
		"web1.example.net":      "",
	} {
		w.eventually(func() error {
			x, err := w.Why(t.Context(), name, "")
			if err != nil {
				return err
			}
			text := strings.Join(x.Notes, "\n")
			if want == "" && strings.Contains(text, "fails") || !strings.Contains(text, want) {
				return fmt.Errorf("why %s says %q, want %q", name, text, want)
			}
			return nil
		})
	}
	st, err := w.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(st.Sources, func(s *controlapi.SourceState) bool { return s.Source == "rule/racks" })
	if i < 0 || st.Sources[i].Failing != 2 || st.Sources[i].SinceMs != began || !strings.HasPrefix(st.Sources[i].Error, "x.star:3:9") {
		t.Errorf("status %+v", st.Sources)
	}
}
