package presenter

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/mapclaims"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// world is a map of prefixes at esams, the first of which are at drmrs. A block has 256.
func world(prefixes, moved int) *geo.Map {
	m := &geo.Map{Name: "world", Uses: []geo.Use{{Name: name("www.example.net."), Kind: geo.BySubnet}}}
	for i := range prefixes {
		l := record.Location("esams")
		if i < moved {
			l = "drmrs"
		}
		m.Entries = append(m.Entries, geo.Entry{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18 + byte(i>>8), byte(i)}), 24), Location: l})
	}
	return m
}

// claimMap claims a map, after spoil has had its claims.
func claimMap(t *testing.T, st store.Store, m *geo.Map, spoil func([]record.Claim)) {
	t.Helper()
	claims, err := mapclaims.Claims(m, nil, geo.Zone, record.Provenance{Author: "mapper", Time: time.UnixMilli(1000).UTC()}, "map world")
	if err != nil {
		t.Fatal(err)
	}
	if spoil != nil {
		spoil(claims)
	}
	if _, _, err := claimtree.Replace(t.Context(), st, "map/world", claims); err != nil {
		t.Fatal(err)
	}
	settle()
}

// placed is the location of a prefix in the published map; "" it is not there.
func placed(t *testing.T, st store.Store, prefix string) record.Location {
	t.Helper()
	var rrsets []record.RRset
	for r := range published(t, st).All() {
		rrsets = append(rrsets, r)
	}
	maps, _, err := geo.ParseMaps(rrsets)
	if err != nil || len(maps) != 1 {
		t.Fatalf("%d maps are published: %v", len(maps), err)
	}
	p := netip.MustParsePrefix(prefix)
	if i := slices.IndexFunc(maps[0].Entries, func(e geo.Entry) bool { return e.Prefix == p }); i >= 0 {
		return maps[0].Entries[i].Location
	}
	return ""
}

// TestDamagedBlock: a claim with a damaged block does not take away the block that it replaces:
// the change is held, also after a restart, until the source says something sound, or a person
// lets it through.
func TestDamagedBlock(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "zone", zone())
		claimMap(t, st, world(2000, 0), nil)
		p := run(t, st, guarded)
		defer func() { p.stop(t) }()
		settle()
		const first = "198.18.0.0/24"
		if got := placed(t, st, first); got != "esams" {
			t.Fatalf("%s is at %q", first, got)
		}
		// The last of the blocks, with a tenth of the prefixes, has a prefix with host bits. Guards
		// let a fifth move.
		damaged := ""
		damage := func(claims []record.Claim) {
			for i := range claims {
				c := &claims[len(claims)-1-i]
				if c.Type != record.TypeMapBlock {
					continue
				}
				b := []byte(c.Data[0])
				damaged = netip.PrefixFrom(netip.AddrFrom4([4]byte(b[1:5])), 24).String()
				b[4] = 1
				c.Data = slices.Clone(c.Data)
				c.Data[0] = record.Rdata(b)
				return
			}
			t.Fatal("no blocks")
		}
		claimMap(t, st, world(2000, 1), damage)
		h := held(t, st)
		if h.Source != "map/world" || len(h.Why) != 1 || !strings.Contains(h.Why[0], "map/world makes a claim that is malformed") || !strings.Contains(h.Why[0], "has bits behind its length") || !strings.Contains(h.Why[0], "(map world)") {
			t.Errorf("held: %+v", h)
		}
		if got := placed(t, st, damaged); got != "esams" {
			t.Errorf("%s of the block that was damaged is at %q", damaged, got)
		}
		if got := placed(t, st, first); got != "esams" {
			t.Errorf("%s is at %q, but its change is held", first, got)
		}
		p.stop(t)
		p = run(t, st, guarded)
		settle()
		if got := placed(t, st, damaged); got != "esams" || holds(t, st) != 1 {
			t.Errorf("after a restart %s is at %q, %d held", damaged, got, holds(t, st))
		}
		claimMap(t, st, world(2000, 1), nil)
		if holds(t, st) != 0 || placed(t, st, first) != "drmrs" || placed(t, st, damaged) == "" {
			t.Errorf("mended: %d held, %s is at %q, %s at %q", holds(t, st), first, placed(t, st, first), damaged, placed(t, st, damaged))
		}
		// A person's word counts, and what was let through is not held again.
		claimMap(t, st, world(2000, 1), damage)
		decide(t, st, held(t, st), "release")
		if got := placed(t, st, damaged); got != "" || holds(t, st) != 0 {
			t.Errorf("released: %s is at %q, %d held", damaged, got, holds(t, st))
		}
		claimMap(t, st, world(2000, 2), damage)
		if got := placed(t, st, "198.18.1.0/24"); got != "drmrs" || holds(t, st) != 0 {
			t.Errorf("another change: 198.18.1.0/24 is at %q, %d held", got, holds(t, st))
		}
	})
}

// TestDamagedTerms: a claim with damaged terms does not take the weights away.
func TestDamagedTerms(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		www := address("www", 1)
		terms := record.Claim{RRset: record.NewRRset(www.Owner, record.TypeTerms, 300, "\x00\x01\x00\x00\x01"), Source: ruleSource}
		put(t, st, "zone", zone())
		put(t, st, "a", www, terms)
		p := run(t, st, guarded)
		defer func() { p.stop(t) }()
		settle()
		if got := answer(t, st, terms.Key); got != terms.Data[0] {
			t.Fatalf("terms are %x", got)
		}
		bad := terms
		bad.Data = []record.Rdata{"\x00\x01\x00\x00\x00"}
		put(t, st, "a", www, bad)
		settle()
		if got := answer(t, st, terms.Key); got != terms.Data[0] {
			t.Errorf("terms are %x", got)
		}
		if h := held(t, st); !strings.Contains(h.Why[0], "malformed") || !strings.Contains(h.Why[0], "most answers") {
			t.Errorf("held: %+v", h)
		}
	})
}

// TestMovedAreRemembered moves a map little by little, under a new leader each time: what they
// let through within the window counts together.
func TestMovedAreRemembered(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "zone", zone())
		claimMap(t, st, world(1000, 0), nil)
		p := run(t, st, guarded)
		defer func() { p.stop(t) }()
		settle()
		n := 60
		for ; ; n += 60 {
			claimMap(t, st, world(1000, n), nil)
			if holds(t, st) > 0 {
				break
			}
			if n > 600 {
				t.Fatal("60 % of the map moved in a few minutes, and nothing is held")
			}
			p.stop(t)
			p = run(t, st, guarded)
			settle()
		}
		if n != 240 { // 20 % of 1,000 are let through
			t.Errorf("held with %d of 1,000 moved, want with 240", n)
		}
		if h := held(t, st); !strings.Contains(h.Why[0], "move 60 of the 1,000 prefixes of map world to other PoPs; with the 180 before, that is 240 (24 %)") {
			t.Errorf("held: %q", h.Why)
		}
		p.stop(t)
		time.Sleep(11 * time.Minute)
		p = run(t, st, guarded)
		settle()
		claimMap(t, st, world(1000, n+1), nil) // another change, judged by itself
		if holds(t, st) != 0 || placed(t, st, "198.18.240.0/24") != "drmrs" {
			t.Errorf("eleven minutes later: %d held, 198.18.240.0/24 is at %q", holds(t, st), placed(t, st, "198.18.240.0/24"))
		}
	})
}
