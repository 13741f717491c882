package guard_test

import (
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/guard"
	"github.com/zonecast/zonecast/record"
)

func TestValidate(t *testing.T) {
	if err := guard.DefaultBounds().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	for _, c := range []struct {
		change func(*guard.Bounds)
		want   string
	}{
		{func(b *guard.Bounds) { b.Window = -time.Second }, "window is -1s, expected 1s to 24h0m0s"},
		{func(b *guard.Bounds) { b.Window = 48 * time.Hour }, "window is 48h0m0s, expected 1s to 24h0m0s"},
		{func(b *guard.Bounds) { b.Few = 0 }, "few is 0, expected at least 1: with less every change of a small zone is held"},
		{func(b *guard.Bounds) { b.Few = -1 }, "few is -1, expected at least 1: with less every change of a small zone is held"},
		{func(b *guard.Bounds) { b.Zone.Removed.Percent = 101 }, `zone-removed is "101% 25..1000": 101 %, expected 0 to 100 %`},
		{func(b *guard.Bounds) { b.Source.Replaced.Percent = -1 }, `source-replaced is "-1% 25..1000": -1 %, expected 0 to 100 %`},
		{func(b *guard.Bounds) { b.Overall.Created.Floor = -1 }, `overall-created is "50% -1..200000": the floor is -1, expected 0 or more RRsets`},
		{func(b *guard.Bounds) { b.Zone.Repointed.Ceiling = 0 }, `zone-repointed is "100% 25..0": the ceiling is 0, which holds everything; expected at least 1 RRset, or off for no bound`},
		{func(b *guard.Bounds) { b.Zone.Removed.Floor = 2000 }, `zone-removed is "10% 2000..1000": the floor 2000 is above the ceiling 1000`},
		{func(b *guard.Bounds) { b.Zone.Removed = guard.Bound{Ceiling: 9} }, `zone-removed is "0% 0..9": 0 % and a floor of 0 hold everything; expected one of both above 0, or off for no bound`},
		{func(b *guard.Bounds) { b.Few = 2000; b.Overall = guard.Limits{}; b.Source = guard.Limits{} }, "zone-removed is \"10% 25..1000\", expected a ceiling of at least 2000, which are always let through\n" +
			"zone-replaced is \"10% 25..1000\", expected a ceiling of at least 2000, which are always let through\n" +
			"zone-repointed is \"100% 25..1000\", expected a ceiling of at least 2000, which are always let through"},
		{func(b *guard.Bounds) { b.Lowered.Ceiling = 1; b.Lowered.Floor = 1 }, `ttl-lowered is "1% 1..1", expected a ceiling of at least 2, which are always let through`},
		{func(b *guard.Bounds) { b.Reviewed = []string{"robots"} }, `reviewed has "robots", expected one of config, zone, map, update, rule, or a source such as zone/example.net`},
		{func(b *guard.Bounds) { b.Reviewed = []string{"override"} }, `reviewed has "override", expected one of config, zone, map, update, rule, or a source such as zone/example.net`},
		{func(b *guard.Bounds) { b.Protect = []record.Name{name("*.")} }, `protect has "*.", expected a name such as www.example.net or *.vip.example.net`},
		{func(b *guard.Bounds) { b.Reviewed = []string{"update/key", "zone"}; b.Lowered = guard.Bound{} }, ""},
	} {
		b := guard.DefaultBounds()
		c.change(&b)
		got := ""
		if err := b.Validate(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("got:  %s\nwant: %s", got, c.want)
		}
		if _, err := guard.New(b, newDataset().all, nil); (err != nil) != (c.want != "") {
			t.Errorf("a judge with bounds that are %q: %v", c.want, err)
		}
	}
}

func TestBoundText(t *testing.T) {
	for text, want := range map[string]guard.Bound{
		"10% 25..1000":    {Percent: 10, Floor: 25, Ceiling: 1000},
		" 0 % 3 .. 3 ":    {Floor: 3, Ceiling: 3},
		"200% 10..5":      {Percent: 200, Floor: 10, Ceiling: 5}, // Validate says by which option
		"off":             {},
		" off ":           {},
		"100% 0..2000000": {Percent: 100, Ceiling: 2_000_000},
	} {
		var b guard.Bound
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("%q is %+v, %v, want %+v", text, b, err, want)
		}
		var again guard.Bound
		if out, err := b.MarshalText(); err != nil || again.UnmarshalText(out) != nil || again != b {
			t.Errorf("%q is written as %q and read as %+v", text, out, again)
		}
	}
	for _, text := range []string{"", "10", "10%", "10% 5", "10% 5-9", "x% 5..9", "10% 5..9..11", "10% ..9", "0% 0..0", "10% 5..99999999999", "1.5% 1..2"} {
		b := guard.Bound{Percent: 1, Floor: 2, Ceiling: 3}
		err := b.UnmarshalText([]byte(text))
		if err == nil || !strings.Contains(err.Error(), "expected") {
			t.Errorf("%q: error %v", text, err)
		}
		if b != (guard.Bound{Percent: 1, Floor: 2, Ceiling: 3}) {
			t.Errorf("%q changed the bound to %+v", text, b)
		}
	}
}

// TestOff: without bounds everything is let through but what is always held.
func TestOff(t *testing.T) {
	const z = "example.net."
	b := guard.DefaultBounds()
	b.Zone, b.Source, b.Overall, b.Lowered = guard.Limits{}, guard.Limits{}, guard.Limits{}, guard.Bound{}
	all := hosts(z, 0, 5000)
	d := newDataset(join(zone(z), all)...)
	j := d.judge(t, b, map[record.Source]int{"update/key": 5000})
	if v := j.Judge("update/key", d.change(nil, all[1:]...), start); v.Held() {
		t.Error(v)
	}
	if v := j.Judge("update/key", d.change(nil, all...), start); !v.Held() {
		t.Error("the zone may be emptied")
	}
}
