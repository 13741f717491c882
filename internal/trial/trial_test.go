package trial_test

import (
	"crypto/ed25519"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trial"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

func key(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(slices.Repeat([]byte{seed}, ed25519.SeedSize))
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func ring(t *testing.T, text string) (r trial.Ring) {
	t.Helper()
	if err := r.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRing(t *testing.T) {
	r := ring(t, "canary 10m dns1 edge* site=ams")
	for host, want := range map[string]bool{"dns1": true, "dns2": false, "edge7": true, "site=ams": false} {
		if got := r.Has(host, nil); got != want {
			t.Errorf("%s: %v, want %v", host, got, want)
		}
	}
	if !r.Has("dns2", []string{"site=ams"}) || r.Has("dns2", []string{"site=fra"}) {
		t.Error("labels do not select")
	}
	if got := r.String(); got != "canary 10m0s dns1 edge* site=ams" {
		t.Errorf("text is %q", got)
	}
	// A larger share contains the smaller one, and has about as many hosts as it says.
	small, large, n := ring(t, "a 0s share:10%"), ring(t, "b 0s share:50%"), 0
	for i := range 1000 {
		host := "host" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + time.Duration(i).String()
		if small.Has(host, nil) && !large.Has(host, nil) {
			t.Fatalf("%s is in 10%% and not in 50%%", host)
		}
		if large.Has(host, nil) {
			n++
		}
	}
	if n < 400 || n > 600 {
		t.Errorf("50%% has %d of 1000 hosts", n)
	}
	for text, want := range map[string]string{
		"canary":             "expected NAME SOAK HOST",
		"canary soon dns1":   "expected a duration",
		"canary -1s dns1":    "soak is -1s",
		"canary 1s share:0%": "share is",
		"canary 1s share:7":  "share is",
		"canary 1s [":        "selects no hosts",
	} {
		var r trial.Ring
		if err := r.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, want %q", text, err, want)
		}
	}
}

func TestPolicy(t *testing.T) {
	p := trial.DefaultPolicy()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	if why := p.Tries("config/x", 5); why != "" {
		t.Errorf("without rings: %s", why)
	}
	p.Rings = []trial.Ring{ring(t, "canary 10m dns1"), ring(t, "half 10m share:50%")}
	for source, want := range map[record.Source]bool{"config/x": true, "zone/a": true, "rule/a": false, "override/1": false, "update/k": false} {
		if got := p.Tries(source, 5) != ""; got != want {
			t.Errorf("%s is tried: %v, want %v", source, got, want)
		}
	}
	if p.Tries("rule/a", 1000) == "" || p.Tries("override/1", 1000) != "" {
		t.Error("a large change of a rule is to be tried, and never an override")
	}
	for want, change := range map[string]func(*trial.Policy){
		"two called canary":   func(p *trial.Policy) { p.Rings = append(p.Rings, p.Rings[0]) },
		"limit is 20m0s":      func(p *trial.Policy) { p.Limit = 20 * time.Minute },
		"nxdomain is 2":       func(p *trial.Policy) { p.NXDomain = 2 },
		"overrides do not":    func(p *trial.Policy) { p.Sources = []string{"override"} },
		"large is -1":         func(p *trial.Policy) { p.Large = -1 },
		"load is -1":          func(p *trial.Policy) { p.Load = -1 },
		"rings are 18":        func(p *trial.Policy) { p.Rings = slices.Repeat(p.Rings, 9) },
		"expected 1 to 100":   func(p *trial.Policy) { p.Rings[1].Hosts = nil },
		"servfail is -0.1":    func(p *trial.Policy) { p.Servfail = -0.1 },
		"lost is 1.5, expect": func(p *trial.Policy) { p.Lost = 1.5 },
	} {
		q := p
		q.Rings = slices.Clone(p.Rings)
		change(&q)
		if err := q.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
}

func change(t *testing.T) reconcile.Change {
	t.Helper()
	set := func(owner string, last byte) record.RRset {
		n, err := record.ParseName(owner)
		if err != nil {
			t.Fatal(err)
		}
		return record.NewRRset(n, record.TypeA, 60, record.Rdata([]byte{192, 0, 2, last}))
	}
	gone := set("old.example.net.", 3)
	return reconcile.Change{Put: []record.RRset{set("www.example.net.", 2)}, Old: []record.RRset{gone, set("www.example.net.", 1)}, Remove: []record.Key{gone.Key}}
}

func TestOffer(t *testing.T) {
	delta, err := trial.Compose("internal", 7, change(t))
	if err != nil {
		t.Fatal(err)
	}
	now := time.UnixMilli(1_790_000_000_000)
	offer := trial.Offer{
		Dataset: "internal", ID: "5ad3c1e0", Number: 3, Base: 7, Rings: []trial.Ring{ring(t, "canary 1m dns1")},
		Time: now.UnixMilli(), Until: now.Add(time.Hour).UnixMilli(), Size: len(delta), SHA256: trial.Sum(delta),
	}
	both, err := offer.Sign(key(3), key(1))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := offer.Sign(key(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []byte{1, 3} { // while the key is changed
		if _, err := trial.Verify(both, []ed25519.PublicKey{public(key(k))}, "internal"); err != nil {
			t.Error(err)
		}
	}
	got, err := trial.Verify(signed, []ed25519.PublicKey{public(key(2)), public(key(1))}, "internal")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&offer, got); diff != "" {
		t.Fatal(diff)
	}
	if !got.For("dns1", nil) || got.For("dns2", nil) {
		t.Error("the offer is for dns1 alone")
	}
	d, err := got.Open(delta)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Put) != 1 || len(d.Remove) != 1 || !trial.Touches(d, d) {
		t.Errorf("delta puts %d and removes %d", len(d.Put), len(d.Remove))
	}
	if err := got.InTime(now); err != nil {
		t.Error(err)
	}

	// What a store or a disk may make of it is refused.
	for i := range signed {
		bad := slices.Clone(signed)
		bad[i] ^= 1
		if _, err := trial.Verify(bad, []ed25519.PublicKey{public(key(1))}, "internal"); err == nil {
			t.Fatalf("octet %d of the offer is another one, and it is taken", i)
		}
	}
	for i := range delta {
		bad := slices.Clone(delta)
		bad[i] ^= 1
		if _, err := got.Open(bad); err == nil {
			t.Fatalf("octet %d of the delta is another one, and it is taken", i)
		}
	}
	refused := map[string]error{}
	_, refused["none of which is believed here"] = trial.Verify(signed, []ed25519.PublicKey{public(key(2))}, "internal")
	_, refused["of dataset"] = trial.Verify(signed, []ed25519.PublicKey{public(key(1))}, "external")
	_, refused["octets, at most"] = trial.Verify(make([]byte, trial.MaxOffer+1), nil, "internal")
	_, refused["SHA-256"] = got.Open(delta[:len(delta)-1])
	refused["was over"] = got.InTime(now.Add(time.Hour))
	refused["expected within"] = got.InTime(now.AddDate(-1, 0, 0))
	for want, err := range refused {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
}

func TestParts(t *testing.T) {
	delta := make([]byte, 15*store.MaxValue+1)
	for i := range delta {
		delta[i] = byte(i % 251)
	}
	var nodes []store.Node
	for _, ops := range trial.PartOps("internal", 3, delta) {
		size := 0
		for _, op := range ops {
			nodes = append(nodes, store.Node{Path: op.Path, Value: op.Value})
			size += len(op.Path) + len(op.Value)
		}
		if size > store.MaxTxnBytes {
			t.Errorf("a transaction has %d octets", size)
		}
	}
	if !slices.IsSortedFunc(nodes, func(a, b store.Node) int { return strings.Compare(a.Path, b.Path) }) || !strings.HasPrefix(nodes[0].Path, tree.TrialPartsPrefix("internal", 3)) {
		t.Error("parts are not in order")
	}
	if got := trial.Parts(nodes); !slices.Equal(got, delta) {
		t.Error("parts do not give the delta")
	}
}

func TestFile(t *testing.T) {
	path := trial.Path(filepath.Join(t.TempDir(), "journal"))
	if err := trial.Write(path, []byte(`{"x":1}`), []byte("a\nb")); err != nil {
		t.Fatal(err)
	}
	offer, delta, err := trial.Read(path)
	if err != nil || string(offer) != `{"x":1}` || string(delta) != "a\nb" {
		t.Errorf("read %q, %q, %v", offer, delta, err)
	}
}
